-- grain: one row per county, cost centre and month
-- key: county, cost_centre, month
WITH cell AS (
    SELECT
        county,
        cost_centre,
        toInt32(toMonth(booking_month)) AS at,
        sumIf(amount, scenario = 'T') AS actual,
        sumIf(amount, scenario = 'TA') AS budget,
        sumIf(amount, scenario = 'E') AS forecast
    FROM {ledger}
    GROUP BY county, cost_centre, at
),
grid AS (
    SELECT county, cost_centre, arrayJoin(range(1, 13)) AS at FROM (SELECT DISTINCT county, cost_centre FROM cell)
)
SELECT
    g.county AS county,
    g.cost_centre AS cost_centre,
    makeDate32(2025, g.at, 1) AS month,
    toInt64(sum(c.actual) OVER till * 100) AS actual_cents,
    toInt64(sum(c.budget) OVER till * 100) AS budget_cents,
    toInt64(sum(c.forecast) OVER till * 100) AS forecast_cents
FROM grid AS g
LEFT JOIN cell AS c ON c.county = g.county AND c.cost_centre = g.cost_centre AND c.at = g.at
WINDOW till AS (PARTITION BY g.county, g.cost_centre ORDER BY g.at)
