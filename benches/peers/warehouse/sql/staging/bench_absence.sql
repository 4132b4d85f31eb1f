-- grain: one row per absence within a month
-- key: county_code, absence_no
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    absence_no,
    unit_code,
    absence_class,
    started_on,
    ended_on
FROM raw.bench_absence
