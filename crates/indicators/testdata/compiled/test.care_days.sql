-- test.care_days 1.0.0, component numerator: days of persons in spells, a day of a person once.
-- One row per municipality, month, sex and delivery.
WITH source AS (
    SELECT
        county_code AS organiser,
        municipality_code AS area,
        started_on AS first_day,
        ended_on - 1 AS last_day,
        birth_date AS birth_date,
        coalesce(sex, 'unknown') AS sex,
        person_pid AS person,
        delivery_id
    FROM conformed.care_spell
    WHERE production_mode <> 'own'
),
-- The months that the organiser has delivered.
month AS (
    SELECT d.county_code AS organiser, p.period_start, p.period_end
    FROM meta.delivered_month AS d
    JOIN reference.period AS p ON p.grain = 'month' AND p.period_start = d.month_start
    WHERE d.contract IN ('care_spell')
    GROUP BY d.county_code, p.period_start, p.period_end
)
SELECT
    s.area,
    'municipality' AS area_base,
    m.period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    s.sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    s.delivery_id,
    CAST(NULL AS BIGINT) AS n,
    CAST(NULL AS BYTEA) AS persons,
    care_day_set(s.person, greatest(s.first_day, m.period_start), least(s.last_day, m.period_end)) AS hist,
    CAST(NULL AS DOUBLE) AS x
FROM source AS s
JOIN month AS m
    ON m.organiser = s.organiser
    AND s.first_day <= m.period_end
    AND (s.last_day IS NULL OR s.last_day >= m.period_start)
WHERE age_years(s.birth_date, m.period_end) >= 75
GROUP BY s.area, m.period_start, s.sex, s.delivery_id

-- test.care_days 1.0.0, component denominator: days of persons in spells, a day of a person once.
-- One row per municipality, month, sex and delivery.
WITH source AS (
    SELECT
        county_code AS organiser,
        municipality_code AS area,
        started_on AS first_day,
        ended_on - 1 AS last_day,
        birth_date AS birth_date,
        coalesce(sex, 'unknown') AS sex,
        person_pid AS person,
        delivery_id
    FROM conformed.care_spell
),
-- The months that the organiser has delivered.
month AS (
    SELECT d.county_code AS organiser, p.period_start, p.period_end
    FROM meta.delivered_month AS d
    JOIN reference.period AS p ON p.grain = 'month' AND p.period_start = d.month_start
    WHERE d.contract IN ('care_spell')
    GROUP BY d.county_code, p.period_start, p.period_end
)
SELECT
    s.area,
    'municipality' AS area_base,
    m.period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    s.sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    s.delivery_id,
    CAST(NULL AS BIGINT) AS n,
    CAST(NULL AS BYTEA) AS persons,
    care_day_set(s.person, greatest(s.first_day, m.period_start), least(s.last_day, m.period_end)) AS hist,
    CAST(NULL AS DOUBLE) AS x
FROM source AS s
JOIN month AS m
    ON m.organiser = s.organiser
    AND s.first_day <= m.period_end
    AND (s.last_day IS NULL OR s.last_day >= m.period_start)
WHERE age_years(s.birth_date, m.period_end) >= 75
GROUP BY s.area, m.period_start, s.sex, s.delivery_id

-- test.care_days 1.0.0, kind proportion
-- Ostettujen hoitopäivien osuus
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('care_spell')
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
        care_day_set_union(c.hist) FILTER (WHERE c.component = 'numerator') AS numerator_days,
        care_day_set_union(c.hist) FILTER (WHERE c.component = 'denominator') AS denominator_days
    FROM component.cell AS c
    JOIN (VALUES ('numerator', 'period'), ('denominator', 'period')) AS k (component, span) ON k.component = c.component
    JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
    WHERE c.indicator_no = 670324651 AND c.indicator = 'test.care_days'
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
        care_day_set_union(v.numerator_days) AS numerator_days,
        care_day_set_union(v.denominator_days) AS denominator_days
    FROM of_period AS v
    JOIN area_member AS a ON a.year = v.year AND a.base = v.base
    CROSS JOIN (VALUES (FALSE), (TRUE)) AS k (by_sex)
    GROUP BY 1, 2, 3, 4, 5
),
-- Months delivered and months needed, by county.
delivered AS (
    SELECT t.grain, t.period_start, t.year, d.county_code, count(*) AS months, any_need.months AS needed
    FROM (VALUES ('care_spell', 'period')) AS k (contract, span)
    JOIN span_month AS t ON t.span = k.span
    JOIN delivered_month AS d ON d.contract = k.contract AND d.month_start = t.cell_start
    JOIN (
        SELECT t.grain, t.period_start, count(*) AS months
        FROM (VALUES ('care_spell', 'period')) AS k (contract, span)
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
        coalesce(care_day_set_count(v.numerator_days), 0) AS numerator,
        coalesce(care_day_set_persons(v.numerator_days), 0) AS numerator_people,
        coalesce(care_day_set_count(v.denominator_days), 0) AS denominator,
        coalesce(care_day_set_persons(v.denominator_days), 0) AS denominator_people
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
    CASE WHEN complete THEN CAST(numerator AS DOUBLE) / nullif(denominator, 0) * 100 END AS value,
    CAST(NULL AS DOUBLE) AS lower,
    CAST(NULL AS DOUBLE) AS upper,
    CASE WHEN complete AND NOT (coalesce(denominator, 0) = 0) THEN CAST(numerator AS DOUBLE) END AS numerator,
    CASE WHEN complete THEN CAST(denominator AS DOUBLE) END AS denominator,
    CASE WHEN complete THEN coalesce(least(nullif(numerator_people, 0), nullif(denominator_people, 0)), 0) END AS contributors,
    CASE WHEN NOT complete THEN 'L' WHEN coalesce(denominator, 0) = 0 THEN 'M' ELSE 'A' END AS obs_status
FROM measured

-- test.care_days 1.0.0: what each value is made of, by component and delivery.
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('care_spell')
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
    CASE WHEN c.component IN ('numerator', 'denominator') THEN care_day_set_count(care_day_set_union(c.hist) FILTER (WHERE c.component IN ('numerator', 'denominator'))) ELSE sum(c.n) END AS n,
    CASE WHEN c.component IN ('numerator', 'denominator') THEN care_day_set_persons(care_day_set_union(c.hist) FILTER (WHERE c.component IN ('numerator', 'denominator'))) ELSE person_set_count(person_set_union(c.persons)) END AS persons,
    histogram_count(day_histogram_merge(c.hist) FILTER (WHERE NOT (c.component IN ('numerator', 'denominator')))) AS waits,
    sum(c.x) AS x
FROM component.cell AS c
JOIN (VALUES ('numerator', 'period'), ('denominator', 'period')) AS k (component, span) ON k.component = c.component
JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
JOIN area_member AS a ON a.year = t.year AND a.base = c.area
WHERE c.indicator_no = 670324651 AND c.indicator = 'test.care_days'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
