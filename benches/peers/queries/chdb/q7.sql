-- grain: one row per county, month, service class and way of production
-- key: county, month, service_class, production
SELECT
    county,
    toStartOfMonth(event_on) AS month,
    service_class,
    if(production_mode = '1', 'own', 'purchased') AS production,
    toInt64(sum(cost) * 100) AS cost_cents,
    toInt64(sum(units)) AS units,
    toFloat64(sum(cost)) / units AS unit_cost
FROM {care_event}
GROUP BY county, month, service_class, production
