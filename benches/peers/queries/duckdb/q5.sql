-- grain: one row per county, service and month
-- key: county, service_code, month
-- Days of a person that an earlier spell covers are cut off; what is left leaves two
-- marks, as spells of work do.
WITH spell AS (
    SELECT
        county,
        service_code,
        client_pid,
        started_on,
        CASE
            WHEN ended_on = started_on THEN started_on
            WHEN ended_on IS NULL OR ended_on > DATE '2025-12-31' THEN DATE '2025-12-31'
            ELSE ended_on - 1
        END AS last_care_day
    FROM care_spell
),
piece AS (
    SELECT
        county,
        service_code,
        greatest(
            started_on,
            DATE '2023-01-01',
            max(last_care_day) OVER (
                PARTITION BY client_pid, county, service_code ORDER BY started_on, last_care_day
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) + 1
        ) AS first_day,
        last_care_day
    FROM spell
),
mark AS (
    SELECT county, service_code, first_day AS marked_on, 1 AS n FROM piece WHERE first_day <= last_care_day
    UNION ALL
    SELECT county, service_code, last_care_day + 1, -1
    FROM piece
    WHERE first_day <= last_care_day AND last_care_day < DATE '2025-12-31'
),
marks AS (
    SELECT
        county,
        service_code,
        date_trunc('month', marked_on) AS month,
        sum(n) AS weight,
        -sum(n * (day(marked_on) - 1)) AS rest
    FROM mark
    GROUP BY ALL
),
grid AS (
    SELECT u.county, u.service_code, CAST(m.month AS DATE) AS month
    FROM (SELECT DISTINCT county, service_code FROM marks) AS u
    CROSS JOIN range(DATE '2023-01-01', DATE '2026-01-01', INTERVAL 1 MONTH) AS m (month)
)
SELECT
    g.county,
    g.service_code,
    g.month,
    CAST(sum(coalesce(m.weight, 0)) OVER (PARTITION BY g.county, g.service_code ORDER BY g.month) AS BIGINT)
        * day(last_day(g.month)) + CAST(coalesce(m.rest, 0) AS BIGINT) AS care_days
FROM grid AS g
LEFT JOIN marks AS m ON m.county = g.county AND m.service_code = g.service_code AND m.month = g.month
