-- grain: one row per year and sector of the need model
-- key: year, sector
SELECT
    year,
    CASE sector_fi
        WHEN 'Terveydenhuolto' THEN 'health'
        WHEN 'Sosiaalihuolto' THEN 'social'
        WHEN 'Vanhustenhuolto' THEN 'elderly'
    END AS sector,
    sector_fi,
    weight
FROM reference.need_sector_weight_fi
