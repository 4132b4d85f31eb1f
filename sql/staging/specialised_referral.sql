-- grain: one row per referral to specialised care
-- key: county_code, referral_no
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    referral_no,
    client_pid AS person_pid,
    client_birth_date AS birth_date,
    client_sex AS sex,
    municipality AS municipality_code,
    arrived_on,
    processed_on,
    queued_on,
    treated_on,
    specialty,
    urgency
FROM raw.specialised_referral
