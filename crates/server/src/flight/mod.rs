//! The Arrow Flight SQL door: BI tools, ADBC, JDBC and ODBC drivers.
//!
//! `door` answers the calls of the protocol; `wire` and `stream` decide what rows look like outside;
//! `answers` keeps plans and results for the next who asks the same; `ticket` and `parameters` carry statements between calls, `session` and `cookie` settings, and
//! `incoming` reads what clients upload; `catalogue`, `sql_type` and `sql_info` tell tools what there
//! is; `running` stops what must stop, `started` keeps the queries that are polled, `peer` tells where a
//! request came from, and `guard` turns strangers away. Nothing is kept between calls that a client could lose: handles and tickets carry
//! their own state under a seal.
//!
//! To answer another command of the protocol, add it to the `match` in `door.rs` that resolves
//! commands: its schema and its rows stand side by side there, so that every call agrees on them.

mod answers;
mod catalogue;
mod cookie;
mod door;
mod guard;
mod incoming;
mod like;
pub(crate) mod message;
pub(crate) mod parameters;
mod peer;
mod running;
mod session;
mod sql_info;
mod sql_type;
mod started;
mod stream;
pub(crate) mod ticket;
mod together;
mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tietopohja_domain::Clock;
use tietopohja_engine::Engine;
use tietopohja_policy::{InvalidPrincipal, Principal, Role};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::auth::Ids;
use crate::connections::Connections;
use crate::gate::GateOptions;
use crate::http::{self, Observed};
use crate::identity::{OidcError, OidcOptions, UsersError};
use crate::journal::{Audit, StatementRecord};
use crate::otlp::{NoCollector, Traces};
use crate::tls::{Tls, TlsError, TlsFiles};
use door::Door;
use guard::Guarded;

/// The largest message that a client may send: one batch of an upload, mostly.
const MOST_RECEIVED: usize = 64 * 1024 * 1024;

/// The largest request header. Tokens of identity providers are long.
const MOST_HEADERS: u32 = 128 * 1024;

/// How often an idle connection is asked whether its client still lives, and how long it may take
/// to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WAIT: Duration = Duration::from_secs(20);

/// The name of the service in health checks.
const FLIGHT_SERVICE: &str = "arrow.flight.protocol.FlightService";

/// How long connections get to say goodbye after their queries were stopped.
const GOODBYE: Duration = Duration::from_secs(2);

/// Settings of the doors.
#[derive(Clone)]
pub struct ServeOptions {
    /// Where the Flight SQL door listens. Port 0 takes a free port. An address that other machines
    /// reach needs [`tls`](Self::tls), and [`users`](Self::users) or [`oidc`](Self::oidc).
    pub flight: SocketAddr,
    /// Where the HTTP door with health and metrics listens, under the same rule; its metrics are then
    /// for those who sign in. Default: nowhere.
    pub http: Option<SocketAddr>,
    /// The key of tickets, handles and bearers. With the same key, a ticket survives a restart.
    pub ticket_key: [u8; 32],
    /// Where the present moment comes from.
    pub clock: Arc<dyn Clock>,
    /// What everyone who connects may do when there are no users. Default: reader.
    pub anonymous_role: Role,
    /// The list of users. Without it and a provider everyone is anonymous. Default: none.
    pub users: Option<PathBuf>,
    /// An identity provider, whose tokens let people in. Default: none.
    pub oidc: Option<OidcOptions>,
    /// What both doors show to prove which server they are. Default: no TLS.
    pub tls: Option<TlsFiles>,
    /// How long a user stays signed in. Default: twelve hours.
    pub bearer_lifetime: Duration,
    /// How long a ticket can be redeemed. Default: one hour.
    pub ticket_lifetime: Duration,
    /// How long running queries may go on after the shutdown began. Default: 30 s.
    pub drain: Duration,
    /// How long a session with settings of its own may be idle before it is closed. Default: 8 hours.
    pub session_idle: Duration,
    /// How long a query that was started by polling stays when nobody polls or fetches it. Default: 30 s.
    pub poll_idle: Duration,
    /// Bytes of results that are kept for the next one who asks the same; 0 keeps none. Default: 64 MiB.
    pub result_cache_bytes: usize,
    /// How many statements run and wait.
    pub gate: GateOptions,
    /// What one statement may take, by role.
    pub limits: RoleLimits,
    /// Most bytes of one user's own tables, as they are stored. Default: 1 GiB.
    pub workspace_bytes: Option<u64>,
    /// Takes the record of each ended statement. Default: nobody.
    pub audit: Option<Audit>,
    /// The collector that gets a span of each ended statement, by OTLP over gRPC. Default: none.
    pub otlp: Option<String>,
}

/// What one statement may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest time that it runs. Default: none but the engine's own.
    pub timeout: Option<Duration>,
    /// Most rows of its result. Default: no limit.
    pub rows: Option<u64>,
    /// Most bytes of its result on the wire. Default: no limit.
    pub bytes: Option<u64>,
    /// Most bytes of working memory. Default: half of what all queries have.
    pub memory: Option<usize>,
}

/// What one statement may take: for everyone, and for a role where it says something else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleLimits {
    /// For everyone.
    pub everyone: Limits,
    /// For a role; what is not said there is as for everyone.
    pub roles: HashMap<Role, Limits>,
}

impl RoleLimits {
    /// The limits of a role.
    pub fn of(&self, role: Role) -> Limits {
        let own = self.roles.get(&role).copied().unwrap_or_default();
        Limits {
            timeout: own.timeout.or(self.everyone.timeout),
            rows: own.rows.or(self.everyone.rows),
            bytes: own.bytes.or(self.everyone.bytes),
            memory: own.memory.or(self.everyone.memory),
        }
    }
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions")
            .field("flight", &self.flight)
            .field("http", &self.http)
            .field("anonymous_role", &self.anonymous_role)
            .field("users", &self.users)
            .field("oidc", &self.oidc)
            .field("tls", &self.tls)
            .field("bearer_lifetime", &self.bearer_lifetime)
            .field("ticket_lifetime", &self.ticket_lifetime)
            .field("drain", &self.drain)
            .field("gate", &self.gate)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl ServeOptions {
    /// Options with the defaults named at each field.
    pub fn new(flight: SocketAddr, ticket_key: [u8; 32], clock: Arc<dyn Clock>) -> Self {
        Self {
            flight,
            http: None,
            ticket_key,
            clock,
            anonymous_role: Role::Reader,
            users: None,
            oidc: None,
            tls: None,
            bearer_lifetime: Duration::from_secs(12 * 3600),
            ticket_lifetime: Duration::from_secs(3600),
            drain: Duration::from_secs(30),
            session_idle: Duration::from_secs(8 * 3600),
            poll_idle: Duration::from_secs(30),
            result_cache_bytes: 64 << 20,
            gate: GateOptions::default(),
            limits: RoleLimits::default(),
            workspace_bytes: Some(1 << 30),
            audit: None,
            otlp: None,
        }
    }
}

/// Where the doors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Flight SQL.
    pub flight: SocketAddr,
    /// HTTP, when it is open.
    pub http: Option<SocketAddr>,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is reachable from other machines, and something that guards it there is missing.
    #[error(
        "the address `{address}` can be reached from other machines, and this server has no \
         {missing}; {help}, or use a loopback address such as `127.0.0.1:{}`", .address.port()
    )]
    NotLoopback {
        /// The address as it was given.
        address: SocketAddr,
        /// What is missing.
        missing: &'static str,
        /// How to have it.
        help: &'static str,
    },
    /// Spans have nowhere to go.
    #[error(transparent)]
    Traces(#[from] NoCollector),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The list of users cannot be used.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The identity provider cannot be used.
    #[error(transparent)]
    Provider(#[from] OidcError),
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`; is another server running there?")]
    Bind {
        /// The address as it was given.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The transport failed while serving.
    #[error("the Flight SQL door failed")]
    Transport(#[from] tonic::transport::Error),
    /// The answers that never change could not be made: our mistake.
    #[error("the Flight SQL door could not be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<InvalidPrincipal> for ServeError {
    fn from(error: InvalidPrincipal) -> Self {
        ServeError::Setup(Box::new(error))
    }
}

impl From<arrow_flight::error::FlightError> for ServeError {
    fn from(error: arrow_flight::error::FlightError) -> Self {
        ServeError::Setup(Box::new(error))
    }
}

/// What other machines can reach shows who it is, and asks who comes.
fn guarded(address: SocketAddr, options: &ServeOptions) -> Result<(), ServeError> {
    let refused = |missing, help| ServeError::NotLoopback {
        address,
        missing,
        help,
    };
    match options {
        _ if address.ip().is_loopback() => Ok(()),
        ServeOptions { tls: None, .. } => {
            Err(refused("TLS", "set `tls_certificate` and `tls_key`"))
        }
        ServeOptions {
            users: None,
            oidc: None,
            ..
        } => Err(refused(
            "users",
            "set `auth = \"users\"` or `auth = \"oidc\"`",
        )),
        _ => Ok(()),
    }
}

/// Serves until `shutdown` completes, then lets running queries finish for a while, then stops them.
///
/// `ready` is called once, with the addresses that are listened on, when clients can connect.
///
/// # Errors
/// The address can be reached from other machines without TLS or users, or cannot be listened on; the
/// certificates or the list of users cannot be used; the transport failed.
pub async fn serve<F>(
    engine: Arc<Engine>,
    mut options: ServeOptions,
    ready: impl FnOnce(Listening),
    shutdown: F,
) -> Result<(), ServeError>
where
    F: Future,
{
    let Some(collector) = &options.otlp else {
        return open(engine, options, ready, shutdown).await;
    };
    let started = options.clock.now().as_nanosecond();
    let traces = Traces::to(collector, Ids::new(&options.ticket_key, "span", started))?;
    let tell = traces.teller();
    let audit = options.audit.take();
    options.audit = Some(Arc::new(move |record: &StatementRecord| {
        if let Some(audit) = &audit {
            audit(record);
        }
        tell(record);
    }));
    let served = open(engine, options, ready, shutdown).await;
    traces.close().await;
    served
}

async fn open<F>(
    engine: Arc<Engine>,
    options: ServeOptions,
    ready: impl FnOnce(Listening),
    shutdown: F,
) -> Result<(), ServeError>
where
    F: Future,
{
    let address = options.flight;
    for address in [Some(address), options.http].into_iter().flatten() {
        guarded(address, &options)?;
    }
    let tls = |protocol| {
        let files = options.tls.clone();
        files.map(|files| Tls::open(files, protocol)).transpose()
    };
    let (flight_tls, http_tls) = (tls(b"h2")?, tls(b"http/1.1")?);
    let everyone = Principal::new("anonymous", options.anonymous_role)?;
    let door = Arc::new(Door::new(engine, &options, everyone)?);

    let bound = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bound)?;
    let listening = listener.local_addr().map_err(bound)?;
    let incoming = Connections::of(listener, listening, flight_tls);
    let http = match options.http {
        None => None,
        Some(address) => {
            let bound = |source| ServeError::Bind { address, source };
            let listener = TcpListener::bind(address).await.map_err(bound)?;
            let listening = listener.local_addr().map_err(bound)?;
            let incoming = Connections::of(listener, listening, http_tls);
            let observed = Arc::clone(&door) as Arc<dyn Observed>;
            // It answers until this function ends: also while the other door is being closed.
            let (closed, closing) = oneshot::channel::<()>();
            let serving = http::serve(incoming, observed, async {
                let _stop = closing.await;
            });
            tokio::spawn(async {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "the HTTP door failed");
                }
            });
            Some((listening, closed))
        }
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in ["", FLIGHT_SERVICE] {
        health
            .set_service_status(service, ServingStatus::Serving)
            .await;
    }
    let (drain, draining) = oneshot::channel::<()>();
    let service = Guarded::new(&door, MOST_RECEIVED);
    let service = InterceptedService::new(service, peer::note);
    let mut serving = pin!(
        Server::builder()
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_WAIT))
            .http2_max_header_list_size(MOST_HEADERS)
            .add_service(health_service)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, async {
                // A dropped sender means the same: stop.
                let _stop = draining.await;
            })
    );
    door.warm();
    tracing::info!(
        address = %listening,
        users = options.users.is_some(),
        provider = options.oidc.is_some(),
        tls = options.tls.is_some(),
        role = %options.anonymous_role,
        "flight door open"
    );
    ready(Listening {
        flight: listening,
        http: http.as_ref().map(|(address, _)| *address),
    });

    tokio::select! {
        result = &mut serving => return Ok(result?),
        _ = shutdown => {}
    }
    tracing::info!(running = door.running().count(), "flight door closing");
    door.refuse_new();
    for service in ["", FLIGHT_SERVICE] {
        health
            .set_service_status(service, ServingStatus::NotServing)
            .await;
    }
    drop(drain);
    if let Ok(result) = tokio::time::timeout(options.drain, &mut serving).await {
        return Ok(result?);
    }
    door.running().drain();
    match tokio::time::timeout(GOODBYE, &mut serving).await {
        Ok(result) => Ok(result?),
        // A client that does not close its side keeps nobody waiting.
        Err(_elapsed) => Ok(()),
    }
}
