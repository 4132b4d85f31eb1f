-- talous.net_cost_per_inhabitant 1.0.0, component numerator: a sum.
-- One row per county, year, task_group and delivery.
WITH source AS (
    SELECT
        county_code AS area,
        CAST(date_trunc('year', month_start) AS DATE) AS period_start,
        coalesce(task_group, 'unknown') AS task_group,
        amount_cents AS amount,
        delivery_id
    FROM conformed.ledger_entry
    WHERE scenario = 'actual' AND task_group <> 'other'
      AND month_start IS NOT NULL
)
SELECT
    s.area,
    'county' AS area_base,
    s.period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    s.task_group,
    CAST(NULL AS INT) AS age,
    s.delivery_id,
    CAST(sum(s.amount) AS BIGINT) AS n,
    CAST(NULL AS BYTEA) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    CAST(NULL AS DOUBLE) AS x
FROM source AS s
GROUP BY s.area, s.period_start, s.task_group, s.delivery_id

-- talous.net_cost_per_inhabitant 1.0.0, kind per_capita
-- Sosiaali- ja terveystoiminta yhteensä, nettokäyttökustannukset, euroa / asukas
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('finance_ledger')
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
        CAST(date_part('year', p.period_start) AS INT) AS year,
        CAST(date_part('year', p.period_start) AS INT) - 1 AS population_year
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
-- The counties of each area.
area_member AS (
    SELECT 'county' AS area_level, county_code AS area, county_code, county_code AS base FROM reference.county WHERE county_code <> '91'
    UNION ALL
    SELECT 'collaboration_area' AS area_level, collaboration_area_code AS area, county_code, county_code AS base FROM reference.county WHERE county_code <> '91'
    UNION ALL
    SELECT 'country' AS area_level, 'FI' AS area, county_code, county_code AS base FROM reference.county WHERE county_code <> '91'
),
-- The municipalities of each area, in the division of the year.
resident_area AS (
    SELECT year, 'county' AS area_level, county_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on WHERE county_code <> '91'
    UNION ALL
    SELECT year, 'collaboration_area' AS area_level, collaboration_area_code AS area, county_code, municipality_code AS base
    FROM reference.municipality_on WHERE county_code <> '91'
    UNION ALL
    SELECT year, 'country' AS area_level, 'FI' AS area, county_code, municipality_code AS base
    FROM reference.municipality_on WHERE county_code <> '91'
),
-- Cells merged over deliveries and the months of each period.
of_period AS (
    SELECT
        t.grain,
        t.period_start,
        t.year,
        c.area AS base,
        c.task_group,
        sum(c.n) FILTER (WHERE c.component = 'numerator') AS numerator
    FROM component.cell AS c
    JOIN (VALUES ('numerator', 'period')) AS k (component, span) ON k.component = c.component
    JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
    WHERE c.indicator_no = 1617997821 AND c.indicator = 'talous.net_cost_per_inhabitant'
    GROUP BY 1, 2, 3, 4, 5
),
-- The same for every area, in total and by member.
merged AS (
    SELECT
        a.area_level,
        a.area,
        v.grain,
        v.period_start,
        CASE WHEN k.by_task_group THEN v.task_group END AS task_group,
        sum(v.numerator) AS numerator
    FROM of_period AS v
    JOIN area_member AS a ON a.base = v.base
    CROSS JOIN (VALUES (FALSE), (TRUE)) AS k (by_task_group)
    GROUP BY 1, 2, 3, 4, 5
),
-- Residents on 31.12. of the year before.
residents AS (
    SELECT
        y.year,
        y.population_year,
        a.area_level,
        a.area,
        sum(p.population) AS residents,
        max(p.obs_status) AS obs_status
    FROM (SELECT DISTINCT year, population_year FROM reported) AS y
    JOIN (
        SELECT year, municipality_code, sum(population) AS population, max(obs_status) AS obs_status
        FROM reference.population
        GROUP BY year, municipality_code
    ) AS p ON p.year = y.population_year
    JOIN resident_area AS a ON a.year = y.year AND a.base = p.municipality_code
    GROUP BY 1, 2, 3, 4
),
-- The months of each period that must be delivered.
needed_month AS (
    SELECT 'period' AS span, t.grain, t.period_start, t.year, m.period_start AS cell_start
    FROM reported AS t
    JOIN reference.period AS m ON m.grain = 'month' AND m.period_start >= t.period_start AND m.period_end <= t.period_end
),
-- Months delivered and months needed, by county.
delivered AS (
    SELECT t.grain, t.period_start, t.year, d.county_code, count(*) AS months, any_need.months AS needed
    FROM (VALUES ('finance_ledger', 'period')) AS k (contract, span)
    JOIN needed_month AS t ON t.span = k.span
    JOIN delivered_month AS d ON d.contract = k.contract AND d.month_start = t.cell_start
    JOIN (
        SELECT t.grain, t.period_start, count(*) AS months
        FROM (VALUES ('finance_ledger', 'period')) AS k (contract, span)
        JOIN needed_month AS t ON t.span = k.span
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
        t.population_year,
        bool_and(coalesce(d.months = d.needed, FALSE)) AS complete
    FROM (SELECT DISTINCT area_level, area, county_code FROM area_member) AS a
    CROSS JOIN reported AS t
    LEFT JOIN delivered AS d
        ON d.county_code = a.county_code AND d.grain = t.grain AND d.period_start = t.period_start
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
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
        task_group_member.task_group,
        coalesce(v.numerator, 0) AS numerator,
        r.residents,
        r.obs_status AS residents_status
    FROM complete AS s
    CROSS JOIN (
        SELECT * FROM (VALUES (CAST(NULL AS VARCHAR)), ('health'), ('social'), ('older_people')) AS m (task_group)
    ) AS task_group_member
    LEFT JOIN merged AS v
        ON v.area_level = s.area_level
        AND v.area = s.area
        AND v.grain = s.grain
        AND v.period_start = s.period_start
        AND (v.task_group IS NOT DISTINCT FROM task_group_member.task_group)
    LEFT JOIN residents AS r
        ON r.year = s.year
        AND r.population_year = s.population_year
        AND r.area_level = s.area_level
        AND r.area = s.area
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
    task_group,
    CASE WHEN complete THEN CAST(numerator AS DOUBLE) / 100 / nullif(residents, 0) END AS value,
    CAST(NULL AS DOUBLE) AS lower,
    CAST(NULL AS DOUBLE) AS upper,
    CASE WHEN complete AND NOT (coalesce(residents, 0) = 0) THEN CAST(numerator AS DOUBLE) END AS numerator,
    CASE WHEN complete THEN CAST(residents AS DOUBLE) END AS denominator,
    CAST(NULL AS BIGINT) AS contributors,
    CASE WHEN NOT complete THEN 'L' WHEN coalesce(residents, 0) = 0 THEN 'M' WHEN residents_status = 'E' THEN 'E' ELSE 'A' END AS obs_status
FROM measured

-- talous.net_cost_per_inhabitant 1.0.0: what each value is made of, by component and delivery.
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('finance_ledger')
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
        CAST(date_part('year', p.period_start) AS INT) AS year,
        CAST(date_part('year', p.period_start) AS INT) - 1 AS population_year
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
-- The counties of each area.
area_member AS (
    SELECT 'county' AS area_level, county_code AS area, county_code, county_code AS base FROM reference.county WHERE county_code <> '91'
    UNION ALL
    SELECT 'collaboration_area' AS area_level, collaboration_area_code AS area, county_code, county_code AS base FROM reference.county WHERE county_code <> '91'
    UNION ALL
    SELECT 'country' AS area_level, 'FI' AS area, county_code, county_code AS base FROM reference.county WHERE county_code <> '91'
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
WHERE c.indicator_no = 1617997821 AND c.indicator = 'talous.net_cost_per_inhabitant'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
