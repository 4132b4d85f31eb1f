-- grain: one row per county, month and service class
-- key: county, month, service_class
-- Days are small whole numbers: rows are counted by day first. A quantile that falls
-- between two waits is their mean.
WITH by_day AS (
    SELECT
        county,
        date_trunc('month', event_on) AS month,
        service_class,
        event_on - referred_on AS days,
        count(*) AS n
    FROM care_event
    WHERE referred_on IS NOT NULL
    GROUP BY ALL
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
    coalesce(sum(n) FILTER (WHERE days > 14), 0) AS over14,
    (min(days) FILTER (WHERE upto * 2 >= total) + min(days) FILTER (WHERE upto * 2 > total)) / 2.0 AS median,
    (min(days) FILTER (WHERE upto * 10 >= total * 9) + min(days) FILTER (WHERE upto * 10 > total * 9)) / 2.0 AS p90,
    coalesce(sum(n) FILTER (WHERE days > 14), 0) * 100.0 / max(total) AS share_over
FROM up_to
GROUP BY ALL
