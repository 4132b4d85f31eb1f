//! Tables whose rows are the present moment: what runs now, who is connected.
//!
//! They belong to the schema `meta`, and to the program that serves: it gives the rows, each time
//! somebody asks. They have no versions: also a session that sees the past sees them as they are now. Who sees which
//! rows is the policy's decision.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::error::EngineError;

/// The schema of live tables.
pub(crate) const LIVE_SCHEMA: &str = "meta";

/// A table of the present moment.
pub trait LiveRows: fmt::Debug + Send + Sync {
    /// Its columns. One of them is named `principal`: whose row it is.
    fn schema(&self) -> SchemaRef;

    /// What one row is, in words.
    fn comment(&self) -> &'static str;

    /// Its rows now, with the columns of the schema.
    ///
    /// # Errors
    /// The rows could not be written down.
    fn rows(&self) -> Result<RecordBatch, EngineError>;
}

/// The table as the planner sees it.
#[derive(Debug)]
pub(crate) struct LiveTable {
    pub(crate) rows: Arc<dyn LiveRows>,
}

#[async_trait]
impl TableProvider for LiveTable {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let rows = vec![vec![self.rows.rows()?]];
        let scan = MemorySourceConfig::try_new_exec(&rows, self.schema(), projection.cloned())?;
        Ok(scan)
    }
}
