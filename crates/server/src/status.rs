//! The one mapping from errors to what a client is told.
//!
//! An error of the engine is already sorted by what its reader does next; here each kind gets its
//! gRPC code. A client gets a clear sentence that fits in a response header; when something went
//! wrong on our side it also gets an error id, under which the log has the whole message. Neither
//! holds row values. To add a code, add the arm and a line in the test.

use tietopohja_engine::EngineError;
use tonic::{Code, Status};

use crate::auth::{AuthError, Ids, to_hex};
use crate::gate::Turned;
use crate::seal::Forged;

/// The most bytes of a status text, as it is encoded in the header. Proxies and clients cut the
/// connection over long headers.
const MAX_TEXT: usize = 3000;

/// Tells errors to clients and to the log.
#[derive(Debug)]
pub(crate) struct Teller {
    ids: Ids,
}

impl Teller {
    /// A teller with its own error ids.
    pub(crate) fn new(ids: Ids) -> Self {
        Self { ids }
    }

    /// The status for an error of the engine.
    pub(crate) fn engine(&self, error: &EngineError) -> Status {
        let code = match error {
            EngineError::UserSql { .. } => Code::InvalidArgument,
            EngineError::NotFound { .. } => Code::NotFound,
            EngineError::Denied { .. } => Code::PermissionDenied,
            EngineError::Resource { .. } => Code::ResourceExhausted,
            EngineError::Timeout { .. } => Code::DeadlineExceeded,
            EngineError::Definitions { .. } => Code::FailedPrecondition,
            EngineError::Lake { .. } => Code::Unavailable,
            EngineError::Internal { .. } => Code::Internal,
        };
        let status = self.tell(code, &error.to_string());
        // A cause may name files or, rarely, values: it is for a debugging session only.
        if let Some(source) = std::error::Error::source(error) {
            tracing::debug!(code = ?code, cause = %source, "cause of a failed request");
        }
        status
    }

    /// The status for a mistake of ours.
    pub(crate) fn internal(&self, message: &str) -> Status {
        self.tell(Code::Internal, message)
    }

    /// The status with this text, shortened to fit, and logged as its code deserves.
    pub(crate) fn tell(&self, code: Code, message: &str) -> Status {
        let ours = matches!(
            code,
            Code::Internal | Code::Unavailable | Code::FailedPrecondition | Code::DataLoss
        );
        let fits = encoded_bytes(message) <= MAX_TEXT;
        if fits && !ours {
            tracing::info!(code = ?code, message, "request refused");
            return Status::new(code, message);
        }
        let id = to_hex(self.ids.next().get(..4).unwrap_or_default());
        if ours {
            tracing::error!(code = ?code, error_id = %id, message, "request failed");
        } else {
            tracing::info!(code = ?code, error_id = %id, message, "request refused");
        }
        let note = if fits {
            format!(" (error id {id})")
        } else {
            format!(" … (shortened; the log has the rest under error id {id})")
        };
        let room = MAX_TEXT.saturating_sub(encoded_bytes(&note));
        Status::new(code, format!("{}{note}", shorten(message, room)))
    }
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::TooMany { .. } | AuthError::Busy => {
                Status::resource_exhausted(error.to_string())
            }
            AuthError::ProviderAway { .. } => Status::unavailable(error.to_string()),
            AuthError::Token { fault, .. } if fault.is_of_owner() => {
                Status::permission_denied(error.to_string())
            }
            _ => Status::unauthenticated(error.to_string()),
        }
    }
}

impl From<Turned> for Status {
    fn from(turned: Turned) -> Self {
        Status::resource_exhausted(turned.to_string())
    }
}

impl From<Forged> for Status {
    fn from(error: Forged) -> Self {
        Status::invalid_argument(error.to_string())
    }
}

/// Bytes of the text in a header, where other letters than the plainest take three each.
fn encoded_bytes(text: &str) -> usize {
    text.bytes().map(encoded_byte).sum()
}

fn encoded_byte(byte: u8) -> usize {
    if byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b',' | b':' | b';' | b'$')
    {
        1
    } else {
        3
    }
}

/// The longest beginning that takes no more than `room` bytes in a header.
fn shorten(text: &str, room: usize) -> &str {
    let mut used = 0;
    for (at, letter) in text.char_indices() {
        let mut bytes = [0; 4];
        used += letter
            .encode_utf8(&mut bytes)
            .bytes()
            .map(encoded_byte)
            .sum::<usize>();
        if used > room {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn teller() -> Teller {
        Teller::new(Ids::new(&[0; 32], "error", 0))
    }

    #[test]
    fn each_kind_of_error_has_its_code() {
        let text = || "a message".to_owned();
        let cases = [
            (
                EngineError::UserSql { message: text() },
                Code::InvalidArgument,
            ),
            (EngineError::NotFound { message: text() }, Code::NotFound),
            (
                EngineError::Denied { message: text() },
                Code::PermissionDenied,
            ),
            (
                EngineError::Resource { message: text() },
                Code::ResourceExhausted,
            ),
            (EngineError::Timeout { seconds: 1 }, Code::DeadlineExceeded),
            (
                EngineError::Definitions {
                    problems: Vec::new(),
                },
                Code::FailedPrecondition,
            ),
            (
                EngineError::Lake {
                    message: text(),
                    source: "x".into(),
                },
                Code::Unavailable,
            ),
            (
                EngineError::Internal {
                    message: text(),
                    source: None,
                },
                Code::Internal,
            ),
        ];
        for (error, code) in cases {
            assert_eq!(teller().engine(&error).code(), code, "{error:?}");
        }
        assert_eq!(Status::from(Forged).code(), Code::InvalidArgument);
        assert_eq!(
            Status::from(AuthError::UnknownBearer).code(),
            Code::Unauthenticated
        );
    }

    #[test]
    fn a_mistake_of_the_user_is_told_as_it_is() {
        let status = teller().tell(Code::InvalidArgument, "table `a` not found");
        assert_eq!(status.message(), "table `a` not found");
    }

    #[test]
    fn a_failure_of_ours_has_an_error_id_and_hides_its_cause() {
        let error = EngineError::Internal {
            message: "it broke".to_owned(),
            source: Some("secret".into()),
        };
        let message = teller().engine(&error).message().to_owned();
        assert!(message.starts_with("it broke (error id "), "{message}");
        assert!(!message.contains("secret"));
    }

    #[test]
    fn a_long_text_is_shortened_to_fit_the_header() {
        for letter in ["x", "ä", "`", "💡"] {
            let status = teller().tell(Code::InvalidArgument, &letter.repeat(20_000));
            let message = status.message();
            assert!(message.starts_with(letter));
            assert!(message.contains("error id"), "{message}");
            assert!(encoded_bytes(message) <= MAX_TEXT);
            assert!(
                encoded_bytes(message) > MAX_TEXT - 20,
                "no more is cut than must be"
            );
        }
    }
}
