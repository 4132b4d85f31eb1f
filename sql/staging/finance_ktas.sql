-- grain: one row per municipality, document, item and planning stage
-- key: business_id, document_period, item_code, planning_stage
SELECT
    period,
    delivery_id,
    row_no,
    business_id,
    report,
    document_period,
    value_year,
    planning_stage,
    item_code,
    item_name,
    CAST(value * 100 AS BIGINT) AS value_cents,
    unit,
    approval_stage
FROM raw.finance_ktas
