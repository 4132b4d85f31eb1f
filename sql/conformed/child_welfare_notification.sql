-- grain: one row per child-welfare notification
-- key: county_code, notification_no
-- stored: person_pid, received_on
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: received_on -> reference.calendar(date)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column person_pid: pseudonym of the person
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column municipality_code: home municipality, as the source has it
-- column notification_no: number of the notification at the organiser
-- column received_on: day of arrival
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
