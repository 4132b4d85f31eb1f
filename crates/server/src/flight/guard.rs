//! Who does not prove who they are is turned away before their message is read.
//!
//! A message may be as large as a batch of an upload, and is in memory whole before the call that takes
//! it sees it. So callers are asked here first, by their headers alone; the call asks again, as it
//! always did. Signing in is the one call for which headers say nothing, and its messages are short.
//! What may not live here: what proves who somebody is (`auth`).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_flight::flight_service_server::FlightServiceServer;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;

use super::door::Door;

/// The largest message of somebody who is about to sign in: a name and a password, or the token of an
/// identity provider, which may list a thousand groups.
const MOST_SIGNING_IN: usize = 1024 * 1024;

/// The call that signs in.
const HANDSHAKE: &str = "/arrow.flight.protocol.FlightService/Handshake";

/// The calls of a door, with a look at each caller before.
#[derive(Clone)]
pub(super) struct Guarded {
    door: Arc<Door>,
    calls: FlightServiceServer<Door>,
    signing_in: FlightServiceServer<Door>,
}

impl Guarded {
    /// The calls of a door whose messages are no longer than this.
    pub(super) fn new(door: &Arc<Door>, most: usize) -> Self {
        let calls =
            |most| FlightServiceServer::from_arc(Arc::clone(door)).max_decoding_message_size(most);
        Self {
            door: Arc::clone(door),
            calls: calls(most),
            signing_in: calls(MOST_SIGNING_IN),
        }
    }
}

impl NamedService for Guarded {
    const NAME: &'static str = <FlightServiceServer<Door> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for Guarded {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() == HANDSHAKE {
            return self.signing_in.call(request);
        }
        let (door, mut calls) = (Arc::clone(&self.door), self.calls.clone());
        Box::pin(async move {
            let metadata = MetadataMap::from_headers(request.headers().clone());
            match door.knows(&metadata).await {
                Ok(()) => calls.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}
