-- checks: hr.sickness_days_per_htv
-- grain: one row per output, area_level, area, period_grain, period_start
-- Calendar days of own illness and accidents per person-year; the person-years of a
-- month are a year's worth, its labour per the days of the month.
WITH delivered AS (
    -- Periods of which a county has delivered every month, of every contract.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract IN ('hr_absence', 'hr_employment') AND p.grain IN ('month', 'year')
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = CASE p.grain WHEN 'month' THEN 2 ELSE 24 END
),
absent AS (
    SELECT d.grain, d.period_start, d.county_code, sum(a.absence_days) AS absence_days
    FROM delivered AS d
    JOIN conformed.absence_spell AS a
        ON a.county_code = d.county_code AND a.month_start BETWEEN d.period_start AND d.period_end
    WHERE a.absence_class IN ('sickness', 'work_accident')
    GROUP BY d.grain, d.period_start, d.county_code
),
labour AS (
    SELECT
        d.grain, d.period_start, d.county_code,
        sum((least(e.ended_on, d.period_end) - greatest(e.started_on, d.period_start) + 1) * e.work_time_bp) AS bp_days
    FROM delivered AS d
    JOIN conformed.employment_spell AS e
        ON e.county_code = d.county_code
        AND e.started_on <= d.period_end
        AND (e.ended_on IS NULL OR e.ended_on >= d.period_start)
    GROUP BY d.grain, d.period_start, d.county_code
)
SELECT
    'value' AS output,
    'county' AS area_level,
    d.county_code AS area,
    d.grain AS period_grain,
    d.period_start,
    coalesce(a.absence_days, 0) / (l.bp_days / 10000.0 / d.days) AS value,
    CAST(coalesce(a.absence_days, 0) AS DOUBLE) AS numerator,
    CAST(l.bp_days AS DOUBLE) AS denominator
FROM delivered AS d
JOIN labour AS l
    ON l.grain = d.grain AND l.period_start = d.period_start AND l.county_code = d.county_code
LEFT JOIN absent AS a
    ON a.grain = d.grain AND a.period_start = d.period_start AND a.county_code = d.county_code
