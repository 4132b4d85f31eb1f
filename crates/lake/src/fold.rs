//! Small files put together.
//!
//! A table that grows by a row at a time, such as the ledger of deliveries, gets a file for each row,
//! and whoever reads the table opens them all. [`Lake::fold`] writes the small files of a slice as
//! one. Its commit changes no row: readers of the version before and of the version after see the same
//! rows, and so do readers of both. It waits for nobody and nobody waits for it: a writer who commits
//! meanwhile is first, and the next fold does the work. What may not live here: when it is time for it,
//! which those know who append.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::concat_batches;
use deltalake_core::kernel::{Action, Remove};
use deltalake_core::protocol::DeltaOperation;

use crate::commit::{Attempt, CommitInfo};
use crate::parts::conform;
use crate::state::TableFile;
use crate::{Lake, LakeError, Slice, TableName};

/// So many small files of a slice are left as they are.
const FEW_FILES: usize = 16;

/// A file of no more bytes is small. One that became larger by folding is not written again.
const SMALL_BYTES: u64 = 32 << 10;

impl Lake {
    /// Puts the small files of each slice of a table together where there are more than a few. Gives the
    /// number of files that were put together: none when there is nothing to do, no such table, somebody
    /// else committed meanwhile, or storage does not tell.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub async fn fold(&self, name: &TableName) -> Result<usize, LakeError> {
        let Some(state) = self.newest(name).await? else {
            return Ok(0);
        };
        let mut small: BTreeMap<Vec<i32>, Vec<Arc<TableFile>>> = BTreeMap::new();
        for file in state.files() {
            let is_small = file.bytes().is_some_and(|bytes| bytes <= SMALL_BYTES);
            let slice = file.values().iter().copied().collect::<Option<Vec<i32>>>();
            if let (true, false, Some(slice)) = (is_small, file.has_deleted_rows(), slice) {
                small.entry(slice).or_default().push(Arc::clone(file));
            }
        }
        small.retain(|_, files| files.len() > FEW_FILES);
        if small.is_empty() {
            return Ok(0);
        }
        let schema = Self::file_schema(&state)?;
        let now = self.now_millis();
        let mut actions = Vec::new();
        for (values, files) in &small {
            let columns = state.partition_columns().iter().map(String::as_str);
            let columns: Vec<(&str, i32)> = columns.zip(values.iter().copied()).collect();
            let mut batches = Vec::new();
            self.read_files(name, files, None, &mut |batch| batches.push(batch.clone()))
                .await?;
            // How a file is encoded, its first batch decides.
            let batches = batches.iter().map(|batch| conform(batch, &schema));
            let batches = batches.collect::<Result<Vec<_>, _>>()?;
            let whole = concat_batches(&schema, &batches)
                .map_err(|error| LakeError::Internal(format!("rows of `{name}`: {error}")))?;
            let slice = Slice::new(&columns);
            let adds = self.store_rows(name, &state, &slice, vec![whole]).await?;
            actions.extend(adds.into_iter().map(|mut add| {
                add.data_change = false;
                Action::Add(add)
            }));
            actions.extend(files.iter().map(|file| {
                Action::Remove(Remove {
                    data_change: false,
                    ..file.removed_at(now)
                })
            }));
        }
        let operation = DeltaOperation::Optimize {
            predicate: None,
            target_size: SMALL_BYTES as i64,
        };
        let _turn = self.turn(name).await;
        let info = CommitInfo::default();
        match self
            .attempt(name, &state, actions, operation, &info)
            .await?
        {
            Attempt::Done(_) => Ok(small.values().map(Vec::len).sum()),
            Attempt::Overtaken => Ok(0),
            Attempt::Unknown(error) => {
                tracing::debug!(table = %name, %error, "a fold has no answer");
                Ok(0)
            }
        }
    }
}
