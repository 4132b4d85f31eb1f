-- grain: one row per employment
-- key: county_code, employment_no
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    employment_no,
    unit_code,
    started_on,
    ended_on,
    CAST(work_time_percent * 100 AS BIGINT) AS work_time_bp
FROM raw.bench_employment
