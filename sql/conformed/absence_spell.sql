-- grain: one row per absence within a month
-- key: county_code, employment_no, absence_class, started_on
-- stored: employee_pid, started_on
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: started_on -> reference.calendar(date)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column employee_pid: pseudonym of the employee
-- column absence_class: reason of the absence
-- column started_on: first day
-- column ended_on: last day
-- column month_start: first day of the month that it lies in
-- column absence_days: calendar days, both ends included
-- Sources cut an absence at the month end, so a row lies within one month.
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.employee_pid,
    s.employment_no,
    coalesce(class.maps_to, 'unknown') AS absence_class,
    s.started_on,
    s.ended_on,
    CAST(date_trunc('month', s.started_on) AS DATE) AS month_start,
    s.ended_on - s.started_on + 1 AS absence_days
FROM staging.hr_absence AS s
LEFT JOIN reference.code AS class
    ON class.list = 'county.absence_class'
    AND class.code = s.absence_class
    AND (class.valid_from IS NULL OR class.valid_from <= s.started_on)
    AND (class.valid_to IS NULL OR s.started_on < class.valid_to)
