-- checks: hr.vacancy_rate
-- grain: one row per output, area_level, area, period_grain, period_start
WITH delivered AS (
    -- Periods whose last month a county has delivered, of every contract.
    SELECT p.grain, p.period_start, p.period_end, d.county_code
    FROM reference.period AS p
    JOIN meta.delivered_month AS d ON d.month_start = CAST(date_trunc('month', p.period_end) AS DATE)
    WHERE d.contract IN ('hr_post', 'hr_employment') AND p.grain = 'month'
    GROUP BY p.grain, p.period_start, p.period_end, d.county_code
    HAVING count(*) = 2
),
standing AS (
    SELECT d.period_start, d.period_end, d.county_code, p.post_no
    FROM delivered AS d
    JOIN conformed.post AS p
        ON p.county_code = d.county_code
        AND p.valid_from <= d.period_end
        AND (p.valid_to IS NULL OR p.valid_to >= d.period_end)
),
held AS (
    SELECT DISTINCT s.period_start, s.county_code, s.post_no
    FROM standing AS s
    JOIN conformed.employment_spell AS e
        ON e.county_code = s.county_code
        AND e.post_no = s.post_no
        AND e.started_on <= s.period_end
        AND (e.ended_on IS NULL OR e.ended_on >= s.period_end)
),
counted AS (
    SELECT s.period_start, s.county_code, count(*) AS posts, count(h.post_no) AS held
    FROM standing AS s
    LEFT JOIN held AS h
        ON h.period_start = s.period_start AND h.county_code = s.county_code AND h.post_no = s.post_no
    GROUP BY s.period_start, s.county_code
)
SELECT
    'value' AS output,
    'county' AS area_level,
    county_code AS area,
    'month' AS period_grain,
    period_start,
    100 * CAST(posts - held AS DOUBLE) / posts AS value,
    CAST(posts - held AS DOUBLE) AS numerator,
    CAST(posts AS DOUBLE) AS denominator
FROM counted
