-- grain: one row per clinic
-- key: clinic
SELECT * FROM (VALUES
    (1, 'Keskusta', 'HYV-01', DATE '1999-12-31', 100.5),
    (2, 'Äänekoski', 'HYV-01', DATE '2008-02-29', NULL),
    (3, 'Itä_Suomi', 'HYV-02', NULL, 0.0),
    (4, 'Länsi', NULL, DATE '2023-01-01', -1.25)
) AS clinic (clinic, name, county, opened, size)
