-- checks: esh.referral_over_21_days_pct
-- grain: one row per output, area_level, area, period_grain, period_start
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'specialised_referral' AND p.grain IN ('month', 'year')
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = CASE p.grain WHEN 'month' THEN 1 ELSE 12 END
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
arrived AS (
    SELECT
        county_code,
        arrived_on,
        count(*) AS referrals,
        sum(CASE WHEN processed_on > arrived_on + 21 THEN 1 ELSE 0 END) AS late
    FROM conformed.specialised_referral
    WHERE urgency <> 'urgent'
    GROUP BY county_code, arrived_on
),
counted AS (
    SELECT c.area_level, c.area, c.grain, c.period_start, sum(r.late) AS late, sum(r.referrals) AS referrals
    FROM covered AS c
    JOIN arrived AS r ON r.county_code = c.county_code AND r.arrived_on BETWEEN c.period_start AND c.period_end
    GROUP BY c.area_level, c.area, c.grain, c.period_start
)
SELECT
    'value' AS output,
    area_level,
    area,
    grain AS period_grain,
    period_start,
    100 * CAST(late AS DOUBLE) / referrals AS value,
    CAST(late AS DOUBLE) AS numerator,
    CAST(referrals AS DOUBLE) AS denominator
FROM counted
