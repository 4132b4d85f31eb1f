-- checks: ostot.provider_count
-- grain: one row per output, area_level, area, period_grain, period_start
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'purchase_invoice_line' AND p.grain IN ('month', 'year')
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = CASE p.grain WHEN 'month' THEN 1 ELSE 12 END
),
counted AS (
    SELECT d.grain, d.period_start, d.county_code, count(DISTINCT l.provider_business_id) AS providers
    FROM delivered AS d
    LEFT JOIN conformed.purchase_line AS l
        ON l.county_code = d.county_code AND l.month_start BETWEEN d.period_start AND d.period_end
    GROUP BY d.grain, d.period_start, d.county_code
)
SELECT
    'value' AS output,
    'county' AS area_level,
    county_code AS area,
    grain AS period_grain,
    period_start,
    CAST(providers AS DOUBLE) AS value,
    CAST(providers AS DOUBLE) AS numerator,
    CAST(NULL AS DOUBLE) AS denominator
FROM counted
