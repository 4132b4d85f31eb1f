-- grain: one row per care event
-- key: county_code, event_no
-- stored: event_on
-- Care events without the person, for volumes and money: an indicator of rows about
-- persons also counts who is behind each number, and no peer does that.
SELECT
    county_code,
    period,
    delivery_id,
    sex,
    age_group,
    municipality_code,
    event_no,
    event_on,
    referred_on,
    wait_days,
    service_class,
    production,
    units,
    cost_cents
FROM conformed.bench_care_event
