-- grain: one row per placement of a child outside the home
-- key: county_code, placement_no
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column person_pid: pseudonym of the person
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column municipality_code: home municipality, as the source has it
-- column production_mode: own, purchased, voucher and so on; unknown: a code without meaning
-- column placement_no: number of the placement at the organiser
-- column started_on: first day
-- column ended_on: last day; null: the placement goes on
-- A code is read as valid on the first day of the spell that the delivery covers.
SELECT
    s.county_code,
    s.delivery_id,
    s.person_pid,
    s.birth_date,
    s.sex,
    s.municipality_code,
    s.placement_no,
    coalesce(form.maps_to, 'unknown') AS placement_form,
    coalesce(basis.maps_to, 'unknown') AS placement_basis,
    s.started_on,
    s.ended_on,
    coalesce(mode.maps_to, 'unknown') AS production_mode,
    s.provider_business_id
FROM staging.placement AS s
LEFT JOIN reference.code AS form
    ON form.list = 'thl.placement_form'
    AND form.code = s.placement_form
    AND (form.valid_from IS NULL OR form.valid_from <= greatest(s.started_on, s.delivered_from))
    AND (form.valid_to IS NULL OR greatest(s.started_on, s.delivered_from) < form.valid_to)
LEFT JOIN reference.code AS basis
    ON basis.list = 'thl.placement_basis'
    AND basis.code = s.placement_basis
    AND (basis.valid_from IS NULL OR basis.valid_from <= greatest(s.started_on, s.delivered_from))
    AND (basis.valid_to IS NULL OR greatest(s.started_on, s.delivered_from) < basis.valid_to)
LEFT JOIN reference.code AS mode
    ON mode.list = 'county.production_mode'
    AND mode.code = s.production_mode
    AND (mode.valid_from IS NULL OR mode.valid_from <= greatest(s.started_on, s.delivered_from))
    AND (mode.valid_to IS NULL OR greatest(s.started_on, s.delivered_from) < mode.valid_to)
