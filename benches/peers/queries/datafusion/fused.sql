-- grain: one row per county, month and service class
-- key: county, month, service_class
SELECT
    county,
    date_trunc('month', event_on) AS month,
    service_class,
    count(*) AS visits,
    CAST(sum(units) AS BIGINT) AS units,
    CAST(sum(cost) * 100 AS BIGINT) AS cost_cents,
    count(referred_on) AS waits,
    count(*) FILTER (WHERE event_on - referred_on > 14) AS over14,
    count(DISTINCT client_pid) AS clients
FROM care_event
WHERE service_class IN ('1100', '1200', '1300', '1400', '2100', '2200', '2300', '2400', '3100', '3200')
GROUP BY ALL
