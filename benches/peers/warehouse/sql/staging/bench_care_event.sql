-- grain: one row per care event
-- key: county_code, event_no
SELECT
    lpad(CAST(county AS VARCHAR), 2, '0') AS county_code,
    period,
    delivery_id,
    row_no,
    event_no,
    client_pid AS person_pid,
    client_birth_date AS birth_date,
    client_sex AS sex,
    municipality AS municipality_code,
    event_on,
    referred_on,
    service_class,
    production_mode,
    unit_code,
    units,
    CAST(cost * 100 AS BIGINT) AS cost_cents
FROM raw.bench_care_event
