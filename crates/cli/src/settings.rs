//! Settings of a warehouse: `tietopohja.toml`. Each has a default and one place; an unknown key is
//! an error. A flag wins over the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tietopohja_contract::IdentityCodes;
use tietopohja_policy::Role;
use tietopohja_server::{GateOptions, Limits, RoleLimits};

use crate::failure::Failure;

/// The file's name in the warehouse folder.
pub(crate) const FILE: &str = "tietopohja.toml";

/// What `init` writes: every setting with its default.
pub(crate) const TEMPLATE: &str = r#"# Settings of this warehouse. Unknown keys are errors.

[landing]
# Which personal identity codes are received: "artificial" (individual number 900-999, for tests and
# demonstrations), "real", or "any". A county in production sets "real".
identity_codes = "artificial"
# Files landed at the same time.
at_once = 2

[engine]
# Memory of all queries together, in MiB. Sorting and grouping spill to disk beyond it.
memory_mib = 1024
# Threads a query is split over. 0: one for each core.
partitions = 0

[serve]
# Where the Flight SQL door listens: a loopback address. Port 0 takes a free port.
flight = "127.0.0.1:31337"
# Where the HTTP door with health and metrics listens: a loopback address. "": nowhere.
http = ""
# Who may connect: "none" (everyone on this machine, without signing in) or "users" (those of
# `tietopohja user`, with a password or an API token).
auth = "none"
# What everyone who connects may read when `auth` is "none": "reader" (published, reference) or
# "analyst".
role = "reader"
# A file with the key of tickets and bearers: 64 hexadecimal digits. Servers with the same key take
# each other's, also after a restart. Empty: a new key at each start.
ticket_key_file = ""
# Append a record of each statement to audit/: who, when, how long, the statement without its values.
audit = true

[serve.limits]
# Statements that run at a time, of all and of one user; how many more may wait, and how long.
running = 8
running_each = 4
waiting = 256
wait_seconds = 60
# What one statement may take. 0: no limit; for memory, half of what all queries have.
timeout_seconds = 600
rows = 0
mib = 0
memory_mib = 0
# Room for the tables that one user makes in the schema `workspace`, as they are stored. 0: no limit.
workspace_mib = 1024
# For a role where it differs: [serve.limits.reader], [serve.limits.analyst], [serve.limits.admin],
# each with timeout_seconds, rows, mib or memory_mib.
"#;

/// All settings.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) landing: Landing,
    pub(crate) engine: Engine,
    pub(crate) serve: Serve,
}

/// How files are landed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Landing {
    pub(crate) identity_codes: Codes,
    pub(crate) at_once: usize,
}

/// Which identity codes are received.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Codes {
    Artificial,
    Real,
    Any,
}

impl From<Codes> for IdentityCodes {
    fn from(codes: Codes) -> Self {
        match codes {
            Codes::Artificial => IdentityCodes::ArtificialOnly,
            Codes::Real => IdentityCodes::RealOnly,
            Codes::Any => IdentityCodes::Any,
        }
    }
}

impl Default for Landing {
    fn default() -> Self {
        Self {
            identity_codes: Codes::Artificial,
            at_once: 2,
        }
    }
}

/// Limits of queries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Engine {
    pub(crate) memory_mib: usize,
    pub(crate) partitions: usize,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            memory_mib: 1024,
            partitions: 0,
        }
    }
}

/// The doors.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Serve {
    pub(crate) flight: String,
    pub(crate) http: String,
    pub(crate) auth: Auth,
    pub(crate) role: String,
    pub(crate) ticket_key_file: PathBuf,
    pub(crate) audit: bool,
    pub(crate) limits: StatementLimits,
}

/// How many statements run, and what one may take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StatementLimits {
    running: usize,
    running_each: usize,
    waiting: usize,
    wait_seconds: u64,
    timeout_seconds: u64,
    rows: u64,
    mib: u64,
    memory_mib: usize,
    workspace_mib: u64,
    reader: OfRole,
    analyst: OfRole,
    admin: OfRole,
}

/// What one statement of a role may take; what is not said there is as for everyone.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OfRole {
    timeout_seconds: Option<u64>,
    rows: Option<u64>,
    mib: Option<u64>,
    memory_mib: Option<usize>,
}

impl Default for StatementLimits {
    fn default() -> Self {
        let gate = GateOptions::default();
        Self {
            running: gate.running,
            running_each: gate.running_each,
            waiting: gate.waiting,
            wait_seconds: gate.patience.as_secs(),
            timeout_seconds: 600,
            rows: 0,
            mib: 0,
            memory_mib: 0,
            workspace_mib: 1024,
            reader: OfRole::default(),
            analyst: OfRole::default(),
            admin: OfRole::default(),
        }
    }
}

impl StatementLimits {
    /// How many statements run and wait.
    pub(crate) fn gate(&self) -> GateOptions {
        GateOptions {
            running: self.running,
            running_each: self.running_each,
            waiting: self.waiting,
            patience: Duration::from_secs(self.wait_seconds),
        }
    }

    /// Most bytes of one user's own tables.
    pub(crate) fn workspace_bytes(&self) -> Option<u64> {
        Some(self.workspace_mib.saturating_mul(1 << 20)).filter(|limit| *limit > 0)
    }

    /// What one statement may take, by role. A role that says 0 has no limit where others have one.
    pub(crate) fn of_roles(&self) -> RoleLimits {
        let everyone = OfRole {
            timeout_seconds: Some(self.timeout_seconds).filter(|limit| *limit > 0),
            rows: Some(self.rows).filter(|limit| *limit > 0),
            mib: Some(self.mib).filter(|limit| *limit > 0),
            memory_mib: Some(self.memory_mib).filter(|limit| *limit > 0),
        };
        let roles = [
            (Role::Reader, &self.reader),
            (Role::Analyst, &self.analyst),
            (Role::Admin, &self.admin),
        ];
        RoleLimits {
            everyone: everyone.limits(),
            roles: roles
                .into_iter()
                .map(|(role, own)| (role, own.limits()))
                .collect(),
        }
    }
}

impl OfRole {
    fn limits(&self) -> Limits {
        const NONE: u64 = 0;
        let or_endless = |limit: u64| if limit == NONE { u64::MAX } else { limit };
        Limits {
            timeout: self.timeout_seconds.map(|seconds| match seconds {
                // Longer than any server runs, and short enough to be added to a moment.
                NONE => Duration::from_secs(10 * 365 * 86_400),
                seconds => Duration::from_secs(seconds),
            }),
            rows: self.rows.map(or_endless),
            bytes: self.mib.map(|mib| or_endless(mib).saturating_mul(1 << 20)),
            memory: self
                .memory_mib
                .filter(|mib| *mib > 0)
                .map(|mib| mib.saturating_mul(1 << 20)),
        }
    }
}

/// Who may connect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Auth {
    /// Everyone on this machine.
    #[default]
    None,
    /// Those in the list of users.
    Users,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            flight: "127.0.0.1:31337".to_owned(),
            http: String::new(),
            auth: Auth::None,
            role: "reader".to_owned(),
            ticket_key_file: PathBuf::new(),
            audit: true,
            limits: StatementLimits::default(),
        }
    }
}

/// Reads the settings of a warehouse; without a file the defaults hold.
pub(crate) fn read(folder: &Path) -> Result<Settings, Failure> {
    let path = folder.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Settings::default());
        }
        Err(error) => return Err(Failure::usage(format!("cannot read `{FILE}`: {error}"))),
    };
    toml::from_str(&text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        Failure::usage(format!(
            "{FILE}:{line}: {}\n  help: `tietopohja reference settings` lists every key",
            error.message()
        ))
    })
}

/// Crash tests name a fail point in the environment; in shipped builds it does nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "the command line is where the environment enters"
)]
pub(crate) fn arm_fail_point() {
    if let Ok(name) = std::env::var("TIETOPOHJA_FAIL_POINT") {
        tietopohja_lake::failpoint::arm(&name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_the_defaults() {
        let written: Settings = toml::from_str(TEMPLATE).unwrap();
        let default = Settings::default();
        assert_eq!(format!("{written:?}"), format!("{default:?}"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "[engine]\nmemory_mb = 5\n").unwrap();
        let text = read(folder.path()).unwrap_err().to_string();
        assert!(
            text.contains("tietopohja.toml:2") && text.contains("memory_mb"),
            "{text}"
        );
    }
}
