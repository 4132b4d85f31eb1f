-- checks: talous.regional_budget_per_inhabitant
-- grain: one row per output, area_level, area, period_grain, period_start
WITH known AS (
    SELECT 'county' AS area_level, county_code AS area, budget_year, sum(operating_expenses_cents) AS cents
    FROM conformed.regional_budget
    WHERE county_code <> '91'
    GROUP BY county_code, budget_year
    UNION ALL
    SELECT 'country', 'FI', budget_year, sum(operating_expenses_cents)
    FROM conformed.regional_budget
    WHERE county_code <> '91'
    GROUP BY budget_year
    HAVING count(DISTINCT county_code) = (SELECT count(*) FROM reference.county WHERE county_code <> '91')
),
residents AS (
    -- Residents at the end of the year before.
    SELECT a.year, a.area_level, a.area, sum(p.population) AS residents
    FROM reference.population AS p
    JOIN reference.area_member AS a ON a.year - 1 = p.year AND a.municipality_code = p.municipality_code
    GROUP BY a.year, a.area_level, a.area
)
SELECT
    'value' AS output,
    k.area_level,
    k.area,
    'year' AS period_grain,
    make_date(k.budget_year, 1, 1) AS period_start,
    k.cents / 100.0 / r.residents AS value,
    CAST(k.cents AS DOUBLE) AS numerator,
    CAST(r.residents AS DOUBLE) AS denominator
FROM known AS k
JOIN residents AS r ON r.area_level = k.area_level AND r.area = k.area AND r.year = k.budget_year
