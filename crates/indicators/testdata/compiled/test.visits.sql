-- test.visits 1.0.0, component numerator: rows.
-- One row per municipality, month, sex and delivery.
WITH source AS (
    SELECT
        municipality_code AS area,
        CAST(date_trunc('month', visit_on) AS DATE) AS period_start,
        coalesce(sex, 'unknown') AS sex,
        person_pid AS person,
        delivery_id
    FROM conformed.home_care_visit
    WHERE realised
      AND (minutes > 0 OR contact_mode = 'remote')
      AND visit_on IS NOT NULL
      AND age_years(birth_date, visit_on) >= 65
      AND age_years(birth_date, visit_on) <= 74
)
SELECT
    s.area,
    'municipality' AS area_base,
    s.period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    s.sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    s.delivery_id,
    CAST(count(*) AS BIGINT) AS n,
    person_set(s.person) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    CAST(NULL AS DOUBLE) AS x
FROM source AS s
GROUP BY s.area, s.period_start, s.sex, s.delivery_id

-- test.visits 1.0.0, kind sum
-- Kotihoidon käynnit
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('homecare_visit')
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
    WHERE p.grain IN ('month', 'half_year')
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
-- The municipalities of each area, in the division of the year.
area_member AS (
    SELECT year, 'municipality' AS area_level, division_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on WHERE county_code <> '91'
    UNION ALL
    SELECT year, 'county' AS area_level, county_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on WHERE county_code <> '91'
),
-- Cells merged over deliveries and the months of each period.
of_period AS (
    SELECT
        t.grain,
        t.period_start,
        t.year,
        c.area AS base,
        c.sex,
        sum(c.n) FILTER (WHERE c.component = 'numerator') AS numerator,
        person_set_union(c.persons) FILTER (WHERE c.component = 'numerator') AS numerator_set
    FROM component.cell AS c
    JOIN (VALUES ('numerator', 'period')) AS k (component, span) ON k.component = c.component
    JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
    WHERE c.indicator_no = 1751601465 AND c.indicator = 'test.visits'
    GROUP BY 1, 2, 3, 4, 5
),
-- The same for every area, in total and by member.
merged AS (
    SELECT
        a.area_level,
        a.area,
        v.grain,
        v.period_start,
        CASE WHEN k.by_sex THEN v.sex END AS sex,
        sum(v.numerator) AS numerator,
        person_set_union(v.numerator_set) AS numerator_set
    FROM of_period AS v
    JOIN area_member AS a ON a.year = v.year AND a.base = v.base
    CROSS JOIN (VALUES (FALSE), (TRUE)) AS k (by_sex)
    GROUP BY 1, 2, 3, 4, 5
),
-- Months delivered and months needed, by county.
delivered AS (
    SELECT t.grain, t.period_start, t.year, d.county_code, count(*) AS months, any_need.months AS needed
    FROM (VALUES ('homecare_visit', 'period')) AS k (contract, span)
    JOIN span_month AS t ON t.span = k.span
    JOIN delivered_month AS d ON d.contract = k.contract AND d.month_start = t.cell_start
    JOIN (
        SELECT t.grain, t.period_start, count(*) AS months
        FROM (VALUES ('homecare_visit', 'period')) AS k (contract, span)
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
    FROM (SELECT DISTINCT year, area_level, area, county_code FROM area_member) AS a
    JOIN reported AS t ON a.year = t.year
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
        sex_member.sex,
        coalesce(v.numerator, 0) AS numerator,
        coalesce(person_set_count(v.numerator_set), 0) AS numerator_people
    FROM complete AS s
    CROSS JOIN (
        SELECT * FROM (VALUES (CAST(NULL AS VARCHAR)), ('female'), ('male')) AS m (sex)
    ) AS sex_member
    LEFT JOIN merged AS v
        ON v.area_level = s.area_level
        AND v.area = s.area
        AND v.grain = s.grain
        AND v.period_start = s.period_start
        AND (v.sex IS NOT DISTINCT FROM sex_member.sex)
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
    CAST(NULL AS VARCHAR) AS profession_group,
    sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CASE WHEN complete THEN CAST(numerator AS DOUBLE) END AS value,
    CAST(NULL AS DOUBLE) AS lower,
    CAST(NULL AS DOUBLE) AS upper,
    CASE WHEN complete THEN CAST(numerator AS DOUBLE) END AS numerator,
    CAST(NULL AS DOUBLE) AS denominator,
    CASE WHEN complete THEN numerator_people END AS contributors,
    CASE WHEN NOT complete THEN 'L' ELSE 'A' END AS obs_status
FROM measured

-- test.visits 1.0.0: what each value is made of, by component and delivery.
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('homecare_visit')
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
    WHERE p.grain IN ('month', 'half_year')
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
-- The municipalities of each area, in the division of the year.
area_member AS (
    SELECT year, 'municipality' AS area_level, division_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on WHERE county_code <> '91'
    UNION ALL
    SELECT year, 'county' AS area_level, county_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on WHERE county_code <> '91'
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
JOIN area_member AS a ON a.year = t.year AND a.base = c.area
WHERE c.indicator_no = 1751601465 AND c.indicator = 'test.visits'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
