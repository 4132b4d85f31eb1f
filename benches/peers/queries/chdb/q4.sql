-- grain: one row per county, unit and month
-- key: county, unit_code, month
-- A spell leaves a mark where it begins and one on the day after it ends; sums of the
-- marks are the weight of each month, so that no spell is spread over its months.
WITH mark AS (
    SELECT
        county,
        unit_code,
        toInt64(work_time_percent * 100) AS bp,
        arrayJoin([
            (greatest(started_on, toDate32('2023-01-01')), 1),
            (ifNull(ended_on, toDate32('2025-12-31')) + 1, -1)
        ]) AS at
    FROM {employment}
),
marks AS (
    SELECT
        county,
        unit_code,
        toStartOfMonth(at.1) AS month,
        sum(bp * at.2) AS weight,
        -sum(bp * at.2 * (toDayOfMonth(at.1) - 1)) AS rest
    FROM mark
    WHERE at.1 <= toDate32('2025-12-31')
    GROUP BY county, unit_code, month
),
grid AS (
    SELECT
        county,
        unit_code,
        arrayJoin(arrayMap(n -> addMonths(toDate32('2023-01-01'), n), range(36))) AS month
    FROM (SELECT DISTINCT county, unit_code FROM marks)
),
days AS (
    SELECT
        g.county AS county,
        g.unit_code AS unit_code,
        g.month AS month,
        toDayOfMonth(toLastDayOfMonth(g.month)) AS length,
        sum(m.weight) OVER (PARTITION BY g.county, g.unit_code ORDER BY g.month) * length + m.rest AS bp_days
    FROM grid AS g
    LEFT JOIN marks AS m ON m.county = g.county AND m.unit_code = g.unit_code AND m.month = g.month
),
sick AS (
    SELECT
        county,
        unit_code,
        toStartOfMonth(started_on) AS month,
        sum(toInt32(ended_on) - toInt32(started_on) + 1) AS sickness_days
    FROM {absence}
    WHERE absence_class IN ('SL', 'TT')
    GROUP BY county, unit_code, month
)
SELECT
    d.county AS county,
    d.unit_code AS unit_code,
    d.month AS month,
    d.bp_days AS bp_days,
    s.sickness_days AS sickness_days,
    d.bp_days / 10000. / if(toYear(d.month) = 2024, 366, 365) AS person_years,
    if(d.bp_days > 0, s.sickness_days / (d.bp_days / 10000. / d.length), NULL) AS sickness_per_htv
FROM days AS d
LEFT JOIN sick AS s ON s.county = d.county AND s.unit_code = d.unit_code AND s.month = d.month
