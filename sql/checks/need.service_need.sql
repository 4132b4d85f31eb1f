-- checks: need.service_need
-- grain: one row per output, area_level, area, period_grain, period_start
-- The published figures of 2018-2021 as they are; 2022 and 2023, for which no coefficients
-- are published here, summed again from the means. The share aged 65 or over is the given
-- one: the published factors were computed with it, not with the quotient of the counts.
WITH published AS (
    SELECT
        year, county_code,
        need_health, need_social, need_elderly,
        factor_health, factor_social, factor_elderly, factor_total
    FROM reference.need_official
),
need AS (
    SELECT
        m.year,
        m.county_code,
        sum(coalesce(c.coef_health, 0) * m.mean) AS need_health,
        sum(coalesce(c.coef_social, 0) * m.mean) AS need_social,
        sum(coalesce(c.coef_elderly, 0) * m.mean) AS need_elderly
    FROM reference.need_mean AS m
    JOIN reference.need_coefficient AS c ON c.variable_no = m.variable_no
    WHERE m.year NOT IN (SELECT year FROM reference.need_official)
    GROUP BY m.year, m.county_code
),
aged AS (
    SELECT year, county_code, share_65plus AS share_65
    FROM reference.need_population
),
factor AS (
    SELECT
        n.year,
        n.county_code,
        n.need_health,
        n.need_social,
        n.need_elderly,
        n.need_health / f.need_health AS factor_health,
        n.need_social / f.need_social AS factor_social,
        n.need_elderly / f.need_elderly * (a.share_65 / fa.share_65) AS factor_elderly
    FROM need AS n
    JOIN need AS f ON f.year = n.year AND f.county_code = 'FI'
    JOIN aged AS a ON a.year = n.year AND a.county_code = n.county_code
    JOIN aged AS fa ON fa.year = n.year AND fa.county_code = 'FI'
),
computed AS (
    SELECT
        f.year, f.county_code,
        f.need_health, f.need_social, f.need_elderly,
        f.factor_health, f.factor_social, f.factor_elderly,
        h.weight * f.factor_health + s.weight * f.factor_social + e.weight * f.factor_elderly AS factor_total
    FROM factor AS f
    JOIN reference.need_sector_weight AS h ON h.year = f.year AND h.sector = 'health'
    JOIN reference.need_sector_weight AS s ON s.year = f.year AND s.sector = 'social'
    JOIN reference.need_sector_weight AS e ON e.year = f.year AND e.sector = 'elderly'
),
model AS (
    SELECT * FROM published
    UNION ALL
    SELECT * FROM computed
),
long AS (
    SELECT 'need_health' AS output, year, county_code, need_health AS value FROM model
    UNION ALL SELECT 'need_social', year, county_code, need_social FROM model
    UNION ALL SELECT 'need_elderly', year, county_code, need_elderly FROM model
    UNION ALL SELECT 'factor_health', year, county_code, factor_health FROM model
    UNION ALL SELECT 'factor_social', year, county_code, factor_social FROM model
    UNION ALL SELECT 'factor_elderly', year, county_code, factor_elderly FROM model
    UNION ALL SELECT 'factor_total', year, county_code, factor_total FROM model
)
SELECT
    output,
    CASE county_code WHEN 'FI' THEN 'country' ELSE 'county' END AS area_level,
    county_code AS area,
    'year' AS period_grain,
    make_date(year, 1, 1) AS period_start,
    value,
    CAST(NULL AS DOUBLE) AS numerator,
    CAST(NULL AS DOUBLE) AS denominator
FROM long
