-- grain: one row per organiser and budget year
-- key: county_code, budget_year
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- column county_code: the organiser
-- column budget_year: year of the budget
-- column operating_expenses_cents: operating expenses in cents
SELECT county_code, delivery_id, budget_year, operating_expenses_cents
FROM staging.finance_htas
