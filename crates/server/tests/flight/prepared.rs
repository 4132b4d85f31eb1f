//! Prepared statements and their parameters.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Decimal32Array, Float64Array, Int32Array, Int64Array, NullArray,
    RecordBatch, RecordBatchOptions, StringArray, StringViewArray, UnionArray,
};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType, Field, Schema, UnionFields};
use arrow_flight::sql::client::PreparedStatement;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::warehouse::{Answer, Client, Server, fetch, query, schema_of, status};

async fn prepare(client: &mut Client, sql: &str) -> Result<PreparedStatement<Channel>, Status> {
    client.prepare(sql.to_owned(), None).await.map_err(status)
}

/// Columns as parameters. Their names say nothing.
fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields: Vec<_> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| Field::new((10 - at).to_string(), column.data_type().clone(), true))
        .collect();
    let rows = columns.first().map_or(1, |column| column.len());
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).unwrap()
}

async fn run(client: &mut Client, sql: &str, columns: Vec<ArrayRef>) -> Result<Answer, Status> {
    let mut statement = prepare(client, sql).await?;
    statement.set_parameters(batch(columns)).unwrap();
    let info = statement.execute().await.map_err(status)?;
    fetch(client, &info).await
}

fn int(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn text(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn int_or_text() -> ArrayRef {
    let fields = UnionFields::from_fields(vec![
        Field::new("i", DataType::Int64, true),
        Field::new("t", DataType::Utf8, true),
    ]);
    let ids = ScalarBuffer::from(vec![1_i8]);
    let offsets = Some(ScalarBuffer::from(vec![0_i32]));
    Arc::new(
        UnionArray::try_new(fields, ids, offsets, vec![int(&[]), text(&["Äänekoski"])]).unwrap(),
    )
}

#[tokio::test]
async fn values_are_bound_by_their_place() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let cases: Vec<(&str, Vec<ArrayRef>, &[&str])> = vec![
        (
            "SELECT n FROM reference.number WHERE n = ?",
            vec![int(&[42])],
            &["n", "42"],
        ),
        (
            "SELECT n FROM reference.number WHERE n = $1",
            vec![int(&[42])],
            &["n", "42"],
        ),
        (
            "SELECT n FROM reference.number WHERE n > ? AND n < ? ORDER BY n",
            vec![int(&[3]), int(&[6])],
            &["n", "4", "5"],
        ),
        (
            "SELECT n FROM reference.number WHERE n < $2 AND n > $1 ORDER BY n",
            vec![int(&[3]), int(&[6])],
            &["n", "4", "5"],
        ),
        (
            "SELECT id FROM reference.kind WHERE text = ?",
            vec![text(&["Äänekoski"])],
            &["id", "1"],
        ),
        (
            "SELECT id FROM reference.kind WHERE text = ?",
            vec![int_or_text()],
            &["id", "1"],
        ),
        (
            "SELECT id FROM reference.kind WHERE text = ?",
            vec![Arc::new(StringViewArray::from(vec!["Äänekoski"]))],
            &["id", "1"],
        ),
        (
            "SELECT id FROM reference.kind WHERE amount = ?",
            vec![Arc::new(Float64Array::from(vec![12345.67]))],
            &["id", "1"],
        ),
        (
            "SELECT id FROM reference.kind WHERE small = ?",
            vec![Arc::new(
                Decimal32Array::from(vec![125])
                    .with_precision_and_scale(5, 2)
                    .unwrap(),
            )],
            &["id", "1"],
        ),
        (
            "SELECT id FROM reference.kind WHERE day = ?",
            vec![Arc::new(Date32Array::from(vec![19_782]))],
            &["id", "1"],
        ),
        (
            "SELECT id FROM reference.kind WHERE day = ?",
            vec![text(&["2024-02-29"])],
            &["id", "1"],
        ),
        (
            "SELECT count(*) AS c FROM reference.number WHERE n = ?",
            vec![Arc::new(Float64Array::from(vec![2.5]))],
            &["c", "0"],
        ),
        (
            "SELECT count(*) AS c FROM reference.number WHERE n = ?",
            vec![Arc::new(NullArray::new(1))],
            &["c", "0"],
        ),
        (
            "SELECT n FROM reference.number ORDER BY n LIMIT ?",
            vec![Arc::new(Int32Array::from(vec![2]))],
            &["n", "0", "1"],
        ),
        (
            "SELECT ? AS a, ? AS b",
            vec![int(&[1]), text(&["x"])],
            &["a|b", "1|x"],
        ),
        ("SELECT ? + 1 AS a", vec![int(&[1])], &["a", "2"]),
        (
            "SELECT $2 || $1 AS a",
            vec![text(&["b"]), text(&["a"])],
            &["a", "ab"],
        ),
        (
            "SELECT ? || ? AS a",
            vec![text(&["a"]), int(&[1])],
            &["a", "a1"],
        ),
        (
            "SELECT ? + ? AS a",
            vec![int(&[1]), Arc::new(Float64Array::from(vec![0.5]))],
            &["a", "1.5"],
        ),
        ("SELECT upper(?) AS a", vec![text(&["ä"])], &["a", "Ä"]),
        ("SELECT abs(?) AS a", vec![int(&[-3])], &["a", "3"]),
        ("SELECT '?' AS a, ? AS b", vec![int(&[1])], &["a|b", "?|1"]),
        (
            "SELECT ? AS a",
            vec![int(&[3, 4, 5])],
            &["a", "3", "4", "5"],
        ),
        (
            "SELECT count(*) AS c FROM reference.number WHERE r = ?",
            vec![int(&[0, 1])],
            &["c", "14286", "14286"],
        ),
        ("SELECT 5 AS five", vec![], &["five", "5"]),
    ];
    for (sql, columns, wanted) in cases {
        let label = format!("{sql} with {columns:?}");
        let answer = run(&mut client, sql, columns)
            .await
            .unwrap_or_else(|e| panic!("{label}: {e}"));
        assert_eq!(answer.text(), wanted, "{label}");
    }
}

#[tokio::test]
async fn no_rows_of_values_give_no_rows() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let sql = "SELECT n FROM reference.number WHERE n = ?";
    let answer = run(&mut client, sql, vec![int(&[])]).await.unwrap();
    assert_eq!(answer.rows(), 0);
    assert_eq!(answer.schema.field(0).data_type(), &DataType::Int64);
}

#[tokio::test]
async fn wrong_bindings_are_refused_before_anything_runs() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let one = "SELECT n FROM reference.number WHERE n = ?";
    let cases: Vec<(&str, Vec<ArrayRef>, &str)> = vec![
        (
            one,
            vec![int(&[1]), int(&[2])],
            "1 parameters, and 2 values",
        ),
        (one, vec![], "1 parameters, and 0 values"),
        ("SELECT 1", vec![int(&[1])], "0 parameters, and 1 values"),
        (
            "SELECT id FROM reference.kind WHERE day = ?",
            vec![text(&["soon"])],
            "Date",
        ),
        (one, vec![int(&vec![0; 200_000])], "fewer rows"),
    ];
    for (sql, columns, says) in cases {
        let error = run(&mut client, sql, columns).await.unwrap_err();
        assert!(
            matches!(
                error.code(),
                Code::InvalidArgument | Code::ResourceExhausted
            ),
            "{sql}: {error}"
        );
        assert!(error.message().contains(says), "{sql}: {}", error.message());
        assert!(
            !error.message().contains("soon"),
            "no values: {}",
            error.message()
        );
    }
    let mut unbound = prepare(&mut client, one).await.unwrap();
    let error = status(unbound.execute().await.unwrap_err());
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("bind values"), "{error}");
}

#[tokio::test]
async fn preparing_tells_the_schemas_and_runs_nothing() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let endless = "SELECT count(*) AS n FROM generate_series(1, 1000000000000) WHERE value > ?";
    let statement = prepare(&mut client, endless).await.unwrap();
    assert_eq!(statement.dataset_schema().unwrap().field(0).name(), "n");
    let parameters = |statement: &PreparedStatement<Channel>| {
        let schema = statement.parameter_schema().unwrap();
        let fields = schema.fields().iter();
        fields
            .map(|field| field.data_type().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(parameters(&statement), [DataType::Int64]);
    let cases = [
        ("SELECT 1", vec![]),
        ("SELECT ?", vec![DataType::Null]),
        (
            "SELECT * FROM reference.kind WHERE day = ? AND amount > ?",
            { vec![DataType::Date32, DataType::Decimal128(14, 2)] },
        ),
    ];
    for (sql, wanted) in cases {
        let statement = prepare(&mut client, sql).await.unwrap();
        assert_eq!(parameters(&statement), wanted, "{sql}");
        statement.close().await.unwrap();
    }
    for sql in [
        "SELECT missing FROM reference.number",
        "DROP TABLE reference.number",
        "SELECT",
    ] {
        assert_eq!(
            prepare(&mut client, sql).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{sql}"
        );
    }
}

#[tokio::test]
async fn every_statement_can_be_prepared_and_has_one_schema() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    for sql in [
        "SELECT * FROM reference.kind",
        "SELECT * FROM reference.nothing",
        "SELECT 1 AS n UNION ALL SELECT 1.5",
        "SELECT a.n, b.n FROM reference.number a FULL JOIN reference.nothing b ON a.n = b.n LIMIT 1",
        "SELECT coalesce(text, 'none') AS t, sum(amount) AS s, avg(ratio) AS a FROM reference.kind GROUP BY 1",
        "SELECT now() AS t, current_date AS d, NULL AS nothing",
        "SELECT text || '!' AS t, upper(text_view) AS u, coded || 'x' AS c FROM reference.kind",
        "SELECT row_number() OVER (ORDER BY n) AS k FROM reference.number LIMIT 3",
        "SHOW TABLES",
        "SHOW COLUMNS FROM reference.number",
        "DESCRIBE reference.number",
        "EXPLAIN SELECT 1",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns WHERE table_name = 'kind'",
    ] {
        let mut statement = prepare(&mut client, sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        let planned = statement.dataset_schema().unwrap().clone();
        let info = statement.execute().await.map_err(status).unwrap();
        assert_eq!(schema_of(&info), planned, "{sql}");
        // `fetch` compares the stream with the info.
        let prepared = fetch(&mut client, &info)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        let plain = query(&mut client, sql).await.unwrap();
        assert_eq!(*prepared.schema, *plain.schema, "{sql}");
        assert_eq!(prepared.rows(), plain.rows(), "{sql}");
    }
}

#[tokio::test]
async fn a_result_whose_type_follows_the_values_is_described_when_they_are_bound() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    for (column, wanted) in [(int(&[1]), DataType::Int64), (text(&["a"]), DataType::Utf8)] {
        let answer = run(&mut client, "SELECT ? AS a", vec![column])
            .await
            .unwrap();
        assert_eq!(answer.schema.field(0).data_type(), &wanted);
    }
}

#[tokio::test]
async fn a_ticket_outlives_its_statement_and_its_connection() {
    let server = Server::start().await;
    let mut first = server.guest().await;
    let mut statement = prepare(&mut first, "SELECT n FROM reference.number WHERE n = ?")
        .await
        .unwrap();
    statement.set_parameters(batch(vec![int(&[11])])).unwrap();
    let info = statement.execute().await.unwrap();
    statement.close().await.unwrap();
    drop(first);
    let mut second = server.guest().await;
    assert_eq!(fetch(&mut second, &info).await.unwrap().text(), ["n", "11"]);
}

#[tokio::test]
async fn a_statement_is_bound_again_and_again() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let mut statement = prepare(&mut client, "SELECT n FROM reference.number WHERE n = ?")
        .await
        .unwrap();
    for value in [5, 6, 7] {
        statement
            .set_parameters(batch(vec![int(&[value])]))
            .unwrap();
        let info = statement.execute().await.unwrap();
        let wanted = ["n".to_owned(), value.to_string()];
        assert_eq!(fetch(&mut client, &info).await.unwrap().text(), wanted);
    }
}

#[tokio::test]
async fn a_query_sent_as_an_update_is_told_where_to_go() {
    let server = Server::start().await;
    let mut client = server.guest().await;
    let error = status(
        client
            .execute_update("SELECT 1".to_owned(), None)
            .await
            .unwrap_err(),
    );
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("send it as a query"), "{error}");
    let drop = "DROP TABLE reference.number".to_owned();
    let error = status(client.execute_update(drop, None).await.unwrap_err());
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("not allowed"), "{error}");
    let mut statement = prepare(&mut client, "SELECT 1").await.unwrap();
    let error = status(statement.execute_update().await.unwrap_err());
    assert!(error.message().contains("send it as a query"), "{error}");
}
