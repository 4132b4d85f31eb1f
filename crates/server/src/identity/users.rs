//! The list of users and API tokens, and its file.
//!
//! The file is TOML that people may read: it holds hashes, never a password or a token. A change is
//! written beside it and renamed over it, so that a reader meets the old list or the new one. What
//! decides about a request is in `gate`, not here.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use argon2::password_hash::SaltString;
use argon2::{Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier};
use serde::{Deserialize, Serialize};
use tietopohja_policy::{Principal, Role};

use crate::auth::to_hex;

/// How every API token begins, so that scanners for leaked secrets find it.
pub(crate) const TOKEN_MARK: &str = "tietopohja_";

/// The shortest password.
const SHORTEST: usize = 12;

/// The longest password, in bytes.
const LONGEST: usize = 1024;

/// Limits of the work that a password hash in the file may ask for: MiB, and rounds.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
const MOST_ROUNDS: u32 = 16;

/// Why the list cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file is not what it should be.
    #[error("`{}`, line {line}: {message}; nobody can sign in until the file is put right", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The operating system refused.
    #[error("cannot read or write `{}`", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another command holds the list.
    #[error(
        "another command is changing the users; if none is running, delete `{}` and try again",
        .path.display()
    )]
    Busy {
        /// The file that shows it.
        path: PathBuf,
    },
    /// What was asked cannot be done with this list.
    #[error("{0}")]
    Refused(String),
}

/// A person or program that may sign in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name to sign in with.
    pub name: String,
    /// What the user may read.
    pub role: Role,
    /// Whether the user was revoked.
    #[serde(default)]
    pub disabled: bool,
    /// Rises with every change; a bearer is good for one version.
    pub version: u64,
    /// The argon2id hash of the password, as a PHC string.
    password: String,
}

impl User {
    /// The principal of this user; none for a name that no list accepts.
    pub(crate) fn principal(&self) -> Option<Principal> {
        Principal::new(self.name.clone(), self.role).ok()
    }

    pub(crate) fn password_hash(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("disabled", &self.disabled)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A token that a program sends instead of a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// Names the token in lists and logs.
    pub id: String,
    /// In whose name it acts.
    pub user: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Seconds since 1970; none for a token without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Whether it was revoked.
    #[serde(default)]
    pub revoked: bool,
    /// BLAKE3 of the secret, in hexadecimal. The secret has 256 bits: a slow hash adds nothing.
    hash: String,
}

impl ApiToken {
    fn is_good(&self, now: i64) -> bool {
        !self.revoked && self.expires.is_none_or(|expires| now < expires)
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiToken")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("expires", &self.expires)
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}

/// What was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// A user, with this number of tokens.
    User(usize),
    /// One token.
    Token,
}

/// All users and tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    #[serde(default, rename = "user", skip_serializing_if = "Vec::is_empty")]
    users: Vec<User>,
    #[serde(default, rename = "token", skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<ApiToken>,
}

impl Users {
    /// The file's name in the warehouse folder.
    pub const FILE: &'static str = "keys/users.toml";

    /// Reads a list. The path is for messages.
    ///
    /// # Errors
    /// The text is not a list of users; the line is named.
    pub fn parse(path: &Path, text: &str) -> Result<Self, UsersError> {
        let damaged = |line, message| UsersError::Damaged {
            path: path.to_owned(),
            line,
            message,
        };
        let users: Users = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            // The message of the parser, not its picture of the line: that may hold a hash.
            damaged(line_at(text, at), error.message().to_owned())
        })?;
        users
            .check()
            .map_err(|(what, message)| damaged(line_of(text, &what), message))?;
        Ok(users)
    }

    /// The first entry that cannot be right: a text on its line, and what is wrong.
    fn check(&self) -> Result<(), (String, String)> {
        let mut names = HashSet::new();
        for user in &self.users {
            let wrong = |message: String| Err((format!("\"{}\"", user.name), message));
            if let Err(error) = Principal::new(user.name.clone(), user.role) {
                return wrong(error.to_string());
            }
            if !names.insert(&user.name) {
                return wrong(format!("the user `{}` is there twice", user.name));
            }
            if !is_argon2id(&user.password) {
                return wrong(format!(
                    "the password of `{}` is not an argon2id hash; set it with `tietopohja user password`",
                    user.name
                ));
            }
        }
        let mut ids = HashSet::new();
        for token in &self.tokens {
            let wrong = |message: String| Err((format!("\"{}\"", token.id), message));
            if !ids.insert(&token.id) {
                return wrong(format!("the token `{}` is there twice", token.id));
            }
            if !names.contains(&token.user) {
                return wrong(format!("the token `{}` belongs to no user", token.id));
            }
            if blake3::Hash::from_hex(&token.hash).is_err() {
                return wrong(format!(
                    "the hash of the token `{}` cannot be read",
                    token.id
                ));
            }
        }
        Ok(())
    }

    /// Reads the file; without a file there are no users.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(UsersError::File {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Reads the file, changes the list and writes it, all or nothing, one command at a time.
    ///
    /// # Errors
    /// The file cannot be read or written, another command is changing it, or the change is refused.
    pub fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut Users) -> Result<T, UsersError>,
    ) -> Result<T, UsersError> {
        let file = |path: &Path, source| UsersError::File {
            path: path.to_owned(),
            source,
        };
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|source| file(parent, source))?;
        let beside = path.with_extension("toml.new");
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut open = options.open(&beside).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                UsersError::Busy {
                    path: beside.clone(),
                }
            } else {
                file(&beside, source)
            }
        })?;
        let done = Self::read(path).and_then(|mut users| {
            let answer = change(&mut users)?;
            let text = toml::to_string(&users).map_err(|error| {
                UsersError::Refused(format!("the list cannot be written: {error}"))
            })?;
            open.write_all(text.as_bytes())
                .and_then(|()| open.sync_all())
                .and_then(|()| fs::rename(&beside, path))
                .map_err(|source| file(path, source))?;
            Ok(answer)
        });
        if done.is_err() {
            // The first error is the one to tell.
            let _gone = fs::remove_file(&beside);
        }
        done
    }

    /// Everyone, revoked ones too.
    pub fn users(&self) -> &[User] {
        &self.users
    }

    /// Every token, revoked ones too.
    pub fn tokens(&self) -> &[ApiToken] {
        &self.tokens
    }

    /// The user of a name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// Adds a user, or lets a revoked one in again with a new role and password.
    ///
    /// # Errors
    /// The name is taken or unfit, or the password too short.
    pub fn add(
        &mut self,
        name: &str,
        role: Role,
        password: &str,
        salt: &[u8; 16],
    ) -> Result<(), UsersError> {
        Principal::new(name, role).map_err(|error| UsersError::Refused(error.to_string()))?;
        let hash = hash_password(password, salt)?;
        match self.users.iter_mut().find(|user| user.name == name) {
            Some(user) if !user.disabled => Err(UsersError::Refused(format!(
                "there is a user `{name}`; `tietopohja user password {name}` sets a new password"
            ))),
            Some(user) => {
                user.role = role;
                user.password = hash;
                user.disabled = false;
                user.version = user.version.saturating_add(1);
                Ok(())
            }
            None => {
                self.users.push(User {
                    name: name.to_owned(),
                    role,
                    disabled: false,
                    version: 1,
                    password: hash,
                });
                Ok(())
            }
        }
    }

    /// Sets a new password. Who signed in with the old one must sign in again.
    ///
    /// # Errors
    /// There is no such user, or the password is too short.
    pub fn set_password(
        &mut self,
        name: &str,
        password: &str,
        salt: &[u8; 16],
    ) -> Result<(), UsersError> {
        let user = self.active(name)?;
        user.password = hash_password(password, salt)?;
        user.version = user.version.saturating_add(1);
        Ok(())
    }

    /// Makes a token and gives its text, which is nowhere else.
    ///
    /// # Errors
    /// There is no such user.
    pub fn issue_token(
        &mut self,
        owner: &str,
        randomness: &[u8; 40],
        now: i64,
        expires: Option<i64>,
        note: &str,
    ) -> Result<String, UsersError> {
        self.active(owner)?;
        let (id, secret) = randomness.split_at(8);
        let (id, secret) = (to_hex(id), to_hex(secret));
        let text = format!("{TOKEN_MARK}{id}_{secret}");
        self.tokens.push(ApiToken {
            id,
            user: owner.to_owned(),
            created: now,
            expires,
            note: note.to_owned(),
            revoked: false,
            hash: blake3::hash(secret.as_bytes()).to_hex().to_string(),
        });
        Ok(text)
    }

    /// Revokes a user with all tokens, or one token by its id.
    ///
    /// # Errors
    /// There is neither a user nor a token of this name.
    pub fn revoke(&mut self, what: &str) -> Result<Revoked, UsersError> {
        if let Some(token) = self.tokens.iter_mut().find(|token| token.id == what) {
            token.revoked = true;
            return Ok(Revoked::Token);
        }
        let user = self.active(what)?;
        user.disabled = true;
        user.version = user.version.saturating_add(1);
        let mut count = 0;
        for token in &mut self.tokens {
            if token.user == what && !token.revoked {
                token.revoked = true;
                count += 1;
            }
        }
        Ok(Revoked::User(count))
    }

    fn active(&mut self, name: &str) -> Result<&mut User, UsersError> {
        let found = self.users.iter_mut().find(|user| user.name == name);
        found.filter(|user| !user.disabled).ok_or_else(|| {
            UsersError::Refused(format!(
                "there is no active user or token `{name}`; `tietopohja user list` shows who there is"
            ))
        })
    }

    /// The owner of a token that is good now, and the id of the token.
    pub(crate) fn redeem_token(&self, text: &str, now: i64) -> Option<(&User, &str)> {
        let (id, secret) = text.strip_prefix(TOKEN_MARK)?.split_once('_')?;
        let token = self.tokens.iter().find(|token| token.id == id)?;
        let kept = blake3::Hash::from_hex(&token.hash).ok()?;
        // `blake3::Hash` compares in constant time.
        let right = blake3::hash(secret.as_bytes()) == kept;
        let owner = self.user(&token.user)?;
        let good = right && token.is_good(now) && !owner.disabled;
        good.then_some((owner, token.id.as_str()))
    }

    /// Whether the token of an id was not revoked and has not ended.
    pub(crate) fn token_is_good(&self, id: &str, now: i64) -> bool {
        let token = self.tokens.iter().find(|token| token.id == id);
        token.is_some_and(|token| token.is_good(now))
    }
}

/// The argon2id hash of a password, as a PHC string.
pub(crate) fn hash_password(password: &str, salt: &[u8; 16]) -> Result<String, UsersError> {
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return Err(UsersError::Refused(format!(
            "a password has at least {SHORTEST} characters and at most {LONGEST} bytes"
        )));
    }
    let refused = |error| UsersError::Refused(format!("the password cannot be hashed: {error}"));
    let salt = SaltString::encode_b64(salt).map_err(refused)?;
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    Ok(hash.map_err(refused)?.to_string())
}

/// Whether a password is the one of a hash. Slow by design.
pub(crate) fn verify_password(hash: &str, password: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

/// Whether a text is the hash of a password, with work that a server can afford.
fn is_argon2id(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| {
        hash.algorithm == argon2::ARGON2ID_IDENT
            && hash.salt.is_some()
            && hash.hash.is_some()
            && Params::try_from(&hash).is_ok_and(|params| {
                params.m_cost() <= MOST_MEMORY_KIB && params.t_cost() <= MOST_ROUNDS
            })
    })
}

fn line_at(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The last line with this text: of an entry that is there twice, the second.
fn line_of(text: &str, what: &str) -> usize {
    text.rfind(what).map_or(1, |at| line_at(text, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "kolme sanaa peräkkäin";

    fn list() -> Users {
        let mut users = Users::default();
        users
            .add("aino", Role::Analyst, PASSWORD, &[1; 16])
            .unwrap();
        users
    }

    #[test]
    fn a_list_reads_back_from_its_file_and_holds_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Users::FILE);
        let token = Users::change(&path, |users| {
            users.add("aino", Role::Analyst, PASSWORD, &[1; 16])?;
            users.issue_token("aino", &[7; 40], 5, Some(9), "night run")
        })
        .unwrap();
        let read = Users::read(&path).unwrap();
        assert_eq!(read.tokens()[0].note, "night run");
        assert!(verify_password(read.users()[0].password_hash(), PASSWORD));
        assert!(!verify_password(
            read.users()[0].password_hash(),
            "kolme sanaa"
        ));
        let text = fs::read_to_string(&path).unwrap();
        let secret = token.rsplit('_').next().unwrap();
        for shown in [text, format!("{read:?}")] {
            assert!(
                !shown.contains(PASSWORD) && !shown.contains(secret),
                "{shown}"
            );
        }
        assert!(!format!("{read:?}").contains("argon2"), "{read:?}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_change_that_is_refused_leaves_the_file_and_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.toml");
        Users::change(&path, |users| {
            users.add("aino", Role::Reader, PASSWORD, &[1; 16])
        })
        .unwrap();
        let before = fs::read(&path).unwrap();
        for _ in 0..2 {
            let refused = Users::change(&path, |users| users.revoke("eino"));
            assert!(
                matches!(refused, Err(UsersError::Refused(_))),
                "{refused:?}"
            );
        }
        assert_eq!(fs::read(&path).unwrap(), before);
        fs::write(path.with_extension("toml.new"), "").unwrap();
        let busy = Users::change(&path, |users| users.revoke("aino"));
        assert!(matches!(busy, Err(UsersError::Busy { .. })), "{busy:?}");
    }

    #[test]
    fn a_token_is_good_until_it_ends_or_it_or_its_owner_is_revoked() {
        let mut users = list();
        let token = users
            .issue_token("aino", &[7; 40], 5, Some(100), "")
            .unwrap();
        let id = users.tokens()[0].id.clone();
        let good = |users: &Users, text: &str, now| users.redeem_token(text, now).is_some();
        assert!(good(&users, &token, 99));
        assert!(!good(&users, &token, 100));
        for end in 0..token.len() {
            assert!(!good(&users, &token[..end], 50), "{end}");
        }
        for what in [id.as_str(), "aino"] {
            let mut changed = users.clone();
            changed.revoke(what).unwrap();
            assert!(!good(&changed, &token, 50), "{what}");
        }
    }

    #[test]
    fn every_change_of_a_user_is_a_new_version() {
        let mut users = list();
        let version = |users: &Users| users.user("aino").unwrap().version;
        assert_eq!(version(&users), 1);
        users
            .set_password("aino", "toinen pitkä sana", &[2; 16])
            .unwrap();
        assert_eq!(version(&users), 2);
        assert_eq!(users.revoke("aino").unwrap(), Revoked::User(0));
        assert_eq!(version(&users), 3);
        assert!(users.set_password("aino", PASSWORD, &[2; 16]).is_err());
        users.add("aino", Role::Reader, PASSWORD, &[3; 16]).unwrap();
        assert_eq!(version(&users), 4);
        assert!(users.add("aino", Role::Reader, PASSWORD, &[3; 16]).is_err());
    }

    #[test]
    fn unfit_names_and_passwords_are_refused() {
        let long = "x".repeat(LONGEST + 1);
        for (name, password) in [
            ("", PASSWORD),
            ("a b", PASSWORD),
            ("aino", "short"),
            ("aino", &long),
        ] {
            let refused = Users::default().add(name, Role::Reader, password, &[1; 16]);
            assert!(
                matches!(refused, Err(UsersError::Refused(_))),
                "{name} {refused:?}"
            );
        }
    }

    #[test]
    fn a_damaged_file_is_told_with_its_line_and_without_its_hashes() {
        let good = toml::to_string(&list()).unwrap();
        let hash = list().users[0].password.clone();
        let cases = [
            (good.replace("analyst", "owner"), "owner"),
            (good.replace("$argon2id$", "$argon2i$"), "argon2id"),
            (format!("{good}\n{good}"), "twice"),
            (good.replace("m=19456", "m=4000000"), "argon2id"),
            (format!("{good}colour = 1\n"), "colour"),
            ("user = 3".to_owned(), "line 1"),
            ("\n\n[[user]\n".to_owned(), "line 3"),
            (
                format!(
                    "{good}\n[[token]]\nid = \"a\"\nuser = \"eino\"\ncreated = 1\nhash = \"00\"\n"
                ),
                "belongs to no user",
            ),
        ];
        for (text, expected) in cases {
            let error = Users::parse(Path::new("users.toml"), &text).unwrap_err();
            let said = error.to_string();
            assert!(said.contains("line ") && said.contains(expected), "{said}");
            assert!(!said.contains(&hash), "{said}");
        }
    }
}
