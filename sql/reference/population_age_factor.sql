-- grain: one row per year and age group, 2020-2025
-- key: year, age_group
-- materialise: yes
-- How an age group of the whole country has grown since 31.12.2019, in units of
-- 1e-8. The path is a straight line from the counted 2019 to the projected 2024;
-- 2025 is the projection of that year. Whole numbers make the estimate that uses
-- them the same on every machine.
WITH counted AS (
    SELECT
        CASE
            WHEN age < 15 THEN '0-14'
            WHEN age < 65 THEN '15-64'
            WHEN age < 75 THEN '65-74'
            ELSE '75-'
        END AS age_group,
        sum(population) AS population
    FROM reference.population_age_municipality
    WHERE year = 2019
    GROUP BY 1
),
projected AS (
    SELECT year, '0-14' AS age_group, age_0_14 AS population FROM reference.population_projection
    UNION ALL SELECT year, '15-64', age_15_64 FROM reference.population_projection
    UNION ALL SELECT year, '65-74', age_65_74 FROM reference.population_projection
    UNION ALL SELECT year, '75-', age_75_plus FROM reference.population_projection
),
step AS (
    SELECT
        CAST(value AS INT) AS year,
        least(CAST(value AS INT) - 2019, 5) AS steps,
        greatest(CAST(value AS INT), 2024) AS target_year
    FROM generate_series(2020, 2025)
)
SELECT
    s.year,
    c.age_group,
    CAST(round(1e8 * (1 + (CAST(p.population AS DOUBLE) / c.population - 1) * s.steps / 5.0)) AS BIGINT) AS factor
FROM step AS s
CROSS JOIN counted AS c
JOIN projected AS p ON p.year = s.target_year AND p.age_group = c.age_group
