//! Sessions: the options a client may read and set, and which sessions were closed.
//!
//! A session is named by its bearer and has no other state yet: every name is looked up in the one
//! catalog, in the same default schema. Setting an option to the value it has succeeds, because
//! drivers do that when they connect.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tietopohja_engine::{CATALOG, DEFAULT_SCHEMA};

use super::message::{
    GetSessionOptionsResult, OptionError, OptionErrorValue, OptionValue, SessionOptionValue,
    SetSessionOptionsRequest, SetSessionOptionsResult,
};
use crate::auth::SessionId;

/// How many closed sessions are remembered.
const REMEMBERED: usize = 4096;

/// The options by name, with their one value.
const OPTIONS: [(&str, &str); 2] = [("catalog", CATALOG), ("schema", DEFAULT_SCHEMA)];

/// The options of a session.
pub(crate) fn options() -> GetSessionOptionsResult {
    let options = OPTIONS.iter();
    GetSessionOptionsResult {
        session_options: options
            .map(|(name, value)| ((*name).to_owned(), SessionOptionValue::text(*value)))
            .collect(),
    }
}

/// Sets options. The answer names those that were not set, and why.
pub(crate) fn set_options(request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        let fixed = OPTIONS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, fixed)| *fixed);
        let error = match (fixed, value.option_value) {
            (None, _) => Some(OptionErrorValue::InvalidName),
            // No value means the default.
            (Some(_), None) => None,
            (Some(fixed), Some(OptionValue::Text(asked))) if asked == fixed => None,
            (Some(_), Some(_)) => Some(OptionErrorValue::InvalidValue),
        };
        if let Some(error) = error {
            errors.insert(
                name,
                OptionError {
                    value: error.into(),
                },
            );
        }
    }
    SetSessionOptionsResult { errors }
}

/// Remembers which sessions were closed.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    sessions: Mutex<VecDeque<SessionId>>,
}

impl Closed {
    /// Closes a session: its bearer is not accepted any more.
    pub(crate) fn close(&self, session: &SessionId) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() == REMEMBERED {
            sessions.pop_front();
        }
        sessions.push_back(session.clone());
    }

    /// Was the session closed?
    pub(crate) fn contains(&self, session: &SessionId) -> bool {
        self.sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: Option<OptionValue>) -> Option<OptionErrorValue> {
        let value = SessionOptionValue {
            option_value: value,
        };
        let session_options = HashMap::from([(name.to_owned(), value)]);
        let result = set_options(SetSessionOptionsRequest { session_options });
        result.errors.get(name).map(OptionError::value)
    }

    #[test]
    fn an_option_can_be_set_to_what_it_is() {
        let text = |value: &str| Some(OptionValue::Text(value.to_owned()));
        assert_eq!(set("catalog", text(CATALOG)), None);
        assert_eq!(set("schema", text(DEFAULT_SCHEMA)), None);
        assert_eq!(set("schema", None), None);
        assert_eq!(
            set("catalog", text("other")),
            Some(OptionErrorValue::InvalidValue)
        );
        assert_eq!(
            set("schema", Some(OptionValue::Bool(true))),
            Some(OptionErrorValue::InvalidValue)
        );
        assert_eq!(
            set("speed", text("high")),
            Some(OptionErrorValue::InvalidName)
        );
    }

    #[test]
    fn the_options_can_be_read() {
        let options = options().session_options;
        assert_eq!(options.len(), 2);
        assert_eq!(
            options.get("catalog"),
            Some(&SessionOptionValue::text(CATALOG))
        );
    }
}
