-- grain: one row per county, service and month
-- key: county, service_code, month
WITH counted AS (
    SELECT
        county_code AS county,
        service_code,
        unnest(care_days(
            person_pid,
            started_on,
            last_care_day,
            generate_series(DATE '2023-01-01', DATE '2026-01-01', INTERVAL '1 month')
        )) AS of_month
    FROM conformed.bench_care_spell
    GROUP BY county_code, service_code
)
SELECT county, service_code, of_month['period_start'] AS month, of_month['care_days'] AS care_days
FROM counted
