-- grain: one row per county, year and sex
-- key: county, year, sex
-- The events by age are published values. Weights are the European standard population
-- of 2013 by five years of age.
WITH standard AS (
    SELECT column1 AS band, column2 AS weight
    FROM (VALUES
        (0, 5000), (1, 5500), (2, 5500), (3, 5500), (4, 6000), (5, 6000), (6, 6500), (7, 7000), (8, 7000), (9, 7000),
        (10, 7000), (11, 6500), (12, 6000), (13, 5500), (14, 5000), (15, 4000), (16, 2500), (17, 1500), (18, 1000)
    ) AS w
),
resident AS (
    SELECT county_code, year, sex, least(age / 5, 18) AS band, sum(population) AS residents
    FROM reference.population
    WHERE year BETWEEN 2023 AND 2025
    GROUP BY county_code, year, sex, least(age / 5, 18)
),
event AS (
    SELECT
        area,
        CAST(date_part('year', period_start) AS INT) AS year,
        sex,
        TRY_CAST(age_group AS INT) AS band,
        CAST(numerator AS BIGINT) AS events
    FROM published.indicator_value
    WHERE indicator = 'bench.q6_events' AND sex IS NOT NULL AND age_group IS NOT NULL
),
state AS (
    SELECT
        r.county_code AS county,
        r.year,
        r.sex,
        strata(r.band, coalesce(e.events, 0), r.residents, w.weight) AS s
    FROM resident AS r
    JOIN standard AS w ON w.band = r.band
    JOIN event AS e ON e.area = r.county_code AND e.year = r.year AND e.sex = r.sex AND e.band = r.band
    GROUP BY r.county_code, r.year, r.sex
)
SELECT
    county,
    year,
    sex,
    strata_events(s) AS events,
    standardised_rate(s, 1000) AS rate,
    standardised_rate_lower(s, 1000, 0.95) AS lower,
    standardised_rate_upper(s, 1000, 0.95) AS upper
FROM state
WHERE strata_events(s) >= 10
