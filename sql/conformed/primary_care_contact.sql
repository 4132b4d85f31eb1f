-- grain: one row per primary-care contact
-- key: county_code, contact_no
-- stored: person_pid, visit_on
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: visit_on -> reference.calendar(date)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column person_pid: pseudonym of the person
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column municipality_code: home municipality, as the source has it
-- column contact_no: number of the contact at the organiser
-- column assessed_on: day of the assessment of need
-- column visit_on: day of the visit
-- column wait_days: days from the assessment to the visit; null: the source does not link them
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.person_pid,
    s.birth_date,
    s.sex,
    s.municipality_code,
    s.contact_no,
    s.assessed_on,
    s.visit_on,
    s.visit_on - s.assessed_on AS wait_days,
    coalesce(urgency.maps_to, 'unknown') AS urgency,
    coalesce(contact.maps_to, 'unknown') AS contact_mode,
    coalesce(profession.maps_to, 'unknown') AS profession,
    s.unit_code,
    s.realised
FROM staging.primary_care_contact AS s
LEFT JOIN reference.code AS urgency
    ON urgency.list = 'county.urgency'
    AND urgency.code = s.urgency
    AND (urgency.valid_from IS NULL OR urgency.valid_from <= s.visit_on)
    AND (urgency.valid_to IS NULL OR s.visit_on < urgency.valid_to)
LEFT JOIN reference.code AS contact
    ON contact.list = 'county.contact_mode'
    AND contact.code = s.contact_mode
    AND (contact.valid_from IS NULL OR contact.valid_from <= s.visit_on)
    AND (contact.valid_to IS NULL OR s.visit_on < contact.valid_to)
LEFT JOIN reference.code AS profession
    ON profession.list = 'county.profession_group'
    AND profession.code = s.profession
    AND (profession.valid_from IS NULL OR profession.valid_from <= s.visit_on)
    AND (profession.valid_to IS NULL OR s.visit_on < profession.valid_to)
