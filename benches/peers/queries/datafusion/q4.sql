-- grain: one row per county, unit and month
-- key: county, unit_code, month
-- A spell leaves a mark where it begins and one on the day after it ends; sums of the
-- marks are the weight of each month, so that no spell is spread over its months.
WITH spell AS (
    SELECT
        county,
        unit_code,
        CAST(work_time_percent * 100 AS BIGINT) AS bp,
        greatest(started_on, DATE '2023-01-01') AS first_day,
        coalesce(ended_on, DATE '2025-12-31') + 1 AS next_day
    FROM employment
),
mark AS (
    SELECT county, unit_code, first_day AS marked_on, bp FROM spell
    UNION ALL
    SELECT county, unit_code, next_day, -bp FROM spell WHERE next_day <= DATE '2025-12-31'
),
marks AS (
    SELECT
        county,
        unit_code,
        date_trunc('month', marked_on) AS month,
        sum(bp) AS weight,
        -sum(bp * (date_part('day', marked_on) - 1)) AS rest
    FROM mark
    GROUP BY ALL
),
grid AS (
    SELECT u.county, u.unit_code, CAST(m.month AS DATE) AS month
    FROM (SELECT DISTINCT county, unit_code FROM marks) AS u
    CROSS JOIN (
        SELECT unnest(range(DATE '2023-01-01', DATE '2026-01-01', INTERVAL '1 month')) AS month
    ) AS m
),
days AS (
    SELECT
        g.county,
        g.unit_code,
        g.month,
        CAST(sum(coalesce(m.weight, 0)) OVER (PARTITION BY g.county, g.unit_code ORDER BY g.month) AS BIGINT)
            * date_part('day', g.month + INTERVAL '1 month' - INTERVAL '1 day')
            + CAST(coalesce(m.rest, 0) AS BIGINT) AS bp_days
    FROM grid AS g
    LEFT JOIN marks AS m ON m.county = g.county AND m.unit_code = g.unit_code AND m.month = g.month
),
sick AS (
    SELECT
        county,
        unit_code,
        date_trunc('month', started_on) AS month,
        CAST(sum(ended_on - started_on + 1) AS BIGINT) AS sickness_days
    FROM absence
    WHERE absence_class IN ('SL', 'TT')
    GROUP BY ALL
)
SELECT
    d.county,
    d.unit_code,
    d.month,
    d.bp_days,
    coalesce(s.sickness_days, 0) AS sickness_days,
    d.bp_days / 10000.0 / CASE WHEN date_part('year', d.month) = 2024 THEN 366 ELSE 365 END AS person_years,
    CASE
        WHEN d.bp_days > 0
            THEN coalesce(s.sickness_days, 0)
                / (d.bp_days / 10000.0 / date_part('day', d.month + INTERVAL '1 month' - INTERVAL '1 day'))
    END AS sickness_per_htv
FROM days AS d
LEFT JOIN sick AS s ON s.county = d.county AND s.unit_code = d.unit_code AND s.month = d.month
