//! Our own scan of a table at a version: the files the log names, with native partition values.
//!
//! The table format layer's own scan replays the log at every use, rewrites every batch and hides
//! row counts. A snapshot already knows the active files, so this provider hands them to the
//! engine's Parquet source: partition filters choose files before one is opened, files are spread
//! over the partitions, and everything else is pushed down by the engine. Many small files are read
//! at once instead (`small.rs`). Tables with features
//! this does not read (deletion vectors) are left to the format layer; see [`crate::Lake::provider`].

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::{FileRange, PartitionedFile};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use object_store::ObjectStore;
use object_store::path::Path as StorePath;

use crate::reader::NamingReaders;
use crate::small::{SmallFile, are_small, rows_of};
use crate::state::TableState;
use crate::{Lake, LakeError};

/// A table pinned at a version. Columns: those of the files, then the partition columns.
pub(crate) struct PinnedTable {
    store: Arc<dyn ObjectStore>,
    store_url: ObjectStoreUrl,
    file_schema: SchemaRef,
    partitions: Vec<Arc<Field>>,
    table_schema: SchemaRef,
    files: Vec<PinnedFile>,
    /// One row a file: its partition values.
    values: RecordBatch,
}

/// A file of a pinned table.
pub(crate) struct PinnedFile {
    pub(crate) path: StorePath,
    pub(crate) bytes: u64,
    pub(crate) rows: Option<usize>,
    /// The part of it that is read: the row groups that begin there. None for all of it.
    pub(crate) range: Option<Range<u64>>,
}

impl PinnedFile {
    /// The same file, of which so much is read.
    fn part(&self, range: Range<u64>) -> PinnedFile {
        let whole = range == (0..self.bytes);
        let share = |rows: usize| {
            let rows = rows as u128 * u128::from(range.end - range.start) / u128::from(self.bytes);
            usize::try_from(rows).unwrap_or(usize::MAX)
        };
        PinnedFile {
            path: self.path.clone(),
            bytes: self.bytes,
            rows: match whole {
                true => self.rows,
                false => self.rows.map(share),
            },
            range: (!whole).then_some(range),
        }
    }
}

impl std::fmt::Debug for PinnedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PinnedTable")
            .field("files", &self.files.len())
            .finish()
    }
}

/// Text and bytes are read as views: no copy on filter or join.
fn viewed(field: &Field) -> Field {
    let kind = match field.data_type() {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        other => other.clone(),
    };
    Field::new(field.name(), kind, true)
}

/// The columns of a table's files as they are read, and its partition columns in their order;
/// `None` when the table lacks one of these.
fn split(schema: &Schema, partition_columns: &[String]) -> Option<(SchemaRef, Vec<Arc<Field>>)> {
    let is_partition = |field: &Field| {
        partition_columns
            .iter()
            .any(|column| column == field.name())
    };
    let of_files: Vec<Field> = schema
        .fields()
        .iter()
        .filter(|field| !is_partition(field))
        .map(|field| viewed(field))
        .collect();
    let partitions = partition_columns
        .iter()
        .map(|column| {
            schema
                .field_with_name(column)
                .ok()
                .map(|field| Arc::new(field.clone()))
        })
        .collect::<Option<_>>()?;
    Some((Arc::new(Schema::new(of_files)), partitions))
}

fn joined(file_schema: &Schema, partitions: &[Arc<Field>]) -> SchemaRef {
    let all: Vec<Arc<Field>> = file_schema
        .fields()
        .iter()
        .chain(partitions)
        .cloned()
        .collect();
    Arc::new(Schema::new(all))
}

/// The columns that a scan of a table gives.
pub(crate) fn scanned_schema(schema: &Schema, partition_columns: &[String]) -> Option<SchemaRef> {
    let (file_schema, partitions) = split(schema, partition_columns)?;
    Some(joined(&file_schema, &partitions))
}

impl PinnedTable {
    /// Builds the provider from a table's files; `None` when the table needs the format layer.
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        store_url: ObjectStoreUrl,
        schema: &Schema,
        state: &TableState,
        place: impl Fn(&str) -> Option<StorePath>,
    ) -> Option<PinnedTable> {
        let mut found = Vec::new();
        for file in state.files() {
            if file.has_deleted_rows() {
                return None;
            }
            found.push((
                file.values().to_vec(),
                PinnedFile {
                    path: place(file.path())?,
                    bytes: file.bytes()?,
                    rows: file.rows(),
                    range: None,
                },
            ));
        }
        Self::of_files(store, store_url, schema, state.partition_columns(), found)
    }

    /// The same of files that are known already, each with its partition values.
    pub(crate) fn of_files(
        store: Arc<dyn ObjectStore>,
        store_url: ObjectStoreUrl,
        schema: &Schema,
        partition_columns: &[String],
        mut found: Vec<(Vec<Option<i32>>, PinnedFile)>,
    ) -> Option<PinnedTable> {
        let (file_schema, partitions) = split(schema, partition_columns)?;
        if partitions
            .iter()
            .any(|field| *field.data_type() != DataType::Int32)
        {
            return None;
        }
        // The log's order is the order of commits; names make the plan the same every time.
        found.sort_by(|a, b| a.1.path.cmp(&b.1.path));
        let columns: Vec<ArrayRef> = (0..partitions.len())
            .map(|place| {
                Arc::new(
                    found
                        .iter()
                        .map(|(values, _)| values.get(place).copied().flatten())
                        .collect::<Int32Array>(),
                ) as ArrayRef
            })
            .collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(found.len()));
        let values = RecordBatch::try_new_with_options(
            Arc::new(Schema::new(partitions.clone())),
            columns,
            &options,
        )
        .ok()?;
        let table_schema = joined(&file_schema, &partitions);
        Some(PinnedTable {
            store,
            store_url,
            file_schema,
            partitions,
            table_schema,
            files: found.into_iter().map(|(_, file)| file).collect(),
            values,
        })
    }

    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// The columns of its files.
    pub(crate) fn columns(&self) -> SchemaRef {
        Arc::clone(&self.file_schema)
    }

    pub(crate) fn files(&self) -> &[PinnedFile] {
        &self.files
    }

    /// One row a file: its partition values.
    pub(crate) fn partition_values(&self) -> &RecordBatch {
        &self.values
    }

    /// Its bytes, as they are stored.
    fn bytes(&self) -> u64 {
        let bytes = self.files.iter().map(|file| file.bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// The rows of one of so many parts: each row of the table is in one of them. None when it is a part
    /// already.
    fn part(&self, part: usize, of: usize) -> Option<PinnedTable> {
        let is_whole = |file: &PinnedFile| file.range.is_none() && file.bytes > 0;
        if part >= of || !self.files.iter().all(is_whole) {
            return None;
        }
        let bound = |part: usize| {
            let bytes = u128::from(self.bytes()) * part as u128 / of as u128;
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        let (from, to) = (bound(part), bound(part + 1));
        let mut files = Vec::new();
        let mut first = None;
        let mut start = 0_u64;
        for (index, file) in self.files.iter().enumerate() {
            let end = start.saturating_add(file.bytes);
            let within = from.max(start)..to.min(end);
            if !within.is_empty() {
                first.get_or_insert(index);
                let range = within.start - start..within.end - start;
                files.push(file.part(range));
            }
            start = end;
        }
        Some(PinnedTable {
            store: Arc::clone(&self.store),
            store_url: self.store_url.clone(),
            file_schema: Arc::clone(&self.file_schema),
            partitions: self.partitions.clone(),
            table_schema: Arc::clone(&self.table_schema),
            values: self.values.slice(first.unwrap_or(0), files.len()),
            files,
        })
    }

    fn about_partitions(&self, filter: &Expr) -> bool {
        let columns = filter.column_refs();
        !columns.is_empty()
            && columns.iter().all(|column| {
                self.partitions
                    .iter()
                    .any(|field| *field.name() == column.name)
            })
    }

    /// Which files can hold rows that pass the filters over partition columns.
    fn chosen(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<usize>> {
        let mut kept = vec![true; self.files.len()];
        let schema = DFSchema::try_from(Arc::clone(self.values.schema_ref()))?;
        for filter in filters
            .iter()
            .filter(|filter| self.about_partitions(filter))
        {
            // A filter names its table; here there is only one.
            let bare = datafusion::common::tree_node::TreeNode::transform(
                filter.clone(),
                |part| match part {
                    Expr::Column(column) => Ok(datafusion::common::tree_node::Transformed::yes(
                        Expr::Column(datafusion::common::Column::new_unqualified(column.name)),
                    )),
                    other => Ok(datafusion::common::tree_node::Transformed::no(other)),
                },
            )?
            .data;
            let passes = state
                .create_physical_expr(bare, &schema)?
                .evaluate(&self.values)?
                .into_array(self.files.len())?;
            let passes: &BooleanArray = passes.as_boolean_opt().ok_or_else(|| {
                DataFusionError::Internal("a filter is not true or false".to_owned())
            })?;
            for (kept, passes) in kept.iter_mut().zip(passes.iter()) {
                *kept &= passes.unwrap_or(false);
            }
        }
        Ok(kept
            .iter()
            .enumerate()
            .filter(|(_, kept)| **kept)
            .map(|(index, _)| index)
            .collect())
    }
}

impl PinnedTable {
    /// The rows of small files, in memory.
    async fn gathered(
        &self,
        chosen: &[usize],
        projection: Option<&Vec<usize>>,
        partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(columns) => Arc::new(self.table_schema.project(columns)?),
            None => Arc::clone(&self.table_schema),
        };
        let files = chosen.iter().filter_map(|index| {
            let values = self.partitions.iter().zip(self.values.columns());
            let values =
                values.map(|(field, column)| (field.name().clone(), column.slice(*index, 1)));
            let file = self.files.get(*index)?;
            Some(SmallFile {
                path: file.path.clone(),
                bytes: file.bytes,
                values: values.collect(),
            })
        });
        let (store, files) = (Arc::clone(&self.store), files.collect());
        let batches = rows_of(store, Arc::clone(&schema), files).await?;
        let size = batches.len().div_ceil(partitions.max(1)).max(1);
        let mut parts: Vec<Vec<RecordBatch>> = batches.chunks(size).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        Ok(MemorySourceConfig::try_new_exec(&parts, schema, None)?)
    }
}

/// The bytes of a table as they are stored, when it can be read in parts.
pub fn table_bytes(table: &dyn TableProvider) -> Option<u64> {
    table.downcast_ref::<PinnedTable>().map(PinnedTable::bytes)
}

/// One of so many parts of a table, numbered from 0. Each row is in one part; the parts of a table at a
/// version are the same always. `None` when the table cannot be read in parts.
pub fn table_part(
    table: &dyn TableProvider,
    part: usize,
    of: usize,
) -> Option<Arc<dyn TableProvider>> {
    let part = table.downcast_ref::<PinnedTable>()?.part(part, of)?;
    Some(Arc::new(part))
}

impl Lake {
    /// The address under which the engine knows this lake's store.
    pub(crate) fn store_url(&self) -> Result<ObjectStoreUrl, LakeError> {
        let root = self
            .url
            .join("/")
            .map_err(|error| LakeError::Internal(error.to_string()))?;
        ObjectStoreUrl::parse(root.as_str().trim_end_matches('/').to_owned() + "/")
            .map_err(|error| LakeError::Internal(error.to_string()))
    }
}

#[async_trait]
impl TableProvider for PinnedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table_schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| {
                if self.about_partitions(filter) {
                    TableProviderFilterPushDown::Exact
                } else {
                    TableProviderFilterPushDown::Inexact
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        state
            .runtime_env()
            .register_object_store(self.store_url.as_ref(), Arc::clone(&self.store));
        let chosen = self.chosen(state, filters)?;
        let files: Vec<&PinnedFile> = chosen
            .iter()
            .filter_map(|index| self.files.get(*index))
            .collect();
        let rows: Option<usize> = files.iter().map(|file| file.rows).sum();
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        // A plan of no files has no partitions, and a sort of none cannot be planned.
        let whole = files.iter().all(|file| file.range.is_none());
        if files.is_empty() || whole && are_small(files.len(), bytes, rows) {
            let partitions = state.config().target_partitions();
            return self.gathered(&chosen, projection, partitions).await;
        }
        let listed: Vec<PartitionedFile> = chosen
            .iter()
            .filter_map(|index| {
                let file = self.files.get(*index)?;
                let mut listed = PartitionedFile::new(file.path.to_string(), file.bytes);
                listed.object_meta.location = file.path.clone();
                if let Some(range) = &file.range {
                    listed.range = Some(FileRange {
                        start: range.start.try_into().ok()?,
                        end: range.end.try_into().ok()?,
                    });
                }
                listed.partition_values = (0..self.partitions.len())
                    .map(|place| ScalarValue::try_from_array(self.values.column(place), *index))
                    .collect::<Result<_>>()
                    .ok()?;
                Some(listed)
            })
            .collect();
        if listed.len() != chosen.len() {
            return Err(DataFusionError::Internal(
                "a file of the snapshot was lost".to_owned(),
            ));
        }
        let groups = FileGroup::new(listed).split_files(state.config().target_partitions());
        let schema = TableSchema::builder(Arc::clone(&self.file_schema))
            .with_table_partition_cols(self.partitions.clone())
            .build();
        let readers = NamingReaders::of(Arc::clone(&self.store));
        let source = ParquetSource::new(schema)
            .with_table_parquet_options(state.table_options().parquet.clone())
            .with_parquet_file_reader_factory(Arc::new(readers));
        let statistics = Statistics {
            num_rows: rows.map_or(Precision::Absent, Precision::Inexact),
            total_byte_size: Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX)),
            ..Statistics::new_unknown(&self.table_schema)
        };
        let config = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
