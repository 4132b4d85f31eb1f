-- grain: one row per county, service and month
-- key: county, service_code, month
-- The spells of a person are sorted and folded in an array: days that an earlier spell
-- covers are cut off, and what is left leaves two marks, as spells of work do.
WITH person AS (
    SELECT
        county,
        service_code,
        arraySort(groupArray((
            toInt32(started_on),
            multiIf(
                ended_on IS NULL OR ended_on > toDate32('2025-12-31'), toInt32(toDate32('2025-12-31')),
                ended_on = started_on, toInt32(started_on),
                toInt32(assumeNotNull(ended_on)) - 1
            )
        ))) AS spells
    FROM {care_spell}
    GROUP BY county, service_code, client_pid
),
piece AS (
    SELECT
        county,
        service_code,
        arrayJoin(arrayMap(
            (s, before) -> (greatest(s.1, before + 1, toInt32(toDate32('2023-01-01'))), s.2),
            spells,
            arrayPopBack(arrayPushFront(
                arrayMap(
                    n -> arrayMax(arraySlice(spells.2, 1, n)), arrayEnumerate(spells)
                ),
                0
            ))
        )) AS days
    FROM person
),
marks AS (
    SELECT
        county,
        service_code,
        toStartOfMonth(toDate32(at.1)) AS month,
        sum(at.2) AS weight,
        -sum(at.2 * (toDayOfMonth(toDate32(at.1)) - 1)) AS rest
    FROM (
        SELECT county, service_code, arrayJoin([(days.1, 1), (days.2 + 1, -1)]) AS at
        FROM piece
        WHERE days.1 <= days.2
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
