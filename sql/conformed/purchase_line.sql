-- grain: one row per invoice line of a purchased service
-- key: county_code, provider_business_id, invoice_no, line_no
-- stored: provider_business_id, month_start
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: month_start -> reference.calendar(date)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column production_mode: own, purchased, voucher and so on; unknown: a code without meaning
-- column month_start: first day of the month of the service
-- column amount_cents: in cents; a credit note is negative
-- `month_start` is the month of the service, not of the invoice. A credit note is
-- negative.
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.provider_business_id,
    s.invoice_no,
    s.line_no,
    s.invoiced_on,
    coalesce(service.maps_to, 'unknown') AS service_code,
    s.decision_no,
    coalesce(unit.maps_to, 'unknown') AS unit,
    s.quantity_centi,
    s.unit_price_cents,
    s.amount_cents,
    s.month_start,
    s.account,
    s.cost_centre,
    coalesce(mode.maps_to, 'unknown') AS production_mode
FROM staging.purchase_invoice_line AS s
LEFT JOIN reference.code AS service
    ON service.list = 'county.care_service'
    AND service.code = s.service_code
    AND (service.valid_from IS NULL OR service.valid_from <= s.month_start)
    AND (service.valid_to IS NULL OR s.month_start < service.valid_to)
LEFT JOIN reference.code AS unit
    ON unit.list = 'county.invoice_unit'
    AND unit.code = s.unit
    AND (unit.valid_from IS NULL OR unit.valid_from <= s.month_start)
    AND (unit.valid_to IS NULL OR s.month_start < unit.valid_to)
LEFT JOIN reference.code AS mode
    ON mode.list = 'county.production_mode'
    AND mode.code = s.production_mode
    AND (mode.valid_from IS NULL OR mode.valid_from <= s.month_start)
    AND (mode.valid_to IS NULL OR s.month_start < mode.valid_to)
