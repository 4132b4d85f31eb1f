-- checks: iakkaat.home_care_visits_per_client
-- grain: one row per output, area_level, area, period_grain, period_start
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'homecare_visit' AND p.grain = 'month'
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = 1
),
visited AS (
    SELECT
        county_code,
        CAST(date_trunc('month', visit_on) AS DATE) AS period_start,
        count(*) AS visits,
        count(DISTINCT person_pid) AS clients
    FROM conformed.home_care_visit
    WHERE realised
    GROUP BY county_code, date_trunc('month', visit_on)
)
SELECT
    'value' AS output,
    'county' AS area_level,
    d.county_code AS area,
    'month' AS period_grain,
    d.period_start,
    CAST(v.visits AS DOUBLE) / v.clients AS value,
    CAST(v.visits AS DOUBLE) AS numerator,
    CAST(v.clients AS DOUBLE) AS denominator
FROM delivered AS d
JOIN visited AS v ON v.county_code = d.county_code AND v.period_start = d.period_start
