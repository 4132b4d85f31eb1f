-- grain: one row per absence spell within a month
-- key: county_code, employment_no, absence_class, started_on
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    employee_pid,
    employment_no,
    absence_class,
    started_on,
    ended_on,
    CAST(pay_percent * 100 AS BIGINT) AS pay_bp
FROM raw.hr_absence
