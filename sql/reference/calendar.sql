-- grain: one row per day, 2015-2035
-- key: date
-- materialise: yes
-- Finnish public holidays. Easter follows the Gregorian computus; the days tied
-- to it, and the floating Saturdays of Midsummer and All Saints, follow from it
-- and from the weekday. Midsummer Eve and Christmas Eve are not public holidays:
-- `reference.calendar_eve` says whether the warehouse counts them as working days.
-- `working_day_no` counts working days from the first day of the calendar, so
-- that the difference of two days is the number of working days after the first
-- one, up to and including the second.
WITH year AS (
    SELECT value AS y FROM generate_series(2015, 2035)
),
moon AS (
    SELECT
        y,
        y % 19 AS cycle,
        (19 * (y % 19) + y / 100 - y / 400 - (y / 100 - (y / 100 + 8) / 25 + 1) / 3 + 15) % 30 AS epact
    FROM year
),
sunday AS (
    SELECT
        y,
        cycle,
        epact,
        (32 + 2 * ((y / 100) % 4) + 2 * ((y % 100) / 4) - epact - (y % 100) % 4) % 7 AS shift
    FROM moon
),
offset_from_march AS (
    SELECT y, epact + shift - 7 * ((cycle + 11 * epact + 22 * shift) / 451) + 114 AS n FROM sunday
),
easter AS (
    SELECT y, make_date(y, n / 31, n % 31 + 1) AS easter_sunday FROM offset_from_march
),
floating AS (
    -- Days to the next Saturday, counted from the first day the holiday can fall on.
    SELECT
        y,
        make_date(y, 6, 20) + (6 - date_part('dow', make_date(y, 6, 20))) AS midsummer_day,
        make_date(y, 10, 31) + (6 - date_part('dow', make_date(y, 10, 31))) AS all_saints_day
    FROM year
),
holiday AS (
    SELECT make_date(y, 1, 1) AS date, 'Uudenvuodenpäivä' AS holiday_name, 0 AS is_working_day FROM year
    UNION ALL SELECT make_date(y, 1, 6), 'Loppiainen', 0 FROM year
    UNION ALL SELECT easter_sunday - 2, 'Pitkäperjantai', 0 FROM easter
    UNION ALL SELECT easter_sunday, 'Pääsiäispäivä', 0 FROM easter
    UNION ALL SELECT easter_sunday + 1, 'Toinen pääsiäispäivä', 0 FROM easter
    UNION ALL SELECT make_date(y, 5, 1), 'Vappu', 0 FROM year
    UNION ALL SELECT easter_sunday + 39, 'Helatorstai', 0 FROM easter
    UNION ALL SELECT easter_sunday + 49, 'Helluntaipäivä', 0 FROM easter
    UNION ALL SELECT midsummer_day - 1, e.name_fi, e.is_working_day
        FROM floating CROSS JOIN reference.calendar_eve AS e WHERE e.day = 'midsummer_eve'
    UNION ALL SELECT midsummer_day, 'Juhannuspäivä', 0 FROM floating
    UNION ALL SELECT all_saints_day, 'Pyhäinpäivä', 0 FROM floating
    UNION ALL SELECT make_date(y, 12, 6), 'Itsenäisyyspäivä', 0 FROM year
    UNION ALL SELECT make_date(y, 12, 24), e.name_fi, e.is_working_day
        FROM year CROSS JOIN reference.calendar_eve AS e WHERE e.day = 'christmas_eve'
    UNION ALL SELECT make_date(y, 12, 25), 'Joulupäivä', 0 FROM year
    UNION ALL SELECT make_date(y, 12, 26), 'Tapaninpäivä', 0 FROM year
),
named AS (
    -- Ascension Day can fall on the first of May: one row a day, both names.
    SELECT
        date,
        CAST(string_agg(holiday_name, ', ' ORDER BY holiday_name) AS VARCHAR) AS holiday_name,
        min(is_working_day) AS is_working_day
    FROM holiday
    GROUP BY date
),
day AS (
    SELECT CAST(value AS DATE) AS date
    FROM generate_series(TIMESTAMP '2015-01-01', TIMESTAMP '2035-12-31', INTERVAL '1' DAY)
),
marked AS (
    SELECT
        d.date,
        date_part('isodow', d.date) <= 5 AND coalesce(n.is_working_day, 1) = 1 AS is_working_day,
        n.holiday_name
    FROM day AS d
    LEFT JOIN named AS n ON n.date = d.date
)
SELECT
    date,
    is_working_day,
    CAST(sum(CASE WHEN is_working_day THEN 1 ELSE 0 END) OVER (ORDER BY date) AS INT) AS working_day_no,
    holiday_name
FROM marked
ORDER BY date
