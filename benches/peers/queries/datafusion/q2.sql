-- grain: one row per level, area, year and service class
-- key: level, area, year, service_class
-- A client of two municipalities is one client of their region: each level is made
-- distinct from the one below. What is used twice is kept in memory.
-- step: town
SELECT DISTINCT period / 100 AS year, service_class, municipality, client_pid FROM care_event;
-- step: placed
SELECT t.year, t.service_class, m.division_code AS municipality, m.county_code AS region, t.client_pid
FROM town AS t
JOIN municipality_on AS m ON m.year = t.year AND m.municipality_code = t.municipality;
-- step: region
SELECT DISTINCT year, service_class, region, client_pid FROM placed;
SELECT 'municipality' AS level, municipality AS area, year, service_class, count(*) AS clients
FROM placed
GROUP BY ALL
UNION ALL
SELECT 'county', region, year, service_class, count(*)
FROM region
GROUP BY ALL
UNION ALL
SELECT 'country', 'FI', year, service_class, count(*)
FROM (SELECT DISTINCT year, service_class, client_pid FROM region)
GROUP BY ALL
