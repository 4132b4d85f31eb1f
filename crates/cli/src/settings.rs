//! Settings of a warehouse: `tietopohja.toml`. Each has a default and one place; an unknown key is
//! an error. A flag wins over the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tietopohja_contract::IdentityCodes;

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
# Who may connect: "none" (everyone on this machine, without signing in) or "users" (those of
# `tietopohja user`, with a password or an API token).
auth = "none"
# What everyone who connects may read when `auth` is "none": "reader" (published, reference) or
# "analyst".
role = "reader"
# A file with the key of tickets and bearers: 64 hexadecimal digits. Servers with the same key take
# each other's, also after a restart. Empty: a new key at each start.
ticket_key_file = ""
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
    pub(crate) auth: Auth,
    pub(crate) role: String,
    pub(crate) ticket_key_file: PathBuf,
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
            auth: Auth::None,
            role: "reader".to_owned(),
            ticket_key_file: PathBuf::new(),
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
