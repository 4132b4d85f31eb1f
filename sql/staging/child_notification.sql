-- grain: one row per child-welfare notification
-- key: county_code, notification_no
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    notification_no,
    client_pid AS person_pid,
    client_birth_date AS birth_date,
    client_sex AS sex,
    municipality AS municipality_code,
    received_on,
    notifier,
    voided
FROM raw.child_notification
