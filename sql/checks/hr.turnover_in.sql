-- checks: hr.turnover_in
-- grain: one row per output, area_level, area, period_grain, period_start
-- Permanent employments that began in the year against permanent staff on the last day
-- of the year before.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'hr_employment' AND p.grain = 'year'
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = 12
),
known AS (
    -- Years delivered in full, with the December before.
    SELECT d.period_start, d.period_end, d.county_code
    FROM delivered AS d
    JOIN meta.delivered_month AS before
        ON before.contract = 'hr_employment'
        AND before.county_code = d.county_code
        AND before.month_start = make_date(date_part('year', d.period_start) - 1, 12, 1)
),
moved AS (
    SELECT county_code, date_part('year', started_on) AS year, count(*) AS employments
    FROM conformed.employment_spell
    WHERE contract_type = 'permanent' AND started_on IS NOT NULL
    GROUP BY county_code, date_part('year', started_on)
),
stock AS (
    SELECT k.period_start, k.county_code, count(DISTINCT e.employee_pid) AS persons
    FROM known AS k
    JOIN conformed.employment_spell AS e
        ON e.county_code = k.county_code
        AND e.started_on < k.period_start
        AND (e.ended_on IS NULL OR e.ended_on >= k.period_start - 1)
    WHERE e.contract_type = 'permanent'
    GROUP BY k.period_start, k.county_code
)
SELECT
    'value' AS output,
    'county' AS area_level,
    s.county_code AS area,
    'year' AS period_grain,
    s.period_start,
    100 * CAST(coalesce(m.employments, 0) AS DOUBLE) / s.persons AS value,
    CAST(coalesce(m.employments, 0) AS DOUBLE) AS numerator,
    CAST(s.persons AS DOUBLE) AS denominator
FROM stock AS s
LEFT JOIN moved AS m ON m.county_code = s.county_code AND m.year = date_part('year', s.period_start)
