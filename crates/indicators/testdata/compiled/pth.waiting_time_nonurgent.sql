-- pth.waiting_time_nonurgent 1.0.0, component waits: a histogram of days.
-- One row per municipality, month, age_group and delivery.
WITH source AS (
    SELECT
        municipality_code AS area,
        CAST(date_trunc('month', visit_on) AS DATE) AS period_start,
        coalesce(CASE WHEN age_years(birth_date, visit_on) < 23 THEN 'under_23' WHEN age_years(birth_date, visit_on) >= 23 THEN '23_and_over' END, 'unknown') AS age_group,
        CAST(wait_days AS BIGINT) AS wait_days,
        person_pid AS person,
        delivery_id
    FROM conformed.primary_care_contact
    WHERE urgency = 'non_urgent' AND realised AND assessed_on IS NOT NULL
      AND visit_on IS NOT NULL
      AND wait_days IS NOT NULL
)
SELECT
    s.area,
    'municipality' AS area_base,
    s.period_start,
    s.age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    s.delivery_id,
    CAST(count(s.wait_days) AS BIGINT) AS n,
    person_set(s.person) AS persons,
    day_histogram(s.wait_days) AS hist,
    CAST(NULL AS DOUBLE) AS x
FROM source AS s
GROUP BY s.area, s.period_start, s.age_group, s.delivery_id

-- pth.waiting_time_nonurgent 1.0.0, component share_over_limit: rows over the limit valid on their day.
-- One row per municipality, month, age_group and delivery.
WITH source AS (
    SELECT
        municipality_code AS area,
        CAST(date_trunc('month', visit_on) AS DATE) AS period_start,
        coalesce(CASE WHEN age_years(birth_date, visit_on) < 23 THEN 'under_23' WHEN age_years(birth_date, visit_on) >= 23 THEN '23_and_over' END, 'unknown') AS age_group,
        person_pid AS person,
        delivery_id
    FROM conformed.primary_care_contact
    WHERE urgency = 'non_urgent' AND realised AND assessed_on IS NOT NULL
      AND visit_on IS NOT NULL
      AND CASE
            -- terveydenhuoltolaki 51 a §, StVM 25/2024
            WHEN visit_on < DATE '2023-09-01' THEN visit_on > assessed_on + INTERVAL '3 months'
            -- terveydenhuoltolaki 51 a §, StVM 25/2024
            WHEN visit_on >= DATE '2023-09-01' AND visit_on < DATE '2025-01-01' THEN wait_days > 14
            -- terveydenhuoltolaki 51 a §, HE 134/2024
            WHEN visit_on >= DATE '2025-01-01' AND age_years(birth_date, visit_on) <= 22 THEN wait_days > 14
            -- terveydenhuoltolaki 51 a §, StVM 25/2024
            WHEN visit_on >= DATE '2025-01-01' AND age_years(birth_date, visit_on) >= 23 THEN visit_on > assessed_on + INTERVAL '3 months'
            ELSE FALSE
        END
)
SELECT
    s.area,
    'municipality' AS area_base,
    s.period_start,
    s.age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CAST(NULL AS INT) AS age,
    s.delivery_id,
    CAST(count(*) AS BIGINT) AS n,
    person_set(s.person) AS persons,
    CAST(NULL AS BYTEA) AS hist,
    CAST(NULL AS DOUBLE) AS x
FROM source AS s
GROUP BY s.area, s.period_start, s.age_group, s.delivery_id

-- pth.waiting_time_nonurgent 1.0.0, kind waiting_time
-- Odotusaika perusterveydenhuollon kiireettömään hoitoon
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('primary_care_contact')
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
    WHERE p.grain IN ('month', 'quarter')
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
        c.age_group,
        sum(c.n) FILTER (WHERE c.component = 'waits') AS waits,
        day_histogram_merge(c.hist) FILTER (WHERE c.component = 'waits') AS waits_hist,
        person_set_union(c.persons) FILTER (WHERE c.component = 'waits') AS waits_set,
        sum(c.n) FILTER (WHERE c.component = 'share_over_limit') AS share_over_limit,
        person_set_union(c.persons) FILTER (WHERE c.component = 'share_over_limit') AS share_over_limit_set
    FROM component.cell AS c
    JOIN (VALUES ('waits', 'period'), ('share_over_limit', 'period')) AS k (component, span) ON k.component = c.component
    JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
    WHERE c.indicator_no = 671221629 AND c.indicator = 'pth.waiting_time_nonurgent'
    GROUP BY 1, 2, 3, 4, 5
),
-- The same for every area, in total and by member.
merged AS (
    SELECT
        a.area_level,
        a.area,
        v.grain,
        v.period_start,
        CASE WHEN k.by_age_group THEN v.age_group END AS age_group,
        sum(v.waits) AS waits,
        day_histogram_merge(v.waits_hist) AS waits_hist,
        person_set_union(v.waits_set) AS waits_set,
        sum(v.share_over_limit) AS share_over_limit,
        person_set_union(v.share_over_limit_set) AS share_over_limit_set
    FROM of_period AS v
    JOIN area_member AS a ON a.year = v.year AND a.base = v.base
    CROSS JOIN (VALUES (FALSE), (TRUE)) AS k (by_age_group)
    GROUP BY 1, 2, 3, 4, 5
),
-- Months delivered and months needed, by county.
delivered AS (
    SELECT t.grain, t.period_start, t.year, d.county_code, count(*) AS months, any_need.months AS needed
    FROM (VALUES ('primary_care_contact', 'period')) AS k (contract, span)
    JOIN span_month AS t ON t.span = k.span
    JOIN delivered_month AS d ON d.contract = k.contract AND d.month_start = t.cell_start
    JOIN (
        SELECT t.grain, t.period_start, count(*) AS months
        FROM (VALUES ('primary_care_contact', 'period')) AS k (contract, span)
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
        age_group_member.age_group,
        coalesce(v.waits, 0) AS waits,
        v.waits_hist,
        coalesce(person_set_count(v.waits_set), 0) AS waits_people,
        coalesce(v.share_over_limit, 0) AS share_over_limit,
        coalesce(person_set_count(v.share_over_limit_set), 0) AS share_over_limit_people
    FROM complete AS s
    CROSS JOIN (
        SELECT * FROM (VALUES (CAST(NULL AS VARCHAR)), ('under_23'), ('23_and_over')) AS m (age_group)
    ) AS age_group_member
    LEFT JOIN merged AS v
        ON v.area_level = s.area_level
        AND v.area = s.area
        AND v.grain = s.grain
        AND v.period_start = s.period_start
        AND (v.age_group IS NOT DISTINCT FROM age_group_member.age_group)
)
SELECT
    o.output,
    area_level,
    area,
    grain AS period_grain,
    period_start,
    label AS period,
    age_group,
    CAST(NULL AS VARCHAR) AS production,
    CAST(NULL AS VARCHAR) AS profession_group,
    CAST(NULL AS VARCHAR) AS sex,
    CAST(NULL AS VARCHAR) AS task_group,
    CASE o.output
        WHEN 'median_days' THEN CASE WHEN complete THEN histogram_quantile(waits_hist, 0.5) END
        WHEN 'p90_days' THEN CASE WHEN complete THEN histogram_quantile(waits_hist, 0.9) END
        WHEN 'share_over_limit' THEN CASE WHEN complete THEN CAST(share_over_limit AS DOUBLE) / nullif(waits, 0) * 100 END
    END AS value,
    CASE o.output
        WHEN 'share_over_limit' THEN CASE WHEN complete THEN CASE WHEN waits > 0 THEN wilson_lower(share_over_limit, waits, 0.95) * 100 END END
    END AS lower,
    CASE o.output
        WHEN 'share_over_limit' THEN CASE WHEN complete THEN CASE WHEN waits > 0 THEN wilson_upper(share_over_limit, waits, 0.95) * 100 END END
    END AS upper,
    CASE o.output
        WHEN 'share_over_limit' THEN CASE WHEN complete AND NOT (waits = 0) THEN CAST(share_over_limit AS DOUBLE) END
    END AS numerator,
    CASE o.output
        WHEN 'median_days' THEN CASE WHEN complete THEN CAST(waits AS DOUBLE) END
        WHEN 'p90_days' THEN CASE WHEN complete THEN CAST(waits AS DOUBLE) END
        WHEN 'share_over_limit' THEN CASE WHEN complete THEN CAST(waits AS DOUBLE) END
    END AS denominator,
    CASE o.output
        WHEN 'median_days' THEN CASE WHEN complete THEN waits_people END
        WHEN 'p90_days' THEN CASE WHEN complete THEN waits_people END
        WHEN 'share_over_limit' THEN CASE WHEN complete THEN coalesce(least(nullif(share_over_limit_people, 0), nullif(waits_people, 0)), 0) END
    END AS contributors,
    CASE o.output
        WHEN 'median_days' THEN CASE WHEN NOT complete THEN 'L' WHEN waits = 0 THEN 'M' ELSE 'A' END
        WHEN 'p90_days' THEN CASE WHEN NOT complete THEN 'L' WHEN waits = 0 THEN 'M' ELSE 'A' END
        WHEN 'share_over_limit' THEN CASE WHEN NOT complete THEN 'L' WHEN waits = 0 THEN 'M' ELSE 'A' END
    END AS obs_status
FROM measured
CROSS JOIN (VALUES ('median_days'), ('p90_days'), ('share_over_limit')) AS o (output)

-- pth.waiting_time_nonurgent 1.0.0: what each value is made of, by component and delivery.
WITH
-- Months that each county has delivered.
delivered_month AS (
    SELECT DISTINCT d.contract, d.county_code, d.month_start
    FROM meta.delivered_month AS d
    WHERE d.contract IN ('primary_care_contact')
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
    WHERE p.grain IN ('month', 'quarter')
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
    UNION ALL
    SELECT year, 'country' AS area_level, 'FI' AS area, county_code, municipality_code AS base
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
JOIN (VALUES ('waits', 'period'), ('share_over_limit', 'period')) AS k (component, span) ON k.component = c.component
JOIN span_month AS t ON t.span = k.span AND t.cell_start = c.period_start
JOIN area_member AS a ON a.year = t.year AND a.base = c.area
WHERE c.indicator_no = 671221629 AND c.indicator = 'pth.waiting_time_nonurgent'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
