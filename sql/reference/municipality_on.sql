-- grain: one row per year and municipality code that may occur in data, 2000-2030
-- key: year, municipality_code
-- materialise: yes
-- references: county_code -> reference.county(county_code)
-- Resolves a municipality code to the division of a year: `division_code` is the
-- municipality of that division, the same code unless the municipality has been
-- merged. Years before the first key file use the first, years after the last
-- use the last. The collaborative area is that of the county today.
WITH bounds AS (
    SELECT min(year) AS first_year, max(year) AS last_year FROM reference.municipality_year
),
wanted AS (
    SELECT
        CAST(s.value AS INT) AS year,
        least(greatest(CAST(s.value AS INT), b.first_year), b.last_year) AS division_year
    FROM generate_series(2000, 2030) AS s CROSS JOIN bounds AS b
),
division AS (
    SELECT w.year, m.municipality_code, m.name_fi, m.name_sv, m.county_code
    FROM wanted AS w
    JOIN reference.municipality_year AS m ON m.year = w.division_year
),
resolved AS (
    SELECT year, municipality_code, municipality_code AS division_code, name_fi, name_sv, county_code
    FROM division
    UNION ALL
    -- A code that the division of the year no longer (or not) has stands for its successor.
    SELECT d.year, g.old_code, d.municipality_code, d.name_fi, d.name_sv, d.county_code
    FROM reference.municipality_merger AS g
    JOIN division AS d ON d.municipality_code = g.new_code
    LEFT JOIN division AS own ON own.year = d.year AND own.municipality_code = g.old_code
    WHERE own.municipality_code IS NULL
)
SELECT
    r.year,
    r.municipality_code,
    r.division_code,
    r.name_fi,
    r.name_sv,
    r.county_code,
    c.collaboration_area_code
FROM resolved AS r
LEFT JOIN reference.county AS c ON c.county_code = r.county_code
