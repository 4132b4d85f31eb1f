//! Partitions, memory, time, parameters, cancellation.

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use tietopohja_engine::{Engine, EngineError, Role};

use crate::fixture::{Warehouse, refused, session, shown};

#[tokio::test]
async fn results_do_not_depend_on_the_number_of_partitions() {
    let warehouse = Warehouse::with_visits().await;
    warehouse.land_visits(8, 202_401, 20_000).await;
    let sql = "SELECT town, visit_on, count(*) AS n, sum(minutes) AS m, count(DISTINCT client_pid) AS p, \
               round(avg(minutes), 6) AS a FROM raw.visit GROUP BY town, visit_on ORDER BY town, visit_on";
    let mut answers = Vec::new();
    for partitions in [1, 2, 7] {
        let engine = Engine::open(warehouse.options().target_partitions(partitions))
            .await
            .unwrap();
        answers.push(
            shown(&session(&engine, Role::Admin).await, sql)
                .await
                .unwrap(),
        );
    }
    assert!(answers[0].lines().count() > 100);
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[tokio::test]
async fn many_small_files_give_the_rows_of_each() {
    let warehouse = Warehouse::with_visits().await;
    let months = 202_301..=202_312;
    for month in months.clone() {
        for county in [6, 8] {
            // Some months have a delivery without rows, which has no file.
            let rows = usize::try_from(month % 5).unwrap();
            warehouse.land_visits(county, month, rows).await;
        }
    }
    let engine = warehouse.engine().await;
    let admin = session(&engine, Role::Admin).await;
    let of = |filter: &str| {
        format!(
            "SELECT period, county, row_no, town, note, visit_on, client_pid FROM raw.visit \
             WHERE {filter} ORDER BY period, county, row_no"
        )
    };
    let rows = |shown: String| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let rows = shown.lines().filter(|line| line.contains(" 2023"));
        rows.map(words).collect()
    };
    // All files are many and small; those of a month are few and read one by one.
    let together = shown(&admin, &of("period BETWEEN 202301 AND 202312")).await;
    let mut apart = Vec::new();
    for month in months {
        let own = shown(&admin, &of(&format!("period = {month}"))).await;
        apart.extend(rows(own.unwrap()));
    }
    assert_eq!(
        apart.len(),
        2 * (1..=12).map(|month| (202_300 + month) % 5).sum::<usize>()
    );
    assert_eq!(rows(together.unwrap()), apart);
}

#[tokio::test]
async fn what_does_not_fit_in_memory_goes_to_disk() {
    let warehouse = Warehouse::with_visits().await;
    warehouse.land_visits(8, 202_401, 900_000).await;
    let mut options = warehouse.options().memory_bytes(40 << 20);
    options.spill_dir = Some(warehouse.folder.path().join("spill"));
    let engine = Engine::open(options).await.unwrap();
    let admin = session(&engine, Role::Admin).await;
    let sorted = "SELECT note, row_no, delivery_id, town FROM raw.visit ORDER BY note DESC, row_no";
    let spilled = shown(&admin, &format!("EXPLAIN ANALYZE {sorted}"))
        .await
        .unwrap();
    let counts = spilled
        .split("spill_count=")
        .skip(1)
        .filter_map(|rest| rest.split([',', ']', ' ']).next());
    assert!(
        counts.into_iter().any(|count| count != "0"),
        "nothing was spilled:\n{spilled}"
    );
    let rows: usize = admin
        .collect(sorted)
        .await
        .unwrap()
        .iter()
        .map(|batch| batch.num_rows())
        .sum();
    assert_eq!(rows, 902_000);
    let groups = "SELECT count(*) AS n FROM (SELECT note, row_no, max(minutes) AS m FROM raw.visit GROUP BY note, row_no) AS g";
    assert!(shown(&admin, groups).await.unwrap().contains("| 900000 |"));
}

#[tokio::test]
async fn a_join_without_an_equality_is_right_or_refused_when_memory_is_short() {
    let warehouse = Warehouse::with_visits().await;
    warehouse.land_visits(8, 202_401, 300_000).await;
    let sql = |join: &str, what: &str| {
        format!(
            "SELECT count(*) AS n, {what} FROM \
             (SELECT row_no, concat(max(note), repeat('.', 200)) AS note, max(minutes) AS m FROM raw.visit GROUP BY row_no) AS g \
             {join} (SELECT DISTINCT minutes + 1 AS low FROM raw.visit) AS p \
             ON g.m >= p.low AND g.m < p.low + 2"
        )
    };
    let pair = "max(g.note) AS note, sum(g.m) AS m, sum(p.low) AS low";
    let left = "max(g.note) AS note, sum(g.m) AS m";
    // Those that also give left rows alone are refused.
    for (join, what, is_refused) in [
        ("JOIN", pair, false),
        ("RIGHT JOIN", pair, false),
        ("LEFT JOIN", pair, true),
        ("LEFT SEMI JOIN", left, true),
        ("LEFT ANTI JOIN", left, true),
        ("FULL JOIN", pair, true),
    ] {
        let mut answers = Vec::new();
        for memory in [1 << 30, 60 << 20] {
            let options = warehouse.options().memory_bytes(memory);
            let mut options = options.target_partitions(3);
            options.spill_dir = Some(warehouse.folder.path().join("spill"));
            let engine = Engine::open(options).await.unwrap();
            let admin = session(&engine, Role::Admin).await;
            answers.push(shown(&admin, &sql(join, what)).await);
        }
        let [Ok(whole), short] = answers.as_slice() else {
            panic!("{join}: {answers:#?}");
        };
        match short {
            Ok(short) => assert!(!is_refused && short == whole, "{join}: {whole}\n{short}"),
            Err(EngineError::Resource { .. }) => assert!(is_refused, "{join}: {short:?}"),
            Err(_) => panic!("{join}: {short:?}"),
        }
    }
}

#[tokio::test]
async fn a_query_that_fits_nowhere_says_so() {
    let warehouse = Warehouse::with_visits().await;
    warehouse.land_visits(8, 202_401, 400_000).await;
    let engine = Engine::open(warehouse.options().memory_bytes(1))
        .await
        .unwrap();
    let admin = session(&engine, Role::Admin).await;
    let sql = "SELECT a.note, b.town, c.town FROM raw.visit a JOIN raw.visit b ON a.row_no = b.row_no JOIN raw.visit c ON c.note = b.note ORDER BY 1 LIMIT 1000000";
    let error = admin.collect(sql).await.unwrap_err();
    assert!(matches!(error, EngineError::Resource { .. }), "{error:?}");
    assert!(error.to_string().contains("memory"), "{error}");
    // The engine is still good for a query that fits.
    assert!(
        shown(&admin, "SELECT count(*) AS n FROM raw.visit")
            .await
            .unwrap()
            .contains("| 402000 |")
    );
}

#[tokio::test]
async fn a_statement_stops_at_its_time_limit() {
    let warehouse = Warehouse::with_visits().await;
    let mut options = warehouse.options();
    options.statement_timeout = Some(Duration::from_millis(300));
    let engine = Engine::open(options).await.unwrap();
    let reader = session(&engine, Role::Reader).await;
    for endless in [
        "SELECT sum(a.value * b.value % 7) FROM generate_series(1, 1000000) AS a CROSS JOIN generate_series(1, 10000000) AS b",
        "SELECT count(*) FROM generate_series(1, 100000) AS a JOIN generate_series(1, 10000000) AS b ON a.value < b.value",
        "SELECT count(*) FROM generate_series(1, 100000) AS a JOIN generate_series(1, 10000000) AS b ON a.value % 2 = b.value % 2",
        "SELECT count(*) FROM (SELECT unnest(range(1, 1000)) AS n FROM generate_series(1, 10000000)) AS a",
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "SELECT max(value) FROM generate_series(1, 1000000000000)",
    ] {
        let started = std::time::Instant::now();
        let error = reader.collect(endless).await.unwrap_err();
        assert!(
            matches!(error, EngineError::Timeout { .. }),
            "{endless}: {error:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(10), "{endless}");
    }
    assert!(
        shown(&reader, "SELECT 1 AS n")
            .await
            .unwrap()
            .contains("| 1 |")
    );
}

#[tokio::test]
async fn dropping_a_stream_stops_its_query() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let reader = session(&engine, Role::Reader).await;
    let mut stream = reader
        .query("SELECT value FROM generate_series(1, 1000000000000)")
        .await
        .unwrap();
    assert!(stream.next().await.unwrap().unwrap().num_rows() > 0);
    drop(stream);
    assert!(
        shown(&reader, "SELECT 1 AS n")
            .await
            .unwrap()
            .contains("| 1 |")
    );
}

#[tokio::test]
async fn a_statement_is_prepared_once_and_run_with_values() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let analyst = session(&engine, Role::Analyst).await;
    let prepared = analyst
        .prepare("SELECT count(*) AS n FROM staging.visit WHERE town = ? AND minutes < ? AND visit_on >= $3")
        .await
        .unwrap();
    let types: Vec<_> = prepared.parameters().to_vec();
    assert_eq!(
        types,
        [
            ("$1".to_owned(), DataType::Utf8),
            ("$2".to_owned(), DataType::Int64),
            ("$3".to_owned(), DataType::Date32)
        ]
    );
    let mut counts = Vec::new();
    for town in ["003", "004", "nowhere"] {
        let values = vec![
            ScalarValue::from(town),
            ScalarValue::Int32(Some(1_000)),
            ScalarValue::from("2000-01-01"),
        ];
        let batches: Vec<_> = analyst
            .execute(&prepared, values)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        counts.push(batches[0].column(0).as_primitive::<Int64Type>().value(0));
    }
    assert_eq!(counts, [118, 118, 0]);
    let error = analyst.execute(&prepared, vec![]).await.err().unwrap();
    assert!(error.to_string().contains("3 parameters"), "{error}");
}

#[tokio::test]
async fn results_have_plain_types() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let admin = session(&engine, Role::Admin).await;
    let sql = "SELECT delivery_id, client_pid, town || 'x' AS t, array_agg(town) AS towns FROM raw.visit GROUP BY 1, 2, 3 LIMIT 1";
    let prepared = admin.prepare(sql).await.unwrap();
    let batches: Vec<_> = admin
        .execute(&prepared, vec![])
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    for schema in [prepared.schema().clone(), batches[0].schema()] {
        assert!(!format!("{schema:?}").contains("View"), "{schema:?}");
    }
    assert_eq!(batches[0].schema().field(1).data_type(), &DataType::Binary);
}

#[tokio::test]
async fn mistakes_in_queries_are_told_plainly() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let analyst = session(&engine, Role::Analyst).await;
    for (sql, wanted) in [
        ("SELECT twon FROM staging.visit", "twon"),
        ("SELECT * FROM staging.vist", "`staging.vist` not found"),
        ("SELECT nofunction(1)", "nofunction"),
        ("SELECT FROM", "could not be read"),
        ("SELECT town, count(*) FROM staging.visit", "town"),
        ("SELECT sum(town) FROM staging.visit", "sum"),
        (
            "SELECT care_days(arrow_cast('0123456789abcdef', 'Binary'), DATE '2024-02-02', \
             DATE '2024-02-01', [DATE '2024-01-01', DATE '2025-01-01'])",
            "care_days: a spell ends before it begins; leave such spells out with FILTER",
        ),
        (
            "SELECT person_days(DATE '2024-02-02', DATE '2024-02-01', 1, \
             [DATE '2024-01-01', DATE '2025-01-01'])",
            "person_days: a spell ends before it begins",
        ),
        (
            "SELECT day_histogram_weighted(3, -1)",
            "day_histogram_weighted: a weight is negative",
        ),
        (
            "SELECT standardised_rate(strata(1, 5, 0, 10), 1000)",
            "a stratum has no residents: join it with another band",
        ),
    ] {
        let told = refused(&analyst, sql).await;
        assert!(told.contains(wanted), "{sql}: {told}");
        assert!(
            !told.contains("DataFusion") && !told.contains('\n') && !told.ends_with('.'),
            "{sql}: {told}"
        );
    }
}

#[tokio::test]
async fn one_call_cannot_ask_for_all_the_memory_of_the_machine() {
    let warehouse = Warehouse::with_visits().await;
    let engine = warehouse.engine().await;
    let admin = session(&engine, Role::Admin).await;
    for sql in [
        "SELECT range(1, 1000000000000)",
        "SELECT cardinality(generate_series(1, 9223372036854775807, 3))",
        "SELECT generate_series(TIMESTAMP '2000-01-01', TIMESTAMP '2024-01-01', INTERVAL '1 nanosecond')",
        "SELECT length(repeat('abc', 1000000000000))",
        "SELECT repeat(note, 1000000) FROM raw.visit",
        "SELECT lpad('x', 2000000000, 'y')",
        "SELECT rpad(note, 1000000, 'y') FROM raw.visit",
        "SELECT array_repeat(1, 10000000000)",
        "SELECT list_repeat(1, 10000000000)",
        "SELECT replace(repeat('x', 1000000), 'x', repeat('y', 1000000))",
        "SELECT regexp_replace(repeat('x', 100000), 'x', repeat('y', 100000), 'g')",
        "SELECT unnest(range(1, 10000000)) FROM raw.visit",
        "SELECT note, repeat('x', 1000000) FROM raw.visit",
        "SELECT count(*) FROM raw.visit WHERE cardinality(array_remove(range(1, 1000000), row_no)) > 1",
        "SELECT unnest(generate_series(TIMESTAMP '1990-01-01', TIMESTAMP '2090-01-01', INTERVAL '1 day')) FROM raw.visit",
    ] {
        let error = admin.collect(sql).await.unwrap_err();
        assert!(
            matches!(error, EngineError::Resource { .. }),
            "{sql}: {error:?}"
        );
    }
    for (sql, wanted) in [
        ("SELECT cardinality(range(0, 1000000)) AS n", "| 1000000 |"),
        (
            "SELECT cardinality(generate_series(DATE '2018-01-01', DATE '2030-12-31', INTERVAL '1 month')) AS n",
            "| 156 |",
        ),
        ("SELECT lpad('7', 2, '0') AS n", "| 07 |"),
        ("SELECT repeat('ab', 3) AS n", "| ababab |"),
        ("SELECT replace('a-b', '-', '+') AS n", "| a+b |"),
        (
            "SELECT regexp_replace('a1b2', '[0-9]', '#', 'g') AS n",
            "| a#b# |",
        ),
        (
            "SELECT max(length(lpad(note, 10, '0'))) AS n FROM raw.visit",
            "| 10 |",
        ),
        ("SELECT array_repeat(1, 3) AS n", "| [1, 1, 1] |"),
        (
            "SELECT count(*) AS n FROM (SELECT unnest(range(0, row_no)) FROM raw.visit)",
            "| 2003000 |",
        ),
        (
            "SELECT count(*) AS n FROM (SELECT unnest(range(0, 1000000)))",
            "| 1000000 |",
        ),
        (
            "SELECT min(row_no) AS n FROM raw.visit WHERE array_has(range(3, 1000), row_no)",
            "| 3 |",
        ),
    ] {
        let text = shown(&admin, sql).await.unwrap();
        assert!(text.contains(wanted), "{sql}: {text}");
    }
}
