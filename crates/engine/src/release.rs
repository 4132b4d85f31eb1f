//! Which state of the tables a statement sees, in a form that travels.
//!
//! A statement pins each table at a version. [`Versions`] holds these versions under digests of the
//! names, so that a ticket can carry them without telling its holder which tables there are;
//! [`Release`] is what a client may know of them. How versions are found is the resolver's business.

use std::collections::{BTreeMap, HashMap};

use tietopohja_lake::TableName;

/// Versions of tables by a digest of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions {
    known: HashMap<u64, Option<i64>>,
}

/// The version of a table that does not exist, in bytes.
const ABSENT: i64 = -1;

impl Versions {
    pub(crate) fn of<'a>(pinned: impl Iterator<Item = (&'a TableName, Option<i64>)>) -> Self {
        Self {
            known: pinned
                .map(|(name, version)| (digest(name), version))
                .collect(),
        }
    }

    /// The version of a table; `None` when nothing is said about it, `Some(None)` when it does not
    /// exist.
    pub(crate) fn get(&self, name: &TableName) -> Option<Option<i64>> {
        if self.known.is_empty() {
            return None;
        }
        self.known.get(&digest(name)).copied()
    }

    /// Whether nothing is said about any table.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// As bytes: 16 for each table, in the order of the digests.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut known: Vec<_> = self.known.iter().collect();
        known.sort_unstable();
        known
            .into_iter()
            .flat_map(|(digest, version)| {
                let version = version.unwrap_or(ABSENT);
                digest
                    .to_le_bytes()
                    .into_iter()
                    .chain(version.to_le_bytes())
            })
            .collect()
    }

    /// What [`Versions::to_bytes`] wrote; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (pairs, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() {
            return None;
        }
        let known = pairs.iter().map(|pair| {
            let (name, version) = pair.split_first_chunk::<8>()?;
            let version = i64::from_le_bytes(version.try_into().ok()?);
            let version = match version {
                ABSENT => None,
                0.. => Some(version),
                _ => return None,
            };
            Some((u64::from_le_bytes(*name), version))
        });
        Some(Self {
            known: known.collect::<Option<_>>()?,
        })
    }

    /// One short name for this state of these tables: the same versions of the same tables give the
    /// same name, everywhere.
    pub fn name(&self) -> String {
        let digest = blake3::hash(&self.to_bytes());
        digest.to_hex().chars().take(16).collect()
    }
}

fn digest(name: &TableName) -> u64 {
    let hash = blake3::hash(name.to_string().as_bytes());
    let first = hash.as_bytes().first_chunk::<8>().copied();
    u64::from_le_bytes(first.unwrap_or_default())
}

/// The state of the tables that a statement sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its name: equal for statements that see the same state of the same tables.
    pub name: String,
    /// Tables that the principal can name, with their versions. A view may read others.
    pub tables: BTreeMap<String, i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName::new("published", name).unwrap()
    }

    fn versions(pinned: &[(&str, Option<i64>)]) -> Versions {
        let pinned: Vec<_> = pinned
            .iter()
            .map(|(name, version)| (table(name), *version))
            .collect();
        Versions::of(pinned.iter().map(|(name, version)| (name, *version)))
    }

    #[test]
    fn versions_read_back() {
        for pinned in [
            &[][..],
            &[("a", Some(0))],
            &[("a", Some(7)), ("b", None), ("c", Some(i64::MAX))],
        ] {
            let written = versions(pinned);
            let read = Versions::from_bytes(&written.to_bytes()).unwrap();
            assert_eq!(read, written);
            for (name, version) in pinned {
                assert_eq!(read.get(&table(name)), Some(*version));
            }
            assert_eq!(read.get(&table("other")), None);
        }
    }

    #[test]
    fn other_bytes_are_not_versions() {
        let bytes = versions(&[("a", Some(7)), ("b", None)]).to_bytes();
        assert_eq!(Versions::from_bytes(&bytes[..31]), None);
        assert_eq!(Versions::from_bytes(&[0x80; 16]), None);
    }

    #[test]
    fn a_state_has_one_name_whatever_the_order() {
        let one = versions(&[("a", Some(1)), ("b", Some(2))]);
        assert_eq!(
            one.name(),
            versions(&[("b", Some(2)), ("a", Some(1))]).name()
        );
        for other in [
            versions(&[("a", Some(2)), ("b", Some(1))]),
            versions(&[("a", Some(1))]),
            versions(&[("a", Some(1)), ("b", None)]),
        ] {
            assert_ne!(one.name(), other.name());
        }
    }
}
