-- grain: one row per matter that asks for an assessment of service need
-- key: county_code, matter_no
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    matter_no,
    client_pid AS person_pid,
    client_birth_date AS birth_date,
    client_sex AS sex,
    municipality AS municipality_code,
    service_task,
    initiated_on,
    started_on,
    completed_on,
    urgent,
    unit_code
FROM raw.needs_assessment
