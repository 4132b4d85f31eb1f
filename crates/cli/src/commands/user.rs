//! `tietopohja user`: who may connect to `serve`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use tietopohja_domain::{Clock, Timestamp};
use tietopohja_policy::Role;
use tietopohja_server::identity::{Revoked, Users, UsersError};

use crate::clock::SystemClock;
use crate::failure::{Failure, chain};
use crate::output::{print, print_json, say};

/// Subcommands of `user`.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Add a user, or let a revoked one in again
    Add {
        /// The name to sign in with
        name: String,
        /// What the user may read: admin, analyst or reader
        #[arg(long)]
        role: String,
        #[command(flatten)]
        password: Given,
    },
    /// Every user and token
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make an API token and print it: it is shown once
    Token {
        /// The user in whose name it acts
        name: String,
        /// How many days it is good; without this it has no end
        #[arg(long)]
        days: Option<u32>,
        /// What it is for
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Revoke a user with all tokens, or one token by its id
    Revoke {
        /// A user name or the id of a token
        what: String,
    },
    /// Set a new password; whoever is signed in with the old one must sign in again
    Password {
        /// The user
        name: String,
        #[command(flatten)]
        password: Given,
    },
}

/// Where a password comes from: never from an argument, which other programs can see.
#[derive(Debug, Args)]
pub(crate) struct Given {
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Serialize)]
struct UserLine<'a> {
    name: &'a str,
    role: Role,
    disabled: bool,
    tokens: Vec<TokenLine<'a>>,
}

#[derive(Serialize)]
struct TokenLine<'a> {
    id: &'a str,
    created: String,
    expires: Option<String>,
    note: &'a str,
    revoked: bool,
}

impl User {
    pub(crate) fn run(self, folder: &Path) -> Result<(), Failure> {
        if !folder.join("definitions").is_dir() {
            return Err(Failure::usage(format!(
                "`{}` is not a warehouse: name it with `-C DIR`, or make one with `tietopohja init DIR`",
                folder.display()
            )));
        }
        let file: PathBuf = folder.join(Users::FILE);
        match self {
            User::Add {
                name,
                role,
                password,
            } => {
                let role = role
                    .parse::<Role>()
                    .map_err(|error| Failure::usage(error.to_string()))?;
                let (password, salt) = (password.read()?, random()?);
                change(&file, |users| users.add(&name, role, &password, &salt))?;
                say(&format!(
                    "`{name}` may sign in as {role}; `serve` asks for it when the settings say `auth = \"users\"`"
                ));
                Ok(())
            }
            User::List { json } => list(&Users::read(&file).map_err(failed)?, json),
            User::Token { name, days, note } => {
                let now = SystemClock.now().as_second();
                let expires = days.map(|days| now.saturating_add(i64::from(days) * 86_400));
                let randomness = random()?;
                let token = change(&file, |users| {
                    users.issue_token(&name, &randomness, now, expires, &note)
                })?;
                print(&token)?;
                say("keep the token in a safe place: it cannot be shown again");
                Ok(())
            }
            User::Revoke { what } => {
                match change(&file, |users| users.revoke(&what))? {
                    Revoked::Token => say(&format!("the token `{what}` is good for nothing now")),
                    Revoked::User(tokens) => {
                        say(&format!("`{what}` is signed out, with {tokens} tokens"));
                    }
                }
                Ok(())
            }
            User::Password { name, password } => {
                let (password, salt) = (password.read()?, random()?);
                change(&file, |users| users.set_password(&name, &password, &salt))?;
                say(&format!(
                    "`{name}` has a new password and must sign in again"
                ));
                Ok(())
            }
        }
    }
}

fn list(users: &Users, json: bool) -> Result<(), Failure> {
    let moment = |seconds: i64| {
        Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
    };
    let lines: Vec<UserLine<'_>> = users
        .users()
        .iter()
        .map(|user| UserLine {
            name: &user.name,
            role: user.role,
            disabled: user.disabled,
            tokens: users
                .tokens()
                .iter()
                .filter(|token| token.user == user.name)
                .map(|token| TokenLine {
                    id: &token.id,
                    created: moment(token.created),
                    expires: token.expires.map(moment),
                    note: &token.note,
                    revoked: token.revoked,
                })
                .collect(),
        })
        .collect();
    if json {
        return print_json(&lines);
    }
    if lines.is_empty() {
        say(
            "there are no users; add one with `tietopohja user add NAME --role ROLE --password-stdin`",
        );
    }
    for user in &lines {
        let revoked = |is| if is { " (revoked)" } else { "" };
        print(&format!(
            "{}  {}{}",
            user.name,
            user.role,
            revoked(user.disabled)
        ))?;
        for token in &user.tokens {
            let end = token.expires.as_deref().unwrap_or("no end");
            print(&format!(
                "  token {}  until {end}  {}{}",
                token.id,
                token.note,
                revoked(token.revoked)
            ))?;
        }
    }
    Ok(())
}

fn change<T>(
    file: &Path,
    change: impl FnOnce(&mut Users) -> Result<T, UsersError>,
) -> Result<T, Failure> {
    Users::change(file, change).map_err(failed)
}

fn failed(error: UsersError) -> Failure {
    Failure::expected(chain(&error))
}

impl Given {
    fn read(&self) -> Result<String, Failure> {
        if !self.password_stdin {
            return Err(Failure::usage(
                "a password is read from standard input: add `--password-stdin`",
            ));
        }
        let mut text = String::new();
        std::io::stdin()
            .take(64 * 1024)
            .read_to_string(&mut text)
            .map_err(|error| Failure::usage(format!("cannot read the password: {error}")))?;
        Ok(text.lines().next().unwrap_or_default().to_owned())
    }
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::internal(format!("no randomness: {error}")))?;
    Ok(bytes)
}
