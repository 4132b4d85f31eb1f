//! Results that are used again: when, for whom, and that they are never old.

use std::net::SocketAddr;
use std::sync::Arc;

use tietopohja_policy::Role;
use tietopohja_server::ServeOptions;
use tietopohja_server::identity::Users;

use crate::health::get;
use crate::warehouse::{Client, Server, append, changing, clock, engine_and_lake, fetch, query};

/// How many results were used again so far.
pub(crate) async fn reused(server: &Server) -> u64 {
    let answer = get(server.http.unwrap(), "/metrics").await;
    let mut lines = answer.lines();
    let value = lines.find_map(|line| line.strip_prefix("tietopohja_results_reused_total "));
    value.unwrap().parse().unwrap()
}

fn analysts(options: &mut ServeOptions) {
    options.http = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    options.anonymous_role = Role::Analyst;
}

async fn text(client: &mut Client, sql: &str) -> Vec<String> {
    query(client, sql).await.unwrap().text()
}

#[tokio::test]
async fn a_result_is_used_again_until_its_table_changes_and_a_ticket_keeps_its_own() {
    let clock = clock();
    let (_folder, engine, lake) = engine_and_lake(clock.clone()).await;
    append(&lake, &changing(), &[1, 2]).await;
    let server = Server::on(engine, clock, analysts).await.unwrap();
    let (mut one, mut other) = (server.guest().await, server.guest().await);
    let sql = "SELECT count(*) AS n, sum(n) AS s FROM reference.changing";
    assert_eq!(text(&mut one, sql).await, ["n|s", "2|3"]);
    assert_eq!(reused(&server).await, 0);
    assert_eq!(text(&mut other, sql).await, ["n|s", "2|3"]);
    assert_eq!(reused(&server).await, 1);
    let old = one.execute(sql.to_owned(), None).await.unwrap();
    append(&lake, &changing(), &[10]).await;
    assert_eq!(text(&mut other, sql).await, ["n|s", "3|13"]);
    assert_eq!(reused(&server).await, 1);
    for _ in 0..2 {
        assert_eq!(fetch(&mut one, &old).await.unwrap().text(), ["n|s", "2|3"]);
    }
    assert_eq!(reused(&server).await, 3, "the kept result of the old state");
    assert_eq!(text(&mut one, sql).await, ["n|s", "3|13"]);
}

#[tokio::test]
async fn what_depends_on_more_than_the_tables_is_computed_each_time() {
    let server = Server::start_with(analysts).await;
    let mut client = server.guest().await;
    for sql in [
        "SELECT now() AS t",
        "SELECT current_date AS d",
        "SELECT n FROM reference.number WHERE random() < 2 LIMIT 3",
        "SELECT n FROM (SELECT n, uuid() AS id FROM reference.number LIMIT 3)",
        "SELECT 1 AS one WHERE (SELECT random()) < 2",
        "SELECT n FROM reference.number WHERE n IN (SELECT CAST(random() AS BIGINT) FROM reference.number)",
        "SELECT count(*) AS n FROM meta.query",
        "SELECT count(*) AS n FROM information_schema.tables",
        "EXPLAIN SELECT n FROM reference.number",
        "SHOW tietopohja.schema",
    ] {
        for _ in 0..2 {
            query(&mut client, sql).await.unwrap();
        }
        let expected = u64::from(sql.starts_with("SHOW"));
        assert_eq!(reused(&server).await, expected, "{sql}");
    }
    // The statements that came before are seen.
    let seen = "SELECT count(*) AS n FROM meta.query";
    let first = text(&mut client, seen).await;
    assert_ne!(first, text(&mut client, seen).await);
}

#[tokio::test]
async fn a_result_is_for_one_principal_and_one_way_of_asking() {
    let clock = clock();
    let (folder, engine, _lake) = engine_and_lake(clock.clone()).await;
    let list = folder.path().join("users.toml");
    let tokens = [("aino", 1), ("anni", 2)].map(|(name, number)| {
        let made = Users::change(&list, |users| {
            users.add(name, Role::Analyst, "kolme sanaa peräkkäin", &[number; 16])?;
            users.issue_token(name, &[number; 40], 0, None, "")
        });
        made.unwrap()
    });
    let change = |options: &mut ServeOptions| {
        analysts(options);
        options.users = Some(list);
    };
    let server = Server::on(Arc::clone(&engine), clock, change)
        .await
        .unwrap();
    let sql = "SELECT max(n) AS n FROM number";
    let mut expected = 0;
    for token in tokens {
        for (header, value) in [("schema", "reference"), ("types", "simple")] {
            for used in [0, 1] {
                let mut client = server.client().await;
                client.set_token(token.clone());
                client.set_header("tietopohja-schema", "reference");
                client.set_header(format!("tietopohja-{header}"), value);
                assert_eq!(text(&mut client, sql).await, ["n", "99999"]);
                expected += used;
                assert_eq!(reused(&server).await, expected, "{header}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_keeps_nothing_uses_nothing_again() {
    let server = Server::start_with(|options| {
        analysts(options);
        options.result_cache_bytes = 0;
    })
    .await;
    let mut client = server.guest().await;
    for _ in 0..3 {
        text(&mut client, "SELECT max(n) AS n FROM reference.number").await;
    }
    assert_eq!(reused(&server).await, 0);
}
