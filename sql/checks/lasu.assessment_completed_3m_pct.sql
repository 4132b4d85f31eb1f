-- checks: lasu.assessment_completed_3m_pct
-- grain: one row per output, area_level, area, period_grain, period_start
-- By the day of completion.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'needs_assessment' AND p.grain = 'half_year'
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = 6
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
counted AS (
    SELECT
        c.area_level, c.area, c.grain, c.period_start,
        sum(CASE WHEN a.completed_on <= a.initiated_on + INTERVAL '3 months' THEN 1 ELSE 0 END) AS part,
        count(*) AS whole
    FROM covered AS c
    JOIN conformed.service_need_assessment AS a
        ON a.county_code = c.county_code AND a.completed_on BETWEEN c.period_start AND c.period_end
    WHERE a.service_task = 'child_welfare'
    GROUP BY c.area_level, c.area, c.grain, c.period_start
)
SELECT
    'value' AS output,
    area_level,
    area,
    grain AS period_grain,
    period_start,
    100 * CAST(part AS DOUBLE) / whole AS value,
    CAST(part AS DOUBLE) AS numerator,
    CAST(whole AS DOUBLE) AS denominator
FROM counted
