-- grain: one row per county, cost centre and month
-- key: county, cost_centre, month
WITH cell AS (
    SELECT
        county,
        cost_centre,
        date_part('month', booking_month) AS month_no,
        sum(amount) FILTER (WHERE scenario = 'T') AS actual,
        sum(amount) FILTER (WHERE scenario = 'TA') AS budget,
        sum(amount) FILTER (WHERE scenario = 'E') AS forecast
    FROM ledger
    GROUP BY ALL
),
grid AS (
    SELECT c.county, c.cost_centre, m.month_no
    FROM (SELECT DISTINCT county, cost_centre FROM cell) AS c
    CROSS JOIN (SELECT unnest(range(1, 13)) AS month_no) AS m
)
SELECT
    g.county,
    g.cost_centre,
    make_date(2025, g.month_no, 1) AS month,
    CAST(sum(coalesce(c.actual, 0)) OVER till * 100 AS BIGINT) AS actual_cents,
    CAST(sum(coalesce(c.budget, 0)) OVER till * 100 AS BIGINT) AS budget_cents,
    CAST(sum(coalesce(c.forecast, 0)) OVER till * 100 AS BIGINT) AS forecast_cents
FROM grid AS g
LEFT JOIN cell AS c ON c.county = g.county AND c.cost_centre = g.cost_centre AND c.month_no = g.month_no
WINDOW till AS (PARTITION BY g.county, g.cost_centre ORDER BY g.month_no)
