-- grain: one row per home-care client and month with a realised visit
-- key: county_code, person_pid, month_start
-- references: county_code -> reference.county(county_code)
-- references: delivery_id -> meta.delivery(delivery_id)
-- references: month_start -> reference.calendar(date)
-- column county_code: the organiser
-- column delivery_id: the delivery that brought the row
-- column person_pid: pseudonym of the person
-- column birth_date: day of birth
-- column sex: sex in the identity code
-- column municipality_code: home municipality, as the source has it
-- column month_start: first day of the month
-- column visits: realised visits
-- column regular: at least four visits in the month
-- A client with at least four visits in the month is a regular one. The home
-- municipality is that of the month's last visit: the day number before the code
-- lets one maximum find it.
WITH client_month AS (
    SELECT
        county_code,
        person_pid,
        CAST(date_trunc('month', visit_on) AS DATE) AS month_start,
        max(delivery_id) AS delivery_id,
        max(birth_date) AS birth_date,
        max(sex) AS sex,
        max(CAST(CAST(visit_on AS INT) AS VARCHAR) || municipality_code) AS last_municipality,
        count(*) AS visits
    FROM staging.homecare_visit
    WHERE realised
    GROUP BY county_code, person_pid, date_trunc('month', visit_on)
)
SELECT
    county_code,
    delivery_id,
    person_pid,
    birth_date,
    sex,
    right(last_municipality, 3) AS municipality_code,
    month_start,
    visits,
    visits >= 4 AS regular
FROM client_month
