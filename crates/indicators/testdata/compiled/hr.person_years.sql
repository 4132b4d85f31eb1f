-- hr.person_years 1.0.0, component numerator: days of spells, weighted.
-- One row per county, month, profession_group and delivery.
WITH source AS (
    SELECT
        county_code AS organiser,
        county_code AS area,
        started_on AS first_day,
        ended_on AS last_day,
        coalesce(profession_group, 'unknown') AS profession_group,
        work_time_bp AS weight,
        employee_pid AS person,
        delivery_id
    FROM conformed.employment_spell
),
-- The months that the organiser has delivered.
month AS (
    SELECT d.county_code AS organiser, p.period_start, p.period_end
    FROM meta.delivered_month AS d
    JOIN reference.period AS p ON p.grain = 'month' AND p.period_start = d.month_start
    WHERE d.contract IN ('hr_employment')
    GROUP BY d.county_code, p.period_start, p.period_end
)
SELECT
    s.area,
    'county' AS area_base,
    m.period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    s.profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    s.delivery_id,
    CAST(sum((least(s.last_day, m.period_end) - greatest(s.first_day, m.period_start) + 1) * s.weight) AS BIGINT) AS n,
    person_set(s.person) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    CAST(NULL AS DOUBLE) AS x
FROM source AS s
JOIN month AS m
    ON m.organiser = s.organiser
    AND s.first_day <= m.period_end
    AND (s.last_day IS NULL OR s.last_day >= m.period_start)
GROUP BY s.area, m.period_start, s.profession_group, s.delivery_id

-- hr.person_years 1.0.0, kind person_time
-- Henkilötyövuosi (HTV2)
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('hr_employment')
),
-- Periods of which at least something is delivered.
reported AS (
    SELECT
        p.grain,
        p.period_start,
        p.period_end,
        p.label,
        p.days,
        p.year_days,
        CAST(date_part('year', p.period_start) AS INT) AS year
    FROM reference.period AS p
    WHERE p.grain IN ('month', 'year')
        AND EXISTS (
            SELECT 1 FROM delivered_month AS d
            WHERE d.month_start >= p.period_start AND d.month_start <= p.period_end
        )
),
-- The cells of each period, by the way a component is taken.
span_month AS (
    SELECT 'period' AS span, t.grain, t.period_start, t.year, m.period_start AS cell_start
    FROM reported AS t
    JOIN reference.period AS m ON m.grain = 'month' AND m.period_start >= t.period_start AND m.period_end <= t.period_end
),
-- The counties of each area.
area_member AS (
    SELECT 'county' AS area_level, county_code AS area, county_code, county_code AS base FROM reference.county WHERE county_code <> '91'
),
-- Cells merged over deliveries and the months of each period.
of_period AS (
    SELECT
        t.grain,
        t.period_start,
        t.year,
        c.area AS base,
        c.profession_group,
        sum(c.n) FILTER (WHERE c.component = 'numerator') AS numerator,
        person_set_union(c.persons) FILTER (WHERE c.component = 'numerator') AS numerator_set
    FROM component.cell AS c
    JOIN (VALUES ('numerator', 'period')) AS k (component, span) ON k.component = c.component
    JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
    WHERE c.indicator_no = 1990525759 AND c.indicator = 'hr.person_years'
    GROUP BY 1, 2, 3, 4, 5
),
-- The same for every area, in total and by member.
merged AS (
    SELECT
        a.area_level,
        a.area,
        v.grain,
        v.period_start,
        CASE WHEN k.by_profession_group THEN v.profession_group END AS profession_group,
        sum(v.numerator) AS numerator,
        person_set_union(v.numerator_set) AS numerator_set
    FROM of_period AS v
    JOIN area_member AS a ON a.base = v.base
    CROSS JOIN (VALUES (FALSE), (TRUE)) AS k (by_profession_group)
    GROUP BY 1, 2, 3, 4, 5
),
-- Months delivered and months needed, by county.
delivered AS (
    SELECT t.grain, t.period_start, t.year, d.county_code, count(*) AS months, any_need.months AS needed
    FROM (VALUES ('hr_employment', 'period')) AS k (contract, span)
    JOIN span_month AS t ON t.span = k.span
    JOIN delivered_month AS d ON d.contract = k.contract AND d.month_start = t.cell_start
    JOIN (
        SELECT t.grain, t.period_start, count(*) AS months
        FROM (VALUES ('hr_employment', 'period')) AS k (contract, span)
        JOIN span_month AS t ON t.span = k.span
        GROUP BY t.grain, t.period_start
    ) AS any_need ON any_need.grain = t.grain AND any_need.period_start = t.period_start
    GROUP BY t.grain, t.period_start, t.year, d.county_code, any_need.months
),
-- Every area and reported period; complete when all its counties have delivered everything.
complete AS (
    SELECT
        a.area_level,
        a.area,
        t.grain,
        t.period_start,
        t.label,
        t.days,
        t.year_days,
        t.year,
        bool_and(coalesce(d.months = d.needed, FALSE)) AS complete
    FROM (SELECT DISTINCT area_level, area, county_code FROM area_member) AS a
    CROSS JOIN reported AS t
    LEFT JOIN delivered AS d
        ON d.county_code = a.county_code AND d.grain = t.grain AND d.period_start = t.period_start
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
),
-- The numbers of the formula. Complete and without rows is zero.
measured AS (
    SELECT
        s.area_level,
        s.area,
        s.grain,
        s.period_start,
        s.label,
        s.days,
        s.year_days,
        s.complete,
        profession_group_member.profession_group,
        coalesce(v.numerator, 0) AS numerator,
        coalesce(person_set_count(v.numerator_set), 0) AS numerator_people
    FROM complete AS s
    CROSS JOIN (
        SELECT CAST(NULL AS VARCHAR) AS profession_group
        UNION ALL
        SELECT DISTINCT coalesce(maps_to, code) AS profession_group FROM reference.code WHERE list = 'county.profession_group'
    ) AS profession_group_member
    LEFT JOIN merged AS v
        ON v.area_level = s.area_level
        AND v.area = s.area
        AND v.grain = s.grain
        AND v.period_start = s.period_start
        AND (v.profession_group IS NOT DISTINCT FROM profession_group_member.profession_group)
)
SELECT
    'value' AS output,
    area_level,
    area,
    grain AS period_grain,
    period_start,
    label AS period,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CASE WHEN complete THEN CAST(numerator AS DOUBLE) / 10000 / year_days END AS value,
    CAST(NULL AS DOUBLE) AS lower,
    CAST(NULL AS DOUBLE) AS upper,
    CASE WHEN complete THEN CAST(numerator AS DOUBLE) END AS numerator,
    CASE WHEN complete THEN CAST(10000 * year_days AS DOUBLE) END AS denominator,
    CASE WHEN complete THEN numerator_people END AS contributors,
    CASE WHEN NOT complete THEN 'L' ELSE 'A' END AS obs_status
FROM measured

-- hr.person_years 1.0.0: what each value is made of, by component and delivery.
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('hr_employment')
),
-- Periods of which at least something is delivered.
reported AS (
    SELECT
        p.grain,
        p.period_start,
        p.period_end,
        p.label,
        p.days,
        p.year_days,
        CAST(date_part('year', p.period_start) AS INT) AS year
    FROM reference.period AS p
    WHERE p.grain IN ('month', 'year')
        AND EXISTS (
            SELECT 1 FROM delivered_month AS d
            WHERE d.month_start >= p.period_start AND d.month_start <= p.period_end
        )
),
-- The cells of each period, by the way a component is taken.
span_month AS (
    SELECT 'period' AS span, t.grain, t.period_start, t.year, m.period_start AS cell_start
    FROM reported AS t
    JOIN reference.period AS m ON m.grain = 'month' AND m.period_start >= t.period_start AND m.period_end <= t.period_end
),
-- The counties of each area.
area_member AS (
    SELECT 'county' AS area_level, county_code AS area, county_code, county_code AS base FROM reference.county WHERE county_code <> '91'
)
SELECT
    a.area_level,
    a.area,
    t.grain AS period_grain,
    t.period_start,
    c.age_group,
    c.production,
    c.profession_group,
    c.sex,
    c.task_group,
    c.component,
    c.delivery_id,
    sum(c.n) AS n,
    person_set_count(person_set_union(c.persons)) AS persons,
    histogram_count(day_histogram_merge(c.hist)) AS waits,
    sum(c.x) AS x
FROM component.cell AS c
JOIN (VALUES ('numerator', 'period')) AS k (component, span) ON k.component = c.component
JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
JOIN area_member AS a ON a.base = c.area
WHERE c.indicator_no = 1990525759 AND c.indicator = 'hr.person_years'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
