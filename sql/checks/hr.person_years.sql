-- checks: hr.person_years
-- grain: one row per output, area_level, area, period_grain, period_start, profession_group
-- Days in service times working time (10 000 = full time) per days of the year.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'hr_employment' AND p.grain IN ('month', 'year')
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = CASE p.grain WHEN 'month' THEN 1 ELSE 12 END
),
profession AS (
    SELECT DISTINCT maps_to AS profession_group FROM reference.code WHERE list = 'county.profession_group'
    UNION ALL
    SELECT CAST(NULL AS VARCHAR)
),
labour AS (
    SELECT
        d.grain, d.period_start, d.county_code, e.profession_group,
        sum((least(e.ended_on, d.period_end) - greatest(e.started_on, d.period_start) + 1) * e.work_time_bp) AS bp_days
    FROM delivered AS d
    JOIN conformed.employment_spell AS e
        ON e.county_code = d.county_code
        AND e.started_on <= d.period_end
        AND (e.ended_on IS NULL OR e.ended_on >= d.period_start)
    GROUP BY d.grain, d.period_start, d.county_code, e.profession_group
),
summed AS (
    SELECT
        d.grain, d.period_start, d.county_code, d.year_days, p.profession_group,
        coalesce(sum(l.bp_days), 0) AS bp_days
    FROM delivered AS d
    CROSS JOIN profession AS p
    LEFT JOIN labour AS l
        ON l.grain = d.grain
        AND l.period_start = d.period_start
        AND l.county_code = d.county_code
        AND (p.profession_group IS NULL OR l.profession_group = p.profession_group)
    GROUP BY d.grain, d.period_start, d.county_code, d.year_days, p.profession_group
)
SELECT
    'value' AS output,
    'county' AS area_level,
    county_code AS area,
    grain AS period_grain,
    period_start,
    profession_group,
    bp_days / 10000.0 / year_days AS value,
    CAST(bp_days AS DOUBLE) AS numerator,
    10000.0 * year_days AS denominator
FROM summed
