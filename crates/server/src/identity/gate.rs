//! Checks what a request shows against the list of users.
//!
//! The list is read again when its file has changed. Passwords are checked on threads of their own,
//! few at a time; what was right is remembered for a while, because some clients send the password
//! with each call. A name that does not exist costs the same work and gets the same answer as a
//! wrong password.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tietopohja_policy::Principal;
use tokio::sync::Semaphore;

use super::attempts::{Attempts, Counted};
use super::users::{TOKEN_MARK, Users, UsersError, hash_password, verify_password};
use crate::auth::AuthError;

/// Passwords checked at the same time; each takes 19 MiB.
const AT_ONCE: usize = 2;

/// Sign-ins that may wait for their turn.
const WAITING: usize = 64;

/// How long a right password is remembered, in seconds, and how many.
const REMEMBERED_SECONDS: i64 = 300;
const REMEMBERED: usize = 1024;

/// Someone who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Visitor {
    /// In whose name everything runs.
    pub(crate) principal: Principal,
    /// The version of the user that was checked.
    pub(crate) version: u64,
    /// The id of the API token that was shown, if it was one. What it opened ends with it.
    pub(crate) token: Option<String>,
    /// When the token of the identity provider that was shown ends, if it was one: seconds since 1970.
    pub(crate) until: Option<i64>,
}

/// The list as it was last read.
#[derive(Debug)]
struct Current {
    /// Seconds since 1970 of the last look at the file.
    looked: i64,
    /// What the file held; none when it was not there or not readable.
    content: Option<blake3::Hash>,
    users: Arc<Users>,
}

/// A right password: until when it is remembered, and whose it is.
#[derive(Debug)]
struct Remembered {
    until: i64,
    name: String,
    version: u64,
}

/// Lets named users in.
pub(crate) struct Gate {
    file: PathBuf,
    /// The key under which passwords are remembered.
    key: [u8; 32],
    /// A hash of nobody's password.
    nobody: String,
    current: Mutex<Current>,
    remembered: Mutex<HashMap<[u8; 32], Remembered>>,
    attempts: Mutex<Attempts>,
    checking: Semaphore,
    waiting: Semaphore,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// A gate over the list in a file.
    ///
    /// # Errors
    /// The list cannot be read, or there is nobody in it.
    pub(crate) fn open(file: &Path, master: &[u8; 32], now: i64) -> Result<Self, UsersError> {
        let users = Users::read(file)?;
        if users.users().iter().all(|user| user.disabled) {
            return Err(UsersError::Refused(format!(
                "there are no users in `{}`; add one with `tietopohja user add NAME --role ROLE --password-stdin`",
                file.display()
            )));
        }
        Ok(Self {
            file: file.to_owned(),
            key: blake3::derive_key("tietopohja remembered passwords v1", master),
            nobody: hash_password("a password that nobody has", &[0; 16])?,
            current: Mutex::new(Current {
                // The first request looks again, and finds the same.
                looked: now.saturating_sub(1),
                content: None,
                users: Arc::new(users),
            }),
            remembered: Mutex::default(),
            attempts: Mutex::default(),
            checking: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING),
        })
    }

    /// The list as it is now. A damaged file is an empty list: nobody gets in by an older one.
    fn users(&self, now: i64) -> Arc<Users> {
        let mut current = lock(&self.current);
        if current.looked == now {
            return Arc::clone(&current.users);
        }
        current.looked = now;
        let content = std::fs::read(&self.file)
            .map(|bytes| blake3::hash(&bytes))
            .ok();
        if content.is_some() && content == current.content {
            return Arc::clone(&current.users);
        }
        let gone = content.is_none() && current.content.is_some();
        match Users::read(&self.file) {
            Ok(users) => {
                if gone {
                    tracing::error!(file = %self.file.display(), "the list of users is gone: nobody can sign in");
                } else if current.content.is_some() {
                    tracing::info!(
                        users = users.users().len(),
                        "the list of users was read again"
                    );
                }
                current.users = Arc::new(users);
            }
            Err(error) => {
                tracing::error!(%error, "the list of users cannot be used");
                current.users = Arc::default();
            }
        }
        current.content = content;
        Arc::clone(&current.users)
    }

    /// Whether a bearer still tells the truth: the user is there, with this role and version, and the
    /// token that it was got with is good.
    pub(crate) fn still(&self, visitor: &Visitor, now: i64) -> bool {
        let users = self.users(now);
        let token = visitor.token.as_ref();
        users.user(visitor.principal.name()).is_some_and(|user| {
            token.is_none_or(|id| users.token_is_good(id, now))
                && !user.disabled
                && user.version == visitor.version
                && user.role == visitor.principal.role()
        })
    }

    /// The owner of an API token.
    ///
    /// # Errors
    /// The token is unknown, has ended, or was revoked: which of these is not told.
    pub(crate) fn token(&self, text: &str, now: i64) -> Result<Visitor, AuthError> {
        let users = self.users(now);
        let redeemed = users.redeem_token(text, now);
        let (owner, id) = redeemed.ok_or(AuthError::BadToken)?;
        let principal = owner.principal().ok_or(AuthError::BadToken)?;
        Ok(Visitor {
            principal,
            version: owner.version,
            token: Some(id.to_owned()),
            until: None,
        })
    }

    /// The user of a name and a password. An API token does as the password of any name.
    ///
    /// # Errors
    /// They do not belong together, or there were too many attempts.
    pub(crate) async fn password(
        &self,
        name: &str,
        password: &str,
        peer: Option<IpAddr>,
        now: i64,
    ) -> Result<Visitor, AuthError> {
        if password.starts_with(TOKEN_MARK) {
            return self.token(password, now);
        }
        let remembering = self.remembering(name, password);
        if let Some(visitor) = self.remembered(&remembering, now) {
            return Ok(visitor);
        }
        let account = Counted::account(name);
        let counted: Vec<Counted> = [account.clone()]
            .into_iter()
            .chain(peer.map(Counted::Address))
            .collect();
        self.allowed(&counted, now)?;
        let _place = self.waiting.try_acquire().map_err(|_| AuthError::Busy)?;
        let _turn = self.checking.acquire().await.map_err(|_| AuthError::Busy)?;
        // Others may have failed while this one waited.
        self.allowed(&counted, now)?;
        let users = self.users(now);
        let user = users.user(name);
        let hash = user.map_or(self.nobody.as_str(), |user| user.password_hash());
        let (hash, tried) = (hash.to_owned(), password.to_owned());
        let checked = tokio::task::spawn_blocking(move || verify_password(&hash, &tried)).await;
        let right = checked.map_err(|_| AuthError::Busy)?;
        let user = user.filter(|user| right && !user.disabled);
        let Some((user, principal)) = user.and_then(|user| Some((user, user.principal()?))) else {
            lock(&self.attempts).failed(&counted, now);
            return Err(AuthError::Wrong);
        };
        lock(&self.attempts).succeeded(&account);
        let mut remembered = lock(&self.remembered);
        remembered.retain(|_, kept| now < kept.until);
        if remembered.len() < REMEMBERED {
            remembered.insert(
                remembering,
                Remembered {
                    until: now.saturating_add(REMEMBERED_SECONDS),
                    name: name.to_owned(),
                    version: user.version,
                },
            );
        }
        Ok(Visitor {
            principal,
            version: user.version,
            token: None,
            until: None,
        })
    }

    fn allowed(&self, counted: &[Counted], now: i64) -> Result<(), AuthError> {
        match lock(&self.attempts).wait(counted, now) {
            Some(seconds) => Err(AuthError::TooMany { seconds }),
            None => Ok(()),
        }
    }

    fn remembering(&self, name: &str, password: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(password.as_bytes());
        *hasher.finalize().as_bytes()
    }

    fn remembered(&self, key: &[u8; 32], now: i64) -> Option<Visitor> {
        let users = self.users(now);
        let remembered = lock(&self.remembered);
        let kept = remembered.get(key).filter(|kept| now < kept.until)?;
        let user = users.user(&kept.name)?;
        if user.disabled || user.version != kept.version {
            return None;
        }
        Some(Visitor {
            principal: user.principal()?,
            version: user.version,
            token: None,
            until: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use tietopohja_policy::Role;

    use super::*;

    const PASSWORD: &str = "kolme sanaa peräkkäin";

    fn gate() -> (tempfile::TempDir, PathBuf, Gate) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        Users::change(&file, |users| {
            users.add("aino", Role::Analyst, PASSWORD, &[1; 16])
        })
        .unwrap();
        let gate = Gate::open(&file, &[3; 32], 0).unwrap();
        (folder, file, gate)
    }

    #[tokio::test]
    async fn an_unknown_name_and_a_wrong_password_get_one_answer() {
        let (_folder, _file, gate) = gate();
        for (name, password) in [
            ("aino", "wrong"),
            ("eino", PASSWORD),
            ("", ""),
            ("aino", ""),
        ] {
            let refused = gate.password(name, password, None, 0).await;
            assert_eq!(refused, Err(AuthError::Wrong), "{name}");
        }
        let aino = gate.password("aino", PASSWORD, None, 0).await.unwrap();
        assert_eq!(aino.principal.to_string(), "aino (analyst)");
    }

    #[tokio::test]
    async fn guessing_is_refused_alike_for_names_that_exist_and_do_not() {
        let (_folder, _file, gate) = gate();
        for name in ["aino", "eino"] {
            for _ in 0..6 {
                let refused = gate.password(name, "wrong", None, 0).await;
                assert_eq!(refused, Err(AuthError::Wrong), "{name}");
            }
            let refused = gate.password(name, PASSWORD, None, 0).await;
            assert_eq!(refused, Err(AuthError::TooMany { seconds: 2 }), "{name}");
        }
        assert!(gate.password("aino", PASSWORD, None, 2).await.is_ok());
    }

    #[tokio::test]
    async fn one_address_cannot_guess_at_many_names() {
        let (_folder, _file, gate) = gate();
        let peer = Some(IpAddr::from([192, 0, 2, 1]));
        for number in 0..21 {
            let refused = gate.password(&format!("n{number}"), "wrong", peer, 0).await;
            assert_eq!(refused, Err(AuthError::Wrong));
        }
        let refused = gate.password("aino", PASSWORD, peer, 0).await;
        assert_eq!(refused, Err(AuthError::TooMany { seconds: 2 }));
        let elsewhere = Some(IpAddr::from([192, 0, 2, 2]));
        assert!(gate.password("aino", PASSWORD, elsewhere, 0).await.is_ok());
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_and_dies_with_its_version() {
        let (_folder, file, gate) = gate();
        let aino = gate.password("aino", PASSWORD, None, 0).await.unwrap();
        let key = gate.remembering("aino", PASSWORD);
        assert_eq!(gate.remembered(&key, 1), Some(aino.clone()));
        assert_eq!(gate.remembered(&key, REMEMBERED_SECONDS), None);
        assert!(gate.still(&aino, 1));
        Users::change(&file, |users| {
            users.set_password("aino", "toinen pitkä sana", &[2; 16])
        })
        .unwrap();
        assert_eq!(gate.remembered(&key, 2), None);
        assert!(!gate.still(&aino, 2));
        let refused = gate.password("aino", PASSWORD, None, 2).await;
        assert_eq!(refused, Err(AuthError::Wrong));
    }

    #[tokio::test]
    async fn what_a_token_opened_ends_with_the_token() {
        let (_folder, file, gate) = gate();
        let issue = |number: u8, expires: Option<i64>| {
            Users::change(&file, |users| {
                users.issue_token("aino", &[number; 40], 0, expires, "")
            })
            .unwrap()
        };
        let (short, long) = (issue(7, Some(10)), issue(8, None));
        let [by_short, by_long] = [&short, &long].map(|token| gate.token(token, 1).unwrap());
        let by_password = gate.password("aino", PASSWORD, None, 1).await.unwrap();
        assert!(gate.still(&by_short, 9));
        assert!(!gate.still(&by_short, 10), "the token has ended");
        assert!(gate.still(&by_long, 10));
        let id = by_long.token.clone().unwrap();
        Users::change(&file, |users| users.revoke(&id)).unwrap();
        assert!(!gate.still(&by_long, 11), "the token was revoked");
        assert!(gate.still(&by_password, 11));
    }

    #[tokio::test]
    async fn a_damaged_or_missing_file_lets_nobody_in_until_it_is_put_right() {
        let (_folder, file, gate) = gate();
        let token = Users::change(&file, |users| {
            users.issue_token("aino", &[7; 40], 0, None, "")
        })
        .unwrap();
        let aino = gate.token(&token, 1).unwrap();
        let good = std::fs::read(&file).unwrap();
        let damage: [&dyn Fn(); 2] = [
            &|| std::fs::write(&file, "[[user]]\nname = 3\n").unwrap(),
            &|| std::fs::remove_file(&file).unwrap(),
        ];
        let mut now = 2;
        for harm in damage {
            harm();
            assert!(!gate.still(&aino, now));
            assert_eq!(gate.token(&token, now), Err(AuthError::BadToken));
            std::fs::write(&file, &good).unwrap();
            assert!(gate.still(&aino, now + 1));
            now += 2;
        }
    }

    #[test]
    fn a_list_without_users_opens_no_gate() {
        let folder = tempfile::tempdir().unwrap();
        let error = Gate::open(&folder.path().join("users.toml"), &[3; 32], 0).unwrap_err();
        assert!(error.to_string().contains("tietopohja user add"), "{error}");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (_folder, _file, gate) = gate();
        let shown = format!("{gate:?}");
        assert!(
            !shown.contains("argon2") && !shown.contains("key"),
            "{shown}"
        );
    }
}
