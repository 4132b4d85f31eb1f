//! The settings `[serve.oidc]`: sign-in with an identity provider. What they mean is the server's
//! business; to add one, add it here, to the template, and to the server's own options.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tietopohja_policy::Role;
use tietopohja_server::identity::{Algorithm, OidcOptions};

use super::Auth;
use crate::failure::Failure;

/// An identity provider.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Oidc {
    issuer: String,
    token_issuer: String,
    audience: String,
    algorithms: Vec<Algorithm>,
    jwks_file: PathBuf,
    ca_file: PathBuf,
    name_claim: String,
    role_claim: String,
    leeway_seconds: u64,
    roles: BTreeMap<String, Role>,
}

impl Default for Oidc {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            token_issuer: String::new(),
            audience: String::new(),
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
            jwks_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            name_claim: "preferred_username".to_owned(),
            role_claim: "roles".to_owned(),
            leeway_seconds: 60,
            roles: BTreeMap::new(),
        }
    }
}

impl Oidc {
    /// The provider that people sign in with; none where `auth` does not want one. Files are beside
    /// those of the warehouse.
    ///
    /// # Errors
    /// There is no provider and `auth` wants one, or there is one and `auth` lets everyone in.
    pub(crate) fn provider(
        &self,
        auth: Auth,
        folder: &Path,
    ) -> Result<Option<OidcOptions>, Failure> {
        match (auth, self.issuer.is_empty()) {
            (Auth::None | Auth::Users, true) => return Ok(None),
            (Auth::Oidc, true) => {
                return Err(Failure::usage(
                    "`auth = \"oidc\"` needs the provider: set `issuer` in `[serve.oidc]`",
                ));
            }
            (Auth::None, false) => {
                return Err(Failure::usage(
                    "`[serve.oidc]` has an `issuer`, and `auth = \"none\"` lets everyone in: set \
                     `auth` to \"oidc\" or \"users\", or take the issuer away",
                ));
            }
            (Auth::Users | Auth::Oidc, false) => {}
        }
        let given = |path: &PathBuf| {
            let named = !path.as_os_str().is_empty();
            named.then(|| folder.join(path))
        };
        Ok(Some(OidcOptions {
            issuer: self.issuer.clone(),
            token_issuer: Some(self.token_issuer.clone()).filter(|issuer| !issuer.is_empty()),
            audience: self.audience.clone(),
            algorithms: self.algorithms.clone(),
            jwks_file: given(&self.jwks_file),
            ca_file: given(&self.ca_file),
            name_claim: self.name_claim.clone(),
            role_claim: self.role_claim.clone(),
            roles: self.roles.clone(),
            leeway: Duration::from_secs(self.leeway_seconds),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Oidc, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_provider_counts_where_auth_wants_it() {
        let none = read("").unwrap();
        let some = read("issuer = \"https://id.example.fi\"").unwrap();
        let folder = Path::new("/warehouse");
        let cases = [
            (Auth::None, &none, Ok(false)),
            (Auth::Users, &none, Ok(false)),
            (Auth::Oidc, &none, Err("set `issuer`")),
            (Auth::None, &some, Err("lets everyone in")),
            (Auth::Users, &some, Ok(true)),
            (Auth::Oidc, &some, Ok(true)),
        ];
        for (auth, oidc, expected) in cases {
            match (oidc.provider(auth, folder), expected) {
                (Ok(provider), Ok(some)) => assert_eq!(provider.is_some(), some, "{auth:?}"),
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{auth:?}: {error}");
                }
                (given, _) => unreachable!("{auth:?}: {given:?}"),
            }
        }
    }

    #[test]
    fn only_known_algorithms_and_roles_are_taken() {
        let cases = [
            ("algorithms = [\"RS256\", \"ES256\", \"PS256\"]", true),
            ("algorithms = [\"HS256\"]", false),
            ("algorithms = [\"none\"]", false),
            ("[roles]\n\"tp readers\" = \"reader\"", true),
            ("[roles]\nx = \"owner\"", false),
            ("secret = \"x\"", false),
        ];
        for (text, good) in cases {
            assert_eq!(read(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn files_are_beside_those_of_the_warehouse() {
        let text =
            "issuer = \"https://id\"\njwks_file = \"keys/a.json\"\nca_file = \"/etc/ca.pem\"";
        let provider = read(text).unwrap();
        let provider = provider.provider(Auth::Oidc, Path::new("/warehouse"));
        let provider = provider.unwrap().unwrap();
        let paths = [provider.jwks_file, provider.ca_file].map(|path| path.unwrap());
        let expected = ["/warehouse/keys/a.json", "/etc/ca.pem"].map(PathBuf::from);
        assert_eq!(paths, expected);
    }
}
