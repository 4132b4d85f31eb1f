-- checks: iakkaat.home_care_75_pct
-- grain: one row per output, area_level, area, period_grain, period_start
-- From the visits, not from the client months.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'homecare_visit' AND p.grain = 'month'
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = 1
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
regular AS (
    -- Four realised visits in the month, to any municipality.
    SELECT county_code, person_pid, CAST(date_trunc('month', visit_on) AS DATE) AS period_start
    FROM conformed.home_care_visit
    WHERE realised
    GROUP BY county_code, person_pid, date_trunc('month', visit_on)
    HAVING count(*) >= 4
),
last_home AS (
    -- Where the client lived at the last visit of the month.
    SELECT county_code, person_pid, birth_date, period_start, municipality_code
    FROM (
        SELECT
            county_code, person_pid, birth_date, municipality_code,
            CAST(date_trunc('month', visit_on) AS DATE) AS period_start,
            row_number() OVER (
                PARTITION BY county_code, person_pid, date_trunc('month', visit_on)
                ORDER BY visit_on DESC, municipality_code DESC
            ) AS place
        FROM conformed.home_care_visit
        WHERE realised AND municipality_code IS NOT NULL
    ) AS v
    WHERE place = 1
),
served AS (
    SELECT DISTINCT a.area_level, a.area, d.grain, d.period_start, r.person_pid
    FROM delivered AS d
    JOIN regular AS r ON r.county_code = d.county_code AND r.period_start = d.period_start
    JOIN last_home AS h
        ON h.county_code = r.county_code AND h.person_pid = r.person_pid AND h.period_start = r.period_start
    JOIN reference.area_member AS a
        ON a.year = date_part('year', d.period_start) AND a.municipality_code = h.municipality_code
    WHERE h.birth_date <= d.period_end - INTERVAL '75 years'
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
