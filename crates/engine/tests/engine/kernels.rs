//! Functions of the kernels as people write them in SQL: over partitions, with filters, in windows.

use tietopohja_engine::{Engine, Role};

use crate::fixture::{Warehouse, refused, session, shown};

/// Functions whose states and results must not depend on how the rows are split.
const GROUPED: &str = "\
    SELECT town, \
      encode(day_histogram_weighted(minutes, row_no % 3), 'hex') AS weighted, \
      encode(day_histogram(minutes) FILTER (WHERE row_no % 5 = 0), 'hex') AS filtered, \
      encode(day_histogram(CASE WHEN town > '010' THEN minutes END), 'hex') AS some_null, \
      encode(contributors(row_no % 40, minutes - 20), 'hex') AS givers, \
      contributors_largest(contributors(row_no % 40, minutes)) AS largest \
    FROM raw.visit GROUP BY town ORDER BY town";

#[tokio::test]
async fn states_do_not_depend_on_the_number_of_partitions() {
    let warehouse = Warehouse::with_visits().await;
    warehouse.land_visits(8, 202_401, 20_000).await;
    let mut answers = Vec::new();
    for partitions in [1, 2, 7] {
        let engine = Engine::open(warehouse.options().target_partitions(partitions))
            .await
            .unwrap();
        let admin = session(&engine, Role::Admin).await;
        answers.push(shown(&admin, GROUPED).await.unwrap());
    }
    assert!(answers[0].lines().count() > 17);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

/// A spell for each visit, of persons that have many: one in eleven is open, one in thirteen has no
/// person. Days of care by town and month, and the same counted day by day.
const SPELLS: &str = "\
    WITH spell AS (SELECT town, visit_on - CAST(row_no % 40 AS INT) AS first_day, \
        CASE WHEN row_no % 11 > 0 THEN visit_on + CAST(row_no % 7 AS INT) END AS last_day, \
        CASE WHEN row_no % 13 > 0 THEN decode(lpad(to_hex(minutes % 20), 32, '0'), 'hex') END AS pid, \
        row_no FROM raw.visit)";

const CARE_DAYS: &str = "counted AS (SELECT town, \
        unnest(care_days(pid, first_day, last_day, generate_series(DATE '2023-12-01', \
            DATE '2024-03-01', INTERVAL '1 month')) FILTER (WHERE row_no % 5 > 0)) AS m \
        FROM spell GROUP BY town) \
    SELECT town, m['period_start'] AS month, m['care_days'] AS days FROM counted \
    WHERE m['care_days'] > 0 ORDER BY town, month";

const DAY_BY_DAY: &str = "day AS (SELECT town, pid, unnest(generate_series(first_day, \
        coalesce(last_day, DATE '2024-02-29'), INTERVAL '1 day')) AS day \
        FROM spell WHERE row_no % 5 > 0 AND pid IS NOT NULL) \
    SELECT town, CAST(date_trunc('month', day) AS DATE) AS month, count(DISTINCT (pid, day)) AS days \
    FROM day WHERE day >= DATE '2023-12-01' AND day < DATE '2024-03-01' \
    GROUP BY town, date_trunc('month', day) ORDER BY town, month";

#[tokio::test]
async fn days_of_care_are_those_counted_one_by_one_with_any_number_of_partitions() {
    let warehouse = Warehouse::with_visits().await;
    warehouse.land_visits(8, 202_401, 3_000).await;
    for partitions in [1, 2, 7] {
        let engine = Engine::open(warehouse.options().target_partitions(partitions))
            .await
            .unwrap();
        let admin = session(&engine, Role::Admin).await;
        let days = shown(&admin, &format!("{SPELLS}, {CARE_DAYS}"))
            .await
            .unwrap();
        let counted = shown(&admin, &format!("{SPELLS}, {DAY_BY_DAY}"))
            .await
            .unwrap();
        assert!(days.lines().count() > 17 * 3, "{days}");
        assert_eq!(days, counted);
    }
}

#[tokio::test]
async fn days_of_care_of_nobody_are_null_and_grow_in_a_window() {
    check(
        "SELECT care_days(NULL, visit_on, NULL, [DATE '2024-01-01', DATE '2024-02-01']), \
           care_days(client_pid, visit_on, NULL, [DATE '2024-01-01', DATE '2024-02-01']) \
             FILTER (WHERE minutes < 0) \
         FROM raw.visit",
        " ",
    )
    .await;
    check(
        "SELECT min(n), max(n) FROM (SELECT care_days(decode(lpad('7', 32, '0'), 'hex'), \
             visit_on, visit_on, [DATE '2024-01-01', DATE '2024-02-01']) \
             OVER (ORDER BY row_no)[1]['care_days'] AS n FROM raw.visit) AS w",
        "1 31",
    )
    .await;
}

/// One row, told as its columns.
async fn check(sql: &str, expected: &str) {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let admin = session(&engine, Role::Admin).await;
    let table = shown(&admin, sql).await.unwrap();
    let row = table.lines().nth(3).unwrap_or_default();
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    assert_eq!(cells.join(" "), expected, "{sql}");
}

#[tokio::test]
async fn quantiles_agree_with_those_of_the_query_engine() {
    check(
        "WITH h AS (SELECT day_histogram(minutes) AS s, \
           percentile_cont(0.37) WITHIN GROUP (ORDER BY CAST(minutes AS DOUBLE)) AS p, \
           avg(minutes) AS a FROM raw.visit) \
         SELECT abs(histogram_quantile_linear(s, 0.37) - p) < 1e-4, \
           abs(histogram_mean(s) - a) < 1e-9, \
           histogram_share_over(s, 30) = histogram_count_over(s, 30) / CAST(histogram_count(s) AS DOUBLE) \
         FROM h",
        "true true true",
    )
    .await;
}

#[tokio::test]
async fn a_median_wait_counts_those_who_still_wait() {
    check(
        "WITH v AS (SELECT day_histogram(d) FILTER (WHERE ended) AS e, \
           day_histogram(d) FILTER (WHERE NOT ended) AS c \
           FROM (VALUES (2, true), (4, true), (6, false), (9, true), (9, false)) AS t(d, ended)) \
         SELECT histogram_quantile(e, 0.5), kaplan_meier_median(e, c), \
           kaplan_meier_survival(e, c, 4), kaplan_meier_quantile(e, c, 0.9), \
           kaplan_meier_reached(e, c, 0.9) FROM v",
        "4.0 9.0 0.6  0",
    )
    .await;
}

#[tokio::test]
async fn no_rows_give_a_state_and_no_number() {
    check(
        "SELECT histogram_count(day_histogram(minutes)), histogram_mean(day_histogram(minutes)), \
           contributors_count(contributors(row_no, minutes)), \
           contributors_largest(contributors(row_no, minutes)), \
           strata_events(strata(row_no, minutes, minutes, minutes)), \
           standardised_rate(strata(row_no, minutes, minutes, minutes), 1000) \
         FROM raw.visit WHERE town = 'none'",
        "0  0 0 0 ",
    )
    .await;
}

#[tokio::test]
async fn aggregates_run_in_windows_that_grow() {
    check(
        "SELECT max(n), max(l) FROM (SELECT \
           contributors_count(contributors(row_no % 4, minutes) OVER (ORDER BY row_no)) AS n, \
           contributors_largest(contributors(1, 10) OVER (ORDER BY row_no)) AS l \
           FROM raw.visit WHERE row_no < 12) AS w",
        "4 100",
    )
    .await;
}

/// Every aggregate that slides, over `t` below. States are told in full.
const SLIDING: [&str; 12] = [
    "sum_exact(x)",
    "person_set(p)",
    "person_set_union(p)",
    "distinct_persons(k)",
    "distinct_persons_state(k)",
    "distinct_persons_union(persons)",
    "day_histogram(k)",
    "day_histogram_weighted(k, n % 3)",
    "day_histogram_merge(days)",
    "contributors(k, n - 20)",
    "contributors_merge(givers)",
    "strata(n, coalesce(k, 0), n, 5)",
];

/// Rows with nulls, infinities, amounts that cancel out, and a state for each.
const T: &str = "\
    t AS (SELECT row_no AS n, minutes % 3 AS g, \
        CASE WHEN row_no % 10 > 0 THEN minutes % 7 END AS k, \
        CASE WHEN row_no % 11 > 0 THEN decode(lpad(to_hex(minutes % 5), 32, '0'), 'hex') END AS p, \
        CASE row_no % 9 WHEN 0 THEN NULL WHEN 1 THEN 1e300 WHEN 2 THEN -1e300 \
            WHEN 3 THEN CAST('Infinity' AS DOUBLE) ELSE row_no * 0.1 END AS x, \
        distinct_persons_state(minutes % 7) AS persons, day_histogram(minutes % 8) AS days, \
        contributors(minutes % 4, row_no - 20) AS givers \
        FROM raw.visit WHERE row_no < 42 GROUP BY row_no, minutes)";

#[tokio::test]
async fn a_frame_of_a_window_is_a_group_of_its_rows() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let admin = session(&engine, Role::Admin).await;
    // A window, and which rows `n` of `t` are in the frame of the row `at` of the group `own`.
    for (window, rows) in [
        ("PARTITION BY g", "g = own"),
        ("PARTITION BY g ORDER BY n", "g = own AND n <= at"),
        (
            "ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
            "n <= at",
        ),
        (
            "ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 3 PRECEDING",
            "n <= at - 3",
        ),
        (
            "ORDER BY n ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
            "n BETWEEN at - 2 AND at",
        ),
        (
            "ORDER BY n ROWS BETWEEN 4 PRECEDING AND 2 PRECEDING",
            "n BETWEEN at - 4 AND at - 2",
        ),
        (
            "ORDER BY n ROWS BETWEEN 1 PRECEDING AND 2 FOLLOWING",
            "n BETWEEN at - 1 AND at + 2",
        ),
        (
            "ORDER BY n ROWS BETWEEN 2 FOLLOWING AND 5 FOLLOWING",
            "n BETWEEN at + 2 AND at + 5",
        ),
        (
            "ORDER BY n ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
            "n >= at",
        ),
        (
            "ORDER BY n DESC ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
            "n BETWEEN at AND at + 2",
        ),
        (
            "PARTITION BY g ORDER BY n RANGE BETWEEN 6 PRECEDING AND 2 PRECEDING",
            "g = own AND n BETWEEN at - 6 AND at - 2",
        ),
    ] {
        // A frame without rows is a group of a row that nothing was joined to.
        for (filter, of_group) in [
            ("", "FILTER (WHERE n IS NOT NULL)"),
            ("FILTER (WHERE n % 4 > 0)", "FILTER (WHERE n % 4 > 0)"),
        ] {
            let columns = |filter: &str, over: &str| {
                let told = SLIDING.iter().zip(0..).map(|(call, column)| {
                    let result = format!("{call} {filter} {over}");
                    match *call {
                        "sum_exact(x)" | "distinct_persons(k)" => format!("{result} AS c{column}"),
                        _ => format!("encode({result}, 'hex') AS c{column}"),
                    }
                });
                told.collect::<Vec<_>>().join(", ")
            };
            let windowed = format!(
                "WITH {T} SELECT n AS at, {} FROM t ORDER BY at",
                columns(filter, &format!("OVER ({window})"))
            );
            let grouped = format!(
                "WITH {T} SELECT at, {} FROM (SELECT n AS at, g AS own FROM t) AS a \
                 LEFT JOIN t ON {rows} GROUP BY at ORDER BY at",
                columns(of_group, "")
            );
            let answer = shown(&admin, &windowed).await.unwrap();
            assert!(answer.lines().count() > 40, "{answer}");
            let expected = shown(&admin, &grouped).await.unwrap();
            assert_eq!(answer, expected, "{window} {filter}");
        }
    }
}

#[tokio::test]
async fn a_window_that_would_give_a_wrong_number_is_refused() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let admin = session(&engine, Role::Admin).await;
    const SLIDES: &str = "OVER (ORDER BY row_no ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)";
    // When it is planned: no row is there.
    for (call, message) in [
        (
            "care_days(client_pid, visit_on, NULL, [DATE '2024-01-01', DATE '2024-02-01'])",
            "care_days takes the frames of a window only from UNBOUNDED PRECEDING on: for a frame \
             that slides, join each row with the rows of its frame",
        ),
        (
            "person_days(visit_on, NULL, 1, [DATE '2024-01-01', DATE '2024-02-01'])",
            "person_days takes the frames of a window only from UNBOUNDED PRECEDING on",
        ),
        (
            "distinct_persons(DISTINCT minutes)",
            "distinct_persons does not take DISTINCT",
        ),
    ] {
        let sql = format!("SELECT {call} {SLIDES} FROM raw.visit WHERE minutes < 0");
        let error = refused(&admin, &sql).await;
        assert!(error.contains(message), "{sql}: {error}");
    }
    let twice = format!("SELECT strata(row_no % 2, 1, 1, 1) {SLIDES} FROM raw.visit");
    let error = refused(&admin, &twice).await;
    assert!(
        error.contains("a stratum comes twice in a group"),
        "{error}"
    );
    // Each goes out as it comes in again.
    let once = format!("SELECT strata(row_no % 3, 1, 1, 1) {SLIDES} AS s FROM raw.visit");
    let events = format!("SELECT max(strata_events(s)) FROM ({once}) AS w");
    let answer = shown(&admin, &events).await.unwrap();
    assert!(answer.contains("| 3 "), "{answer}");
}

/// Three bands in two areas: the events as many rows, the population as one row a band.
const STRATA: &str = "\
    WITH events AS (SELECT column1 AS band, sum(column2) AS n FROM \
        (VALUES (0, 4), (0, 6), (1, 40), (2, 45), (2, 45)) AS e GROUP BY column1), \
    residents AS (SELECT column1 AS band, column2 AS n, column3 AS w FROM \
        (VALUES (0, 50000, 50000), (1, 40000, 35000), (2, 10000, 15000)) AS p), \
    s AS (SELECT strata(r.band, coalesce(e.n, 0), r.n, r.w) AS s \
        FROM residents AS r LEFT JOIN events AS e ON e.band = r.band) ";

#[tokio::test]
async fn a_standardised_rate_takes_events_and_population_apart() {
    check(
        &format!(
            "{STRATA} SELECT round(standardised_rate(s, 100000), 9), \
             round(standardised_rate_lower(s, 100000, 0.95), 6), \
             round(standardised_rate_upper(s, 100000, 0.95), 6), strata_events(s) FROM s"
        ),
        "180.0 150.703931 213.217235 140",
    )
    .await;
}

#[tokio::test]
async fn what_would_give_a_wrong_number_is_refused() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let admin = session(&engine, Role::Admin).await;
    // What is wrong with a value is not told beyond that: the message could hold it.
    const ON_ROWS: &str = "the query failed on a row";
    for (sql, message) in [
        (
            // The population joined to every row of events.
            "SELECT strata(band, n, 50000, 1) FROM (VALUES (0, 4), (0, 6)) AS e(band, n)",
            "a stratum comes twice in a group",
        ),
        (
            "SELECT strata(band, n, 0, 1) FROM (VALUES (3, 4)) AS e(band, n)",
            "a stratum has no residents",
        ),
        (
            "SELECT strata(band, n, 5, NULL) FROM (VALUES (3, 4)) AS e(band, n)",
            "a stratum has no weight",
        ),
        (
            "SELECT day_histogram_weighted(minutes, -1) FROM raw.visit",
            "a weight is negative",
        ),
        (
            "SELECT contributors(minutes) FROM raw.visit",
            "argument types `contributors(Int64)`",
        ),
        (
            "SELECT contributors(town, minutes) FROM raw.visit",
            "argument types `contributors(Utf8, Int64)`",
        ),
        (
            "SELECT contributors(minutes - 500, 1) FROM raw.visit",
            ON_ROWS,
        ),
        (
            "SELECT histogram_mean(contributors(minutes, 1)) FROM raw.visit",
            ON_ROWS,
        ),
        (
            "SELECT care_days(decode(lpad('7', 32, '0'), 'hex'), visit_on, visit_on - 1, \
             [DATE '2024-01-01', DATE '2024-02-01']) FROM raw.visit",
            "care_days: a spell ends before it begins",
        ),
        (
            "SELECT care_days(town, visit_on, visit_on, [DATE '2024-01-01']) FROM raw.visit",
            "argument types `care_days(Utf8, Date32, Date32, List(Date32",
        ),
        (
            "SELECT care_days(client_pid, visit_on, visit_on) FROM raw.visit",
            "argument types `care_days(Binary, Date32, Date32)`",
        ),
    ] {
        let error = refused(&admin, sql).await;
        assert!(error.contains(message), "{sql}: {error}");
    }
}
