-- checks: talous.budget_execution
-- grain: one row per output, area_level, area, period_grain, period_start
-- Operating expenses from January to the month against the amended budget of the year.
WITH whole_year AS (
    -- A budget is known when every month of the year has been delivered.
    SELECT county_code, date_part('year', month_start) AS year
    FROM meta.delivered_month
    WHERE contract = 'finance_ledger'
    GROUP BY county_code, date_part('year', month_start)
    HAVING count(*) = 12
),
last_version AS (
    -- The last version of the year's budget.
    SELECT county_code, date_part('year', month_start) AS year, max(version) AS version
    FROM conformed.ledger_entry
    WHERE scenario = 'budget' AND account_class = 'expense'
    GROUP BY county_code, date_part('year', month_start)
),
budget AS (
    SELECT e.county_code, v.year, sum(e.amount_cents) AS amount_cents
    FROM conformed.ledger_entry AS e
    JOIN last_version AS v
        ON v.county_code = e.county_code
        AND v.year = date_part('year', e.month_start)
        AND v.version = e.version
    WHERE e.scenario = 'budget' AND e.account_class = 'expense'
    GROUP BY e.county_code, v.year
),
actual AS (
    SELECT p.period_start, e.county_code, sum(e.amount_cents) AS amount_cents
    FROM reference.period AS p
    JOIN conformed.ledger_entry AS e
        ON date_part('year', e.month_start) = date_part('year', p.period_start) AND e.month_start <= p.period_start
    WHERE p.grain = 'month' AND e.scenario = 'actual' AND e.account_class = 'expense'
    GROUP BY p.period_start, e.county_code
)
SELECT
    'rate' AS output,
    'county' AS area_level,
    w.county_code AS area,
    'month' AS period_grain,
    p.period_start,
    100 * CAST(coalesce(a.amount_cents, 0) AS DOUBLE) / b.amount_cents AS value,
    CAST(coalesce(a.amount_cents, 0) AS DOUBLE) AS numerator,
    CAST(b.amount_cents AS DOUBLE) AS denominator
FROM whole_year AS w
JOIN reference.period AS p ON p.grain = 'month' AND date_part('year', p.period_start) = w.year
JOIN budget AS b ON b.county_code = w.county_code AND b.year = w.year
LEFT JOIN actual AS a ON a.county_code = w.county_code AND a.period_start = p.period_start
WHERE b.amount_cents <> 0
