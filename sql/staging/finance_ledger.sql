-- grain: one row per account, cost centre, service class, month, scenario and version
-- key: county_code, account, cost_centre, service_class, month_start, scenario, version
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    account,
    cost_centre,
    service_class,
    booking_month AS month_start,
    scenario,
    version,
    CAST(amount * 100 AS BIGINT) AS amount_cents
FROM raw.finance_ledger
