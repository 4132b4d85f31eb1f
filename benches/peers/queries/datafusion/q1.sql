-- grain: one row per municipality, year, sex and group of ages
-- key: municipality, year, sex, age_group
WITH cube AS (
    SELECT
        municipality,
        period / 100 AS year,
        client_sex AS sex,
        CASE
            WHEN client_birth_date IS NOT NULL THEN least((period / 100 - date_part('year', client_birth_date)) / 5, 18)
        END AS age_group,
        count(*) AS visits,
        sum(units) AS units,
        sum(cost) AS cost
    FROM care_event
    GROUP BY ALL
),
resident AS (
    SELECT year, municipality_code, sex, least(age / 5, 18) AS age_group, sum(population) AS residents
    FROM population
    GROUP BY ALL
),
town AS (
    SELECT
        m.division_code AS municipality,
        c.year,
        c.sex,
        c.age_group,
        sum(c.visits) AS visits,
        sum(c.units) AS units,
        CAST(sum(c.cost) * 100 AS BIGINT) AS cost_cents
    FROM cube AS c
    JOIN municipality_on AS m ON m.year = c.year AND m.municipality_code = c.municipality
    GROUP BY ALL
)
SELECT
    t.municipality,
    t.year,
    t.sex,
    t.age_group,
    t.visits,
    t.units,
    t.cost_cents,
    t.cost_cents / 100.0 / r.residents AS cost_per_inhabitant
FROM town AS t
LEFT JOIN resident AS r
    ON r.year = t.year AND r.municipality_code = t.municipality AND r.sex = t.sex AND r.age_group = t.age_group
