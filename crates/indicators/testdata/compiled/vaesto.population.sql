-- vaesto.population 1.0.0, component numerator: a sum.
-- One row per municipality, year and delivery.
WITH source AS (
    SELECT
        municipality_code AS area,
        make_date(year, 1, 1) AS period_start,
        population AS amount,
        CAST(NULL AS VARCHAR) AS delivery_id
    FROM reference.population_total
    WHERE year IS NOT NULL
)
SELECT
    s.area,
    'municipality' AS area_base,
    s.period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    s.delivery_id,
    CAST(sum(s.amount) AS BIGINT) AS n,
    CAST(NULL AS BYTEA) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    CAST(NULL AS DOUBLE) AS x
FROM source AS s
GROUP BY s.area, s.period_start, s.delivery_id

-- vaesto.population 1.0.0, component numerator_estimated: rows that are estimates.
-- One row per municipality, year and delivery.
WITH source AS (
    SELECT
        municipality_code AS area,
        make_date(year, 1, 1) AS period_start,
        CAST(NULL AS VARCHAR) AS delivery_id
    FROM reference.population_total
    WHERE obs_status = 'E'
      AND year IS NOT NULL
)
SELECT
    s.area,
    'municipality' AS area_base,
    s.period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    s.delivery_id,
    CAST(count(*) AS BIGINT) AS n,
    CAST(NULL AS BYTEA) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    CAST(NULL AS DOUBLE) AS x
FROM source AS s
GROUP BY s.area, s.period_start, s.delivery_id

-- vaesto.population 1.0.0, kind stock
-- Väestö 31.12.
WITH
-- Months of each county that are known. Published data are known where they have rows.
delivered_month AS (
    SELECT DISTINCT 'rows:numerator' AS contract, m.county_code, c.period_start AS month_start
    FROM component.cell AS c
    JOIN reference.municipality_on AS m
        ON m.municipality_code = c.area AND m.year = date_part('year', c.period_start)
    WHERE c.indicator_no = 436262888 AND c.indicator = 'vaesto.population' AND c.component = 'numerator'
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
    WHERE p.grain IN ('year')
        AND EXISTS (
            SELECT 1 FROM delivered_month AS d
            WHERE d.month_start >= p.period_start AND d.month_start <= p.period_end
        )
),
-- The cells of each period, by the way a component is taken.
span_month AS (
    SELECT 'period' AS span, t.grain, t.period_start, t.year, m.period_start AS cell_start
    FROM reported AS t
    JOIN reference.period AS m ON m.grain = 'year' AND m.period_start >= t.period_start AND m.period_end <= t.period_end
),
-- The municipalities of each area, in the division of the year.
area_member AS (
    SELECT year, 'municipality' AS area_level, division_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on
    UNION ALL
    SELECT year, 'county' AS area_level, county_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on
    UNION ALL
    SELECT year, 'collaboration_area' AS area_level, collaboration_area_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on
    UNION ALL
    SELECT year, 'country' AS area_level, 'FI' AS area, county_code, municipality_code AS base
    FROM reference.municipality_on
),
-- Cells merged over deliveries and the months of each period.
of_period AS (
    SELECT
        t.grain,
        t.period_start,
        t.year,
        c.area AS base,
        sum(c.n) FILTER (WHERE c.component = 'numerator') AS numerator,
        sum(c.n) FILTER (WHERE c.component = 'numerator_estimated') AS numerator_estimated
    FROM component.cell AS c
    JOIN (VALUES ('numerator', 'period'), ('numerator_estimated', 'period')) AS k (component, span) ON k.component = c.component
    JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
    WHERE c.indicator_no = 436262888 AND c.indicator = 'vaesto.population'
    GROUP BY 1, 2, 3, 4
),
-- The same for every area, in total and by member.
merged AS (
    SELECT
        a.area_level,
        a.area,
        v.grain,
        v.period_start,
        sum(v.numerator) AS numerator,
        sum(v.numerator_estimated) AS numerator_estimated
    FROM of_period AS v
    JOIN area_member AS a ON a.year = v.year AND a.base = v.base
    GROUP BY 1, 2, 3, 4
),
-- Months delivered and months needed, by county.
delivered AS (
    SELECT t.grain, t.period_start, t.year, d.county_code, count(*) AS months, any_need.months AS needed
    FROM (VALUES ('rows:numerator', 'period')) AS k (contract, span)
    JOIN span_month AS t ON t.span = k.span
    JOIN delivered_month AS d ON d.contract = k.contract AND d.month_start = t.cell_start
    JOIN (
        SELECT t.grain, t.period_start, count(*) AS months
        FROM (VALUES ('rows:numerator', 'period')) AS k (contract, span)
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
        coalesce(v.numerator, 0) AS numerator,
        coalesce(v.numerator_estimated, 0) AS numerator_estimated
    FROM complete AS s
    LEFT JOIN merged AS v
        ON v.area_level = s.area_level
        AND v.area = s.area
        AND v.grain = s.grain
        AND v.period_start = s.period_start
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
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CASE WHEN complete THEN CAST(numerator AS DOUBLE) END AS value,
    CAST(NULL AS DOUBLE) AS lower,
    CAST(NULL AS DOUBLE) AS upper,
    CASE WHEN complete THEN CAST(numerator AS DOUBLE) END AS numerator,
    CAST(NULL AS DOUBLE) AS denominator,
    CAST(NULL AS BIGINT) AS contributors,
    CASE WHEN NOT complete THEN 'L' WHEN numerator_estimated > 0 THEN 'E' ELSE 'A' END AS obs_status
FROM measured

-- vaesto.population 1.0.0: what each value is made of, by component and delivery.
WITH
-- Months of each county that are known. Published data are known where they have rows.
delivered_month AS (
    SELECT DISTINCT 'rows:numerator' AS contract, m.county_code, c.period_start AS month_start
    FROM component.cell AS c
    JOIN reference.municipality_on AS m
        ON m.municipality_code = c.area AND m.year = date_part('year', c.period_start)
    WHERE c.indicator_no = 436262888 AND c.indicator = 'vaesto.population' AND c.component = 'numerator'
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
    WHERE p.grain IN ('year')
        AND EXISTS (
            SELECT 1 FROM delivered_month AS d
            WHERE d.month_start >= p.period_start AND d.month_start <= p.period_end
        )
),
-- The cells of each period, by the way a component is taken.
span_month AS (
    SELECT 'period' AS span, t.grain, t.period_start, t.year, m.period_start AS cell_start
    FROM reported AS t
    JOIN reference.period AS m ON m.grain = 'year' AND m.period_start >= t.period_start AND m.period_end <= t.period_end
),
-- The municipalities of each area, in the division of the year.
area_member AS (
    SELECT year, 'municipality' AS area_level, division_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on
    UNION ALL
    SELECT year, 'county' AS area_level, county_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on
    UNION ALL
    SELECT year, 'collaboration_area' AS area_level, collaboration_area_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on
    UNION ALL
    SELECT year, 'country' AS area_level, 'FI' AS area, county_code, municipality_code AS base
    FROM reference.municipality_on
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
JOIN (VALUES ('numerator', 'period'), ('numerator_estimated', 'period')) AS k (component, span) ON k.component = c.component
JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
JOIN area_member AS a ON a.year = t.year AND a.base = c.area
WHERE c.indicator_no = 436262888 AND c.indicator = 'vaesto.population'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
