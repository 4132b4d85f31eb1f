-- grain: one row per care spell, as last delivered
-- key: county_code, spell_no
-- A delivery of a year holds every spell that overlaps the year, so a spell comes
-- again each year: the latest year has the last word.
WITH latest AS (
    SELECT county, spell_no, max(period) AS period
    FROM raw.care_spell
    GROUP BY county, spell_no
)
SELECT
    lpad(CAST(r.county AS VARCHAR), 2, '0') AS county_code,
    r.period,
    r.delivery_id,
    r.row_no,
    make_date(r.period / 100, 1, 1) AS delivered_from,
    make_date(r.period / 100, 12, 31) AS delivered_to,
    r.spell_no,
    r.client_pid AS person_pid,
    r.client_birth_date AS birth_date,
    r.client_sex AS sex,
    r.municipality AS municipality_code,
    r.service_code,
    r.started_on,
    r.ended_on,
    r.long_term,
    r.production_mode,
    r.provider_business_id,
    r.unit_code
FROM raw.care_spell AS r
JOIN latest AS l ON l.county = r.county AND l.spell_no = r.spell_no AND l.period = r.period
