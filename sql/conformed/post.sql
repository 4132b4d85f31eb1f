-- grain: one row per post
-- key: county_code, post_no
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column post_no: number of the post at the organiser
-- column valid_to: last day; null: the post stands
-- A code is read as valid on the first day of the spell that the delivery covers.
SELECT
    s.county_code,
    s.delivery_id,
    s.post_no,
    s.unit_code,
    coalesce(profession.maps_to, 'unknown') AS profession_group,
    s.budgeted_bp,
    s.valid_from,
    s.valid_to
FROM staging.hr_post AS s
LEFT JOIN reference.code AS profession
    ON profession.list = 'county.profession_group'
    AND profession.code = s.profession_group
    AND (profession.valid_from IS NULL OR profession.valid_from <= greatest(s.valid_from, s.delivered_from))
    AND (profession.valid_to IS NULL OR greatest(s.valid_from, s.delivered_from) < profession.valid_to)
