-- checks: hr.headcount
-- grain: one row per output, area_level, area, period_grain, period_start, profession_group, sex
WITH delivered AS (
    -- Periods whose last month a county has delivered.
    SELECT p.grain, p.period_start, p.period_end, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start = CAST(date_trunc('month', p.period_end) AS DATE)
    WHERE d.contract = 'hr_employment' AND p.grain IN ('month', 'year')
),
member AS (
    SELECT p.profession_group, s.sex
    FROM (
        SELECT DISTINCT maps_to AS profession_group FROM reference.code WHERE list = 'county.profession_group'
        UNION ALL
        SELECT CAST(NULL AS VARCHAR)
    ) AS p
    CROSS JOIN (VALUES (CAST(NULL AS VARCHAR)), ('female'), ('male')) AS s (sex)
),
held AS (
    SELECT d.grain, d.period_start, d.county_code, e.employee_pid, e.profession_group, e.sex
    FROM delivered AS d
    JOIN conformed.employment_spell AS e
        ON e.county_code = d.county_code
        AND e.started_on <= d.period_end
        AND (e.ended_on IS NULL OR e.ended_on >= d.period_end)
),
counted AS (
    SELECT
        d.grain, d.period_start, d.county_code, m.profession_group, m.sex,
        count(DISTINCT h.employee_pid) AS persons
    FROM delivered AS d
    CROSS JOIN member AS m
    LEFT JOIN held AS h
        ON h.grain = d.grain
        AND h.period_start = d.period_start
        AND h.county_code = d.county_code
        AND (m.profession_group IS NULL OR h.profession_group = m.profession_group)
        AND (m.sex IS NULL OR h.sex = m.sex)
    GROUP BY d.grain, d.period_start, d.county_code, m.profession_group, m.sex
)
SELECT
    'value' AS output,
    'county' AS area_level,
    county_code AS area,
    grain AS period_grain,
    period_start,
    profession_group,
    sex,
    CAST(persons AS DOUBLE) AS value,
    CAST(persons AS DOUBLE) AS numerator,
    CAST(NULL AS DOUBLE) AS denominator
FROM counted
