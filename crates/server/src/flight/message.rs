//! Protobuf messages that arrow-flight does not have, and the payloads of our own tokens.
//!
//! The first group is part of the Flight and Flight SQL protocols: session options, and the result
//! of a prepare with `is_update`. Field numbers are the protocol's. The second group is read by this
//! server only: what a ticket and a statement handle carry under their seal. A field number of a
//! payload is never used again for something else; a change of meaning is a new context in
//! [`crate::seal::Purpose`].

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;

use crate::auth::Holder;

/// The answer to `CreatePreparedStatement`, with the field that tells a query from an update.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PreparedStatementResult {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) prepared_statement_handle: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) dataset_schema: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) parameter_schema: Bytes,
    #[prost(bool, optional, tag = "4")]
    pub(crate) is_update: Option<bool>,
}

impl PreparedStatementResult {
    /// The `Any` type of the message.
    pub(crate) const TYPE_URL: &'static str =
        "type.googleapis.com/arrow.flight.protocol.sql.ActionCreatePreparedStatementResult";
}

/// One value of a session option; no value means: unset it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub(crate) option_value: Option<OptionValue>,
}

impl SessionOptionValue {
    /// A text value.
    pub(crate) fn text(value: impl Into<String>) -> Self {
        Self {
            option_value: Some(OptionValue::Text(value.into())),
        }
    }
}

/// The kinds of value of a session option.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum OptionValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    TextList(TextList),
}

/// A list value of a session option.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TextList {
    #[prost(string, repeated, tag = "1")]
    pub(crate) values: Vec<String>,
}

/// The request of `SetSessionOptions`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) session_options: HashMap<String, SessionOptionValue>,
}

/// The answer to `SetSessionOptions`: the options that were not set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) errors: HashMap<String, OptionError>,
}

/// Why an option was not set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OptionError {
    #[prost(enumeration = "OptionErrorValue", tag = "1")]
    pub(crate) value: i32,
}

/// The reasons for which an option is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum OptionErrorValue {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

/// The answer to `GetSessionOptions`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) session_options: HashMap<String, SessionOptionValue>,
}

/// The answer to `CloseSession`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CloseSessionResult {
    #[prost(enumeration = "CloseStatus", tag = "1")]
    pub(crate) status: i32,
}

/// What became of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum CloseStatus {
    Unspecified = 0,
    Closed = 1,
    Closing = 2,
    NotCloseable = 3,
}

/// What a ticket carries: everything that is needed to run the statement.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TicketPayload {
    #[prost(message, optional, tag = "1")]
    pub(crate) holder: Option<Holder>,
    #[prost(string, tag = "2")]
    pub(crate) sql: String,
    /// Bound parameters as an Arrow IPC stream; absent when none were bound.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) parameters: Option<Bytes>,
    /// Seconds since 1970 after which the ticket is not redeemed.
    #[prost(int64, tag = "4")]
    pub(crate) expires: i64,
    /// Tells two requests for the same statement apart.
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) query_id: Bytes,
    /// The state of the tables that the statement sees, whenever the ticket is redeemed; veiled under
    /// the query's id.
    #[prost(bytes = "bytes", tag = "6")]
    pub(crate) versions: Bytes,
    /// The schema of names without one, unless it is the default.
    #[prost(string, optional, tag = "7")]
    pub(crate) schema: Option<String>,
    /// How moments are shown, which types columns have, and how bodies are packed, in this order.
    #[prost(string, repeated, tag = "8")]
    pub(crate) profile: Vec<String>,
    /// The statement changed something when the ticket was made: there is nothing to run, and no row.
    #[prost(bool, tag = "9")]
    pub(crate) done: bool,
    /// Which part of the result it is for, of how many; the whole result when there are none.
    #[prost(uint32, tag = "10")]
    pub(crate) part: u32,
    #[prost(uint32, tag = "11")]
    pub(crate) parts: u32,
    /// The same for all parts of a result.
    #[prost(bytes = "bytes", tag = "12")]
    pub(crate) statement: Bytes,
}

/// What a prepared statement's handle carries.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatementPayload {
    #[prost(message, optional, tag = "1")]
    pub(crate) holder: Option<Holder>,
    #[prost(string, tag = "2")]
    pub(crate) sql: String,
    /// Bound parameters as an Arrow IPC stream; absent when none were bound.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) parameters: Option<Bytes>,
    /// How many parameters the statement has.
    #[prost(uint32, tag = "4")]
    pub(crate) parameter_count: u32,
    /// Tells two statements with the same text apart.
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) statement_id: Bytes,
}
