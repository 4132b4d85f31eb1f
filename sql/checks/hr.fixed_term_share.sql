-- checks: hr.fixed_term_share
-- grain: one row per output, area_level, area, period_grain, period_start
-- A person with a permanent and a fixed-term employment counts as fixed-term, once.
WITH delivered AS (
    -- Periods whose last month a county has delivered.
    SELECT p.grain, p.period_start, p.period_end, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start = CAST(date_trunc('month', p.period_end) AS DATE)
    WHERE d.contract = 'hr_employment' AND p.grain = 'month'
),
counted AS (
    SELECT
        d.period_start,
        d.county_code,
        count(DISTINCT CASE
            WHEN e.contract_type IN ('fixed_term', 'substitute', 'subsidised', 'apprentice')
            THEN e.employee_pid
        END) AS part,
        count(DISTINCT e.employee_pid) AS whole
    FROM delivered AS d
    JOIN conformed.employment_spell AS e
        ON e.county_code = d.county_code
        AND e.started_on <= d.period_end
        AND (e.ended_on IS NULL OR e.ended_on >= d.period_end)
    GROUP BY d.period_start, d.county_code
)
SELECT
    'value' AS output,
    'county' AS area_level,
    county_code AS area,
    'month' AS period_grain,
    period_start,
    100 * CAST(part AS DOUBLE) / whole AS value,
    CAST(part AS DOUBLE) AS numerator,
    CAST(whole AS DOUBLE) AS denominator
FROM counted
