//! Settings of a warehouse: `tietopohja.toml`. Each has a default and one place; an unknown key is
//! an error. A flag wins over the file.

mod oidc;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tietopohja_contract::IdentityCodes;
use tietopohja_policy::Role;
use tietopohja_server::{GateOptions, Limits, RoleLimits, TlsFiles};

use crate::failure::Failure;
use oidc::Oidc;

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
# Where the Flight SQL door listens. Port 0 takes a free port. An address that other machines reach,
# such as "0.0.0.0:31337", needs TLS and an `auth` other than "none".
flight = "127.0.0.1:31337"
# Where the HTTP door with health and metrics listens, under the same rule. "": nowhere.
http = ""
# TLS of both doors: files with the certificate (and those that vouch for it) and its key, in PEM. They
# are read again within seconds when they change. Empty: no TLS.
tls_certificate = ""
tls_key = ""
# Authorities in PEM, one of whom must vouch for each client's own certificate. Empty: none is asked for.
tls_client_ca = ""
# Who may connect: "none" (everyone on this machine, without signing in), "users" (those of
# `tietopohja user`, with a password or an API token; of [serve.oidc] too, if it has an issuer) or
# "oidc" (those of [serve.oidc] alone).
auth = "none"
# What everyone who connects may read when `auth` is "none": "reader" (published, reference) or
# "analyst".
role = "reader"
# A file with the key of tickets and bearers: 64 hexadecimal digits. Servers with the same key take
# each other's, also after a restart. Empty: a new key at each start.
ticket_key_file = ""
# Results that are kept for the next one who asks the same while no table has changed, in MiB. 0: none.
result_cache_mib = 64
# Append a record of each statement to audit/: who, when, how long, the statement without its values.
audit = true
# The OpenTelemetry collector that gets a span of each statement, by OTLP over gRPC without TLS, such as
# "http://127.0.0.1:4317". Empty: none.
otlp = ""

[serve.oidc]
# An OpenID Connect provider whose access tokens let people in. Its address, exactly as it calls
# itself: https. Empty: none.
issuer = ""
# What tokens say of their issuer, where it is not the same (AD FS).
token_issuer = ""
# What the provider calls this server: tokens for others are refused.
audience = ""
# How tokens may be signed: "RS256", "ES256", "PS256".
algorithms = ["RS256", "ES256"]
# A file with the provider's keys (JWKS), where the provider cannot be asked for them.
jwks_file = ""
# The only authorities (PEM) that may vouch for the provider's address. Empty: those of the machine.
ca_file = ""
# The claims with the user's name, and with the roles: a text or a list, "a.b" goes into claims.
name_claim = "preferred_username"
role_claim = "roles"
# How much the clocks of provider and server may differ.
leeway_seconds = 60

[serve.oidc.roles]
# What a value of the role claim is here: value = "admin", "analyst" or "reader". The most powerful
# of several counts; who has none may not come in.

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
    pub(crate) tls_certificate: PathBuf,
    pub(crate) tls_key: PathBuf,
    pub(crate) tls_client_ca: PathBuf,
    pub(crate) auth: Auth,
    pub(crate) role: String,
    pub(crate) ticket_key_file: PathBuf,
    pub(crate) result_cache_mib: usize,
    pub(crate) audit: bool,
    pub(crate) otlp: String,
    pub(crate) oidc: Oidc,
    pub(crate) limits: StatementLimits,
}

impl Serve {
    /// The files of TLS in a warehouse folder; none without a certificate.
    pub(crate) fn tls(&self, folder: &Path) -> Result<Option<TlsFiles>, Failure> {
        let given = |file: &Path| (!file.as_os_str().is_empty()).then(|| folder.join(file));
        let client_ca = given(&self.tls_client_ca);
        match (given(&self.tls_certificate), given(&self.tls_key)) {
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles {
                certificate,
                key,
                client_ca,
            })),
            (None, None) if client_ca.is_none() => Ok(None),
            _ => Err(Failure::usage(
                "TLS needs both `tls_certificate` and `tls_key`: set them, or leave all settings of \
                 TLS empty"
                    .to_owned(),
            )),
        }
    }
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
    /// Those in the list of users, and those of the identity provider if there is one.
    Users,
    /// Those of the identity provider.
    Oidc,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            flight: "127.0.0.1:31337".to_owned(),
            http: String::new(),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            tls_client_ca: PathBuf::new(),
            auth: Auth::None,
            role: "reader".to_owned(),
            ticket_key_file: PathBuf::new(),
            result_cache_mib: 64,
            audit: true,
            otlp: String::new(),
            oidc: Oidc::default(),
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
    fn tls_is_a_certificate_with_its_key() {
        let settings = |text: &str| toml::from_str::<Settings>(text).unwrap().serve;
        let folder = Path::new("house");
        let both = "[serve]\ntls_certificate = 'c.pem'\ntls_key = '/etc/k.pem'\n";
        let files = settings(both).tls(folder).unwrap().unwrap();
        assert_eq!(files.certificate, Path::new("house/c.pem"));
        assert_eq!(files.key, Path::new("/etc/k.pem"));
        assert_eq!(files.client_ca, None);
        assert_eq!(settings("").tls(folder).unwrap(), None);
        for part in ["tls_certificate", "tls_key", "tls_client_ca"] {
            let refused = settings(&format!("[serve]\n{part} = 'f.pem'\n")).tls(folder);
            assert!(
                refused.unwrap_err().to_string().contains("tls_key"),
                "{part}"
            );
        }
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
