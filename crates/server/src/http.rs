//! The HTTP door: is the server alive, does it take work, how is it doing.
//!
//! `/healthz` answers as long as the process does, `/readyz` as long as new statements are taken, and
//! `/metrics` in the text format of Prometheus. Nothing here needs a query, so that a full server still
//! answers; and nothing here tells who asks or what. Where other machines reach the door, the metrics
//! are for those who sign in. To add a metric, add it to [`page`], with its unit
//! in its name.

use std::fmt::Write;
use std::future::Future;
use std::sync::Arc;

use crate::connections::Connections;
use crate::journal::{SECONDS, Totals};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::BoxFuture;

/// What the door asks of the server.
pub(crate) trait Observed: Send + Sync + 'static {
    /// Whether new statements are taken.
    fn is_ready(&self) -> bool;
    /// The figures of this moment.
    fn figures(&self) -> Figures;
    /// Whether the sender of a request may see the figures.
    fn admits<'a>(&'a self, authorization: Option<&'a str>) -> BoxFuture<'a, bool>;
}

/// How the server is doing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) totals: Totals,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    pub(crate) sessions: usize,
    pub(crate) memory_bytes: usize,
    pub(crate) memory_limit_bytes: usize,
    /// Results that were used again.
    pub(crate) reused: u64,
}

/// Serves until `shutdown` completes.
pub(crate) async fn serve(
    incoming: Connections,
    observed: Arc<dyn Observed>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(observed);
    axum::serve(incoming, router)
        .with_graceful_shutdown(shutdown)
        .await
}

async fn ready(State(observed): State<Arc<dyn Observed>>) -> impl IntoResponse {
    match observed.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"),
    }
}

async fn metrics(State(observed): State<Arc<dyn Observed>>, headers: HeaderMap) -> Response {
    let authorization = headers.get(header::AUTHORIZATION);
    let authorization = authorization.and_then(|value| value.to_str().ok());
    if !observed.admits(authorization).await {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        let text = "sign in: send an API token as `Authorization: Bearer ...`\n";
        return (StatusCode::UNAUTHORIZED, challenge, text).into_response();
    }
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], page(&observed.figures())).into_response()
}

/// The figures in the text format of Prometheus.
fn page(figures: &Figures) -> String {
    let Figures {
        totals,
        running,
        waiting,
        sessions,
        memory_bytes,
        memory_limit_bytes,
        reused,
    } = figures;
    let mut page = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, String)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            page,
            "# HELP tietopohja_{name} {help}\n# TYPE tietopohja_{name} {kind}"
        );
        for (labels, value) in values {
            let _ = writeln!(page, "tietopohja_{name}{labels} {value}");
        }
    };
    let one = |value: &dyn ToString| vec![("", value.to_string())];
    let ended = [
        ("{state=\"done\"}", totals.done.to_string()),
        ("{state=\"cancelled\"}", totals.cancelled.to_string()),
        ("{state=\"failed\"}", totals.failed.to_string()),
    ];
    metric(
        "statements_total",
        "counter",
        "Statements that have ended.",
        &ended,
    );
    metric(
        "statements_running",
        "gauge",
        "Statements that run.",
        &one(running),
    );
    metric(
        "statements_waiting",
        "gauge",
        "Statements that wait for others to end.",
        &one(waiting),
    );
    metric(
        "sessions",
        "gauge",
        "Sessions that have asked for something.",
        &one(sessions),
    );
    metric(
        "rows_sent_total",
        "counter",
        "Rows sent.",
        &one(&totals.rows),
    );
    metric(
        "bytes_sent_total",
        "counter",
        "Bytes of rows sent.",
        &one(&totals.bytes),
    );
    metric(
        "results_reused_total",
        "counter",
        "Statements that were answered with a kept result.",
        &one(reused),
    );
    metric(
        "query_memory_bytes",
        "gauge",
        "Working memory of queries.",
        &one(memory_bytes),
    );
    metric(
        "query_memory_limit_bytes",
        "gauge",
        "Working memory that queries may use together.",
        &one(memory_limit_bytes),
    );
    let name = "statement_seconds";
    let _ = writeln!(
        page,
        "# HELP tietopohja_{name} Time from being asked for to the last row.\n\
         # TYPE tietopohja_{name} histogram"
    );
    let mut below = 0;
    for (limit, count) in SECONDS.iter().zip(&totals.by_seconds) {
        below += count;
        let _ = writeln!(page, "tietopohja_{name}_bucket{{le=\"{limit}\"}} {below}");
    }
    let all = totals.done + totals.cancelled + totals.failed;
    let _ = writeln!(
        page,
        "tietopohja_{name}_bucket{{le=\"+Inf\"}} {all}\ntietopohja_{name}_sum {}\ntietopohja_{name}_count {all}",
        totals.seconds
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_help_and_type_and_a_histogram_adds_up() {
        let mut totals = Totals {
            done: 3,
            failed: 1,
            rows: 7,
            seconds: 20.5,
            ..Totals::default()
        };
        totals.by_seconds[0] = 1;
        totals.by_seconds[2] = 2;
        let page = page(&Figures {
            totals,
            running: 2,
            ..Figures::default()
        });
        let value = |name: &str| {
            let line = page
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")));
            line.and_then(|line| line.rsplit_once(' '))
                .map(|(_, value)| value)
        };
        for (name, wanted) in [
            ("tietopohja_statements_total{state=\"done\"}", "3"),
            ("tietopohja_statements_running", "2"),
            ("tietopohja_rows_sent_total", "7"),
            ("tietopohja_statement_seconds_bucket{le=\"0.001\"}", "1"),
            ("tietopohja_statement_seconds_bucket{le=\"600\"}", "3"),
            ("tietopohja_statement_seconds_bucket{le=\"+Inf\"}", "4"),
            ("tietopohja_statement_seconds_count", "4"),
            ("tietopohja_statement_seconds_sum", "20.5"),
        ] {
            assert_eq!(value(name), Some(wanted), "{name}\n{page}");
        }
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(page.contains(&format!("# TYPE {name} ")), "{line}");
            assert!(page.contains(&format!("# HELP {name} ")), "{line}");
        }
    }
}
