-- checks: ostot.purchased_care_day_share
-- grain: one row per output, area_level, area, period_grain, period_start, service_code
-- Care days straight from the spells: discharge less admission, cut to the period.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'care_spell' AND p.grain IN ('month', 'year')
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = CASE p.grain WHEN 'month' THEN 1 ELSE 12 END
),
service AS (
    SELECT DISTINCT maps_to AS service_code FROM reference.code WHERE list = 'county.care_service'
    UNION ALL
    SELECT CAST(NULL AS VARCHAR)
),
care AS (
    SELECT
        d.grain, d.period_start, d.county_code, s.service_code, s.production_mode,
        sum(
            CASE
                WHEN s.ended_on = s.started_on THEN 1
                ELSE least(s.ended_on, s.delivered_to + 1, d.period_end + 1) - greatest(s.started_on, d.period_start)
            END
        ) AS care_days
    FROM delivered AS d
    JOIN conformed.care_spell AS s
        ON s.county_code = d.county_code
        AND s.started_on <= d.period_end
        AND s.started_on <= s.delivered_to
        AND s.delivered_to >= d.period_start
        AND (
            s.ended_on IS NULL
            OR s.ended_on > d.period_start
            OR (s.ended_on = s.started_on AND s.ended_on = d.period_start)
        )
    GROUP BY d.grain, d.period_start, d.county_code, s.service_code, s.production_mode
),
summed AS (
    SELECT
        c.grain, c.period_start, c.county_code, v.service_code,
        sum(CASE WHEN c.production_mode <> 'own' THEN c.care_days ELSE 0 END) AS part,
        sum(c.care_days) AS whole
    FROM care AS c
    JOIN service AS v ON v.service_code IS NULL OR v.service_code = c.service_code
    GROUP BY c.grain, c.period_start, c.county_code, v.service_code
)
SELECT
    'value' AS output,
    'county' AS area_level,
    county_code AS area,
    grain AS period_grain,
    period_start,
    service_code,
    100 * CAST(part AS DOUBLE) / whole AS value,
    CAST(part AS DOUBLE) AS numerator,
    CAST(whole AS DOUBLE) AS denominator
FROM summed
WHERE whole > 0
