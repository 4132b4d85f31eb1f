-- grain: one row per decision on informal care support, as last delivered
-- key: county_code, decision_no
-- A delivery of a year holds every spell that overlaps the year, so a spell comes
-- again each year: the latest year has the last word.
WITH latest AS (
    SELECT county, decision_no, max(period) AS period
    FROM raw.informal_care_decision
    GROUP BY county, decision_no
)
SELECT
    lpad(CAST(r.county AS VARCHAR), 2, '0') AS county_code,
    r.period,
    r.delivery_id,
    r.row_no,
    make_date(r.period / 100, 1, 1) AS delivered_from,
    make_date(r.period / 100, 12, 31) AS delivered_to,
    r.decision_no,
    r.client_pid AS person_pid,
    r.client_birth_date AS birth_date,
    r.client_sex AS sex,
    r.carer_pid,
    r.municipality AS municipality_code,
    r.fee_class,
    r.valid_from,
    r.valid_to
FROM raw.informal_care_decision AS r
JOIN latest AS l ON l.county = r.county AND l.decision_no = r.decision_no AND l.period = r.period
