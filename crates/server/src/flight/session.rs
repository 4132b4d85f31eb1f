//! Sessions: the settings of a client, and which sessions were closed.
//!
//! A session is named by its bearer, or by its cookie. Its settings say which state of the tables it sees, in which schema
//! names are looked up, and how rows and tables are shown. They can be set three ways, which end
//! here: `SetSessionOptions`, the statement `SET tietopohja.<name> = value`, and a header
//! `tietopohja-<name>` that holds for one call and needs no session. A session that was not used for
//! long is closed rather than forgotten: a client that pinned a moment must not get the present without
//! being told. To add a setting: a field, its name in [`NAMES`], and its arms in [`Settings::set`] and
//! [`Settings::get`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tietopohja_domain::{Date, Timestamp, end_of_finnish_day};
use tietopohja_engine::{CATALOG, DEFAULT_SCHEMA};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::cookie::Cookie;
use super::message::{
    GetSessionOptionsResult, OptionError, OptionErrorValue, OptionValue, SessionOptionValue,
    SetSessionOptionsRequest, SetSessionOptionsResult,
};
use super::wire::{Compression, Profile, TimestampRule, TypeRule};
use crate::auth::SessionId;

/// How many closed sessions are remembered.
const REMEMBERED: usize = 4096;

/// How many sessions may have settings of their own.
const MOST_SESSIONS: usize = 4096;

/// What names of settings begin with, as session options and in statements.
const PREFIX: &str = "tietopohja.";

/// What headers of settings begin with.
const HEADER: &str = "tietopohja-";

/// Most endpoints that a result may be asked to have.
const MOST_ENDPOINTS: usize = 16;

/// The settings, in the order in which they are shown.
pub(crate) const NAMES: [&str; 8] = [
    "as_of",
    "compression",
    "endpoints",
    "schema",
    "statement_timeout",
    "table_type",
    "timestamps",
    "types",
];

/// The word for tables that hold rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum TableWord {
    /// `TABLE`, as JDBC and ODBC say.
    #[default]
    Table,
    /// `BASE TABLE`, as the SQL standard says.
    BaseTable,
}

impl TableWord {
    /// The word itself.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            TableWord::Table => "TABLE",
            TableWord::BaseTable => "BASE TABLE",
        }
    }
}

/// The settings of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The moment whose state of the tables is seen, with the text that said so.
    pub(crate) as_of: Option<(String, Timestamp)>,
    /// The schema of names without one.
    pub(crate) schema: Option<String>,
    /// Longest time of a statement; the limits of the role hold too.
    pub(crate) timeout: Option<Duration>,
    /// The word for tables.
    pub(crate) table_type: TableWord,
    /// What rows look like.
    pub(crate) profile: Profile,
    /// Most endpoints of a result; one without it.
    pub(crate) endpoints: Option<usize>,
}

/// Why a setting was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSet {
    /// There is no such setting.
    Name,
    /// It does not take this value; what it takes.
    Value(&'static str),
}

impl Settings {
    /// Gives a setting another value; none means the default.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<(), NotSet> {
        match name {
            "as_of" => {
                self.as_of = match value {
                    None | Some("" | "now") => None,
                    Some(text) => Some((text.to_owned(), moment(text)?)),
                }
            }
            "schema" => self.schema = value.map(str::to_owned),
            "statement_timeout" => {
                self.timeout = match value {
                    None => None,
                    Some(text) => match text.parse() {
                        Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
                        _ => return Err(NotSet::Value("a number of seconds from 1")),
                    },
                }
            }
            "endpoints" => {
                self.endpoints = match value.map(str::parse) {
                    None => None,
                    Some(Ok(number @ 1..=MOST_ENDPOINTS)) => Some(number),
                    Some(_) => return Err(NotSet::Value("a number from 1 to 16")),
                }
            }
            "table_type" => {
                self.table_type = match value {
                    None => TableWord::default(),
                    Some(text) => [TableWord::Table, TableWord::BaseTable]
                        .into_iter()
                        .find(|word| word.as_str().eq_ignore_ascii_case(text))
                        .ok_or(NotSet::Value("`TABLE` or `BASE TABLE`"))?,
                }
            }
            "timestamps" => {
                self.profile.timestamps = named(value, TimestampRule::named)
                    .ok_or(NotSet::Value("`utc`, `helsinki` or `zoned`"))?;
            }
            "types" => {
                self.profile.types = named(value, TypeRule::named)
                    .ok_or(NotSet::Value("`standard`, `simple` or `native`"))?;
            }
            "compression" => {
                self.profile.compression = named(value, Compression::named)
                    .ok_or(NotSet::Value("`none`, `lz4` or `zstd`"))?;
            }
            _ => return Err(NotSet::Name),
        }
        Ok(())
    }

    /// The value of a setting; none when there is no such setting.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        Some(match name {
            "as_of" => self
                .as_of
                .as_ref()
                .map_or_else(|| "now".to_owned(), |(text, _)| text.clone()),
            "schema" => self
                .schema
                .clone()
                .unwrap_or_else(|| DEFAULT_SCHEMA.to_owned()),
            "statement_timeout" => self
                .timeout
                .map_or_else(String::new, |limit| limit.as_secs().to_string()),
            "endpoints" => self.endpoints.unwrap_or(1).to_string(),
            "table_type" => self.table_type.as_str().to_owned(),
            "timestamps" => self.profile.timestamps.as_str().to_owned(),
            "types" => self.profile.types.as_str().to_owned(),
            "compression" => self.profile.compression.as_str().to_owned(),
            _ => return None,
        })
    }

    /// The settings that are not as they are by default: names and values.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (String, String)> {
        let default = Self::default();
        NAMES.into_iter().filter_map(move |name| {
            let value = self.get(name)?;
            (Some(&value) != default.get(name).as_ref()).then(|| (name.to_owned(), value))
        })
    }

    /// These settings with those that the headers of a call give.
    ///
    /// # Errors
    /// A header of ours that names no setting, or not a value of it.
    pub(crate) fn with_headers(mut self, metadata: &MetadataMap) -> Result<Self, Status> {
        for name in NAMES {
            let header = format!("{HEADER}{}", name.replace('_', "-"));
            let Some(value) = metadata.get(&header) else {
                continue;
            };
            let value = value.to_str().map_err(|_| {
                Status::invalid_argument(format!("the header `{header}` is not plain text"))
            })?;
            self.set(name, Some(value))
                .map_err(|error| not_set(&format!("the header `{header}`"), error))?;
        }
        Ok(self)
    }
}

/// The rule that a value names, in letters of any case; the default for no value.
fn named<T: Default>(value: Option<&str>, rule: impl Fn(&str) -> Option<T>) -> Option<T> {
    value.map_or_else(
        || Some(T::default()),
        |text| rule(&text.to_ascii_lowercase()),
    )
}

/// What a client is told of a setting that was not set.
pub(crate) fn not_set(what: &str, error: NotSet) -> Status {
    match error {
        NotSet::Name => Status::invalid_argument(format!(
            "{what} does not exist; the settings are {}",
            NAMES.map(|name| format!("`{PREFIX}{name}`")).join(", ")
        )),
        NotSet::Value(takes) => Status::invalid_argument(format!("{what} takes {takes}")),
    }
}

/// A moment with its zone, or a day: the end of that day in Finland.
fn moment(text: &str) -> Result<Timestamp, NotSet> {
    // A day is written with ten letters; more would be a time without a zone, which is no moment.
    let day = || {
        let day = text.parse::<Date>().ok().filter(|_| text.len() == 10)?;
        end_of_finnish_day(day)
    };
    text.parse().ok().or_else(day).ok_or(NotSet::Value(
        "a moment such as `2026-03-01T12:00:00Z`, a day such as `2026-03-01`, or `now`",
    ))
}

/// The settings of all sessions, and the sessions that were closed.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<SessionId, Known>,
    closed: VecDeque<SessionId>,
}

/// What is known of a session with settings of its own.
#[derive(Debug, Default)]
struct Known {
    settings: Settings,
    /// The second of the last use.
    used: i64,
    /// How many changes made the settings.
    changes: u64,
}

impl Sessions {
    /// The settings of a session, used at `now`; none when it was closed. Sessions that were last used
    /// before `now - idle` are closed. What the client says of its settings counts when it is newer
    /// than what is known here.
    pub(crate) fn settings(
        &self,
        session: &SessionId,
        now: i64,
        idle: i64,
        said: Option<&Cookie>,
    ) -> Option<Settings> {
        let mut inner = self.lock();
        inner.close_idle(now.saturating_sub(idle));
        if inner.closed.contains(session) {
            return None;
        }
        let known = inner.known.get(session).map_or(0, |known| known.changes);
        if let Some(said) = said.filter(|said| said.changes > known) {
            let told = Known {
                settings: said.settings.clone(),
                used: now,
                changes: said.changes,
            };
            inner.known.insert(session.clone(), told);
            inner.close_oldest();
        }
        match inner.known.get_mut(session) {
            None => Some(Settings::default()),
            Some(known) => {
                known.used = now;
                Some(known.settings.clone())
            }
        }
    }

    /// Changes the settings of a session. What came of it, and what a client shall keep.
    pub(crate) fn change<T>(
        &self,
        session: &SessionId,
        now: i64,
        change: impl FnOnce(&mut Settings) -> T,
    ) -> (T, Cookie) {
        let mut inner = self.lock();
        let known = inner.known.entry(session.clone()).or_default();
        known.used = now;
        known.changes = known.changes.saturating_add(1);
        let changed = change(&mut known.settings);
        let cookie = Cookie {
            session: session.clone(),
            settings: known.settings.clone(),
            changes: known.changes,
        };
        inner.close_oldest();
        (changed, cookie)
    }

    /// Closes a session: its bearer is not accepted any more.
    pub(crate) fn close(&self, session: &SessionId) {
        self.lock().close(session.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn close(&mut self, session: SessionId) {
        self.known.remove(&session);
        if self.closed.contains(&session) {
            return;
        }
        if self.closed.len() == REMEMBERED {
            self.closed.pop_front();
        }
        self.closed.push_back(session);
    }

    fn close_idle(&mut self, before: i64) {
        let idle = self.known.iter().filter(|(_, known)| known.used < before);
        let idle: Vec<SessionId> = idle.map(|(session, _)| session.clone()).collect();
        for session in idle {
            self.end(session);
        }
    }

    /// One that has nothing to lose may be forgotten.
    fn end(&mut self, session: SessionId) {
        let known = self.known.remove(&session);
        if known.is_some_and(|known| known.settings != Settings::default()) {
            self.close(session);
        }
    }

    fn close_oldest(&mut self) {
        if self.known.len() > MOST_SESSIONS {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.used);
            if let Some(oldest) = oldest.map(|(session, _)| session.clone()) {
                self.end(oldest);
            }
        }
    }
}

/// The settings as session options.
pub(crate) fn options(settings: &Settings) -> GetSessionOptionsResult {
    let own = NAMES.into_iter().filter_map(|name| {
        let value = settings.get(name)?;
        Some((option_name(name), SessionOptionValue::text(value)))
    });
    let catalog = ("catalog".to_owned(), SessionOptionValue::text(CATALOG));
    GetSessionOptionsResult {
        session_options: own.chain([catalog]).collect(),
    }
}

/// `schema` has a name in the protocol itself.
fn option_name(name: &str) -> String {
    match name {
        "schema" => name.to_owned(),
        _ => format!("{PREFIX}{name}"),
    }
}

/// Sets options. The answer names those that were not set, and why. `keep` takes the changed settings,
/// and says whether there is a session to keep them.
pub(crate) fn set_options(
    request: SetSessionOptionsRequest,
    settings: &mut Settings,
) -> SetSessionOptionsResult {
    let mut errors = HashMap::new();
    for (option, value) in request.session_options {
        let text = match value.option_value {
            // No value means the default.
            None => None,
            Some(OptionValue::Text(text)) => Some(text),
            Some(OptionValue::Int64(number)) => Some(number.to_string()),
            Some(OptionValue::Bool(_) | OptionValue::Double(_) | OptionValue::TextList(_)) => {
                errors.insert(option, refused(OptionErrorValue::InvalidValue));
                continue;
            }
        };
        let error = match option.as_str() {
            "catalog" => match text {
                Some(text) if text != CATALOG => Some(OptionErrorValue::InvalidValue),
                _ => None,
            },
            known => {
                let name = known.strip_prefix(PREFIX).unwrap_or(match known {
                    "schema" => known,
                    _ => "",
                });
                match settings.set(name, text.as_deref()) {
                    Ok(()) => None,
                    Err(NotSet::Name) => Some(OptionErrorValue::InvalidName),
                    Err(NotSet::Value(_)) => Some(OptionErrorValue::InvalidValue),
                }
            }
        };
        if let Some(error) = error {
            errors.insert(option, refused(error));
        }
    }
    SetSessionOptionsResult { errors }
}

/// The answer when no option can be set.
pub(crate) fn none_set(request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let names = request.session_options.into_keys();
    SetSessionOptionsResult {
        errors: names
            .map(|name| (name, refused(OptionErrorValue::Error)))
            .collect(),
    }
}

fn refused(error: OptionErrorValue) -> OptionError {
    OptionError {
        value: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn set(name: &str, value: Option<OptionValue>) -> Option<OptionErrorValue> {
        let value = SessionOptionValue {
            option_value: value,
        };
        let session_options = HashMap::from([(name.to_owned(), value)]);
        let request = SetSessionOptionsRequest { session_options };
        let result = set_options(request, &mut Settings::default());
        result.errors.get(name).map(OptionError::value)
    }

    #[test]
    fn options_are_set_or_it_is_said_why_not() {
        let text = |value: &str| Some(OptionValue::Text(value.to_owned()));
        for (name, value, error) in [
            ("catalog", text(CATALOG), None),
            (
                "catalog",
                text("other"),
                Some(OptionErrorValue::InvalidValue),
            ),
            ("schema", text("reference"), None),
            ("schema", None, None),
            (
                "schema",
                Some(OptionValue::Bool(true)),
                Some(OptionErrorValue::InvalidValue),
            ),
            ("tietopohja.as_of", text("2026-03-01"), None),
            (
                "tietopohja.as_of",
                text("yesterday"),
                Some(OptionErrorValue::InvalidValue),
            ),
            (
                "tietopohja.statement_timeout",
                Some(OptionValue::Int64(5)),
                None,
            ),
            (
                "tietopohja.statement_timeout",
                text("0"),
                Some(OptionErrorValue::InvalidValue),
            ),
            ("tietopohja.timestamps", text("Helsinki"), None),
            ("tietopohja.table_type", text("base table"), None),
            ("speed", text("high"), Some(OptionErrorValue::InvalidName)),
            ("as_of", text("now"), Some(OptionErrorValue::InvalidName)),
        ] {
            assert_eq!(set(name, value.clone()), error, "{name} {value:?}");
        }
    }

    #[test]
    fn what_was_set_can_be_read_and_reset() {
        let mut settings = Settings::default();
        for (name, value) in [
            ("as_of", "2026-03-01T12:00:00Z"),
            ("endpoints", "4"),
            ("schema", "reference"),
            ("statement_timeout", "30"),
            ("table_type", "BASE TABLE"),
            ("timestamps", "helsinki"),
            ("types", "native"),
            ("compression", "zstd"),
        ] {
            let default = settings.get(name).unwrap();
            settings.set(name, Some(value)).unwrap();
            assert_eq!(settings.get(name).as_deref(), Some(value));
            let shown = options(&settings).session_options;
            assert_eq!(
                shown.get(&option_name(name)),
                Some(&SessionOptionValue::text(value))
            );
            settings.set(name, None).unwrap();
            assert_eq!(settings.get(name), Some(default));
        }
        assert_eq!(settings, Settings::default());
        assert_eq!(options(&settings).session_options.len(), NAMES.len() + 1);
    }

    #[test]
    fn a_day_means_its_end_in_finland() {
        let at = |text: &str| moment(text).unwrap().to_string();
        assert_eq!(at("2026-03-01"), "2026-03-01T21:59:59.999Z");
        assert_eq!(at("2026-07-01T12:00:00+03:00"), "2026-07-01T09:00:00Z");
        for other in ["2026-03-01T12:00:00", "2026-13-01", "soon"] {
            assert!(moment(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_header_holds_for_its_call() {
        let mut metadata = MetadataMap::new();
        metadata.insert("tietopohja-timestamps", "zoned".parse().unwrap());
        let settings = Settings::default().with_headers(&metadata).unwrap();
        assert_eq!(settings.profile.timestamps, TimestampRule::Zoned);
        metadata.insert("tietopohja-as-of", "soon".parse().unwrap());
        let refused = Settings::default().with_headers(&metadata).unwrap_err();
        assert!(refused.message().contains("tietopohja-as-of"), "{refused}");
    }

    fn session(name: usize) -> SessionId {
        SessionId::of(Bytes::from(name.to_string()))
    }

    #[test]
    fn a_session_that_pinned_something_is_closed_when_it_is_idle_and_never_forgotten() {
        let sessions = Sessions::default();
        let pinned = session(1);
        sessions.change(&pinned, 100, |settings| {
            settings.set("as_of", Some("2026-03-01")).unwrap()
        });
        let seen = sessions.settings(&pinned, 110, 20, None).unwrap();
        assert!(seen.as_of.is_some());
        assert!(
            sessions.settings(&pinned, 130, 20, None).is_some(),
            "it was used at 110"
        );
        assert_eq!(sessions.settings(&pinned, 151, 20, None), None);
        // One that pinned nothing has nothing to lose.
        assert_eq!(
            sessions.settings(&session(2), 10_000, 20, None),
            Some(Settings::default())
        );
    }

    #[test]
    fn the_newer_of_what_the_client_says_and_what_is_known_counts() {
        let [here, there] = [Sessions::default(), Sessions::default()];
        let one = session(1);
        let set = |sessions: &Sessions, value: Option<&str>| {
            let change = |settings: &mut Settings| settings.set("timestamps", value).unwrap();
            sessions.change(&one, 0, change).1
        };
        let seen = |sessions: &Sessions, cookie: &Cookie| {
            let settings = sessions.settings(&one, 0, 20, Some(cookie)).unwrap();
            settings.profile.timestamps
        };
        let first = set(&here, Some("zoned"));
        assert_eq!(seen(&there, &first), TimestampRule::Zoned);
        let second = set(&there, Some("helsinki"));
        assert_eq!(seen(&here, &second), TimestampRule::Helsinki);
        assert_eq!(seen(&here, &first), TimestampRule::Helsinki, "it is older");
        let third = set(&there, None);
        assert_eq!(seen(&here, &third), TimestampRule::Utc);
        // A closed session is not opened by what the client says.
        here.close(&one);
        assert_eq!(here.settings(&one, 0, 20, Some(&third)), None);
    }

    #[test]
    fn what_is_remembered_of_sessions_is_bounded() {
        let sessions = Sessions::default();
        for number in 0..MOST_SESSIONS + 3 {
            sessions.change(&session(number), number as i64, |settings| {
                settings.set("timestamps", Some("zoned")).unwrap();
            });
        }
        assert_eq!(sessions.lock().known.len(), MOST_SESSIONS);
        assert_eq!(
            sessions.settings(&session(0), 0, i64::MAX, None),
            None,
            "the oldest is closed"
        );
        for number in 0..REMEMBERED + 3 {
            sessions.close(&session(number));
        }
        assert_eq!(sessions.lock().closed.len(), REMEMBERED);
    }
}
