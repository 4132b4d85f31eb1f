//! The pseudonym key: made once, kept outside the lake, readable by its owner only.
//!
//! A pseudonym is 128 bits of BLAKE3 keyed with a key of its own domain, derived from the master
//! key of the current version. The file is text so that an operator can see what it is:
//!
//! ```text
//! tietopohja-keyring 1
//! key 1 <64 hexadecimal digits> <8 check digits>
//! ```
//!
//! A rotation adds a line; the highest version is the current one. Nothing here shows a key.

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use tietopohja_contract::Pseudonymise;

const FIRST_LINE: &str = "tietopohja-keyring 1";
/// A key file has a line per rotation; anything larger is another file.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// The key ring cannot be made or used. Messages never hold a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is a file already.
    #[error(
        "`{0}`: a key is there already\n  help: keep it: pseudonyms made with it cannot be made again without it"
    )]
    Exists(String),
    /// There is no file.
    #[error(
        "`{0}`: there is no pseudonym key\n  help: restore it from your backup; `tietopohja init` makes one for a new warehouse"
    )]
    Missing(String),
    /// Other users may read or change the file.
    #[error(
        "`{path}`: other users may read the pseudonym key (mode {mode:04o})\n  help: run `chmod 600 {path}`, and rotate the key if others have read it"
    )]
    Exposed {
        /// The key file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a key ring, or a line of it is damaged.
    #[error(
        "`{path}`:{line}: this is not a line of a pseudonym key file\n  help: restore the file from your backup"
    )]
    Damaged {
        /// The key file.
        path: String,
        /// The line, 1-based.
        line: usize,
    },
    /// The operating system refuses.
    #[error(
        "`{path}`: the pseudonym key cannot be read or written: {why}\n  help: check the folder and its permissions"
    )]
    Io {
        /// The key file.
        path: String,
        /// The system's own word.
        why: String,
    },
    /// The machine gives no random bytes.
    #[error(
        "the machine gives no random bytes for a pseudonym key\n  help: check its random number source"
    )]
    NoRandomness,
}

/// The current master key, and the domain keys derived from it so far.
pub struct KeyRing {
    version: i32,
    master: [u8; 32],
    domains: RwLock<Vec<(Box<str>, [u8; 32])>>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing(version {})", self.version)
    }
}

impl KeyRing {
    /// Makes a key ring of version 1 from the machine's random numbers, readable by the owner
    /// only. Refuses to replace a file.
    pub fn create(path: &Path) -> Result<KeyRing, KeyError> {
        let mut master = [0u8; 32];
        getrandom::fill(&mut master).map_err(|_| KeyError::NoRandomness)?;
        Self::create_from(path, master)
    }

    /// The same from a given master key: for tests and for a warehouse restored from a key that
    /// was kept on paper.
    pub fn create_from(path: &Path, master: [u8; 32]) -> Result<KeyRing, KeyError> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => KeyError::Exists(show(path)),
            _ => io_error(path, &error),
        })?;
        let text = format!(
            "{FIRST_LINE}\nkey 1 {} {}\n",
            hex(&master),
            check_digits(&master)
        );
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| io_error(path, &error))?;
        Ok(KeyRing::new(1, master))
    }

    /// Opens a key ring. A file that others may read is refused: its pseudonyms protect nobody.
    pub fn open(path: &Path) -> Result<KeyRing, KeyError> {
        let file = fs::File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => KeyError::Missing(show(path)),
            _ => io_error(path, &error),
        })?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file
                .metadata()
                .map_err(|error| io_error(path, &error))?
                .permissions()
                .mode()
                & 0o7777;
            if mode & 0o077 != 0 {
                return Err(KeyError::Exposed {
                    path: show(path),
                    mode,
                });
            }
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => KeyError::Damaged {
                    path: show(path),
                    line: 1,
                },
                _ => io_error(path, &error),
            })?;
        Self::parse(&text).map_err(|line| KeyError::Damaged {
            path: show(path),
            line,
        })
    }

    /// The current key's version; `meta.delivery` keeps it for every delivery.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// The keys of the domains one delivery needs, for worker threads that must not share a lock.
    pub(crate) fn prepare<'a>(&self, domains: impl IntoIterator<Item = &'a str>) -> PreparedKeys {
        let mut keys: Vec<(Box<str>, [u8; 32])> = Vec::new();
        for domain in domains {
            if !keys.iter().any(|(known, _)| &**known == domain) {
                keys.push((domain.into(), self.domain_key(domain)));
            }
        }
        PreparedKeys {
            keys,
            master: self.master,
        }
    }

    fn new(version: i32, master: [u8; 32]) -> KeyRing {
        KeyRing {
            version,
            master,
            domains: RwLock::new(Vec::new()),
        }
    }

    /// The highest version of the file, or the line that is wrong.
    fn parse(text: &str) -> Result<KeyRing, usize> {
        let mut current: Option<(i32, [u8; 32])> = None;
        for (number, line) in text.lines().enumerate() {
            if number == 0 {
                if line.trim_end() != FIRST_LINE {
                    return Err(1);
                }
                continue;
            }
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_key_line(line).ok_or(number + 1)?;
            match current {
                // Versions rise line by line, so that a line pasted twice is noticed.
                Some((version, _)) if version >= key.0 => return Err(number + 1),
                _ => current = Some(key),
            }
        }
        let (version, master) = current.ok_or(1usize)?;
        Ok(KeyRing::new(version, master))
    }

    fn domain_key(&self, domain: &str) -> [u8; 32] {
        let known = self.domains.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = known.iter().find(|(name, _)| &**name == domain) {
            return *key;
        }
        drop(known);
        let key = derive(domain, &self.master);
        let mut domains = self.domains.write().unwrap_or_else(PoisonError::into_inner);
        if !domains.iter().any(|(name, _)| &**name == domain) {
            domains.push((domain.into(), key));
        }
        key
    }
}

impl Pseudonymise for KeyRing {
    fn pseudonym(&self, domain: &str, canonical: &[u8; 11]) -> [u8; 16] {
        keyed(&self.domain_key(domain), canonical)
    }
}

/// Domain keys looked up without a lock.
pub(crate) struct PreparedKeys {
    keys: Vec<(Box<str>, [u8; 32])>,
    master: [u8; 32],
}

impl Pseudonymise for PreparedKeys {
    fn pseudonym(&self, domain: &str, canonical: &[u8; 11]) -> [u8; 16] {
        match self.keys.iter().find(|(name, _)| &**name == domain) {
            Some((_, key)) => keyed(key, canonical),
            None => keyed(&derive(domain, &self.master), canonical),
        }
    }
}

fn derive(domain: &str, master: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(&format!("tietopohja pseudonym v1 {domain}"), master)
}

fn keyed(key: &[u8; 32], canonical: &[u8; 11]) -> [u8; 16] {
    let hash = blake3::keyed_hash(key, canonical);
    let mut pseudonym = [0u8; 16];
    let (front, _) = hash.as_bytes().split_at(16);
    pseudonym.copy_from_slice(front);
    pseudonym
}

fn parse_key_line(line: &str) -> Option<(i32, [u8; 32])> {
    let mut words = line.split_ascii_whitespace();
    let (word, version, key, check) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let version = version.parse::<i32>().ok().filter(|version| *version > 0)?;
    let master = unhex(key)?;
    (word == "key" && words.next().is_none() && check_digits(&master) == check)
        .then_some((version, master))
}

/// Eight digits by which a mistyped or cut key is noticed; they tell nothing about the key.
fn check_digits(master: &[u8; 32]) -> String {
    let mut digits = hex(&blake3::derive_key("tietopohja keyring check v1", master));
    digits.truncate(8);
    digits
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    // ContentHash reads exactly 64 hexadecimal digits; the two have the same form.
    tietopohja_domain::ContentHash::parse(text).map(|digest| *digest.as_bytes())
}

fn show(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}

fn io_error(path: &Path, error: &std::io::Error) -> KeyError {
    KeyError::Io {
        path: show(path),
        why: error.kind().to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_created_key_opens_again_and_gives_the_same_pseudonyms() {
        let folder = folder();
        let path = folder.path().join("pseudonym.key");
        let made = KeyRing::create(&path).unwrap();
        let opened = KeyRing::open(&path).unwrap();
        assert_eq!(made.version(), 1);
        assert_eq!(
            made.pseudonym("hr", b"010190-999X"),
            opened.pseudonym("hr", b"010190-999X")
        );
    }

    #[test]
    fn domains_keys_and_people_give_unrelated_pseudonyms() {
        let folder = folder();
        let one = KeyRing::create_from(&folder.path().join("a"), [1; 32]).unwrap();
        let two = KeyRing::create_from(&folder.path().join("b"), [2; 32]).unwrap();
        let all = [
            one.pseudonym("hr", b"010190-999X"),
            one.pseudonym("client", b"010190-999X"),
            one.pseudonym("hr", b"010190-998W"),
            two.pseudonym("hr", b"010190-999X"),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn pseudonyms_of_a_known_key_never_change() {
        // These bytes are in every lake made with version 1 of the scheme.
        let folder = folder();
        let ring = KeyRing::create_from(&folder.path().join("k"), [7; 32]).unwrap();
        let key = blake3::derive_key("tietopohja pseudonym v1 hr", &[7; 32]);
        let expected = blake3::keyed_hash(&key, b"010190-999X");
        assert_eq!(
            ring.pseudonym("hr", b"010190-999X"),
            expected.as_bytes()[..16]
        );
        let prepared = ring.prepare(["hr", "client", "hr"]);
        for domain in ["hr", "client", "research"] {
            assert_eq!(
                prepared.pseudonym(domain, b"010190-999X"),
                ring.pseudonym(domain, b"010190-999X")
            );
        }
    }

    #[test]
    fn a_key_is_never_replaced() {
        let folder = folder();
        let path = folder.path().join("pseudonym.key");
        KeyRing::create(&path).unwrap();
        assert!(matches!(KeyRing::create(&path), Err(KeyError::Exists(_))));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder();
        let path = folder.path().join("pseudonym.key");
        KeyRing::create(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        for mode in [0o640, 0o604, 0o620, 0o660, 0o644, 0o666, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(
                matches!(KeyRing::open(&path), Err(KeyError::Exposed { .. })),
                "{mode:o}"
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(KeyRing::open(&path).is_ok());
    }

    #[test]
    fn a_damaged_file_names_its_line_and_never_the_key() {
        let good = format!("key 1 {} {}", "ab".repeat(32), check_digits(&[0xab; 32]));
        for (text, line) in [
            (String::new(), 1),
            ("other file".to_owned(), 1),
            (FIRST_LINE.to_owned(), 1),
            (format!("{FIRST_LINE}\n{good}\n{good}"), 3),
            (
                format!("{FIRST_LINE}\n{}", good.replace("key 1", "key 0")),
                2,
            ),
            (format!("{FIRST_LINE}\n{}", good.replacen("ab", "ac", 1)), 2),
            (format!("{FIRST_LINE}\n{good} more"), 2),
        ] {
            assert_eq!(
                KeyRing::parse(&text).map(|ring| ring.version()),
                Err(line),
                "{text}"
            );
        }
        let two = format!(
            "{FIRST_LINE}\n{good}\n# rotated\n{}",
            good.replace("key 1", "key 2")
        );
        assert_eq!(KeyRing::parse(&two).unwrap().version(), 2);
        assert_eq!(
            format!("{:?}", KeyRing::parse(&two).unwrap()),
            "KeyRing(version 2)"
        );
    }
}
