-- grain: one row per home-care visit
-- key: county_code, visit_no
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    visit_no,
    client_pid AS person_pid,
    client_birth_date AS birth_date,
    client_sex AS sex,
    municipality AS municipality_code,
    visit_on,
    minutes,
    contact_mode,
    profession,
    unit_code,
    production_mode,
    provider_business_id,
    realised
FROM raw.homecare_visit
