-- grain: one row per employment, as last delivered
-- key: county_code, employment_no
-- A delivery of a year holds every spell that overlaps the year, so a spell comes
-- again each year: the latest year has the last word.
WITH latest AS (
    SELECT county, employment_no, max(period) AS period
    FROM raw.hr_employment
    GROUP BY county, employment_no
)
SELECT
    lpad(CAST(r.county AS VARCHAR), 2, '0') AS county_code,
    r.period,
    r.delivery_id,
    r.row_no,
    make_date(r.period / 100, 1, 1) AS delivered_from,
    make_date(r.period / 100, 12, 31) AS delivered_to,
    r.employee_pid AS employee_pid,
    r.employee_birth_date AS birth_date,
    r.employee_sex AS sex,
    r.employment_no,
    r.employer_business_id,
    r.unit_code,
    r.cost_centre,
    r.profession_group,
    r.agreement,
    r.contract_type,
    r.started_on,
    r.ended_on,
    r.end_reason,
    CAST(r.work_time_percent * 100 AS BIGINT) AS work_time_bp,
    r.post_no
FROM raw.hr_employment AS r
JOIN latest AS l ON l.county = r.county AND l.employment_no = r.employment_no AND l.period = r.period
