-- checks: lasu.notifications_per_1000
-- grain: one row per output, area_level, area, period_grain, period_start, sex
-- Notifications that were not voided, a year's worth, per 1 000 residents under 18.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'child_notification' AND p.grain IN ('month', 'quarter', 'year')
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = CASE p.grain WHEN 'month' THEN 1 WHEN 'quarter' THEN 3 ELSE 12 END
),
covered AS (
    -- Areas whose every county has delivered.
    SELECT d.grain, d.period_start, d.period_end, d.days, d.year_days, a.area_level, a.area
    FROM delivered AS d
    JOIN reference.area_member AS a
        ON a.year = date_part('year', d.period_start) AND a.county_code = d.county_code
    GROUP BY d.grain, d.period_start, d.period_end, d.days, d.year_days, a.area_level, a.area, a.counties
    HAVING count(DISTINCT a.county_code) = a.counties
),
member AS (
    SELECT * FROM (VALUES (CAST(NULL AS VARCHAR)), ('female'), ('male')) AS s (sex)
),
received AS (
    SELECT
        a.area_level, a.area, n.sex,
        CAST(date_trunc('month', n.received_on) AS DATE) AS month_start,
        count(*) AS notifications
    FROM conformed.child_welfare_notification AS n
    JOIN reference.area_member AS a
        ON a.year = date_part('year', n.received_on) AND a.municipality_code = n.municipality_code
    WHERE NOT n.voided
    GROUP BY a.area_level, a.area, date_trunc('month', n.received_on), n.sex
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
    SELECT
        c.area_level, c.area, c.grain, c.period_start, c.days, c.year_days, m.sex,
        coalesce(sum(n.notifications), 0) AS notifications
    FROM covered AS c
    CROSS JOIN member AS m
    LEFT JOIN received AS n
        ON n.area_level = c.area_level
        AND n.area = c.area
        AND n.month_start BETWEEN c.period_start AND c.period_end
        AND (m.sex IS NULL OR n.sex = m.sex)
    GROUP BY c.area_level, c.area, c.grain, c.period_start, c.days, c.year_days, m.sex
)
SELECT
    'value' AS output,
    c.area_level,
    c.area,
    c.grain AS period_grain,
    c.period_start,
    c.sex,
    1000 * CAST(c.notifications AS DOUBLE) / r.residents * c.year_days / c.days AS value,
    CAST(c.notifications AS DOUBLE) AS numerator,
    CAST(r.residents AS DOUBLE) AS denominator
FROM counted AS c
JOIN child AS r
    ON r.area_level = c.area_level
    AND r.area = c.area
    AND r.year = date_part('year', c.period_start)
    AND r.sex IS NOT DISTINCT FROM c.sex
WHERE r.residents > 0
