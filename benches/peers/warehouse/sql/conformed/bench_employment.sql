-- grain: one row per employment
-- key: county_code, employment_no
-- stored: started_on, unit_code
-- `ended_on` is the last day, null while the employment goes on.
SELECT
    county_code,
    period,
    delivery_id,
    employment_no,
    unit_code,
    started_on,
    ended_on,
    work_time_bp
FROM staging.bench_employment
