-- grain: one row per referral to specialised care
-- key: county_code, referral_no
-- stored: person_pid, arrived_on
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: arrived_on -> reference.calendar(date)
-- `processing_days` is null while the referral waits for its handling.
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
