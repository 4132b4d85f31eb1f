-- grain: one row per county, year and sex
-- key: county, year, sex
-- Weights are the European standard population of 2013 by five years of age; limits are
-- Dobson's, with Byar's limits of the number of events.
WITH event AS (
    SELECT
        county,
        period // 100 AS year,
        client_sex AS sex,
        CASE
            WHEN client_birth_date IS NOT NULL THEN least((period // 100 - year(client_birth_date)) // 5, 18)
        END AS age_group,
        count(*) AS events
    FROM care_event
    GROUP BY ALL
),
resident AS (
    SELECT
        CAST(county_code AS INT) AS county,
        year,
        sex,
        least(age // 5, 18) AS age_group,
        sum(population) AS residents
    FROM population
    WHERE year BETWEEN 2023 AND 2025 AND county_code <> '91'
    GROUP BY ALL
),
standard (age_group, weight) AS (
    VALUES
        (0, 5000), (1, 5500), (2, 5500), (3, 5500), (4, 6000), (5, 6000), (6, 6500), (7, 7000), (8, 7000), (9, 7000),
        (10, 7000), (11, 6500), (12, 6000), (13, 5500), (14, 5000), (15, 4000), (16, 2500), (17, 1500), (18, 1000)
),
summed AS (
    SELECT
        r.county,
        r.year,
        r.sex,
        CAST(sum(coalesce(e.events, 0)) AS BIGINT) AS events,
        sum(w.weight * coalesce(e.events, 0) / CAST(r.residents AS DOUBLE)) / sum(w.weight) AS rate,
        sum(coalesce(e.events, 0) * (w.weight / CAST(r.residents AS DOUBLE)) ** 2) / sum(w.weight) ** 2 AS variance
    FROM resident AS r
    JOIN standard AS w ON w.age_group = r.age_group
    LEFT JOIN event AS e
        ON e.county = r.county AND e.year = r.year AND e.sex = r.sex AND e.age_group = r.age_group
    GROUP BY ALL
),
byar AS (
    SELECT
        *,
        events * (1 - 1 / (9.0 * events) - 1.959963984540054 / (3 * sqrt(events))) ** 3 AS low,
        (events + 1) * (1 - 1 / (9.0 * (events + 1)) + 1.959963984540054 / (3 * sqrt(events + 1))) ** 3 AS high
    FROM summed
    WHERE events >= 10
)
SELECT
    county,
    year,
    sex,
    events,
    rate * 1000 AS rate,
    (rate + sqrt(variance / events) * (low - events)) * 1000 AS lower,
    (rate + sqrt(variance / events) * (high - events)) * 1000 AS upper
FROM byar
