-- checks: ostot.unit_cost_care_day
-- grain: one row per output, area_level, area, period_grain, period_start, production
-- Own: expenses of the class without purchased client services. Purchased: invoice
-- lines.
WITH delivered AS (
    -- Periods of which a county has delivered every month, of every contract.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract IN ('finance_ledger', 'purchase_invoice_line', 'care_spell') AND p.grain IN ('quarter', 'year')
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = CASE p.grain WHEN 'quarter' THEN 9 ELSE 36 END
),
member AS (
    SELECT * FROM (VALUES (CAST(NULL AS VARCHAR)), ('own'), ('purchased')) AS m (production)
),
cost AS (
    SELECT county_code, month_start, 'own' AS production, amount_cents
    FROM conformed.ledger_entry
    WHERE scenario = 'actual' AND account_class = 'expense' AND service_class = '3200' AND account <> '4330'
    UNION ALL
    SELECT county_code, month_start, 'purchased', amount_cents
    FROM conformed.purchase_line
    WHERE service_code = 'housing_24h'
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
part AS (
    SELECT d.grain, d.period_start, d.county_code, c.production, c.amount_cents, 0 AS care_days
    FROM delivered AS d
    JOIN cost AS c ON c.county_code = d.county_code AND c.month_start BETWEEN d.period_start AND d.period_end
    UNION ALL
    SELECT
        grain, period_start, county_code,
        CASE WHEN production_mode = 'own' THEN 'own' ELSE 'purchased' END,
        0,
        care_days
    FROM care
    WHERE service_code = 'housing_24h'
),
summed AS (
    SELECT
        p.grain, p.period_start, p.county_code, m.production,
        sum(p.amount_cents) AS amount_cents,
        sum(p.care_days) AS care_days
    FROM part AS p
    JOIN member AS m ON m.production IS NULL OR m.production = p.production
    GROUP BY p.grain, p.period_start, p.county_code, m.production
)
SELECT
    'value' AS output,
    'county' AS area_level,
    county_code AS area,
    grain AS period_grain,
    period_start,
    production,
    amount_cents / 100.0 / care_days AS value,
    CAST(amount_cents AS DOUBLE) AS numerator,
    CAST(care_days AS DOUBLE) AS denominator
FROM summed
WHERE care_days > 0
