-- checks: pth.waiting_time_nonurgent
-- grain: one row per output, area_level, area, period_grain, period_start, age_group
-- Quantiles by counting visits in the order of their wait; a limit in months is counted
-- in the calendar.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'primary_care_contact' AND p.grain IN ('month', 'quarter')
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = CASE p.grain WHEN 'month' THEN 1 ELSE 3 END
),
covered AS (
    -- Areas whose every county has delivered.
    SELECT d.grain, d.period_start, d.period_end, a.area_level, a.area
    FROM delivered AS d
    JOIN reference.area_member AS a
        ON a.year = date_part('year', d.period_start) AND a.county_code = d.county_code
    GROUP BY d.grain, d.period_start, d.period_end, a.area_level, a.area, a.counties
    HAVING count(DISTINCT a.county_code) = a.counties
),
visit AS (
    SELECT
        municipality_code,
        visit_on,
        visit_on - assessed_on AS wait_days,
        CASE WHEN birth_date > visit_on - INTERVAL '23 years' THEN 'under_23' ELSE '23_and_over' END AS age_group,
        CASE
            -- Three months to 31.8.2023, 14 days to 31.12.2024, then by age.
            WHEN visit_on < DATE '2023-09-01' THEN visit_on > assessed_on + INTERVAL '3 months'
            WHEN visit_on < DATE '2025-01-01' THEN visit_on - assessed_on > 14
            WHEN birth_date > visit_on - INTERVAL '23 years' THEN visit_on - assessed_on > 14
            ELSE visit_on > assessed_on + INTERVAL '3 months'
        END AS is_over
    FROM conformed.primary_care_contact
    WHERE urgency = 'non_urgent' AND realised AND assessed_on IS NOT NULL
),
waited AS (
    SELECT
        a.area_level, a.area, v.age_group, v.wait_days,
        CAST(date_trunc('month', v.visit_on) AS DATE) AS month_start,
        count(*) AS visits,
        sum(CASE WHEN v.is_over THEN 1 ELSE 0 END) AS visits_over
    FROM visit AS v
    JOIN reference.area_member AS a
        ON a.year = date_part('year', v.visit_on) AND a.municipality_code = v.municipality_code
    WHERE a.area_level IN ('municipality', 'county', 'country')
    GROUP BY a.area_level, a.area, date_trunc('month', v.visit_on), v.age_group, v.wait_days
),
member AS (
    SELECT * FROM (VALUES (CAST(NULL AS VARCHAR)), ('under_23'), ('23_and_over')) AS m (age_group)
),
distribution AS (
    SELECT
        c.area_level, c.area, c.grain, c.period_start, m.age_group, w.wait_days,
        sum(w.visits) AS visits,
        sum(w.visits_over) AS visits_over
    FROM covered AS c
    JOIN waited AS w
        ON w.area_level = c.area_level
        AND w.area = c.area
        AND w.month_start BETWEEN c.period_start AND c.period_end
    JOIN member AS m ON m.age_group IS NULL OR m.age_group = w.age_group
    GROUP BY c.area_level, c.area, c.grain, c.period_start, m.age_group, w.wait_days
),
total AS (
    SELECT area_level, area, grain, period_start, age_group, sum(visits) AS n, sum(visits_over) AS n_over
    FROM distribution
    GROUP BY area_level, area, grain, period_start, age_group
),
ordered AS (
    -- How many visits waited at most so long.
    SELECT
        area_level, area, grain, period_start, age_group, wait_days,
        sum(visits) OVER (
            PARTITION BY area_level, area, grain, period_start, age_group ORDER BY wait_days
        ) AS up_to
    FROM distribution
),
placed AS (
    -- The visits in the middle and at nine tenths: one, or two to be averaged when it falls between them.
    SELECT
        t.area_level, t.area, t.grain, t.period_start, t.age_group, t.n, t.n_over,
        min(o.wait_days) FILTER (WHERE o.up_to >= (t.n + 1) / 2) AS median_low,
        min(o.wait_days) FILTER (WHERE o.up_to >= t.n / 2 + 1) AS median_high,
        min(o.wait_days) FILTER (WHERE o.up_to >= (9 * t.n + 9) / 10) AS p90_low,
        min(o.wait_days) FILTER (WHERE o.up_to >= least(9 * t.n / 10 + 1, t.n)) AS p90_high
    FROM total AS t
    JOIN ordered AS o
        ON o.area_level = t.area_level
        AND o.area = t.area
        AND o.grain = t.grain
        AND o.period_start = t.period_start
        AND o.age_group IS NOT DISTINCT FROM t.age_group
    GROUP BY t.area_level, t.area, t.grain, t.period_start, t.age_group, t.n, t.n_over
),
long AS (
    SELECT *, 'median_days' AS output, (median_low + median_high) / 2.0 AS value, CAST(NULL AS DOUBLE) AS numerator
    FROM placed
    UNION ALL
    SELECT *, 'p90_days', (p90_low + p90_high) / 2.0, NULL
    FROM placed
    UNION ALL
    SELECT *, 'share_over_limit', 100 * CAST(n_over AS DOUBLE) / n, CAST(n_over AS DOUBLE)
    FROM placed
)
SELECT
    output,
    area_level,
    area,
    grain AS period_grain,
    period_start,
    age_group,
    value,
    numerator,
    CAST(n AS DOUBLE) AS denominator
FROM long
