-- grain: one row per year and municipality of that year's division, 31.12. of 2000-2025
-- key: year, municipality_code
-- materialise: yes
-- references: year, municipality_code -> reference.municipality_on(year, municipality_code)
-- references: county_code -> reference.county(county_code)
-- Counted to 2022 (A). Later years are estimates (E): the total of the country
-- is the projection, for 2023 the middle between the counted 2022 and the
-- projected 2024; a municipality has the share its 2022 total gives when its ages
-- grow as in the whole country; largest remainders make whole persons.
WITH counted AS (
    SELECT p.year, m.division_code AS municipality_code, m.county_code, sum(p.population) AS population
    FROM reference.population_municipality AS p
    JOIN reference.municipality_on AS m ON m.year = p.year AND m.municipality_code = p.municipality_code
    GROUP BY p.year, m.division_code, m.county_code
),
country AS (
    SELECT 2023 AS year, (c.population + p.population_total) / 2 AS population
    FROM (SELECT sum(population) AS population FROM reference.population_municipality WHERE year = 2022) AS c
    CROSS JOIN reference.population_projection AS p
    WHERE p.year = 2024
    UNION ALL
    SELECT year, population_total FROM reference.population_projection WHERE year IN (2024, 2025)
),
age_growth AS (
    -- The 2019 residents aged as the country by 2022 and by the year: their ratio is the growth after 2022.
    SELECT
        f.year,
        m.division_code AS municipality_code,
        m.county_code,
        sum(p.population * f.factor) AS then_weight,
        sum(p.population * f22.factor) AS weight_2022
    FROM reference.population_age_municipality AS p
    JOIN reference.population_age_factor AS f
        ON f.age_group = CASE
            WHEN p.age < 15 THEN '0-14'
            WHEN p.age < 65 THEN '15-64'
            WHEN p.age < 75 THEN '65-74'
            ELSE '75-'
        END
    JOIN reference.population_age_factor AS f22 ON f22.age_group = f.age_group AND f22.year = 2022
    JOIN reference.municipality_on AS m ON m.year = f.year AND m.municipality_code = p.municipality_code
    WHERE p.year = 2019 AND f.year >= 2023
    GROUP BY f.year, m.division_code, m.county_code
),
last_counted AS (
    SELECT y.year, m.division_code AS municipality_code, sum(p.population) AS population
    FROM reference.population_municipality AS p
    CROSS JOIN country AS y
    JOIN reference.municipality_on AS m ON m.year = y.year AND m.municipality_code = p.municipality_code
    WHERE p.year = 2022
    GROUP BY y.year, m.division_code
),
share AS (
    SELECT
        g.year,
        g.municipality_code,
        g.county_code,
        CAST(round(1000.0 * l.population * g.then_weight / g.weight_2022) AS BIGINT) AS weight
    FROM age_growth AS g
    JOIN last_counted AS l ON l.year = g.year AND l.municipality_code = g.municipality_code
),
quota AS (
    SELECT
        s.year,
        s.municipality_code,
        s.county_code,
        y.population AS country_population,
        y.population * s.weight / sum(s.weight) OVER (PARTITION BY s.year) AS whole,
        y.population * s.weight % sum(s.weight) OVER (PARTITION BY s.year) AS remainder
    FROM share AS s
    JOIN country AS y ON y.year = s.year
),
ranked AS (
    SELECT
        year,
        municipality_code,
        county_code,
        whole,
        country_population - sum(whole) OVER (PARTITION BY year) AS left_over,
        row_number() OVER (PARTITION BY year ORDER BY remainder DESC, municipality_code) AS rank
    FROM quota
)
SELECT CAST(year AS INT) AS year, municipality_code, county_code, population, 'A' AS obs_status
FROM counted
UNION ALL
SELECT CAST(year AS INT), municipality_code, county_code, whole + CASE WHEN rank <= left_over THEN 1 ELSE 0 END, 'E'
FROM ranked
