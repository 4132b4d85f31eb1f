//! The one who asks: a checked name and a role.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a principal may do at most. The roles are ordered: a later one sees no more than an earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs the warehouse: sees every schema, raw and quarantined rows included.
    Admin,
    /// Works with conformed rows and restricted results; never with raw rows.
    Analyst,
    /// Reads what is published, the reference data, and the list of indicators and runs.
    Reader,
}

impl Role {
    /// Every role, most powerful first.
    pub const ALL: [Role; 3] = [Role::Admin, Role::Analyst, Role::Reader];

    /// The name in settings and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Analyst => "analyst",
            Role::Reader => "reader",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a role: use admin, analyst or reader")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// The one in whose name a query runs. No session starts without one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: String,
    role: Role,
}

/// What the names of those begin with for whom an identity provider vouches.
pub const PROVIDER_MARK: &str = "oidc:";

/// The name cannot be written in a log or a user list without ambiguity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a user name has 1 to 64 characters: letters, digits, `.`, `_`, `-` or `@`")]
pub struct InvalidPrincipal;

impl Principal {
    /// A principal with a checked name.
    ///
    /// # Errors
    /// The name is empty, longer than 64 characters, or has a character that a log line or a
    /// settings file could misread.
    pub fn new(name: impl Into<String>, role: Role) -> Result<Self, InvalidPrincipal> {
        let name = name.into();
        let length = name.chars().count();
        if length == 0 || length > 64 || !name.chars().all(is_plain) {
            return Err(InvalidPrincipal);
        }
        Ok(Self { name, role })
    }

    /// Someone whom an identity provider vouches for. The name gets [`PROVIDER_MARK`] in front, which
    /// no name of [`Principal::new`] can have, so that nobody becomes another by being called alike.
    ///
    /// # Errors
    /// The name is empty, longer than 128 characters, or has a character other than those of
    /// [`Principal::new`], `%` and `:`.
    pub fn of_provider(name: &str, role: Role) -> Result<Self, InvalidPrincipal> {
        let plain = |c: char| is_plain(c) || matches!(c, '%' | ':');
        if !(1..=128).contains(&name.chars().count()) || !name.chars().all(plain) {
            return Err(InvalidPrincipal);
        }
        Ok(Self {
            name: format!("{PROVIDER_MARK}{name}"),
            role,
        })
    }

    /// The person at the keyboard of the machine that holds the warehouse files. Whoever can read
    /// the files already has what the administrator sees.
    pub fn local_admin() -> Self {
        Self {
            name: "local".to_owned(),
            role: Role::Admin,
        }
    }

    /// The warehouse itself, when it computes indicators.
    pub fn system() -> Self {
        Self {
            name: "system".to_owned(),
            role: Role::Admin,
        }
    }

    /// The name in logs and user lists.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@')
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_from_its_name() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse::<Role>(), Ok(role));
        }
        assert_eq!(
            "Admin".parse::<Role>(),
            Err(UnknownRole("Admin".to_owned()))
        );
        assert_eq!("".parse::<Role>(), Err(UnknownRole(String::new())));
    }

    #[test]
    fn a_name_must_be_plain() {
        for good in ["aino", "aino.virtanen@hva.fi", "bi-tool_2", "Väinö"] {
            assert_eq!(Principal::new(good, Role::Reader).unwrap().name(), good);
        }
        let long = "a".repeat(65);
        for bad in ["", " ", "a b", "a\nb", "a/b", "`x`", long.as_str()] {
            assert_eq!(Principal::new(bad, Role::Reader), Err(InvalidPrincipal));
        }
    }

    #[test]
    fn a_name_of_a_provider_is_never_that_of_a_user() {
        for name in ["aino", "sub:248289761001", "aino%20v@hva.fi"] {
            let principal = Principal::of_provider(name, Role::Reader).unwrap();
            assert_eq!(principal.name(), format!("oidc:{name}"));
            let user = Principal::new(principal.name(), Role::Reader);
            assert_eq!(user, Err(InvalidPrincipal));
        }
        let long = "a".repeat(129);
        for bad in ["", "a b", "a\nb", "a/b", long.as_str()] {
            let refused = Principal::of_provider(bad, Role::Reader);
            assert_eq!(refused, Err(InvalidPrincipal), "{bad}");
        }
    }

    #[test]
    fn the_built_in_principals_have_valid_names() {
        for principal in [Principal::local_admin(), Principal::system()] {
            assert!(Principal::new(principal.name(), principal.role()).is_ok());
        }
    }
}
