-- grain: one row per placement of a child outside the home
-- key: county_code, placement_no
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- `ended_on` is the last day, null while the placement goes on.
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
