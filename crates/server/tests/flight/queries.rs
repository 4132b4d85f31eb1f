//! Plain queries: what comes out, and what goes wrong.

use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, TimeUnit};
use tietopohja_policy::Role;
use tonic::Code;

use crate::warehouse::{Server, clock, engine_with, fetch, query, status};

#[tokio::test]
async fn queries_answer() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let cases: [(&str, &[&str]); 9] = [
        ("SELECT 1 AS one", &["one", "1"]),
        (
            "SELECT count(*) AS n, sum(n) AS s FROM reference.number",
            &["n|s", "100000|4999950000"],
        ),
        (
            "SELECT r, count(*) AS n FROM reference.number GROUP BY r ORDER BY r LIMIT 2",
            &["r|n", "0|14286", "1|14286"],
        ),
        (
            "SELECT text FROM reference.kind ORDER BY id",
            &["text", "Äänekoski", ""],
        ),
        (
            "SELECT 1 AS n UNION ALL SELECT 1.5 ORDER BY n",
            &["n", "1.0", "1.5"],
        ),
        (
            "VALUES (1, 'a'), (2, 'b')",
            &["column1|column2", "1|a", "2|b"],
        ),
        (
            "SELECT n FROM reference.number ORDER BY n LIMIT 2 OFFSET 99998",
            &["n", "99998", "99999"],
        ),
        (
            "SELECT CAST(TIMESTAMP '2024-03-31 03:30:00' AS DATE) AS d, \
             extract(hour FROM TIMESTAMP '2024-03-31 03:30:00') AS h",
            &["d|h", "2024-03-31|3"],
        ),
        ("SELECT n FROM reference.nothing", &["n"]),
    ];
    for (sql, wanted) in cases {
        let answer = query(&mut client, sql).await.unwrap();
        let text = answer.text();
        match wanted.len() {
            1 => assert_eq!(answer.rows(), 0, "{sql}"),
            _ => assert_eq!(text, wanted, "{sql}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_did_not_sign_in_is_a_reader_too() {
    let server = Server::start().await;
    let answer = query(&mut server.client().await, "SELECT 1 AS one")
        .await
        .unwrap();
    assert_eq!(answer.text(), ["one", "1"]);
}

#[tokio::test]
async fn rows_leave_in_the_types_of_the_wire() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let answer = query(&mut client, "SELECT * FROM reference.kind ORDER BY id")
        .await
        .unwrap();
    let types: Vec<_> = answer
        .schema
        .fields()
        .iter()
        .map(|field| {
            assert!(field.is_nullable(), "{field}");
            assert!(field.metadata().is_empty(), "{field}");
            (field.name().as_str(), field.data_type().clone())
        })
        .collect();
    assert_eq!(
        types,
        [
            ("id", DataType::Int64),
            ("text", DataType::Utf8),
            ("text_view", DataType::Utf8),
            ("coded", DataType::Utf8),
            ("bytes", DataType::Binary),
            ("amount", DataType::Decimal128(14, 2)),
            ("small", DataType::Decimal128(5, 2)),
            ("day", DataType::Date32),
            ("moment", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("zoned", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("flag", DataType::Boolean),
            ("ratio", DataType::Float64),
            ("list", DataType::new_list(DataType::Int64, true)),
        ]
    );
    assert_eq!(
        answer.text()[1],
        "1|Äänekoski|view|coded|00ff|12345.67|1.25|2024-02-29|2024-03-31T02:59:59.123456|\
         2024-03-30T22:59:59|true|1.5|[1, 2]"
    );
}

#[tokio::test]
async fn mistakes_have_their_codes_and_say_what_to_do() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let cases = [
        ("SELEC 1", Code::InvalidArgument, "SELEC"),
        ("", Code::InvalidArgument, "statement"),
        ("SELECT 1; SELECT 2", Code::InvalidArgument, "several"),
        (
            "SELECT * FROM reference.missing",
            Code::InvalidArgument,
            "missing",
        ),
        (
            "SELECT missing FROM reference.number",
            Code::InvalidArgument,
            "missing",
        ),
        (
            "SELECT * FROM conformed.secret",
            Code::InvalidArgument,
            "secret",
        ),
        (
            "DROP TABLE reference.number",
            Code::InvalidArgument,
            "not allowed",
        ),
        (
            "INSERT INTO reference.number VALUES (1, 1)",
            Code::InvalidArgument,
            "not allowed",
        ),
        (
            "COPY (SELECT 1) TO 'x.csv'",
            Code::InvalidArgument,
            "not allowed",
        ),
        (
            "SET datafusion.execution.batch_size = 1",
            Code::InvalidArgument,
            "not allowed",
        ),
        ("SELECT $1 + 1", Code::InvalidArgument, "bind values"),
        (
            "SELECT 1 / (n - n) FROM reference.number",
            Code::InvalidArgument,
            "division by zero",
        ),
        (
            "SELECT CAST(text AS INT) FROM reference.kind",
            Code::InvalidArgument,
            "TRY_CAST",
        ),
        (
            "EXPLAIN ANALYZE SELECT 1",
            Code::PermissionDenied,
            "EXPLAIN",
        ),
    ];
    for (sql, code, says) in cases {
        let error = query(&mut client, sql).await.unwrap_err();
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(error.message().contains(says), "{sql}: {}", error.message());
        assert!(
            !error.message().contains("Äänekoski"),
            "no row values: {}",
            error.message()
        );
    }
    assert!(
        query(&mut client, "SELECT 1").await.is_ok(),
        "the connection survives"
    );
}

#[tokio::test]
async fn a_query_beyond_its_limits_says_which_limit() {
    let clock = clock();
    let (_folder, engine) = engine_with(clock.clone(), |options| {
        options.memory_bytes = 16 << 20;
        options.statement_timeout = Some(Duration::from_secs(1));
    })
    .await;
    let server = Server::on(engine, clock, |_| ()).await.unwrap();
    let mut client = server.guest().await;
    let cases = [
        (
            "SELECT array_agg(repeat('x', 1000)) AS a FROM reference.number",
            Code::ResourceExhausted,
            "memory",
        ),
        (
            "SELECT count(*) AS c FROM generate_series(1, 1000000000000) WHERE value % 7 = 3",
            Code::DeadlineExceeded,
            "longest",
        ),
    ];
    for (sql, code, says) in cases {
        let error = query(&mut client, sql).await.unwrap_err();
        assert_eq!(error.code(), code, "{sql}: {error}");
        assert!(error.message().contains(says), "{sql}: {}", error.message());
    }
    assert_eq!(
        query(&mut client, "SELECT 1 AS one").await.unwrap().text(),
        ["one", "1"]
    );
}

#[tokio::test]
async fn the_role_of_the_visitor_decides_what_exists() {
    let server = Server::start().await;
    let analyst = server.sibling(Role::Analyst).await;
    let count = "SELECT count(*) AS n FROM conformed.secret";
    let mut reader = server.guest().await;
    let hidden = query(&mut reader, count).await.unwrap_err();
    let absent = query(&mut reader, &count.replace("secret", "absent"))
        .await
        .unwrap_err();
    assert_eq!(
        hidden.message().replace("secret", "absent"),
        absent.message(),
        "hidden and absent look the same"
    );
    let answer = query(&mut analyst.guest().await, count).await.unwrap();
    assert_eq!(answer.text(), ["n", "100000"]);
}

#[tokio::test]
async fn a_long_error_fits_in_a_header() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let columns: Vec<_> = (0..500).map(|n| format!("väärä_nimi_{n}")).collect();
    for sql in [
        format!("SELECT {} FROM reference.number", columns.join(" + ")),
        format!("SELECT * FROM \"{}\"", "ä".repeat(50_000)),
    ] {
        let error = query(&mut client, &sql).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().len() < 3000, "{}", error.message().len());
    }
    assert!(
        query(&mut client, "SELECT 1").await.is_ok(),
        "the connection survives"
    );
}

#[tokio::test]
async fn a_statement_too_deep_to_plan_does_not_end_the_server() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    for sql in [
        format!("SELECT {} AS s", ["1"; 50_000].join(" + ")),
        format!(
            "SELECT n FROM reference.number WHERE {}",
            ["n = 1"; 20_000].join(" OR ")
        ),
        ["SELECT 1 AS n"; 5_000].join(" UNION ALL "),
        format!(
            "SELECT 1 FROM reference.a_b {}",
            ["CROSS JOIN reference.a_b"; 5_000].join(" ")
        ),
        format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
    ] {
        let error = query(&mut client, &sql).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
    let list: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
    let sql = format!(
        "SELECT count(*) AS c FROM reference.number WHERE n IN ({})",
        list.join(",")
    );
    assert_eq!(
        query(&mut client, &sql).await.unwrap().text(),
        ["c", "20000"]
    );
}

#[tokio::test]
async fn a_large_result_travels_in_messages_that_every_client_takes() {
    // The client's own limit is 4 MB a message, which is the usual one.
    let server = Server::start().await;
    let mut client = server.guest().await;
    let sql = "SELECT n, repeat('x', 300) AS t FROM reference.number";
    let answer = query(&mut client, sql).await.unwrap();
    assert_eq!(answer.rows(), 100_000);
    let sql = "SELECT repeat('x', 2999999 + value) AS t FROM generate_series(1, 5)";
    assert_eq!(query(&mut client, sql).await.unwrap().rows(), 5);
    let sql = "SELECT array_agg(n) AS l FROM reference.number GROUP BY r";
    assert_eq!(query(&mut client, sql).await.unwrap().rows(), 7);
}

#[tokio::test]
async fn rows_come_before_the_query_is_done() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    // A result that would take hours: the first batch must not wait for the last.
    let sql = "SELECT value FROM generate_series(1, 1000000000000)";
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let started = Instant::now();
    let mut stream = client.do_get(ticket).await.unwrap();
    let first = futures::TryStreamExt::try_next(&mut stream)
        .await
        .map_err(status)
        .unwrap();
    assert!(first.unwrap().num_rows() > 0);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn many_clients_get_their_own_answers() {
    let server = Server::start().await;
    let mut waiting = Vec::new();
    for number in 0..16 {
        let mut client = server.guest().await;
        waiting.push(tokio::spawn(async move {
            for step in 0..5 {
                let wanted = number * 1000 + step;
                let sql = format!("SELECT n FROM reference.number WHERE n = {wanted}");
                let answer = query(&mut client, &sql).await.unwrap();
                assert_eq!(answer.text(), ["n".to_owned(), wanted.to_string()]);
            }
        }));
    }
    for client in waiting {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_ticket_can_be_redeemed_again() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let info = client
        .execute("SELECT 7 AS seven".to_owned(), None)
        .await
        .unwrap();
    for _ in 0..2 {
        assert_eq!(
            fetch(&mut client, &info).await.unwrap().text(),
            ["seven", "7"]
        );
    }
}
