-- grain: one row per spell of care
-- key: county_code, spell_no
-- stored: person_pid, started_on
-- `last_care_day`: the day of discharge is not a care day, but a spell of one day
-- has one. A spell still open counts to the end of 2025, the last year delivered.
SELECT
    county_code,
    period,
    delivery_id,
    person_pid,
    spell_no,
    service_code,
    started_on,
    CASE
        WHEN ended_on = started_on THEN started_on
        WHEN ended_on IS NULL OR ended_on > DATE '2025-12-31' THEN DATE '2025-12-31'
        ELSE ended_on - 1
    END AS last_care_day
FROM staging.bench_care_spell
