-- grain: one row per decision on informal care support
-- key: county_code, decision_no
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- The person is the one cared for. `valid_to` is the last day, null while open.
-- A code is read as valid on the first day of the spell that the delivery covers.
SELECT
    s.county_code,
    s.delivery_id,
    s.person_pid,
    s.birth_date,
    s.sex,
    s.municipality_code,
    s.decision_no,
    s.carer_pid,
    coalesce(fee.maps_to, 'unknown') AS fee_class,
    s.valid_from,
    s.valid_to
FROM staging.informal_care_decision AS s
LEFT JOIN reference.code AS fee
    ON fee.list = 'county.fee_class'
    AND fee.code = s.fee_class
    AND (fee.valid_from IS NULL OR fee.valid_from <= greatest(s.valid_from, s.delivered_from))
    AND (fee.valid_to IS NULL OR greatest(s.valid_from, s.delivered_from) < fee.valid_to)
