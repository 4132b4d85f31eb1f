-- checks: lasu.placed_0_17_pct
-- grain: one row per output, area_level, area, period_grain, period_start, sex
-- Children placed on some day of the year, of age up to 17 at its end.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'placement' AND p.grain = 'year'
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
member AS (
    SELECT * FROM (VALUES (CAST(NULL AS VARCHAR)), ('female'), ('male')) AS s (sex)
),
served AS (
    SELECT DISTINCT a.area_level, a.area, d.grain, d.period_start, s.person_pid, s.sex
    FROM delivered AS d
    JOIN conformed.placement AS s
        ON s.county_code = d.county_code
        AND s.started_on <= d.period_end
        AND (s.ended_on IS NULL OR s.ended_on >= d.period_start)
    JOIN reference.area_member AS a
        ON a.year = date_part('year', d.period_start) AND a.municipality_code = s.municipality_code
    WHERE date_part('year', d.period_end) - date_part('year', s.birth_date) <= 17
),
residents AS (
    -- Residents at the end of the year.
    SELECT a.year, a.area_level, a.area, p.sex, sum(p.population) AS residents
    FROM reference.population AS p
    JOIN reference.area_member AS a ON a.year = p.year AND a.municipality_code = p.municipality_code
    WHERE p.age <= 17
    GROUP BY a.year, a.area_level, a.area, p.sex
),
child AS (
    SELECT r.year, r.area_level, r.area, m.sex, sum(r.residents) AS residents
    FROM residents AS r
    JOIN member AS m ON m.sex IS NULL OR m.sex = r.sex
    GROUP BY r.year, r.area_level, r.area, m.sex
),
counted AS (
    SELECT c.area_level, c.area, c.grain, c.period_start, m.sex, count(DISTINCT s.person_pid) AS persons
    FROM covered AS c
    CROSS JOIN member AS m
    LEFT JOIN served AS s
        ON s.area_level = c.area_level
        AND s.area = c.area
        AND s.grain = c.grain
        AND s.period_start = c.period_start
        AND (m.sex IS NULL OR s.sex = m.sex)
    GROUP BY c.area_level, c.area, c.grain, c.period_start, m.sex
)
SELECT
    'value' AS output,
    c.area_level,
    c.area,
    c.grain AS period_grain,
    c.period_start,
    c.sex,
    100 * CAST(c.persons AS DOUBLE) / r.residents AS value,
    CAST(c.persons AS DOUBLE) AS numerator,
    CAST(r.residents AS DOUBLE) AS denominator
FROM counted AS c
JOIN child AS r
    ON r.area_level = c.area_level
    AND r.area = c.area
    AND r.year = date_part('year', c.period_start)
    AND r.sex IS NOT DISTINCT FROM c.sex
WHERE r.residents > 0
