-- grain: one row per referral to specialised care
-- key: county_code, referral_no
-- stored: person_pid, arrived_on
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: arrived_on -> reference.calendar(date)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column person_pid: pseudonym of the person
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column municipality_code: home municipality, as the source has it
-- column referral_no: number of the referral at the organiser
-- column arrived_on: day of arrival
-- column processed_on: day of handling
-- column processing_days: days from arrival to handling; null: it waits
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.person_pid,
    s.birth_date,
    s.sex,
    s.municipality_code,
    s.referral_no,
    s.arrived_on,
    s.processed_on,
    s.queued_on,
    s.treated_on,
    coalesce(specialty.maps_to, 'unknown') AS specialty,
    coalesce(urgency.maps_to, 'unknown') AS urgency,
    s.processed_on - s.arrived_on AS processing_days
FROM staging.specialised_referral AS s
LEFT JOIN reference.code AS specialty
    ON specialty.list = 'county.specialty'
    AND specialty.code = s.specialty
    AND (specialty.valid_from IS NULL OR specialty.valid_from <= s.arrived_on)
    AND (specialty.valid_to IS NULL OR s.arrived_on < specialty.valid_to)
LEFT JOIN reference.code AS urgency
    ON urgency.list = 'county.urgency'
    AND urgency.code = s.urgency
    AND (urgency.valid_from IS NULL OR urgency.valid_from <= s.arrived_on)
    AND (urgency.valid_to IS NULL OR s.arrived_on < urgency.valid_to)
