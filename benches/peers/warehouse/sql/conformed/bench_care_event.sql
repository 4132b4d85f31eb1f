-- grain: one row per care event
-- key: county_code, event_no
-- stored: person_pid, event_on
-- `age_group` is the age that the client reaches in the year, by five years: 0 is
-- 0-4, 18 is 90 or more. An unknown birth date is a group of its own.
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.person_pid,
    s.sex,
    CASE
        WHEN s.birth_date IS NULL THEN 'unknown'
        ELSE CAST(least((date_part('year', s.event_on) - date_part('year', s.birth_date)) / 5, 18) AS VARCHAR)
    END AS age_group,
    s.municipality_code,
    s.event_no,
    s.event_on,
    s.referred_on,
    s.event_on - s.referred_on AS wait_days,
    s.service_class,
    CASE WHEN coalesce(mode.maps_to, 'unknown') = 'own' THEN 'own' ELSE 'purchased' END AS production,
    s.unit_code,
    s.units,
    s.cost_cents
FROM staging.bench_care_event AS s
LEFT JOIN reference.code AS mode
    ON mode.list = 'county.production_mode'
    AND mode.code = s.production_mode
    AND (mode.valid_from IS NULL OR mode.valid_from <= s.event_on)
    AND (mode.valid_to IS NULL OR s.event_on < mode.valid_to)
