-- grain: one row per organiser and budget year
-- key: county_code, budget_year
SELECT county_code, delivery_id, budget_year, operating_expenses_cents
FROM staging.finance_htas
