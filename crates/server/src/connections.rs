//! Connections as they come in: accepted, with TLS where there is one, and lingering when they close.
//!
//! A task of its own accepts. A client that is slow with its TLS handshake holds nobody else up, and
//! gets no longer than [`HANDSHAKE`]; a failure to accept is waited out, never the end of the door.
//! Both doors take their connections from here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

use crate::linger::Lingering;
use crate::tls::Tls;

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// TLS handshakes at a time.
const HANDSHAKES: usize = 512;

/// How long to wait when the machine has no place for another connection.
const PAUSE: Duration = Duration::from_millis(200);

/// How often the operating system asks whether an idle peer is there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Connections that wait to be served.
const WAITING: usize = 64;

/// A connection of a client.
#[derive(Debug)]
pub(crate) enum Connection {
    /// Without TLS.
    Plain(Lingering),
    /// With TLS.
    Tls(Box<TlsStream<Lingering>>),
}

/// The connections of a door.
#[derive(Debug)]
pub(crate) struct Connections {
    connections: mpsc::Receiver<Connection>,
    address: SocketAddr,
}

impl Connections {
    /// Accepts the connections of the listener at an address until it is dropped.
    pub(crate) fn of(listener: TcpListener, address: SocketAddr, tls: Option<Tls>) -> Self {
        let (sender, connections) = mpsc::channel(WAITING);
        tokio::spawn(accept(listener, tls, sender));
        Self {
            connections,
            address,
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<Tls>, connections: mpsc::Sender<Connection>) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let mut incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(KEEPALIVE));
    loop {
        let accepted = tokio::select! {
            () = connections.closed() => return,
            accepted = incoming.next() => accepted,
        };
        let stream = match accepted {
            None => return,
            Some(Ok(stream)) => Lingering::new(stream),
            Some(Err(error)) => {
                // It is the machine's trouble, and it may pass.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(tls) = &tls else {
            if connections.send(Connection::Plain(stream)).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(turn) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let (shaking, connections) = (
            tls.acceptor(Instant::now()).accept(stream),
            connections.clone(),
        );
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, shaking).await;
            drop(turn);
            match shaken {
                Ok(Ok(stream)) => {
                    // A door that closed meanwhile takes nobody.
                    let _gone = connections.send(Connection::Tls(Box::new(stream))).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_elapsed) => tracing::debug!("a TLS handshake took too long"),
            }
        });
    }
}

/// What gRPC takes.
impl Stream for Connections {
    type Item = io::Result<Connection>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Connection>>> {
        self.connections
            .poll_recv(context)
            .map(|connection| connection.map(Ok))
    }
}

/// What HTTP takes.
impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => (connection, self.address),
            // The task that accepts ends after this only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Connection::Plain(stream) => stream.connect_info(),
            Connection::Tls(stream) => stream.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Connection::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Connection::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Connection::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Connection::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Connection::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Connection::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Plain(stream) => stream.is_write_vectored(),
            Connection::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Connection::Plain(stream) => Pin::new(stream).poll_flush(context),
            Connection::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Connection::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Connection::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
