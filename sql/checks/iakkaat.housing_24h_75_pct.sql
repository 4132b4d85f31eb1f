-- checks: iakkaat.housing_24h_75_pct
-- grain: one row per output, area_level, area, period_grain, period_start
-- On the last day of the period; the day of discharge does not count.
WITH delivered AS (
    -- Periods whose last month a county has delivered.
    SELECT p.grain, p.period_start, p.period_end, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start = CAST(date_trunc('month', p.period_end) AS DATE)
    WHERE d.contract = 'care_spell' AND p.grain IN ('quarter', 'year')
),
covered AS (
    -- Areas whose every county has delivered.
    SELECT d.grain, d.period_start, d.period_end, a.area_level, a.area
    FROM delivered AS d
    JOIN reference.area_member AS a
        ON a.year = date_part('year', d.period_start) AND a.county_code = d.county_code
    GROUP BY d.grain, d.period_start, d.period_end, a.area_level, a.area, a.counties
    HAVING count(DISTINCT a.county_code) = a.counties
),
served AS (
    SELECT DISTINCT a.area_level, a.area, d.grain, d.period_start, s.person_pid
    FROM delivered AS d
    JOIN conformed.care_spell AS s
        ON s.county_code = d.county_code
        AND s.started_on <= d.period_end
        AND (s.ended_on IS NULL OR s.ended_on > d.period_end)
    JOIN reference.area_member AS a
        ON a.year = date_part('year', d.period_start) AND a.municipality_code = s.municipality_code
    WHERE s.service_code = 'housing_24h' AND s.birth_date <= d.period_end - INTERVAL '75 years'
),
residents AS (
    -- Residents at the end of the year.
    SELECT a.year, a.area_level, a.area, sum(p.population) AS residents
    FROM reference.population AS p
    JOIN reference.area_member AS a ON a.year = p.year AND a.municipality_code = p.municipality_code
    WHERE p.age >= 75
    GROUP BY a.year, a.area_level, a.area
),
counted AS (
    SELECT c.area_level, c.area, c.grain, c.period_start, count(DISTINCT s.person_pid) AS persons
    FROM covered AS c
    LEFT JOIN served AS s
        ON s.area_level = c.area_level
        AND s.area = c.area
        AND s.grain = c.grain
        AND s.period_start = c.period_start
    GROUP BY c.area_level, c.area, c.grain, c.period_start
)
SELECT
    'value' AS output,
    c.area_level,
    c.area,
    c.grain AS period_grain,
    c.period_start,
    100 * CAST(c.persons AS DOUBLE) / r.residents AS value,
    CAST(c.persons AS DOUBLE) AS numerator,
    CAST(r.residents AS DOUBLE) AS denominator
FROM counted AS c
JOIN residents AS r
    ON r.area_level = c.area_level
    AND r.area = c.area
    AND r.year = date_part('year', c.period_start)
WHERE r.residents > 0
