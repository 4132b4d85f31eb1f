-- grain: one row per county, service and month
-- key: county, service_code, month
-- Days of a person that an earlier spell covers are cut off.
WITH piece AS (
    SELECT
        county_code,
        service_code,
        greatest(
            started_on,
            max(last_care_day) OVER (
                PARTITION BY person_pid, county_code, service_code ORDER BY started_on, last_care_day
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) + 1
        ) AS first_day,
        last_care_day
    FROM conformed.bench_care_spell
),
counted AS (
    SELECT
        county_code AS county,
        service_code,
        unnest(person_days(
            first_day, last_care_day, 1, generate_series(DATE '2023-01-01', DATE '2026-01-01', INTERVAL '1 month')
        )) AS of_month
    FROM piece
    WHERE first_day <= last_care_day
    GROUP BY county_code, service_code
)
SELECT county, service_code, of_month['period_start'] AS month, of_month['person_days'] AS care_days
FROM counted
