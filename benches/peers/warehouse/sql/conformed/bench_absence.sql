-- grain: one row per absence within a month
-- key: county_code, absence_no
-- stored: started_on, unit_code
SELECT
    s.county_code,
    s.period,
    s.delivery_id,
    s.absence_no,
    s.unit_code,
    coalesce(class.maps_to, 'unknown') AS absence_class,
    s.started_on,
    s.ended_on,
    s.ended_on - s.started_on + 1 AS absence_days
FROM staging.bench_absence AS s
LEFT JOIN reference.code AS class
    ON class.list = 'county.absence_class'
    AND class.code = s.absence_class
    AND (class.valid_from IS NULL OR class.valid_from <= s.started_on)
    AND (class.valid_to IS NULL OR s.started_on < class.valid_to)
