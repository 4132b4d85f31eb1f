-- checks: lasu.family_care_share
-- grain: one row per output, area_level, area, period_grain, period_start
-- One row per child and area first, then the share.
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
    -- Counties, and the country where every organiser has delivered.
    SELECT 'county' AS area_level, county_code AS area, * FROM delivered
    UNION ALL
    SELECT 'country', 'FI', d.*
    FROM delivered AS d
    JOIN (
        SELECT grain, period_start
        FROM delivered
        GROUP BY grain, period_start
        HAVING count(*) = (SELECT count(*) FROM reference.county WHERE county_code <> '91')
    ) AS whole ON whole.grain = d.grain AND whole.period_start = d.period_start
),
placed AS (
    SELECT
        c.area_level, c.area, c.grain, c.period_start, s.person_pid,
        max(CASE WHEN s.placement_form = 'family_care' THEN 1 ELSE 0 END) AS in_family
    FROM covered AS c
    JOIN conformed.placement AS s
        ON s.county_code = c.county_code
        AND s.started_on <= c.period_end
        AND (s.ended_on IS NULL OR s.ended_on >= c.period_start)
    WHERE date_part('year', c.period_end) - date_part('year', s.birth_date) <= 17
    GROUP BY c.area_level, c.area, c.grain, c.period_start, s.person_pid
)
SELECT
    'value' AS output,
    area_level,
    area,
    grain AS period_grain,
    period_start,
    100 * CAST(sum(in_family) AS DOUBLE) / count(*) AS value,
    CAST(sum(in_family) AS DOUBLE) AS numerator,
    CAST(count(*) AS DOUBLE) AS denominator
FROM placed
GROUP BY area_level, area, grain, period_start
