-- grain: one row per county, service and month
-- key: county, service_code, month
-- Days of a person that an earlier spell covers are cut off; what is left leaves two
-- marks, as spells of work do.
WITH piece AS (
    SELECT
        county,
        service_code,
        greatest(
            first_day,
            max(last_day) OVER (
                PARTITION BY client_pid, county, service_code ORDER BY first_day, last_day
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) + 1,
            toInt32(toDate32('2023-01-01'))
        ) AS first_left,
        last_day
    FROM (
        SELECT
            county,
            service_code,
            client_pid,
            toInt32(started_on) AS first_day,
            multiIf(
                ended_on IS NULL OR ended_on > toDate32('2025-12-31'), toInt32(toDate32('2025-12-31')),
                ended_on = started_on, toInt32(started_on),
                toInt32(assumeNotNull(ended_on)) - 1
            ) AS last_day
        FROM {care_spell}
    )
),
marks AS (
    SELECT
        county,
        service_code,
        toStartOfMonth(toDate32(at.1)) AS month,
        sum(at.2) AS weight,
        -sum(at.2 * (toDayOfMonth(toDate32(at.1)) - 1)) AS rest
    FROM (
        SELECT county, service_code, arrayJoin([(first_left, 1), (last_day + 1, -1)]) AS at
        FROM piece
        WHERE first_left <= last_day
    )
    WHERE at.1 <= toInt32(toDate32('2025-12-31'))
    GROUP BY county, service_code, month
),
grid AS (
    SELECT
        county,
        service_code,
        arrayJoin(arrayMap(n -> addMonths(toDate32('2023-01-01'), n), range(36))) AS month
    FROM (SELECT DISTINCT county, service_code FROM marks)
)
SELECT
    g.county AS county,
    g.service_code AS service_code,
    g.month AS month,
    sum(m.weight) OVER (PARTITION BY g.county, g.service_code ORDER BY g.month)
        * toDayOfMonth(toLastDayOfMonth(g.month)) + m.rest AS care_days
FROM grid AS g
LEFT JOIN marks AS m ON m.county = g.county AND m.service_code = g.service_code AND m.month = g.month
