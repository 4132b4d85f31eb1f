-- grain: one row per service provider
-- key: county_code, provider_business_id
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column municipality_code: home municipality, as the source has it
-- column provider_business_id: business id of the provider
-- A code is read as valid on the first day of the spell that the delivery covers.
SELECT
    s.county_code,
    s.delivery_id,
    s.provider_business_id,
    s.name,
    coalesce(sector.maps_to, 'unknown') AS sector,
    s.municipality_code,
    s.valid_from,
    s.valid_to
FROM staging.provider AS s
LEFT JOIN reference.code AS sector
    ON sector.list = 'county.provider_sector'
    AND sector.code = s.sector
    AND (sector.valid_from IS NULL OR sector.valid_from <= greatest(s.valid_from, s.delivered_from))
    AND (sector.valid_to IS NULL OR greatest(s.valid_from, s.delivered_from) < sector.valid_to)
