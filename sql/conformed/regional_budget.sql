-- grain: one row per organiser and budget year
-- key: county_code, budget_year
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
SELECT county_code, delivery_id, budget_year, operating_expenses_cents
FROM staging.finance_htas
