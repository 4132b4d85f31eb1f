-- checks: talous.agency_labour_share
-- grain: one row per output, area_level, area, period_grain, period_start
-- Account 4350 against personnel costs and itself.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'finance_ledger' AND p.grain IN ('month', 'year')
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
booked AS (
    SELECT
        county_code,
        month_start,
        sum(CASE WHEN account = '4350' THEN amount_cents ELSE 0 END) AS part,
        sum(amount_cents) AS whole
    FROM conformed.ledger_entry
    WHERE scenario = 'actual' AND account IN ('4000', '4110', '4150', '4350')
    GROUP BY county_code, month_start
),
summed AS (
    SELECT
        c.area_level, c.area, c.grain, c.period_start,
        coalesce(sum(b.part), 0) AS part,
        coalesce(sum(b.whole), 0) AS whole
    FROM covered AS c
    LEFT JOIN booked AS b
        ON b.county_code = c.county_code AND b.month_start BETWEEN c.period_start AND c.period_end
    GROUP BY c.area_level, c.area, c.grain, c.period_start
)
SELECT
    'value' AS output,
    area_level,
    area,
    grain AS period_grain,
    period_start,
    100 * CAST(part AS DOUBLE) / whole AS value,
    CAST(part AS DOUBLE) AS numerator,
    CAST(whole AS DOUBLE) AS denominator
FROM summed
WHERE whole <> 0
