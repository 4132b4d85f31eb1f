-- checks: pth.linked_assessment_pct
-- grain: one row per output, area_level, area, period_grain, period_start
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'primary_care_contact' AND p.grain = 'month'
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = 1
),
counted AS (
    SELECT
        county_code,
        CAST(date_trunc('month', visit_on) AS DATE) AS period_start,
        count(assessed_on) AS linked,
        count(*) AS visits
    FROM conformed.primary_care_contact
    WHERE urgency = 'non_urgent' AND realised
    GROUP BY county_code, date_trunc('month', visit_on)
)
SELECT
    'value' AS output,
    'county' AS area_level,
    d.county_code AS area,
    'month' AS period_grain,
    d.period_start,
    100 * CAST(c.linked AS DOUBLE) / c.visits AS value,
    CAST(c.linked AS DOUBLE) AS numerator,
    CAST(c.visits AS DOUBLE) AS denominator
FROM delivered AS d
JOIN counted AS c ON c.county_code = d.county_code AND c.period_start = d.period_start
