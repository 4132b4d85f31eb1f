//! A connection that is closed without losing the last words.
//!
//! A socket that is closed while bytes from the client lie unread answers them with a reset, and the
//! client may then throw away what it had not read yet: the status of its query. A client that
//! reads a long result always has such bytes under way, since it acknowledges what it reads. So the
//! writing half is closed first, and what the client still sends is read and dropped until it
//! closes its side, or for as long as a goodbye may take.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long a client may take to close its side.
const PATIENCE: Duration = Duration::from_secs(1);

/// A TCP connection that lingers when it is closed.
#[derive(Debug)]
pub(crate) struct Lingering {
    stream: TcpStream,
    /// Set once the writing half is closed.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Lingering {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            patience: None,
        }
    }
}

impl Connected for Lingering {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, patience } = &mut *self;
        let patience = match patience {
            Some(patience) => patience,
            None => {
                ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
                patience.insert(Box::pin(tokio::time::sleep(PATIENCE)))
            }
        };
        let mut bytes = [0; 4096];
        loop {
            if patience.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut unread = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut unread));
            // A connection that broke meanwhile is as closed as one that ended.
            if read.is_err() || unread.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Both ends of one connection.
    async fn pair() -> (Lingering, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        (Lingering::new(server.unwrap().0), client.unwrap())
    }

    #[tokio::test]
    async fn a_client_that_still_writes_reads_the_last_words() {
        let (mut server, mut client) = pair().await;
        client.write_all(b"never read").await.unwrap();
        server.stream.readable().await.unwrap();
        let closing = async {
            server.write_all(b"the query was stopped").await.unwrap();
            server.shutdown().await.unwrap();
            drop(server);
        };
        let reading = async {
            let mut words = String::new();
            client.read_to_string(&mut words).await.unwrap();
            client.write_all(b"acknowledged").await.unwrap();
            drop(client);
            words
        };
        let ((), words) = tokio::join!(closing, reading);
        assert_eq!(words, "the query was stopped");
    }

    #[tokio::test]
    async fn a_client_that_never_closes_keeps_nobody_waiting() {
        let (mut server, client) = pair().await;
        let enough = PATIENCE * 10;
        let closed = tokio::time::timeout(enough, server.shutdown()).await;
        closed.unwrap().unwrap();
        drop(client);
    }
}
