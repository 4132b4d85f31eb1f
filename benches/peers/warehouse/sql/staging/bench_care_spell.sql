-- grain: one row per spell of care
-- key: county_code, spell_no
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    spell_no,
    client_pid AS person_pid,
    service_code,
    started_on,
    ended_on
FROM raw.bench_care_spell
