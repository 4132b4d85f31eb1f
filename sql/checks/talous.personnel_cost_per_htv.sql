-- checks: talous.personnel_cost_per_htv
-- grain: one row per output, area_level, area, period_grain, period_start
WITH delivered AS (
    -- Periods of which a county has delivered every month, of every contract.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract IN ('finance_ledger', 'hr_employment') AND p.grain = 'year'
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = 24
),
cost AS (
    SELECT county_code, date_part('year', month_start) AS year, sum(amount_cents) AS amount_cents
    FROM conformed.ledger_entry
    WHERE scenario = 'actual' AND account IN ('4000', '4110', '4150')
    GROUP BY county_code, date_part('year', month_start)
),
labour AS (
    -- Days in service in the year, times working time (10 000 = full time).
    SELECT
        d.county_code,
        d.period_start,
        sum((least(e.ended_on, d.period_end) - greatest(e.started_on, d.period_start) + 1) * e.work_time_bp) AS bp_days
    FROM delivered AS d
    JOIN conformed.employment_spell AS e
        ON e.county_code = d.county_code
        AND e.started_on <= d.period_end
        AND (e.ended_on IS NULL OR e.ended_on >= d.period_start)
    GROUP BY d.county_code, d.period_start
)
SELECT
    'value' AS output,
    'county' AS area_level,
    d.county_code AS area,
    'year' AS period_grain,
    d.period_start,
    coalesce(c.amount_cents, 0) / 100.0 / (l.bp_days / 10000.0 / d.year_days) AS value,
    CAST(coalesce(c.amount_cents, 0) AS DOUBLE) AS numerator,
    CAST(l.bp_days AS DOUBLE) AS denominator
FROM delivered AS d
JOIN labour AS l ON l.county_code = d.county_code AND l.period_start = d.period_start
LEFT JOIN cost AS c ON c.county_code = d.county_code AND c.year = date_part('year', d.period_start)
