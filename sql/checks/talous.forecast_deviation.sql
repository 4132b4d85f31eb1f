-- checks: talous.forecast_deviation
-- grain: one row per output, area_level, area, period_grain, period_start
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
forecast AS (
    -- A version is named after the month it was made in.
    SELECT
        county_code,
        make_date(CAST(left(version, 4) AS INT), CAST(right(version, 2) AS INT), 1) AS made_in,
        sum(amount_cents) AS amount_cents
    FROM conformed.ledger_entry
    WHERE scenario = 'forecast' AND account_class = 'expense'
    GROUP BY county_code, version
),
compared AS (
    SELECT
        w.county_code,
        p.period_start,
        CAST(coalesce(f.amount_cents, 0) AS DOUBLE) AS forecast,
        CAST(coalesce(b.amount_cents, 0) AS DOUBLE) AS budget
    FROM whole_year AS w
    JOIN reference.period AS p ON p.grain = 'month' AND date_part('year', p.period_start) = w.year
    LEFT JOIN budget AS b ON b.county_code = w.county_code AND b.year = w.year
    LEFT JOIN forecast AS f ON f.county_code = w.county_code AND f.made_in = p.period_start
)
SELECT
    'deviation_meur' AS output,
    'county' AS area_level,
    county_code AS area,
    'month' AS period_grain,
    period_start,
    (forecast - budget) / 100000000 AS value,
    forecast AS numerator,
    budget AS denominator
FROM compared
UNION ALL
SELECT
    'deviation_pct',
    'county',
    county_code,
    'month',
    period_start,
    100 * (forecast - budget) / abs(budget),
    forecast,
    budget
FROM compared
WHERE budget <> 0
