-- grain: one row per primary-care contact
-- key: county_code, contact_no
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    contact_no,
    client_pid AS person_pid,
    client_birth_date AS birth_date,
    client_sex AS sex,
    municipality AS municipality_code,
    assessed_on,
    visit_on,
    urgency,
    contact_mode,
    profession,
    unit_code,
    realised
FROM raw.primary_care_contact
