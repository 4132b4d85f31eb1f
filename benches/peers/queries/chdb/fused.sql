-- grain: one row per county, month and service class
-- key: county, month, service_class
SELECT
    county,
    toStartOfMonth(event_on) AS month,
    service_class,
    count() AS visits,
    toInt64(sum(units)) AS units,
    toInt64(sum(cost) * 100) AS cost_cents,
    count(referred_on) AS waits,
    countIf(toInt32(event_on) - toInt32(referred_on) > 14) AS over14,
    uniqExact(reinterpretAsUInt128(client_pid)) AS clients
FROM {care_event}
WHERE service_class IN ('1100', '1200', '1300', '1400', '2100', '2200', '2300', '2400', '3100', '3200')
GROUP BY county, month, service_class
