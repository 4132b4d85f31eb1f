-- grain: one row per county, month and service class
-- key: county, month, service_class
-- A quantile that falls between two waits is their mean: the one just below the share
-- and the one just above it. Shares this near differ only where it falls between.
WITH wait AS (
    SELECT
        county,
        date_trunc('month', event_on) AS month,
        service_class,
        count(*) AS waits,
        count(*) FILTER (WHERE event_on - referred_on > 14) AS over14,
        quantile_disc(event_on - referred_on, [0.499999999, 0.500000001, 0.899999999, 0.900000001]) AS days
    FROM care_event
    WHERE referred_on IS NOT NULL
    GROUP BY ALL
)
SELECT
    county,
    month,
    service_class,
    waits,
    over14,
    (days[1] + days[2]) / 2.0 AS median,
    (days[3] + days[4]) / 2.0 AS p90,
    over14 * 100.0 / waits AS share_over
FROM wait
