-- grain: one row per employment
-- key: county_code, employment_no
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column employee_pid: pseudonym of the employee
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column employment_no: number of the employment at the organiser
-- column started_on: first day
-- column ended_on: last day; null: the employment goes on
-- column work_time_bp: working time, 10000 = full time
-- A code is read as valid on the first day of the spell that the delivery covers.
SELECT
    s.county_code,
    s.delivery_id,
    s.employee_pid,
    s.birth_date,
    s.sex,
    s.employment_no,
    s.unit_code,
    s.cost_centre,
    coalesce(profession.maps_to, 'unknown') AS profession_group,
    coalesce(agreement.maps_to, 'unknown') AS agreement,
    coalesce(contract.maps_to, 'unknown') AS contract_type,
    s.started_on,
    s.ended_on,
    CASE WHEN s.end_reason IS NOT NULL THEN coalesce(reason.maps_to, 'unknown') END AS end_reason,
    s.work_time_bp,
    s.post_no
FROM staging.hr_employment AS s
LEFT JOIN reference.code AS profession
    ON profession.list = 'county.profession_group'
    AND profession.code = s.profession_group
    AND (profession.valid_from IS NULL OR profession.valid_from <= greatest(s.started_on, s.delivered_from))
    AND (profession.valid_to IS NULL OR greatest(s.started_on, s.delivered_from) < profession.valid_to)
LEFT JOIN reference.code AS agreement
    ON agreement.list = 'county.agreement'
    AND agreement.code = s.agreement
    AND (agreement.valid_from IS NULL OR agreement.valid_from <= greatest(s.started_on, s.delivered_from))
    AND (agreement.valid_to IS NULL OR greatest(s.started_on, s.delivered_from) < agreement.valid_to)
LEFT JOIN reference.code AS contract
    ON contract.list = 'county.contract_type'
    AND contract.code = s.contract_type
    AND (contract.valid_from IS NULL OR contract.valid_from <= greatest(s.started_on, s.delivered_from))
    AND (contract.valid_to IS NULL OR greatest(s.started_on, s.delivered_from) < contract.valid_to)
LEFT JOIN reference.code AS reason
    ON reason.list = 'county.end_reason'
    AND reason.code = s.end_reason
    AND (reason.valid_from IS NULL OR reason.valid_from <= greatest(s.started_on, s.delivered_from))
    AND (reason.valid_to IS NULL OR greatest(s.started_on, s.delivered_from) < reason.valid_to)
