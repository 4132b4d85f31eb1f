//! Tables at rest: Delta tables in one folder or bucket, opened at a version, landed, replaced.
//!
//! Only this crate names `deltalake` or `object_store`. It knows bytes, files, commits and
//! versions; it does not know contracts, indicators, persons or queries. To add a kind of commit:
//! a method on [`Lake`] that builds its actions and goes through `commit.rs`, so that conflicts
//! and lost answers are met in one place.

mod coded;
mod coded_scan;
mod commit;
mod error;
pub mod failpoint;
mod fold;
mod group;
mod landing;
mod ledger;
mod local;
mod log;
mod pages;
mod parts;
mod reader;
mod scan;
mod small;
mod staged;
mod state;
mod table_name;
mod tables;
mod workspace;

pub use coded::{CodedSlices, CodedWriter, SliceFiles, TableSlices};
pub use coded_scan::{CodedFiles, FetchedGroup, OpenedFile};
pub use commit::{CommitInfo, Slice, SliceRows, StoredSlice};
pub use error::LakeError;
pub use group::Group;
pub use landing::{Delivery, LandOutcome, Landing, LandingWriter, StagedRows, Ticket};
pub use ledger::LedgerRow;
pub use pages::{Spare, StoredColumn};
pub use parts::PartOptions;
pub use scan::{table_bytes, table_part};
pub use staged::StagedTable;
pub use table_name::TableName;
pub use tables::{Lake, Opening};
pub use workspace::{
    TableChange, WORKSPACES, Workspace, WorkspaceCommit, WorkspaceFiles, WorkspaceTable,
    WorkspaceWriter, workspace_batch, workspace_schema,
};

/// The storage interface a lake can be opened on, for tests that inject faults.
pub use object_store::ObjectStore;
