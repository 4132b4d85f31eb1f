-- grain: one row per municipality, year, sex and group of ages
-- key: municipality, year, sex, age_group
WITH cube AS (
    SELECT
        municipality,
        toInt32(intDiv(period, 100)) AS year,
        client_sex AS sex,
        if(isNull(client_birth_date), NULL, least(intDiv(year - toYear(client_birth_date), 5), 18)) AS age_group,
        count() AS visits,
        sum(units) AS units,
        sum(cost) AS cost
    FROM {care_event}
    GROUP BY municipality, year, sex, age_group
),
resident AS (
    SELECT year, municipality_code, sex, least(intDiv(age, 5), 18) AS age_group, sum(population) AS residents
    FROM {population}
    GROUP BY year, municipality_code, sex, age_group
),
town AS (
    SELECT
        m.division_code AS municipality,
        c.year AS year,
        c.sex AS sex,
        c.age_group AS age_group,
        sum(c.visits) AS visits,
        sum(c.units) AS units,
        toInt64(sum(c.cost) * 100) AS cost_cents
    FROM cube AS c
    JOIN {municipality_on} AS m ON m.year = c.year AND m.municipality_code = c.municipality
    GROUP BY municipality, year, sex, age_group
)
SELECT
    t.municipality AS municipality,
    t.year AS year,
    t.sex AS sex,
    t.age_group AS age_group,
    t.visits AS visits,
    t.units AS units,
    t.cost_cents AS cost_cents,
    t.cost_cents / 100. / r.residents AS cost_per_inhabitant
FROM town AS t
LEFT JOIN resident AS r
    ON r.year = t.year AND r.municipality_code = t.municipality AND r.sex = t.sex AND r.age_group = t.age_group
