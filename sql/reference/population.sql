-- grain: one row per year, municipality of that year's division, sex and age, 31.12. of 2018-2025
-- key: year, municipality_code, sex, age
-- materialise: yes
-- references: year, municipality_code -> reference.municipality_on(year, municipality_code)
-- references: county_code -> reference.county(county_code)
-- Age 100 stands for 100 or older. 2018 and 2019 are counted (A). Later years
-- are estimates (E): each cell of 2019 grows as its age group (0-14, 15-64,
-- 65-74, 75-) in the whole country, then the cells of a municipality are scaled
-- to its total in `reference.population_total` and made whole by largest
-- remainders, ties to the younger age and to women. Births, deaths and moves of
-- the municipality itself show only through its total.
WITH grown AS (
    SELECT
        f.year,
        m.division_code AS municipality_code,
        m.county_code,
        p.sex,
        p.age,
        sum(p.population * f.factor) AS weight
    FROM reference.population_age_municipality AS p
    JOIN reference.population_age_factor AS f
        ON f.age_group = CASE
            WHEN p.age < 15 THEN '0-14'
            WHEN p.age < 65 THEN '15-64'
            WHEN p.age < 75 THEN '65-74'
            ELSE '75-'
        END
    JOIN reference.municipality_on AS m ON m.year = f.year AND m.municipality_code = p.municipality_code
    WHERE p.year = 2019
    GROUP BY f.year, m.division_code, m.county_code, p.sex, p.age
),
weighed AS (
    SELECT year, municipality_code, sum(weight) AS weight FROM grown GROUP BY year, municipality_code
),
quota AS (
    SELECT
        g.year,
        g.municipality_code,
        g.county_code,
        g.sex,
        g.age,
        t.population AS total,
        t.population * g.weight / w.weight AS whole,
        t.population * g.weight % w.weight AS remainder
    FROM grown AS g
    JOIN weighed AS w ON w.year = g.year AND w.municipality_code = g.municipality_code
    JOIN reference.population_total AS t ON t.year = g.year AND t.municipality_code = g.municipality_code
),
ranked AS (
    SELECT
        year,
        municipality_code,
        county_code,
        sex,
        age,
        whole,
        total - sum(whole) OVER (PARTITION BY year, municipality_code) AS left_over,
        row_number() OVER (PARTITION BY year, municipality_code ORDER BY remainder DESC, age, sex) AS rank
    FROM quota
)
SELECT
    p.year,
    m.division_code AS municipality_code,
    m.county_code,
    p.sex,
    p.age,
    sum(p.population) AS population,
    'A' AS obs_status
FROM reference.population_age_municipality AS p
JOIN reference.municipality_on AS m ON m.year = p.year AND m.municipality_code = p.municipality_code
GROUP BY p.year, m.division_code, m.county_code, p.sex, p.age
UNION ALL
SELECT
    year,
    municipality_code,
    county_code,
    sex,
    age,
    whole + CASE WHEN rank <= left_over THEN 1 ELSE 0 END,
    'E'
FROM ranked
