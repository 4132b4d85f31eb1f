-- grain: one row per service provider, as last delivered
-- key: county_code, provider_business_id
-- A delivery of a year holds every spell that overlaps the year, so a spell comes
-- again each year: the latest year has the last word.
WITH latest AS (
    SELECT county, provider_business_id, max(period) AS period
    FROM raw.provider
    GROUP BY county, provider_business_id
)
SELECT
    lpad(CAST(r.county AS VARCHAR), 2, '0') AS county_code,
    r.period,
    r.delivery_id,
    r.row_no,
    make_date(r.period / 100, 1, 1) AS delivered_from,
    make_date(r.period / 100, 12, 31) AS delivered_to,
    r.provider_business_id,
    r.name,
    r.sector,
    r.municipality AS municipality_code,
    r.valid_from,
    r.valid_to
FROM raw.provider AS r
JOIN latest AS l ON l.county = r.county AND l.provider_business_id = r.provider_business_id AND l.period = r.period
