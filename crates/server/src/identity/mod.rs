//! Who may come in: named users, their passwords, and API tokens; and those whom an identity provider
//! vouches for.
//!
//! `users` is the list and its file: what the command line changes and the server reads. `gate`
//! checks what a request shows against the list, and `attempts` slows guessing down. `oidc` checks
//! tokens of a provider, and knows no list. The clock and randomness are arguments everywhere here, and
//! no secret is kept: a password becomes an argon2id hash, an API token the hash of its secret. Another
//! way to prove who one is becomes a method of `gate` or a folder beside `oidc`, and an arm in `auth`.

mod attempts;
mod gate;
mod oidc;
mod users;

pub(crate) use gate::{Gate, Visitor};
pub use oidc::{Algorithm, OidcError, OidcOptions};
pub(crate) use oidc::{ErrorId, Fault, Provider, looks_like_token};
pub use users::{ApiToken, Revoked, User, Users, UsersError};
