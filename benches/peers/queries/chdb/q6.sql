-- grain: one row per county, year and sex
-- key: county, year, sex
-- Weights are the European standard population of 2013 by five years of age; limits are
-- Dobson's, with Byar's limits of the number of events.
WITH event AS (
    SELECT
        county,
        toInt32(intDiv(period, 100)) AS year,
        client_sex AS sex,
        if(isNull(client_birth_date), NULL, least(intDiv(year - toYear(client_birth_date), 5), 18)) AS age_group,
        count() AS events
    FROM {care_event}
    GROUP BY county, year, sex, age_group
),
resident AS (
    SELECT
        toUInt8(county_code) AS county,
        year,
        sex,
        least(intDiv(age, 5), 18) AS age_group,
        sum(population) AS residents,
        [5000, 5500, 5500, 5500, 6000, 6000, 6500, 7000, 7000, 7000,
         7000, 6500, 6000, 5500, 5000, 4000, 2500, 1500, 1000][age_group + 1] AS weight
    FROM {population}
    WHERE year BETWEEN 2023 AND 2025 AND county_code <> '91'
    GROUP BY county, year, sex, age_group
),
summed AS (
    SELECT
        r.county AS county,
        r.year AS year,
        r.sex AS sex,
        sum(e.events) AS events,
        sum(r.weight * e.events / toFloat64(r.residents)) / sum(r.weight) AS v,
        sum(e.events * pow(r.weight / toFloat64(r.residents), 2)) / pow(sum(r.weight), 2) AS variance
    FROM resident AS r
    LEFT JOIN event AS e
        ON e.county = r.county AND e.year = r.year AND e.sex = r.sex AND e.age_group = r.age_group
    GROUP BY county, year, sex
)
SELECT
    county,
    year,
    sex,
    events,
    v * 1000 AS rate,
    (v + sqrt(variance / events)
        * (events * pow(1 - 1 / (9. * events) - 1.959963984540054 / (3 * sqrt(events)), 3) - events)) * 1000 AS lower,
    (v + sqrt(variance / events)
        * ((events + 1) * pow(1 - 1 / (9. * (events + 1)) + 1.959963984540054 / (3 * sqrt(events + 1)), 3) - events))
        * 1000 AS upper
FROM summed
WHERE events >= 10
