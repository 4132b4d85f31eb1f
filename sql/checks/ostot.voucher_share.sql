-- checks: ostot.voucher_share
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
summed AS (
    SELECT
        d.grain, d.period_start, d.county_code,
        sum(CASE WHEN l.production_mode = 'voucher' THEN l.amount_cents ELSE 0 END) AS part,
        sum(l.amount_cents) AS whole
    FROM delivered AS d
    JOIN conformed.purchase_line AS l
        ON l.county_code = d.county_code AND l.month_start BETWEEN d.period_start AND d.period_end
    GROUP BY d.grain, d.period_start, d.county_code
)
SELECT
    'value' AS output,
    'county' AS area_level,
    county_code AS area,
    grain AS period_grain,
    period_start,
    100 * CAST(part AS DOUBLE) / whole AS value,
    CAST(part AS DOUBLE) AS numerator,
    CAST(whole AS DOUBLE) AS denominator
FROM summed
WHERE whole <> 0
