-- grain: one row per care spell
-- key: county_code, spell_no
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column person_pid: pseudonym of the person
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column municipality_code: home municipality, as the source has it
-- column production_mode: own, purchased, voucher and so on; unknown: a code without meaning
-- column spell_no: number of the spell at the organiser
-- column started_on: first day of care
-- column ended_on: day of discharge; null: the care goes on
-- column delivered_to: last day that the delivery speaks for
-- A code is read as valid on the first day of the spell that the delivery covers.
SELECT
    s.county_code,
    s.delivery_id,
    s.person_pid,
    s.birth_date,
    s.sex,
    s.municipality_code,
    s.spell_no,
    coalesce(service.maps_to, 'unknown') AS service_code,
    s.started_on,
    s.ended_on,
    s.long_term,
    coalesce(mode.maps_to, 'unknown') AS production_mode,
    s.provider_business_id,
    s.unit_code,
    s.delivered_to
FROM staging.care_spell AS s
LEFT JOIN reference.code AS service
    ON service.list = 'county.care_service'
    AND service.code = s.service_code
    AND (service.valid_from IS NULL OR service.valid_from <= greatest(s.started_on, s.delivered_from))
    AND (service.valid_to IS NULL OR greatest(s.started_on, s.delivered_from) < service.valid_to)
LEFT JOIN reference.code AS mode
    ON mode.list = 'county.production_mode'
    AND mode.code = s.production_mode
    AND (mode.valid_from IS NULL OR mode.valid_from <= greatest(s.started_on, s.delivered_from))
    AND (mode.valid_to IS NULL OR greatest(s.started_on, s.delivered_from) < mode.valid_to)
