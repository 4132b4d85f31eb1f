//! Where a request came from.
//!
//! The address of the connection travels with the metadata of its requests, because that is what
//! every call is given. It replaces whatever a client wrote there. It serves to slow guessing down
//! and for nothing else: no one is let in by an address.

use std::net::IpAddr;

use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Status};

const HEADER: &str = "x-tietopohja-peer";

/// Notes the address of the connection.
pub(crate) fn note(mut request: Request<()>) -> Result<Request<()>, Status> {
    let address = request.remote_addr();
    let metadata = request.metadata_mut();
    metadata.remove(HEADER);
    if let Some(address) = address
        && let Ok(value) = AsciiMetadataValue::try_from(address.ip().to_string())
    {
        metadata.insert(HEADER, value);
    }
    Ok(request)
}

/// The address that was noted.
pub(crate) fn of(metadata: &MetadataMap) -> Option<IpAddr> {
    metadata.get(HEADER)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_a_client_wrote_is_dropped() {
        let mut request = Request::new(());
        for written in ["192.0.2.1", "192.0.2.2"] {
            let value = AsciiMetadataValue::from_static(written);
            request.metadata_mut().append(HEADER, value);
        }
        assert!(of(request.metadata()).is_some());
        assert_eq!(of(note(request).unwrap().metadata()), None);
    }
}
