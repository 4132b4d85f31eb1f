-- grain: one row per organiser and budget year, as last delivered
-- key: county_code, budget_year
WITH latest AS (
    SELECT county_code, budget_year, max(period) AS period
    FROM raw.finance_htas
    GROUP BY county_code, budget_year
)
SELECT
    r.county_code,
    r.period,
    r.delivery_id,
    r.row_no,
    r.county_name,
    r.budget_year,
    CAST(r.operating_expenses_meur * 100000000 AS BIGINT) AS operating_expenses_cents
FROM raw.finance_htas AS r
JOIN latest AS l ON l.county_code = r.county_code AND l.budget_year = r.budget_year AND l.period = r.period
