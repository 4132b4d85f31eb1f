-- grain: one row per municipality, year, sex and group of ages
-- key: municipality, year, sex, age_group
-- The three sums are published values; here they meet the residents of each group.
WITH resident AS (
    SELECT
        year,
        municipality_code,
        sex,
        CAST(least(age / 5, 18) AS VARCHAR) AS age_group,
        sum(population) AS residents
    FROM reference.population
    WHERE year BETWEEN 2023 AND 2025
    GROUP BY year, municipality_code, sex, CAST(least(age / 5, 18) AS VARCHAR)
),
town AS (
    SELECT
        area AS municipality,
        CAST(date_part('year', period_start) AS INT) AS year,
        sex,
        age_group,
        CAST(sum(numerator) FILTER (WHERE indicator = 'bench.q1_visits') AS BIGINT) AS visits,
        CAST(sum(numerator) FILTER (WHERE indicator = 'bench.q1_units') AS BIGINT) AS units,
        CAST(sum(numerator) FILTER (WHERE indicator = 'bench.q1_cost') AS BIGINT) AS cost_cents
    FROM published.indicator_value
    WHERE indicator IN ('bench.q1_visits', 'bench.q1_units', 'bench.q1_cost')
        AND sex IS NOT NULL AND age_group IS NOT NULL
    GROUP BY area, period_start, sex, age_group
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
WHERE t.visits > 0
