-- grain: one row per county, month and service class
-- key: county, month, service_class
-- Days are small whole numbers: rows are counted by day first. A quantile that falls
-- between two waits is their mean.
WITH by_day AS (
    SELECT
        county,
        toStartOfMonth(event_on) AS month,
        service_class,
        toInt32(event_on) - toInt32(assumeNotNull(referred_on)) AS days,
        count() AS n
    FROM {care_event}
    WHERE referred_on IS NOT NULL
    GROUP BY county, month, service_class, days
),
up_to AS (
    SELECT
        county,
        month,
        service_class,
        days,
        n,
        sum(n) OVER (PARTITION BY county, month, service_class ORDER BY days) AS upto,
        sum(n) OVER (PARTITION BY county, month, service_class) AS total
    FROM by_day
)
SELECT
    county,
    month,
    service_class,
    max(total) AS waits,
    sumIf(n, days > 14) AS over14,
    (minIf(days, upto * 2 >= total) + minIf(days, upto * 2 > total)) / 2. AS median,
    (minIf(days, upto * 10 >= total * 9) + minIf(days, upto * 10 > total * 9)) / 2. AS p90,
    over14 * 100. / waits AS share_over
FROM up_to
GROUP BY county, month, service_class
