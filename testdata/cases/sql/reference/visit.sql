-- grain: one row per visit
-- key: visit
-- references: clinic -> reference.clinic(clinic)
SELECT
    visit,
    clinic,
    person,
    day,
    arrow_cast(moment, 'Timestamp(Microsecond, None)') AS moment,
    CAST(cost AS DECIMAL(12, 2)) AS cost,
    CAST(weight AS DOUBLE) AS weight,
    note,
    urgent
FROM (VALUES
    (1, 1, 11, DATE '2024-01-01', TIMESTAMP '2024-01-01 00:00:00', 10.00, 0.1, 'ensikäynti', TRUE),
    (2, 1, 11, DATE '2024-01-31', TIMESTAMP '2024-01-31 23:59:59.999999', 20.50, 0.2, 'kontrolli', FALSE),
    (3, 1, 12, DATE '2024-02-29', TIMESTAMP '2024-02-29 12:30:00', 0.05, 0.3, '', FALSE),
    (4, 1, 13, DATE '2024-03-31', TIMESTAMP '2024-03-31 02:59:59', 9999999999.99, NULL, NULL, TRUE),
    (5, 2, 11, DATE '2024-03-31', TIMESTAMP '2024-03-31 03:00:00', -3.33, 1e10, '100%', NULL),
    (6, 2, 14, DATE '2024-03-31', TIMESTAMP '2024-03-31 04:00:00', 3.33, -0.0, 'a_b', FALSE),
    (7, 2, 15, DATE '2024-10-27', TIMESTAMP '2024-10-27 03:30:00', NULL, 2.5, 'a\b', TRUE),
    (8, 3, 15, DATE '2024-10-27', TIMESTAMP '2024-10-27 03:30:00', 7.77, 2.5, 'ÄITI', FALSE),
    (9, 3, NULL, NULL, NULL, 0.00, 1e-5, 'äiti', TRUE),
    (10, NULL, 16, DATE '2024-12-31', TIMESTAMP '2024-12-31 23:59:59', 1.00, 1.0, 'väli lyönti', FALSE),
    (11, NULL, 16, DATE '2025-01-01', TIMESTAMP '2025-01-01 00:00:00', 1.00, 1.0, '🦌', NULL),
    (12, 9, 17, DATE '1969-12-31', TIMESTAMP '1969-12-31 23:59:59.5', 1.01, 7.0, 'vanha', FALSE)
) AS visit (visit, clinic, person, day, moment, cost, weight, note, urgent)
