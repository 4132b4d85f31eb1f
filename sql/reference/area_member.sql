-- grain: one row per year, area level, area and municipality code that belongs to it, 2000-2030
-- key: year, area_level, municipality_code
-- materialise: yes
-- references: year, municipality_code -> reference.municipality_on(year, municipality_code)
-- references: county_code -> reference.county(county_code)
-- Every area that a municipality code counts in: the municipality of the year's
-- division, its county, the county's collaborative area and the country. `counties`
-- says how many counties the area has. The country is made of the organisers, so
-- that Åland is not in it.
WITH member AS (
    SELECT year, 'municipality' AS area_level, division_code AS area, municipality_code, county_code
    FROM reference.municipality_on
    UNION ALL
    SELECT year, 'county', county_code AS area, municipality_code, county_code
    FROM reference.municipality_on
    UNION ALL
    SELECT year, 'collaboration_area', collaboration_area_code AS area, municipality_code, county_code
    FROM reference.municipality_on
    UNION ALL
    SELECT year, 'country', 'FI', municipality_code, county_code
    FROM reference.municipality_on
    WHERE county_code <> '91'
),
size AS (
    SELECT year, area_level, area, count(DISTINCT county_code) AS counties
    FROM member
    GROUP BY year, area_level, area
)
SELECT m.year, m.area_level, m.area, m.municipality_code, m.county_code, s.counties
FROM member AS m
JOIN size AS s ON s.year = m.year AND s.area_level = m.area_level AND s.area = m.area
