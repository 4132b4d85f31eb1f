-- grain: one row per reporting period, 2018-2030
-- key: grain, period_start
-- materialise: yes
-- The half-years are those of the statutory deadline follow-up: 1.4.-30.9. and
-- 1.10.-31.3., the second named after the year in which it begins. `year_days`
-- is the length of the calendar year of the first day.
WITH year AS (
    SELECT value AS y FROM generate_series(2018, 2030)
),
month_no AS (
    SELECT value AS m FROM generate_series(1, 12)
),
span AS (
    SELECT
        'month' AS grain,
        make_date(y, m, 1) AS period_start,
        make_date(y, m, 1) + INTERVAL '1 month' AS next_start,
        concat(y, '-', lpad(CAST(m AS VARCHAR), 2, '0')) AS label
    FROM year CROSS JOIN month_no
    UNION ALL
    SELECT
        'quarter',
        make_date(y, m, 1),
        make_date(y, m, 1) + INTERVAL '3 months',
        concat(y, 'Q', (m + 2) / 3)
    FROM year CROSS JOIN month_no WHERE m IN (1, 4, 7, 10)
    UNION ALL
    SELECT
        'half_year',
        make_date(y, m, 1),
        make_date(y, m, 1) + INTERVAL '6 months',
        concat(y, 'H', (m + 2) / 6)
    FROM year CROSS JOIN month_no WHERE m IN (4, 10)
    UNION ALL
    SELECT 'year', make_date(y, 1, 1), make_date(y + 1, 1, 1), CAST(y AS VARCHAR) FROM year
)
SELECT
    grain,
    period_start,
    next_start - 1 AS period_end,
    label,
    CAST(next_start - period_start AS INT) AS days,
    CAST(
        make_date(date_part('year', period_start) + 1, 1, 1) - make_date(date_part('year', period_start), 1, 1)
        AS INT
    ) AS year_days
FROM span
ORDER BY grain, period_start
