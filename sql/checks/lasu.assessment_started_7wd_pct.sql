-- checks: lasu.assessment_started_7wd_pct
-- grain: one row per output, area_level, area, period_grain, period_start
-- Counts the working days one by one instead of using their running number.
WITH delivered AS (
    -- Periods of which a county has delivered every month.
    SELECT p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start BETWEEN p.period_start AND p.period_end
    WHERE d.contract = 'needs_assessment' AND p.grain IN ('month', 'half_year')
    GROUP BY p.grain, p.period_start, p.period_end, p.days, p.year_days, d.county_code
    HAVING count(*) = CASE p.grain WHEN 'month' THEN 1 ELSE 6 END
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
matter AS (
    SELECT county_code, matter_no, initiated_on, started_on
    FROM conformed.service_need_assessment
    WHERE service_task = 'child_welfare'
),
day AS (
    -- The days after the day of initiation, up to and including the start.
    SELECT
        county_code, matter_no,
        unnest(generate_series(initiated_on + 1, started_on, INTERVAL '1 day')) AS date
    FROM matter
    WHERE started_on BETWEEN initiated_on + 1 AND initiated_on + 30
),
waited AS (
    SELECT d.county_code, d.matter_no, count(*) AS working_days
    FROM day AS d
    JOIN reference.calendar AS c ON c.date = d.date
    WHERE c.is_working_day
    GROUP BY d.county_code, d.matter_no
),
judged AS (
    -- More than 30 days hold more than seven working days in any season.
    SELECT
        m.county_code,
        m.initiated_on,
        CASE
            WHEN m.started_on IS NULL OR m.started_on > m.initiated_on + 30 THEN 0
            WHEN coalesce(w.working_days, 0) <= 7 THEN 1
            ELSE 0
        END AS in_time
    FROM matter AS m
    LEFT JOIN waited AS w ON w.county_code = m.county_code AND w.matter_no = m.matter_no
),
counted AS (
    SELECT c.area_level, c.area, c.grain, c.period_start, sum(j.in_time) AS part, count(*) AS whole
    FROM covered AS c
    JOIN judged AS j ON j.county_code = c.county_code AND j.initiated_on BETWEEN c.period_start AND c.period_end
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
FROM counted
