-- checks: talous.net_cost_per_inhabitant
-- grain: one row per output, area_level, area, period_grain, period_start, task_group
-- Every amount as booked, income negative, in the classes of health and social services.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'finance_ledger' AND p.grain = 'year'
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
task AS (
    SELECT * FROM (VALUES (CAST(NULL AS VARCHAR)), ('health'), ('social'), ('older_people')) AS t (task_group)
),
booked AS (
    SELECT county_code, date_part('year', month_start) AS year, task_group, sum(amount_cents) AS amount_cents
    FROM conformed.ledger_entry
    WHERE scenario = 'actual' AND task_group <> 'other'
    GROUP BY county_code, date_part('year', month_start), task_group
),
spent AS (
    SELECT a.area_level, a.area, b.year, b.task_group, sum(b.amount_cents) AS amount_cents
    FROM booked AS b
    JOIN (SELECT DISTINCT year, area_level, area, county_code FROM reference.area_member) AS a
        ON a.year = b.year AND a.county_code = b.county_code
    GROUP BY a.area_level, a.area, b.year, b.task_group
),
residents AS (
    -- Residents at the end of the year before.
    SELECT a.year, a.area_level, a.area, sum(p.population) AS residents
    FROM reference.population AS p
    JOIN reference.area_member AS a ON a.year - 1 = p.year AND a.municipality_code = p.municipality_code
    GROUP BY a.year, a.area_level, a.area
),
summed AS (
    SELECT
        c.area_level, c.area, c.grain, c.period_start, t.task_group,
        coalesce(sum(s.amount_cents), 0) AS amount_cents
    FROM covered AS c
    CROSS JOIN task AS t
    LEFT JOIN spent AS s
        ON s.area_level = c.area_level
        AND s.area = c.area
        AND s.year = date_part('year', c.period_start)
        AND (t.task_group IS NULL OR s.task_group = t.task_group)
    WHERE c.area_level <> 'municipality'
    GROUP BY c.area_level, c.area, c.grain, c.period_start, t.task_group
)
SELECT
    'value' AS output,
    s.area_level,
    s.area,
    s.grain AS period_grain,
    s.period_start,
    s.task_group,
    s.amount_cents / 100.0 / r.residents AS value,
    CAST(s.amount_cents AS DOUBLE) AS numerator,
    CAST(r.residents AS DOUBLE) AS denominator
FROM summed AS s
JOIN residents AS r
    ON r.area_level = s.area_level AND r.area = s.area AND r.year = date_part('year', s.period_start)
WHERE r.residents > 0
