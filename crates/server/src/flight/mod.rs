//! The Arrow Flight SQL door: BI tools, ADBC, JDBC and ODBC drivers.
//!
//! `door` answers the calls of the protocol; `wire` and `stream` decide what rows look like outside;
//! `ticket` and `parameters` carry statements between calls; `catalogue`, `sql_type` and `sql_info`
//! tell tools what there is; `running` stops what must stop, `peer` tells where a request
//! came from, and `linger` closes connections. Nothing
//! is kept between calls that a client could lose: handles and tickets carry their own state under a
//! seal.
//!
//! To answer another command of the protocol, add it to the `match` in `door.rs` that resolves
//! commands: its schema and its rows stand side by side there, so that every call agrees on them.

mod catalogue;
mod door;
mod like;
mod linger;
mod message;
mod parameters;
mod peer;
mod running;
mod session;
mod sql_info;
mod sql_type;
mod stream;
mod ticket;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::TryStreamExt;
use tietopohja_domain::Clock;
use tietopohja_engine::Engine;
use tietopohja_policy::{InvalidPrincipal, Principal, Role};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use door::Door;
use linger::Lingering;

use crate::identity::UsersError;

/// The largest message that a client may send: bound parameters, mostly.
const MOST_RECEIVED: usize = 16 * 1024 * 1024;

/// The largest request header. Tokens of identity providers are long.
const MOST_HEADERS: u32 = 128 * 1024;

/// How often an idle connection is asked whether its client still lives, and how long it may take
/// to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WAIT: Duration = Duration::from_secs(20);

/// How long connections get to say goodbye after their queries were stopped.
const GOODBYE: Duration = Duration::from_secs(2);

/// Settings of the doors.
#[derive(Clone)]
pub struct ServeOptions {
    /// Where the Flight SQL door listens: a loopback address. Port 0 takes a free port.
    pub flight: SocketAddr,
    /// The key of tickets, handles and bearers. With the same key, a ticket survives a restart.
    pub ticket_key: [u8; 32],
    /// Where the present moment comes from.
    pub clock: Arc<dyn Clock>,
    /// What everyone who connects may do when there are no users. Default: reader.
    pub anonymous_role: Role,
    /// The list of users, without whom nobody connects. Default: none, and everyone is anonymous.
    pub users: Option<PathBuf>,
    /// How long a user stays signed in. Default: twelve hours.
    pub bearer_lifetime: Duration,
    /// How long a ticket can be redeemed. Default: one hour.
    pub ticket_lifetime: Duration,
    /// How long running queries may go on after the shutdown began. Default: 30 s.
    pub drain: Duration,
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions")
            .field("flight", &self.flight)
            .field("anonymous_role", &self.anonymous_role)
            .field("users", &self.users)
            .field("bearer_lifetime", &self.bearer_lifetime)
            .field("ticket_lifetime", &self.ticket_lifetime)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}

impl ServeOptions {
    /// Options with the defaults named at each field.
    pub fn new(flight: SocketAddr, ticket_key: [u8; 32], clock: Arc<dyn Clock>) -> Self {
        Self {
            flight,
            ticket_key,
            clock,
            anonymous_role: Role::Reader,
            users: None,
            bearer_lifetime: Duration::from_secs(12 * 3600),
            ticket_lifetime: Duration::from_secs(3600),
            drain: Duration::from_secs(30),
        }
    }
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address is reachable from other machines.
    #[error(
        "the address `{address}` can be reached from other machines, and this server has no \
         TLS yet; use a loopback address such as `127.0.0.1:{}`", .address.port()
    )]
    NotLoopback {
        /// The address as it was given.
        address: SocketAddr,
    },
    /// The list of users cannot be used.
    #[error(transparent)]
    Users(#[from] UsersError),
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

/// Serves until `shutdown` completes, then lets running queries finish for a while, then stops them.
///
/// `ready` is called once, with the address that is listened on, when clients can connect.
///
/// # Errors
/// The address is not a loopback address or cannot be listened on; the transport failed.
pub async fn serve<F>(
    engine: Arc<Engine>,
    options: ServeOptions,
    ready: impl FnOnce(SocketAddr),
    shutdown: F,
) -> Result<(), ServeError>
where
    F: Future,
{
    let address = options.flight;
    if !address.ip().is_loopback() {
        return Err(ServeError::NotLoopback { address });
    }
    let everyone = Principal::new("anonymous", options.anonymous_role)?;
    let door = Arc::new(Door::new(engine, &options, everyone)?);

    let bound = |source| ServeError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bound)?;
    let listening = listener.local_addr().map_err(bound)?;
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(Duration::from_secs(60)))
        .map_ok(Lingering::new);
    let (drain, draining) = oneshot::channel::<()>();
    let service =
        FlightServiceServer::from_arc(Arc::clone(&door)).max_decoding_message_size(MOST_RECEIVED);
    let service = InterceptedService::new(service, peer::note);
    let mut serving = pin!(
        Server::builder()
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PING_WAIT))
            .http2_max_header_list_size(MOST_HEADERS)
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, async {
                // A dropped sender means the same: stop.
                let _stop = draining.await;
            })
    );
    tracing::info!(
        address = %listening,
        users = options.users.is_some(),
        role = %options.anonymous_role,
        "flight door open"
    );
    ready(listening);

    tokio::select! {
        result = &mut serving => return Ok(result?),
        _ = shutdown => {}
    }
    tracing::info!(running = door.running().count(), "flight door closing");
    door.refuse_new();
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
