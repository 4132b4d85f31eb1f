-- grain: one row per level, area, year and service class
-- key: level, area, year, service_class
-- One pass counts the persons of municipalities as sets; sets merge to regions and the
-- country.
WITH town AS (
    SELECT
        e.year AS year,
        e.service_class AS service_class,
        m.division_code AS municipality,
        m.county_code AS region,
        uniqExactMergeState(e.persons) AS persons
    FROM (
        SELECT
            toInt32(intDiv(period, 100)) AS year,
            service_class,
            municipality,
            uniqExactState(reinterpretAsUInt128(client_pid)) AS persons
        FROM {care_event}
        GROUP BY year, service_class, municipality
    ) AS e
    JOIN {municipality_on} AS m ON m.year = e.year AND m.municipality_code = e.municipality
    GROUP BY year, service_class, municipality, region
)
SELECT
    if(grouping(municipality) = 0, 'municipality', if(grouping(region) = 0, 'county', 'country')) AS level,
    if(grouping(municipality) = 0, municipality, if(grouping(region) = 0, region, 'FI')) AS area,
    year,
    service_class,
    uniqExactMerge(persons) AS clients
FROM town
GROUP BY GROUPING SETS ((year, service_class, municipality), (year, service_class, region), (year, service_class))
