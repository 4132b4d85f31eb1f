//! `tietopohja serve`: the doors.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use tietopohja_policy::Role;
use tietopohja_server::identity::Users;
use tietopohja_server::{Listening, ServeOptions, serve};

use crate::audit;
use crate::failure::{Failure, chain};
use crate::output::{print, say};
use crate::settings::Auth;
use crate::warehouse::Warehouse;

/// Arguments of `serve`.
#[derive(Debug, Args, Default)]
pub(crate) struct Serve {
    /// Where the Flight SQL door listens; port 0 takes a free port
    #[arg(long, value_name = "ADDR")]
    flight: Option<String>,
    /// Where the HTTP door with health and metrics listens; port 0 takes a free port
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// What everyone who connects may read: reader or analyst
    #[arg(long)]
    role: Option<String>,
    /// Print one line of JSON when the doors are open
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub(crate) async fn run(self, folder: &Path) -> Result<(), Failure> {
        let warehouse = Warehouse::open(folder)?;
        let written = self
            .flight
            .as_deref()
            .unwrap_or(&warehouse.settings.serve.flight);
        let flight = address(written)?;
        let http = self
            .http
            .as_deref()
            .unwrap_or(&warehouse.settings.serve.http);
        let http = match http {
            "" => None,
            written => Some(address(written)?),
        };
        let wanted = self
            .role
            .as_deref()
            .unwrap_or(&warehouse.settings.serve.role);
        let role = [Role::Reader, Role::Analyst]
            .into_iter()
            .find(|role| role.as_str() == wanted)
            .ok_or_else(|| {
                Failure::usage(format!(
                    "`{wanted}` is not a role for a door without users: use reader or analyst"
                ))
            })?;
        let engine = warehouse.engine().await?;
        let key = ticket_key(&warehouse)?;
        let users = match warehouse.settings.serve.auth {
            Auth::None | Auth::Oidc => None,
            Auth::Users => Some(warehouse.folder.join(Users::FILE)),
        };
        let settings = &warehouse.settings.serve;
        let oidc = settings.oidc.provider(settings.auth, &warehouse.folder)?;
        if settings.auth != Auth::None && self.role.is_some() {
            return Err(Failure::usage(
                "`--role` is for a door without users: with `auth` as it is each user has a role of their own",
            ));
        }
        let who = match (&users, &oidc) {
            (Some(_), None) => "users sign in with a password or an API token".to_owned(),
            (Some(_), Some(_)) => {
                "users sign in with a password or a token of the server or of the identity provider"
                    .to_owned()
            }
            (None, Some(_)) => "users sign in with a token of the identity provider".to_owned(),
            (None, None) => format!("everyone who connects reads as `{}`", role.as_str()),
        };
        let sign_in = if settings.auth != Auth::None {
            ", db_kwargs={\"username\": NAME, \"password\": PASSWORD}"
        } else {
            ""
        };
        let tls = warehouse.settings.serve.tls(&warehouse.folder)?;
        let limits = &warehouse.settings.serve.limits;
        let audit = match warehouse.settings.serve.audit {
            true => Some(audit::to_folder(folder)?),
            false => None,
        };
        let otlp = Some(warehouse.settings.serve.otlp.clone()).filter(|to| !to.is_empty());
        let options = ServeOptions {
            anonymous_role: role,
            users,
            oidc,
            tls,
            http,
            gate: limits.gate(),
            limits: limits.of_roles(),
            result_cache_bytes: warehouse
                .settings
                .serve
                .result_cache_mib
                .saturating_mul(1 << 20),
            workspace_bytes: limits.workspace_bytes(),
            audit,
            otlp,
            ..ServeOptions::new(flight, key, Arc::clone(&warehouse.clock))
        };
        let json = self.json;
        let encrypted = options.tls.is_some();
        let announce = move |doors: Listening| {
            let address = doors.flight;
            let (grpc, http) = match encrypted {
                true => ("grpc+tls", "https"),
                false => ("grpc", "http"),
            };
            let line = if json {
                serde_json::json!({
                    "flight": format!("{grpc}://{address}"),
                    "http": doors.http.map(|address| format!("{http}://{address}")),
                    "pid": std::process::id(),
                })
                .to_string()
            } else {
                format!(
                    "Flight SQL: {grpc}://{address} ({who})\nPython: pip install adbc-driver-flightsql pyarrow, then\n  import adbc_driver_flightsql.dbapi as f\n  f.connect(\"{grpc}://{address}\"{sign_in}).cursor().execute(\"SELECT * FROM published.indicator_value LIMIT 5\").fetch_arrow_table()\nCtrl-C stops the server"
                )
            };
            if print(&line).is_err() {
                say("the ready line could not be printed");
            }
        };
        serve(engine, options, announce, stopped())
            .await
            .map_err(|error| Failure::expected(chain(&error)))
    }
}

fn address(written: &str) -> Result<SocketAddr, Failure> {
    written.parse().map_err(|_| {
        Failure::usage(format!(
            "`{written}` is not an address: write 127.0.0.1:31337"
        ))
    })
}

/// The key of tickets and bearers: the operator's, or one for this run.
fn ticket_key(warehouse: &Warehouse) -> Result<[u8; 32], Failure> {
    let file = &warehouse.settings.serve.ticket_key_file;
    let mut key = [0; 32];
    if file.as_os_str().is_empty() {
        getrandom::fill(&mut key)
            .map_err(|error| Failure::internal(format!("no randomness: {error}")))?;
        return Ok(key);
    }
    let text = std::fs::read_to_string(warehouse.folder.join(file)).map_err(|error| {
        Failure::usage(format!(
            "cannot read `{}`, the `ticket_key_file` of the settings: {error}",
            file.display()
        ))
    })?;
    let (pairs, rest) = text.trim().as_bytes().as_chunks::<2>();
    let digit = |letter: u8| char::from(letter).to_digit(16);
    let mut bytes = pairs
        .iter()
        .filter_map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok());
    let filled = key.iter_mut().all(|slot| {
        bytes.next().is_some_and(|byte| {
            *slot = byte;
            true
        })
    });
    if filled && rest.is_empty() && pairs.len() == key.len() {
        Ok(key)
    } else {
        Err(Failure::usage(format!(
            "`{}` must hold 64 hexadecimal digits: make it with `openssl rand -hex 32`",
            file.display()
        )))
    }
}

/// Completes on SIGTERM. Ctrl-C ends the whole command.
async fn stopped() {
    #[cfg(unix)]
    if let Ok(mut signal) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    {
        signal.recv().await;
        return;
    }
    std::future::pending::<()>().await;
}
