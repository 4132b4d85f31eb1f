//! Statements as spans of OpenTelemetry, sent to a collector over OTLP: version 1 of its protobuf, by
//! gRPC without TLS, so to a collector on the same machine.
//!
//! Spans are made when a statement has ended, from its record: tracing costs a running statement
//! nothing, and a span says nothing that the record does not. Who asked is not told: collectors keep
//! spans elsewhere, and longer than names may be kept. What a collector does not take is dropped and
//! counted in the log; nothing waits for it. To tell more, add an attribute in [`Maker::spans`], under a
//! name of the semantic conventions where there is one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tietopohja_domain::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::auth::Ids;
use crate::journal::{StatementRecord, StatementState};

/// What a collector is called with.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Records that wait to be sent.
const WAITING: usize = 1_024;

/// Records that are sent at a time.
const AT_A_TIME: usize = 256;

/// How long a collector may take, and how long the last records may.
const PATIENCE: Duration = Duration::from_secs(5);

/// The address is not one of a collector.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{address}` is no collector: name one that takes OTLP over gRPC without TLS, such as `http://127.0.0.1:4317`"
)]
pub struct NoCollector {
    /// The address as it was given.
    pub address: String,
}

/// Sends what it is told to a collector.
#[derive(Debug)]
pub(crate) struct Traces {
    records: mpsc::Sender<StatementRecord>,
    closing: oneshot::Sender<()>,
    sending: JoinHandle<()>,
}

impl Traces {
    /// To the collector at an address; it need not be there yet.
    ///
    /// # Errors
    /// The address is not one.
    pub(crate) fn to(address: &str, ids: Ids) -> Result<Self, NoCollector> {
        let refused = || NoCollector {
            address: address.to_owned(),
        };
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| refused())?;
        if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().authority().is_none() {
            return Err(refused());
        }
        let channel = endpoint
            .timeout(PATIENCE)
            .connect_timeout(PATIENCE)
            .connect_lazy();
        let (records, waiting) = mpsc::channel(WAITING);
        let (closing, closed) = oneshot::channel();
        let maker = Maker { ids: Arc::new(ids) };
        let sending = tokio::spawn(send(channel, waiting, closed, maker));
        Ok(Self {
            records,
            closing,
            sending,
        })
    }

    /// What takes records. It never waits.
    pub(crate) fn teller(&self) -> impl Fn(&StatementRecord) + Send + Sync + use<> {
        let records = self.records.clone();
        move |record| {
            if records.try_send(record.clone()).is_err() {
                tracing::debug!("a span was dropped: too many wait for the collector");
            }
        }
    }

    /// Takes no more, and sends what is left.
    pub(crate) async fn close(self) {
        drop(self.closing);
        if tokio::time::timeout(PATIENCE, self.sending).await.is_err() {
            tracing::warn!("the last spans could not be sent in time");
        }
    }
}

async fn send(
    channel: Channel,
    mut waiting: mpsc::Receiver<StatementRecord>,
    mut closed: oneshot::Receiver<()>,
    maker: Maker,
) {
    let mut client = tonic::client::Grpc::new(channel);
    let mut records = Vec::new();
    let mut failing = false;
    loop {
        let received = tokio::select! {
            received = waiting.recv_many(&mut records, AT_A_TIME) => received,
            _ = &mut closed, if !waiting.is_closed() => {
                waiting.close();
                continue;
            }
        };
        if received == 0 {
            return;
        }
        let spans: Vec<Span> = records
            .drain(..)
            .flat_map(|record| maker.spans(&record))
            .collect();
        if spans.is_empty() {
            continue;
        }
        let count = spans.len();
        match export(&mut client, spans).await {
            Ok(()) => failing = false,
            // Once, not with every statement.
            Err(status) if !failing => {
                failing = true;
                tracing::warn!(spans = count, code = ?status.code(), "the collector takes no spans");
            }
            Err(_) => {}
        }
    }
}

async fn export(client: &mut tonic::client::Grpc<Channel>, spans: Vec<Span>) -> Result<(), Status> {
    let unready = |_| Status::unavailable("the collector cannot be reached");
    client.ready().await.map_err(unready)?;
    let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
    let path = PathAndQuery::from_static(EXPORT);
    let request = Request::new(ExportRequest::of(spans));
    client.unary(request, path, codec).await?;
    Ok(())
}

/// Makes spans of records.
#[derive(Debug, Clone)]
struct Maker {
    ids: Arc<Ids>,
}

impl Maker {
    /// The spans of a statement: one of the whole, in it one of waiting and one of running. None when
    /// its caller does not keep the trace.
    fn spans(&self, record: &StatementRecord) -> Vec<Span> {
        if record.trace.is_some_and(|parent| !parent.sampled) {
            return Vec::new();
        }
        let (trace_id, parent_span_id) = match record.trace {
            Some(parent) => (
                Bytes::copy_from_slice(&parent.trace),
                Bytes::copy_from_slice(&parent.span),
            ),
            None => (self.ids.next(), Bytes::new()),
        };
        let ended = record.ended_at.unwrap_or(record.asked_at);
        let span = |name: &str, kind: Kind, parent: &Bytes, from: Timestamp, to: Timestamp| Span {
            trace_id: trace_id.clone(),
            span_id: self.ids.next().slice(..8),
            parent_span_id: parent.clone(),
            name: name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: nanoseconds(from),
            end_time_unix_nano: nanoseconds(to),
            ..Span::default()
        };
        let number = |value: u64| Value::Int(i64::try_from(value).unwrap_or(i64::MAX));
        let text = |text: &str| Value::Text(text.to_owned());
        let attributes = [
            ("db.system.name", Some(text("tietopohja"))),
            ("db.query.text", record.statement.clone().map(Value::Text)),
            (
                "db.collection.name",
                (!record.tables.is_empty()).then(|| Value::Text(record.tables.join(", "))),
            ),
            ("db.response.returned_rows", Some(number(record.rows))),
            ("db.response.status_code", record.code.map(text)),
            ("tietopohja.role", Some(text(&record.role))),
            (
                "tietopohja.statement_hash",
                Some(text(&record.statement_hash)),
            ),
            ("tietopohja.state", Some(text(record.state.as_str()))),
            (
                "tietopohja.release",
                record.release.clone().map(Value::Text),
            ),
            ("tietopohja.bytes", Some(number(record.bytes))),
            (
                "tietopohja.memory_peak_bytes",
                Some(number(record.memory_peak_bytes)),
            ),
        ];
        let mut whole = span(
            "statement",
            Kind::Server,
            &parent_span_id,
            record.asked_at,
            ended,
        );
        whole.attributes = attributes
            .into_iter()
            .filter_map(|(key, value)| Some(KeyValue::of(key, value?)))
            .collect();
        if record.state == StatementState::Failed {
            whole.status = Some(SpanStatus {
                message: record.code.unwrap_or_default().to_owned(),
                code: SpanStatus::ERROR,
            });
        }
        let inside = |name: &str, from: Timestamp, to: Timestamp| {
            span(name, Kind::Internal, &whole.span_id, from, to)
        };
        let started = record.started_at;
        let wait = inside("wait", record.asked_at, started.unwrap_or(ended));
        let run = started.map(|started| inside("run", started, ended));
        [Some(whole.clone()), Some(wait), run]
            .into_iter()
            .flatten()
            .collect()
    }
}

fn nanoseconds(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_nanosecond()).unwrap_or_default()
}

// The messages, as far as they are used: opentelemetry/proto/{collector/trace,trace,common}/v1.

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

/// What was not taken is not sent again, so that nothing of it is read.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(bytes = "bytes", tag = "1")]
    trace_id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    span_id: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    parent_span_id: Bytes,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(enumeration = "Kind", tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Unspecified = 0,
    Internal = 1,
    Server = 2,
}

#[derive(Clone, PartialEq, Message)]
struct SpanStatus {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

impl SpanStatus {
    const ERROR: i32 = 2;
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Int(i64),
}

impl KeyValue {
    fn of(key: &str, value: Value) -> Self {
        Self {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
        }
    }
}

impl ExportRequest {
    fn of(spans: Vec<Span>) -> Self {
        let text = |text: &str| Value::Text(text.to_owned());
        let resource = Resource {
            attributes: vec![
                KeyValue::of("service.name", text("tietopohja")),
                KeyValue::of("service.version", text(env!("CARGO_PKG_VERSION"))),
            ],
        };
        let scope = Scope {
            name: "tietopohja".to_owned(),
        };
        Self {
            resource_spans: vec![ResourceSpans {
                resource: Some(resource),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans,
                }],
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use futures::future::BoxFuture;
    use tokio::net::TcpListener;
    use tonic::body::Body;
    use tonic::codegen::http;
    use tonic::server::{NamedService, UnaryService};
    use tonic::transport::Server;
    use tonic::transport::server::TcpIncoming;
    use tower::Service;

    use super::*;
    use crate::trace::TraceParent;

    fn ids() -> Ids {
        Ids::new(&[1; 32], "span", 0)
    }

    fn record(trace: Option<TraceParent>) -> StatementRecord {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        StatementRecord {
            number: 1,
            principal: "aino".to_owned(),
            role: "analyst".to_owned(),
            session: None,
            client: Some("test".to_owned()),
            trace,
            asked_at: at(100),
            started_at: Some(at(103)),
            ended_at: Some(at(110)),
            state: StatementState::Failed,
            statement: Some("SELECT ?".to_owned()),
            statement_hash: "00".to_owned(),
            tables: vec!["published.indicator_value".to_owned()],
            release: None,
            rows: 7,
            bytes: 0,
            memory_peak_bytes: 0,
            code: Some("INTERNAL"),
        }
    }

    fn parent(sampled: bool) -> TraceParent {
        TraceParent {
            trace: [7; 16],
            span: [9; 8],
            sampled,
        }
    }

    #[test]
    fn a_statement_is_a_span_in_the_trace_of_its_caller() {
        let maker = Maker {
            ids: Arc::new(ids()),
        };
        let spans = maker.spans(&record(Some(parent(true))));
        let seconds = |span: &Span| {
            let second = |nano: u64| nano / 1_000_000_000;
            (
                second(span.start_time_unix_nano),
                second(span.end_time_unix_nano),
            )
        };
        let shown: Vec<_> = spans
            .iter()
            .map(|span| (span.name.as_str(), seconds(span)))
            .collect();
        let wanted = [
            ("statement", (100, 110)),
            ("wait", (100, 103)),
            ("run", (103, 110)),
        ];
        assert_eq!(shown, wanted);
        assert_eq!(spans[0].parent_span_id.as_ref(), [9; 8]);
        assert_eq!(spans[0].status.as_ref().unwrap().message, "INTERNAL");
        for span in &spans {
            assert_eq!(span.trace_id.as_ref(), [7; 16]);
            assert_eq!(span.span_id.len(), 8);
        }
        for part in &spans[1..] {
            assert_eq!(part.parent_span_id, spans[0].span_id);
        }
        let text = format!("{spans:?}");
        assert!(text.contains("SELECT ?"), "{text}");
        assert!(!text.contains("aino"), "who asked is not told: {text}");
    }

    #[test]
    fn a_caller_that_keeps_no_trace_gets_none_and_one_without_a_trace_a_new_one() {
        let maker = Maker {
            ids: Arc::new(ids()),
        };
        assert_eq!(maker.spans(&record(Some(parent(false)))), []);
        let [one, other] = [(); 2].map(|()| maker.spans(&record(None)));
        assert!(one[0].parent_span_id.is_empty());
        assert_eq!(one[0].trace_id.len(), 16);
        assert_ne!(one[0].trace_id, other[0].trace_id);
        let waited = StatementRecord {
            started_at: None,
            ..record(None)
        };
        assert_eq!(maker.spans(&waited).len(), 2, "it never ran");
    }

    #[test]
    fn a_span_is_written_as_the_protocol_says() {
        let span = Span {
            trace_id: Bytes::from_static(&[7; 16]),
            span_id: Bytes::from_static(&[9; 8]),
            name: "s".to_owned(),
            kind: Kind::Server.into(),
            start_time_unix_nano: 1,
            attributes: vec![KeyValue::of("k", Value::Int(5))],
            ..Span::default()
        };
        let mut wanted = vec![0x0a, 16];
        wanted.extend([7; 16]);
        wanted.extend([0x12, 8]);
        wanted.extend([9; 8]);
        wanted.extend([0x2a, 1, b's', 0x30, 2, 0x39, 1, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([0x4a, 7, 0x0a, 1, b'k', 0x12, 2, 0x18, 5]);
        assert_eq!(span.encode_to_vec(), wanted);
    }

    /// A collector that hands on what it is sent.
    #[derive(Clone)]
    struct Collector(mpsc::UnboundedSender<ExportRequest>);

    impl NamedService for Collector {
        const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    }

    impl UnaryService<ExportRequest> for Collector {
        type Response = ExportResponse;
        type Future = BoxFuture<'static, Result<tonic::Response<ExportResponse>, Status>>;

        fn call(&mut self, request: Request<ExportRequest>) -> Self::Future {
            self.0.send(request.into_inner()).unwrap();
            Box::pin(async { Ok(tonic::Response::new(ExportResponse {})) })
        }
    }

    impl Service<http::Request<Body>> for Collector {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            assert_eq!(request.uri().path(), EXPORT);
            let service = self.clone();
            Box::pin(async move {
                let codec = ProstCodec::<ExportResponse, ExportRequest>::default();
                Ok(tonic::server::Grpc::new(codec)
                    .unary(service, request)
                    .await)
            })
        }
    }

    #[tokio::test]
    async fn a_collector_gets_every_span_also_the_last() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, mut sent) = mpsc::unbounded_channel();
        let serving = Server::builder()
            .add_service(Collector(sender))
            .serve_with_incoming(TcpIncoming::from(listener));
        let serving = tokio::spawn(serving);
        let traces = Traces::to(&address, ids()).unwrap();
        let tell = traces.teller();
        for _ in 0..5 {
            tell(&record(None));
        }
        traces.close().await;
        let mut spans = 0;
        while let Ok(request) = sent.try_recv() {
            spans += request.resource_spans[0].scope_spans[0].spans.len();
        }
        assert_eq!(spans, 15);
        serving.abort();
    }

    #[tokio::test]
    async fn a_collector_that_is_not_there_holds_nothing_up_and_a_wrong_address_is_told() {
        let traces = Traces::to("http://127.0.0.1:9", ids()).unwrap();
        let tell = traces.teller();
        for _ in 0..WAITING * 2 {
            tell(&record(None));
        }
        traces.close().await;
        for address in ["", "127.0.0.1:4317", "https://collector:4317", "http://"] {
            let error = Traces::to(address, ids()).unwrap_err();
            assert!(
                error.to_string().contains("http://127.0.0.1:4317"),
                "{error}"
            );
        }
    }
}
