-- grain: one row per invoice line
-- key: county_code, provider_business_id, invoice_no, line_no
-- The free text of the line stays in raw: nothing computes with it.
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    provider_business_id,
    invoice_no,
    line_no,
    invoiced_on,
    service_code,
    decision_no,
    unit,
    CAST(quantity * 100 AS BIGINT) AS quantity_centi,
    CAST(unit_price * 100 AS BIGINT) AS unit_price_cents,
    CAST(amount * 100 AS BIGINT) AS amount_cents,
    service_month AS month_start,
    account,
    cost_centre,
    production_mode
FROM raw.purchase_invoice_line
