-- grain: one row per decision on informal care support
-- key: county_code, decision_no
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column person_pid: pseudonym of the person
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column municipality_code: home municipality, as the source has it
-- column decision_no: number of the decision at the organiser
-- column carer_pid: pseudonym of the carer
-- column valid_to: last day; null: open
-- The person is the one cared for.
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
