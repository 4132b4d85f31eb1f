//! Rows that are stored and not yet visible, as something that can be queried.
//!
//! A landing asks questions about its rows before it commits them. No table's log names their
//! files yet, so they are handed to the scan directly, as if they were a table of their own: only
//! this delivery, with the columns of the raw table. Asking and judging are other crates' business.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use deltalake_core::kernel::Add;

use crate::landing::{StagedRows, Ticket, raw_schema};
use crate::scan::{PinnedFile, PinnedTable, scanned_schema};
use crate::{Lake, LakeError};

/// The partition columns of a raw table.
const PARTITIONS: [&str; 2] = ["county", "period"];

/// The rows of one landing as a table: `delivery_id`, `row_no`, the contract's columns, `county`,
/// `period`. Good until the landing is finished or discarded.
#[derive(Debug, Clone)]
pub struct StagedTable(Arc<dyn TableProvider>);

impl StagedTable {
    /// The table without rows, for asking whether a query can be answered at all.
    pub fn without_rows(contract: &Schema) -> StagedTable {
        let raw = raw_schema(contract);
        // A raw table has its partition columns; without them the query would say so.
        let schema = scanned_schema(&raw, &partitions()).unwrap_or(raw);
        StagedTable(Arc::new(EmptyTable::new(schema)))
    }

    /// The table for the query engine.
    pub fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::clone(&self.0)
    }
}

impl Lake {
    /// The rows that a landing has stored. `contract` holds the contract's columns, as in
    /// [`Lake::begin_landing`]; columns that only earlier contracts had are not among them.
    pub fn staged_table(
        &self,
        ticket: &Ticket,
        staged: &StagedRows,
        contract: &Schema,
    ) -> Result<StagedTable, LakeError> {
        let (table, slice) = (ticket.raw_table()?, ticket.slice());
        let values: Vec<Option<i32>> = slice.columns().iter().map(|(_, v)| Some(*v)).collect();
        let mut files = Vec::new();
        for add in staged.adds() {
            let path = format!("{}/{}/{}", table.schema(), table.table(), add.path);
            let file = PinnedFile {
                path: self.object_path(&path)?,
                bytes: u64::try_from(add.size).unwrap_or_default(),
                rows: rows_of(add),
                range: None,
            };
            files.push((values.clone(), file));
        }
        if files.is_empty() {
            return Ok(StagedTable::without_rows(contract));
        }
        let pinned = PinnedTable::of_files(
            Arc::clone(&self.store),
            self.store_url()?,
            &raw_schema(contract),
            &partitions(),
            files,
        );
        match pinned {
            Some(pinned) => Ok(StagedTable(Arc::new(pinned))),
            None => Err(LakeError::Internal(format!(
                "the stored rows of `{table}` cannot be read as a table"
            ))),
        }
    }

    /// Another lake of the same clock in a folder that the caller takes away again: a place for
    /// rows that will not be landed.
    pub fn scratch(&self, folder: &Path) -> Result<Lake, LakeError> {
        Lake::open(folder, Arc::clone(&self.clock))
    }
}

/// The file's own count, as its action states it.
fn rows_of(add: &Add) -> Option<usize> {
    let stats: serde_json::Value = serde_json::from_str(add.stats.as_deref()?).ok()?;
    usize::try_from(stats.get("numRecords")?.as_u64()?).ok()
}

fn partitions() -> Vec<String> {
    PARTITIONS.map(str::to_owned).to_vec()
}
