-- grain: one row per matter that asks for an assessment of service need
-- key: county_code, matter_no
-- stored: person_pid, initiated_on
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: initiated_on -> reference.calendar(date)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column person_pid: pseudonym of the person
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column municipality_code: home municipality, as the source has it
-- column matter_no: number of the matter at the organiser
-- column initiated_on: day of initiation
-- column working_days_to_start: working days from initiation, which is not counted, to the beginning
-- The day of initiation is not counted: the next working day is day 1. An
-- assessment not begun has not begun in time.
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.person_pid,
    s.birth_date,
    s.sex,
    s.municipality_code,
    s.matter_no,
    coalesce(task.maps_to, 'unknown') AS service_task,
    s.initiated_on,
    s.started_on,
    s.completed_on,
    s.urgent,
    s.unit_code,
    CAST(begun.working_day_no - initiated.working_day_no AS BIGINT) AS working_days_to_start,
    coalesce(begun.working_day_no - initiated.working_day_no <= 7, FALSE) AS started_in_7_working_days,
    coalesce(s.completed_on <= s.initiated_on + INTERVAL '3 months', FALSE) AS completed_in_3_months
FROM staging.needs_assessment AS s
LEFT JOIN reference.calendar AS initiated ON initiated.date = s.initiated_on
LEFT JOIN reference.calendar AS begun ON begun.date = s.started_on
LEFT JOIN reference.code AS task
    ON task.list = 'thl.service_task'
    AND task.code = s.service_task
    AND (task.valid_from IS NULL OR task.valid_from <= s.initiated_on)
    AND (task.valid_to IS NULL OR s.initiated_on < task.valid_to)
