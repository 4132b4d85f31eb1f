-- grain: one row per care spell and month in which it has care days
-- key: county_code, spell_no, month_start
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: county_code, spell_no -> conformed.care_spell(county_code, spell_no)
-- A care spell clipped to months. The day of discharge is not a care day, but a
-- spell of one day has one. A spell still open counts to the last day that its
-- delivery speaks for.
WITH span AS (
    SELECT
        *,
        CASE
            WHEN ended_on = started_on THEN started_on
            ELSE least(ended_on - 1, delivered_to)
        END AS last_care_day
    FROM conformed.care_spell
    WHERE ended_on IS NULL OR ended_on >= started_on
),
month AS (
    SELECT
        *,
        unnest(generate_series(
            CAST(date_trunc('month', started_on) AS DATE), last_care_day, INTERVAL '1 month'
        )) AS month_start
    FROM span
    WHERE last_care_day >= started_on
)
SELECT
    county_code,
    delivery_id,
    spell_no,
    municipality_code,
    person_pid,
    birth_date,
    sex,
    service_code,
    production_mode,
    provider_business_id,
    month_start,
    least(last_care_day, CAST(month_start + INTERVAL '1 month' AS DATE) - 1)
        - greatest(started_on, month_start) + 1 AS care_days
FROM month
