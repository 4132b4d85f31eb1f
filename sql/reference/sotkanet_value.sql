-- grain: one row per Sotkanet indicator, area, year and gender
-- key: indicator_id, sotkanet_region_id?, area?, year, gender
-- The published Sotkanet values at hand, long. `value` is the indicator in its
-- own unit, `absolute_value` the count behind it where it is published. An area
-- whose Sotkanet number has no key here has a null `area`.
WITH value AS (
    SELECT
        indicator_id,
        indicator_fi,
        unit,
        CASE WHEN county_code = 'FI' THEN 'country' ELSE 'county' END AS area_level,
        county_code AS area,
        sotkanet_region_id,
        year,
        gender,
        value,
        CAST(NULL AS BIGINT) AS absolute_value
    FROM reference.sotkanet_primary_care
    UNION ALL
    SELECT
        indicator_id,
        'Kodin ulkopuolelle sijoitetut lapset ja nuoret',
        '%',
        CASE WHEN county_code = 'FI' THEN 'country' ELSE 'county' END,
        county_code,
        sotkanet_region_id,
        year,
        gender,
        value_pct,
        absolute_value
    FROM reference.sotkanet_placed
    UNION ALL
    SELECT
        s.indicator_id,
        k.name_fi,
        k.unit,
        'county',
        c.county_code,
        s.sotkanet_region_id,
        s.year,
        s.gender,
        s.value,
        s.absolute_value
    FROM reference.sotkanet_social_assistance AS s
    LEFT JOIN reference.county AS c ON c.sotkanet_region_id = s.sotkanet_region_id
    LEFT JOIN reference.indicator_catalogue AS k ON k.sotkanet_id = s.indicator_id
    UNION ALL
    SELECT
        s.indicator_id,
        k.name_fi,
        k.unit,
        'municipality',
        CAST(NULL AS VARCHAR),
        s.sotkanet_region_id,
        s.year,
        s.gender,
        s.value,
        s.absolute_value
    FROM reference.sotkanet_home_care AS s
    LEFT JOIN reference.indicator_catalogue AS k ON k.sotkanet_id = s.indicator_id
    UNION ALL
    SELECT
        '127',
        'Väestö 31.12.',
        'persons',
        'municipality',
        municipality_code,
        CAST(NULL AS INT),
        year,
        'total',
        CAST(population AS DOUBLE),
        population
    FROM reference.population_municipality
)
SELECT
    v.indicator_id,
    v.indicator_fi,
    v.unit,
    v.area_level,
    v.area,
    v.sotkanet_region_id,
    v.year,
    v.gender,
    v.value,
    v.absolute_value
FROM value AS v
