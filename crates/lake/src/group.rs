//! Commits to several tables that are seen together: all of them, or none.
//!
//! Each table has a log of its own, and nothing commits to two logs at once. A group names the table
//! that its writer commits to last. Every commit of the group carries the group, and counts once the
//! log of that last table has one of it: readers who ask for [`Lake::settled`] see the version before
//! it until then. So a writer that dies in between has changed nothing that they see, and there is
//! nothing to clean up. Other programs that read a table by its own log see each commit by itself.
//! What may not live here: what belongs together, which the writer knows.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commit::{CommitInfo, unique_name};
use crate::state::{TableFile, TableState};
use crate::tables::made_at;
use crate::{Lake, LakeError, TableName};

/// The property of a commit that names its group.
const PROPERTY: &str = "tietopohja.group";

/// Commits that are seen together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    id: String,
    last: TableName,
    /// The first version of `last` that can be of this group.
    from: i64,
}

/// A group as a commit tells it.
#[derive(Serialize, Deserialize)]
struct Told {
    id: String,
    schema: String,
    table: String,
    from: i64,
}

impl Group {
    /// What each commit of the group says about itself.
    pub fn info(&self) -> CommitInfo {
        let told = Told {
            id: self.id.clone(),
            schema: self.last.schema().to_owned(),
            table: self.last.table().to_owned(),
            from: self.from,
        };
        let told = serde_json::to_value(told).unwrap_or(Value::Null);
        CommitInfo {
            transaction: None,
            properties: vec![(PROPERTY.to_owned(), told)],
        }
    }

    /// The group that a commit belongs to.
    fn of(commit: &[u8]) -> Option<Group> {
        let mut lines = commit.split(|byte| *byte == b'\n');
        let told = lines.find_map(|line| {
            let action: Value = serde_json::from_slice(line).ok()?;
            action.get("commitInfo")?.get(PROPERTY).cloned()
        })?;
        let told: Told = serde_json::from_value(told).ok()?;
        Some(Group {
            id: told.id,
            last: TableName::new(&told.schema, &told.table).ok()?,
            from: told.from,
        })
    }
}

/// The newest version of each table that is known to be settled.
#[derive(Debug, Default)]
pub(crate) struct Settled(Mutex<HashMap<TableName, i64>>);

impl Settled {
    fn is(&self, name: &TableName, version: i64) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name) == Some(&version)
    }

    fn learn(&self, name: &TableName, version: i64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = known.entry(name.clone()).or_insert(version);
        *newest = version.max(*newest);
    }
}

impl Lake {
    /// Begins a group whose last commit will be to this table, which must be there.
    ///
    /// # Errors
    /// [`LakeError::NotFound`] without the table; when its log cannot be read.
    pub async fn group(&self, last: &TableName) -> Result<Group, LakeError> {
        Ok(Group {
            id: unique_name(self.now_millis()),
            last: last.clone(),
            from: self.existing(last).await?.version() + 1,
        })
    }

    /// The newest version of a table that is not of an unfinished group; `None` when there is none, or no
    /// such table.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub async fn settled(&self, name: &TableName) -> Result<Option<i64>, LakeError> {
        let Some(newest) = self.version(name).await? else {
            return Ok(None);
        };
        if self.settled.is(name, newest) {
            return Ok(Some(newest));
        }
        let settled = self.settle(name, newest, None).await?;
        if settled == Some(newest) {
            self.settled.learn(name, newest);
        }
        Ok(settled)
    }

    /// The same at a moment, in milliseconds since 1970, as [`Lake::version_at`] tells versions: a group that
    /// was not finished then is not seen.
    ///
    /// # Errors
    /// As [`Lake::version_at`].
    pub async fn settled_at(
        &self,
        name: &TableName,
        millis: i64,
    ) -> Result<Option<i64>, LakeError> {
        match self.version_at(name, millis).await? {
            None => Ok(None),
            Some(version) => self.settle(name, version, Some(millis)).await,
        }
    }

    /// Values of an integer partition column whose files an unfinished group has changed. When its writer
    /// is no more, the next commit to the table that is seen shows them too, unless it replaces them.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub async fn unsettled_slices(
        &self,
        name: &TableName,
        column: &str,
    ) -> Result<BTreeSet<i32>, LakeError> {
        let Some(newest) = self.newest(name).await? else {
            return Ok(BTreeSet::new());
        };
        let settled = match self.settled(name).await? {
            Some(version) if version >= newest.version() => return Ok(BTreeSet::new()),
            Some(version) => Some(self.state_at(name, Some(version)).await?),
            None => None,
        };
        let place = newest
            .partition_columns()
            .iter()
            .position(|known| known == column);
        let files = |state: &TableState| -> BTreeSet<(Option<i32>, String)> {
            let value = |file: &TableFile| file.values().get(place?).copied().flatten();
            let files = state.files();
            files
                .map(|file| (value(file), file.identity()))
                .collect::<BTreeSet<_>>()
        };
        let before = settled.as_deref().map(files).unwrap_or_default();
        let changed = files(&newest);
        let changed = changed.symmetric_difference(&before);
        Ok(changed.filter_map(|(value, _)| *value).collect())
    }

    /// The newest version up to `version` that is of no group, or of one that was finished by then.
    async fn settle(
        &self,
        name: &TableName,
        version: i64,
        by: Option<i64>,
    ) -> Result<Option<i64>, LakeError> {
        for version in (0..=version).rev() {
            // A commit that the log has no more is an old one.
            let commit = self.commit_text(name, version).await?;
            let Some(group) = commit.as_deref().and_then(Group::of) else {
                return Ok(Some(version));
            };
            if self.is_finished(&group, by).await? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    async fn is_finished(&self, group: &Group, by: Option<i64>) -> Result<bool, LakeError> {
        for version in group.from.. {
            let Some(commit) = self.commit_text(&group.last, version).await? else {
                break;
            };
            if Group::of(&commit).is_some_and(|of| of.id == group.id) {
                let made = made_at(&commit);
                return Ok(by.is_none_or(|by| made.is_some_and(|made| made <= by)));
            }
        }
        Ok(false)
    }
}
