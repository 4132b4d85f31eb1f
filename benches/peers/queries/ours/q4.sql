-- grain: one row per county, unit and month
-- key: county, unit_code, month
WITH worked AS (
    SELECT
        county_code AS county,
        unit_code,
        unnest(person_days(
            started_on,
            ended_on,
            work_time_bp,
            generate_series(DATE '2023-01-01', DATE '2026-01-01', INTERVAL '1 month')
        )) AS of_month
    FROM conformed.bench_employment
    GROUP BY county_code, unit_code
),
days AS (
    SELECT
        county,
        unit_code,
        of_month['period_start'] AS month,
        of_month['person_days'] AS bp_days
    FROM worked
),
sick AS (
    SELECT
        county_code AS county,
        unit_code,
        CAST(date_trunc('month', started_on) AS DATE) AS month,
        sum(absence_days) AS sickness_days
    FROM conformed.bench_absence
    WHERE absence_class IN ('sickness', 'work_accident')
    GROUP BY county_code, unit_code, date_trunc('month', started_on)
)
SELECT
    d.county,
    d.unit_code,
    d.month,
    d.bp_days,
    coalesce(s.sickness_days, 0) AS sickness_days,
    d.bp_days / 10000.0 / y.year_days AS person_years,
    coalesce(s.sickness_days, 0) / nullif(d.bp_days / 10000.0 / y.days, 0) AS sickness_per_htv
FROM days AS d
JOIN reference.period AS y ON y.grain = 'month' AND y.period_start = d.month
LEFT JOIN sick AS s ON s.county = d.county AND s.unit_code = d.unit_code AND s.month = d.month
