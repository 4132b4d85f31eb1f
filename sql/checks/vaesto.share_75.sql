-- checks: vaesto.share_75
-- grain: one row per output, area_level, area, period_grain, period_start
WITH place AS (
    -- The country here includes Åland, which is no organiser.
    SELECT year, area_level, area, municipality_code FROM reference.area_member WHERE area_level <> 'country'
    UNION ALL
    SELECT year, 'country', 'FI', municipality_code FROM reference.municipality_on
),
counted AS (
    SELECT
        l.area_level, l.area, p.year,
        sum(CASE WHEN p.age >= 75 THEN p.population ELSE 0 END) AS aged,
        sum(p.population) AS residents
    FROM reference.population AS p
    JOIN place AS l ON l.year = p.year AND l.municipality_code = p.municipality_code
    GROUP BY l.area_level, l.area, p.year
)
SELECT
    'value' AS output,
    area_level,
    area,
    'year' AS period_grain,
    make_date(year, 1, 1) AS period_start,
    100 * CAST(aged AS DOUBLE) / residents AS value,
    CAST(aged AS DOUBLE) AS numerator,
    CAST(residents AS DOUBLE) AS denominator
FROM counted
