-- grain: one row per county, month, service class and way of production
-- key: county, month, service_class, production
SELECT
    county,
    date_trunc('month', event_on) AS month,
    service_class,
    CASE WHEN production_mode = '1' THEN 'own' ELSE 'purchased' END AS production,
    CAST(sum(cost) * 100 AS BIGINT) AS cost_cents,
    CAST(sum(units) AS BIGINT) AS units,
    CAST(sum(cost) AS DOUBLE) / sum(units) AS unit_cost
FROM care_event
GROUP BY ALL
