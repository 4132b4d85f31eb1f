-- checks: iakkaat.informal_care_75_pct
-- grain: one row per output, area_level, area, period_grain, period_start
-- Cared for on some day of the year, 75 or over at its end.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'informal_care_decision' AND p.grain = 'year'
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = 12
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
    JOIN conformed.informal_care_decision AS s
        ON s.county_code = d.county_code
        AND s.valid_from <= d.period_end
        AND (s.valid_to IS NULL OR s.valid_to >= d.period_start)
    JOIN reference.area_member AS a
        ON a.year = date_part('year', d.period_start) AND a.municipality_code = s.municipality_code
    WHERE date_part('year', d.period_end) - date_part('year', s.birth_date) >= 75
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
