-- grain: one row per child-welfare notification
-- key: county_code, notification_no
-- stored: person_pid, received_on
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: received_on -> reference.calendar(date)
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.person_pid,
    s.birth_date,
    s.sex,
    s.municipality_code,
    s.notification_no,
    s.received_on,
    coalesce(notifier.maps_to, 'unknown') AS notifier,
    s.voided
FROM staging.child_notification AS s
LEFT JOIN reference.code AS notifier
    ON notifier.list = 'thl.notifier'
    AND notifier.code = s.notifier
    AND (notifier.valid_from IS NULL OR notifier.valid_from <= s.received_on)
    AND (notifier.valid_to IS NULL OR s.received_on < notifier.valid_to)
