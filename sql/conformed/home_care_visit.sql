-- grain: one row per home-care visit
-- key: county_code, visit_no
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
-- column production_mode: own, purchased, voucher and so on; unknown: a code without meaning
-- column visit_no: number of the visit at the organiser
-- column visit_on: day of the visit
-- column month_start: first day of its month
-- column minutes: length in minutes
-- column realised: whether it took place
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.person_pid,
    s.birth_date,
    s.sex,
    s.municipality_code,
    s.visit_no,
    s.visit_on,
    CAST(date_trunc('month', s.visit_on) AS DATE) AS month_start,
    s.minutes,
    coalesce(contact.maps_to, 'unknown') AS contact_mode,
    coalesce(profession.maps_to, 'unknown') AS profession,
    s.unit_code,
    coalesce(mode.maps_to, 'unknown') AS production_mode,
    s.provider_business_id,
    s.realised
FROM staging.homecare_visit AS s
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
LEFT JOIN reference.code AS mode
    ON mode.list = 'county.production_mode'
    AND mode.code = s.production_mode
    AND (mode.valid_from IS NULL OR mode.valid_from <= s.visit_on)
    AND (mode.valid_to IS NULL OR s.visit_on < mode.valid_to)
