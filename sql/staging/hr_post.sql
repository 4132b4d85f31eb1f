-- grain: one row per post, as last delivered
-- key: county_code, post_no
-- A delivery of a year holds every spell that overlaps the year, so a spell comes
-- again each year: the latest year has the last word.
WITH latest AS (
    SELECT county, post_no, max(period) AS period
    FROM raw.hr_post
    GROUP BY county, post_no
)
SELECT
    lpad(CAST(r.county AS VARCHAR), 2, '0') AS county_code,
    r.period,
    r.delivery_id,
    r.row_no,
    make_date(r.period / 100, 1, 1) AS delivered_from,
    make_date(r.period / 100, 12, 31) AS delivered_to,
    r.post_no,
    r.unit_code,
    r.profession_group,
    CAST(r.budgeted_percent * 100 AS BIGINT) AS budgeted_bp,
    r.valid_from,
    r.valid_to
FROM raw.hr_post AS r
JOIN latest AS l ON l.county = r.county AND l.post_no = r.post_no AND l.period = r.period
