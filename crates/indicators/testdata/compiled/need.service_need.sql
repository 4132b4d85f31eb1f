-- need.service_need 1.0.0, component need_health: the sum of coefficients times means.
-- One row per area and year; the whole country has rows of its own.
SELECT
    m.county_code AS area,
    CASE WHEN m.county_code = 'FI' THEN 'country' ELSE 'county' END AS area_base,
    make_date(m.year, 1, 1) AS period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    CAST(NULL AS VARCHAR) AS delivery_id,
    CAST(NULL AS BIGINT) AS n,
    CAST(NULL AS BYTEA) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    sum_exact(c.coef_health * m.mean) AS x
FROM reference.need_mean AS m
JOIN reference.need_coefficient AS c ON c.variable_no = m.variable_no
WHERE c.coef_health IS NOT NULL
GROUP BY m.county_code, m.year

-- need.service_need 1.0.0, component need_social: the sum of coefficients times means.
-- One row per area and year; the whole country has rows of its own.
SELECT
    m.county_code AS area,
    CASE WHEN m.county_code = 'FI' THEN 'country' ELSE 'county' END AS area_base,
    make_date(m.year, 1, 1) AS period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    CAST(NULL AS VARCHAR) AS delivery_id,
    CAST(NULL AS BIGINT) AS n,
    CAST(NULL AS BYTEA) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    sum_exact(c.coef_social * m.mean) AS x
FROM reference.need_mean AS m
JOIN reference.need_coefficient AS c ON c.variable_no = m.variable_no
WHERE c.coef_social IS NOT NULL
GROUP BY m.county_code, m.year

-- need.service_need 1.0.0, component need_elderly: the sum of coefficients times means.
-- One row per area and year; the whole country has rows of its own.
SELECT
    m.county_code AS area,
    CASE WHEN m.county_code = 'FI' THEN 'country' ELSE 'county' END AS area_base,
    make_date(m.year, 1, 1) AS period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    CAST(NULL AS VARCHAR) AS delivery_id,
    CAST(NULL AS BIGINT) AS n,
    CAST(NULL AS BYTEA) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    sum_exact(c.coef_elderly * m.mean) AS x
FROM reference.need_mean AS m
JOIN reference.need_coefficient AS c ON c.variable_no = m.variable_no
WHERE c.coef_elderly IS NOT NULL
GROUP BY m.county_code, m.year

-- need.service_need 1.0.0, component elderly_share: a share of the population.
-- One row per area and year; the whole country has rows of its own.
SELECT
    m.county_code AS area,
    CASE WHEN m.county_code = 'FI' THEN 'country' ELSE 'county' END AS area_base,
    make_date(m.year, 1, 1) AS period_start,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    CAST(NULL AS VARCHAR) AS delivery_id,
    CAST(NULL AS BIGINT) AS n,
    CAST(NULL AS BYTEA) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    m.share_65plus AS x
FROM reference.need_population AS m

-- need.service_need 1.0.0, kind weighted_model
-- Palvelutarvekerroin, koko maa = 1
WITH
-- The stored sums of each area and year.
linear AS (
    SELECT
        c.area,
        c.period_start,
        max(c.x) FILTER (WHERE c.component = 'need_health') AS need_health,
        max(c.x) FILTER (WHERE c.component = 'need_social') AS need_social,
        max(c.x) FILTER (WHERE c.component = 'need_elderly') AS need_elderly,
        max(c.x) FILTER (WHERE c.component = 'elderly_share') AS elderly_share
    FROM component.cell AS c
    WHERE c.indicator_no = 175597281 AND c.indicator = 'need.service_need'
    GROUP BY c.area, c.period_start
),
-- Every area that the model is published for.
spine AS (
    SELECT 'county' AS area_level, county_code AS area FROM reference.county WHERE county_code <> '91'
    UNION ALL
    SELECT 'country' AS area_level, 'FI' AS area
),
-- The weights of the sectors, by year.
weight AS (
    SELECT
        year AS year,
        max(weight) FILTER (WHERE sector = 'health') AS weight_health,
        max(weight) FILTER (WHERE sector = 'social') AS weight_social,
        max(weight) FILTER (WHERE sector = 'elderly') AS weight_elderly
    FROM reference.need_sector_weight
    GROUP BY year
),
-- Each sector against FI, the reference area.
factor AS (
    SELECT
        s.area_level,
        s.area,
        p.grain,
        p.period_start,
        p.label,
        v.need_health,
        v.need_health / r.need_health AS factor_health,
        w.weight_health,
        v.need_social,
        v.need_social / r.need_social AS factor_social,
        w.weight_social,
        v.need_elderly,
        v.need_elderly / r.need_elderly * v.elderly_share / r.elderly_share AS factor_elderly,
        w.weight_elderly
    FROM reference.period AS p
    JOIN linear AS r ON r.period_start = p.period_start AND r.area = 'FI'
    CROSS JOIN spine AS s
    LEFT JOIN linear AS v ON v.period_start = p.period_start AND v.area = s.area
    LEFT JOIN weight AS w ON w.year = date_part('year', p.period_start)
    WHERE p.grain = 'year'
)
SELECT
    output,
    area_level,
    area,
    period_grain,
    period_start,
    period,
    CAST(NULL AS VARCHAR) AS age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    value,
    CAST(NULL AS DOUBLE) AS lower,
    CAST(NULL AS DOUBLE) AS upper,
    CAST(NULL AS DOUBLE) AS numerator,
    CAST(NULL AS DOUBLE) AS denominator,
    CAST(NULL AS BIGINT) AS contributors,
    CASE WHEN value IS NULL THEN 'L' ELSE 'A' END AS obs_status
FROM (
    SELECT
        o.output,
        area_level,
        area,
        grain AS period_grain,
        period_start,
        label AS period,
        CASE o.output
            WHEN 'need_health' THEN need_health
            WHEN 'need_social' THEN need_social
            WHEN 'need_elderly' THEN need_elderly
            WHEN 'factor_health' THEN factor_health
            WHEN 'factor_social' THEN factor_social
            WHEN 'factor_elderly' THEN factor_elderly
            WHEN 'factor_total' THEN weight_health * factor_health + weight_social * factor_social + weight_elderly * factor_elderly
        END AS value
    FROM factor
    CROSS JOIN (VALUES ('need_health'), ('need_social'), ('need_elderly'), ('factor_health'), ('factor_social'), ('factor_elderly'), ('factor_total')) AS o (output)
) AS modelled

-- need.service_need 1.0.0: what each value is made of, by component.
SELECT
    CASE WHEN c.area = 'FI' THEN 'country' ELSE 'county' END AS area_level,
    c.area,
    'year' AS period_grain,
    c.period_start,
    c.age_group,
    c.production,
    c.profession_group,
    c.sex,
    c.task_group,
    c.component,
    c.delivery_id,
    c.n,
    CAST(NULL AS BIGINT) AS persons,
    CAST(NULL AS BIGINT) AS waits,
    c.x
FROM component.cell AS c
WHERE c.indicator_no = 175597281 AND c.indicator = 'need.service_need'
