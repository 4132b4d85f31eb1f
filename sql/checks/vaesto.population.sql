-- checks: vaesto.population
-- grain: one row per output, area_level, area, period_grain, period_start
WITH place AS (
    -- The country here includes Åland, which is no organiser.
    SELECT year, area_level, area, municipality_code FROM reference.area_member WHERE area_level <> 'country'
    UNION ALL
    SELECT year, 'country', 'FI', municipality_code FROM reference.municipality_on
)
SELECT
    'value' AS output,
    l.area_level,
    l.area,
    'year' AS period_grain,
    make_date(p.year, 1, 1) AS period_start,
    CAST(sum(p.population) AS DOUBLE) AS value,
    CAST(sum(p.population) AS DOUBLE) AS numerator,
    CAST(NULL AS DOUBLE) AS denominator
FROM reference.population AS p
JOIN place AS l ON l.year = p.year AND l.municipality_code = p.municipality_code
GROUP BY l.area_level, l.area, p.year
