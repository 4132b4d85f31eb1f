-- grain: one row per care spell and month in which it has care days
-- key: county_code, spell_no, month_start
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: county_code, spell_no -> conformed.care_spell(county_code, spell_no)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column person_pid: pseudonym of the person
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column municipality_code: home municipality, as the source has it
-- column production_mode: own, purchased, voucher and so on; unknown: a code without meaning
-- column spell_no: the care spell
-- column month_start: first day of the month
-- column care_days: days of care in the month, the day of discharge not counted
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
