//! Where a statement stands in somebody's trace, as the header `traceparent` of W3C Trace Context says.
//!
//! Only reading the header lives here. The record of a statement carries what it said, so that whoever
//! takes the records can tell the trace; spans themselves are made by the program that serves.

use tonic::metadata::MetadataMap;

use crate::auth::{from_hex, to_hex};

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace: not all zeros.
    pub trace: [u8; 16],
    /// The span that asked: not all zeros.
    pub span: [u8; 8],
    /// Whether the caller keeps the trace.
    pub sampled: bool,
}

impl TraceParent {
    /// The place that a request names. A header that says none counts as none, as the recommendation
    /// wants it.
    pub(crate) fn of(metadata: &MetadataMap) -> Option<Self> {
        Self::parse(metadata.get("traceparent")?.to_str().ok()?)
    }

    /// Reads `version-trace-span-flags`, all in lower-case hexadecimal digits.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version: [u8; 1] = bytes(parts.next()?)?;
        let trace = bytes(parts.next()?)?;
        let span = bytes(parts.next()?)?;
        let flags: [u8; 1] = bytes(parts.next()?)?;
        // A later version may say more; this one does not, and 255 is none.
        let whole = version[0] > 0 || parts.next().is_none();
        let known = whole && version[0] < u8::MAX && trace != [0; 16] && span != [0; 8];
        known.then_some(Self {
            trace,
            span,
            sampled: flags[0] & 1 == 1,
        })
    }

    /// The name of the trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        to_hex(&self.trace)
    }
}

/// Bytes in lower-case hexadecimal digits.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = !text.bytes().any(|letter| letter.is_ascii_uppercase());
    lower.then(|| from_hex(text))??.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_the_recommendation_says() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let span = "00f067aa0ba902b7";
        for (text, sampled) in [
            (format!("00-{trace}-{span}-01"), Some(true)),
            (format!("00-{trace}-{span}-00"), Some(false)),
            (format!("00-{trace}-{span}-03"), Some(true)),
            (
                format!("cc-{trace}-{span}-01-what-the-future-holds"),
                Some(true),
            ),
            (format!("00-{trace}-{span}-01-more"), None),
            (format!("ff-{trace}-{span}-01"), None),
            (format!("00-{}-{span}-01", "0".repeat(32)), None),
            (format!("00-{trace}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{span}-01", trace.to_uppercase()), None),
            (format!("00-{trace}-{span}"), None),
            (format!("00-{trace}ä-{span}-01"), None),
            (String::new(), None),
        ] {
            let read = TraceParent::parse(&text);
            assert_eq!(read.map(|read| read.sampled), sampled, "{text}");
            assert!(read.is_none_or(|read| read.trace_id() == trace), "{text}");
        }
    }
}
