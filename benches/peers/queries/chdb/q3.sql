-- grain: one row per county, month and service class
-- key: county, month, service_class
-- The waits of a group are sorted in an array. A quantile that falls between two waits
-- is their mean.
SELECT county, month, service_class, waits, over14, median, p90, share_over
FROM (
    SELECT
        county,
        toStartOfMonth(event_on) AS month,
        service_class,
        count() AS waits,
        countIf(days > 14) AS over14,
        arraySort(groupArray(days)) AS sorted,
        (sorted[intDiv(waits + 1, 2)] + sorted[intDiv(waits, 2) + 1]) / 2. AS median,
        (sorted[intDiv(waits * 9 + 9, 10)] + sorted[intDiv(waits * 9, 10) + 1]) / 2. AS p90,
        over14 * 100. / waits AS share_over
    FROM (
        SELECT
            county,
            event_on,
            service_class,
            toUInt16(toInt32(event_on) - toInt32(assumeNotNull(referred_on))) AS days
        FROM {care_event}
        WHERE referred_on IS NOT NULL
    )
    GROUP BY county, month, service_class
)
