//! Tables that are computed from other tables slice by slice, with texts as codes.
//!
//! Such a table can be made again at any time, so it is stored for reading: sorted by whoever writes
//! it, and text columns of few words as Arrow dictionaries, which are read without decoding a text
//! ([`Lake::coded_files`]). The Delta columns are plain texts: other readers see no codes. A
//! slice carries a mark, a word of the writer's that stands in the names of its files, so that one
//! look at the log tells what each slice was computed from, at any version, and a slice and its mark
//! can never be out of step. What may not live here: what a mark means, and when a slice is computed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake_core::kernel::Add;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use crate::commit::unique_name;
use crate::parts::{PartEncoder, PartOptions};
use crate::state::TableFile;
use crate::{CommitInfo, Lake, LakeError, Slice, TableName};

/// Rows that are looked at before it is decided which texts of a file are coded.
const SAMPLE_ROWS: usize = 2048;

/// With fewer rows than this every text is coded: a dictionary of a small file is small.
const FEW_ROWS: usize = 1024;

/// A file is closed when it is as large as this.
const FILE_BYTES: usize = 8 << 20;

/// Files that no version names are left alone for this long: another process may be about to
/// commit them.
const KEPT_MILLIS: i64 = 60 * 60 * 1000;

/// The type of a coded text column.
fn code_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The files of one slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceFiles {
    identities: BTreeSet<String>,
    marks: BTreeSet<Option<String>>,
    /// Rows, where the log tells them for every file.
    pub rows: Option<u64>,
}

impl SliceFiles {
    /// One text for each file, in order: as long as they are the same, so are the slice's rows.
    pub fn identities(&self) -> impl Iterator<Item = &str> {
        self.identities.iter().map(String::as_str)
    }

    /// True when all of the slice was written under this mark.
    pub fn has_mark(&self, mark: &str) -> bool {
        self.marks
            .iter()
            .all(|found| found.as_deref() == Some(mark))
            && !self.marks.is_empty()
    }

    fn add(&mut self, file: &TableFile) {
        let rows = file.rows().map(|rows| rows as u64);
        self.rows = match self.identities.is_empty() {
            true => rows,
            false => self.rows.zip(rows).map(|(a, b)| a + b),
        };
        self.identities.insert(file.identity());
        self.marks
            .insert(mark_of_file(file.file_name()).map(str::to_owned));
    }
}

/// The slices of a table at a version, by the values of its partition columns.
#[derive(Debug, Clone)]
pub struct TableSlices {
    /// The version.
    pub version: i64,
    /// The slices that have files.
    pub slices: BTreeMap<Vec<i32>, SliceFiles>,
}

/// Slices that are stored and not yet visible, for [`Lake::replace_coded`].
#[derive(Debug, Default)]
pub struct CodedSlices {
    adds: Vec<Add>,
    slices: Vec<Slice>,
    /// Rows stored.
    pub rows: u64,
}

impl CodedSlices {
    /// Both together.
    pub fn extend(&mut self, other: CodedSlices) {
        self.adds.extend(other.adds);
        self.slices.extend(other.slices);
        self.rows += other.rows;
    }

    /// A slice that becomes empty.
    pub fn drop_slice(&mut self, slice: Slice) {
        self.slices.push(slice);
    }

    /// True when a commit would change nothing.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }
}

/// Takes the rows of one slice after another and stores them as coded files.
pub struct CodedWriter {
    lake: Arc<Lake>,
    table: TableName,
    schema: SchemaRef,
    options: PartOptions,
    open: Option<OpenSlice>,
    done: CodedSlices,
}

impl std::fmt::Debug for CodedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodedWriter")
            .field("table", &self.table.to_string())
            .finish_non_exhaustive()
    }
}

/// The slice whose rows are being taken.
struct OpenSlice {
    slice: Slice,
    mark: String,
    unique: String,
    files: usize,
    /// Its first rows, until there are enough of them to choose codes by.
    held: Vec<RecordBatch>,
    encoder: Option<PartEncoder>,
}

impl CodedWriter {
    /// Ends the slice before, if any, and begins another. `mark` is letters and digits. A slice that
    /// gets no rows is stored as empty, with its mark.
    pub async fn begin(&mut self, slice: Slice, mark: &str) -> Result<(), LakeError> {
        self.end().await?;
        self.open = Some(OpenSlice {
            slice,
            mark: mark.to_owned(),
            unique: unique_name(self.lake.now_millis()),
            files: 0,
            held: Vec::new(),
            encoder: None,
        });
        Ok(())
    }

    /// Rows of the slice that was begun last. Partition columns are left out of them.
    pub async fn write(&mut self, batch: RecordBatch) -> Result<(), LakeError> {
        let Some(open) = &mut self.open else {
            return Err(LakeError::Internal("rows without a slice".to_owned()));
        };
        self.done.rows += batch.num_rows() as u64;
        match &mut open.encoder {
            Some(encoder) => {
                if let Some(part) = encoder.write(&batch)? {
                    self.store(part).await?;
                }
            }
            None => {
                open.held.push(batch);
                if open.held.iter().map(RecordBatch::num_rows).sum::<usize>() >= SAMPLE_ROWS {
                    self.release().await?;
                }
            }
        }
        Ok(())
    }

    /// Ends the last slice.
    pub async fn finish(mut self) -> Result<CodedSlices, LakeError> {
        self.end().await?;
        Ok(self.done)
    }

    async fn end(&mut self) -> Result<(), LakeError> {
        self.release().await?;
        let part = match &mut self.open {
            Some(OpenSlice {
                encoder: Some(encoder),
                ..
            }) => encoder.finish()?,
            _ => None,
        };
        if let Some(part) = part {
            self.store(part).await?;
        }
        if let Some(open) = self.open.take() {
            self.done.slices.push(open.slice);
        }
        Ok(())
    }

    /// Chooses the codes of the slice by the rows held, and encodes them.
    async fn release(&mut self) -> Result<(), LakeError> {
        let mut parts = Vec::new();
        if let Some(open) = &mut self.open
            && open.encoder.is_none()
        {
            let schema = coded_schema(&self.schema, &open.held);
            let mut encoder = PartEncoder::new(Arc::clone(&schema), self.options);
            // Together, for the first rows decide how a file is written.
            let held = match open.held.first() {
                Some(first) => concat_batches(&first.schema(), &open.held)
                    .map_err(|error| LakeError::Internal(error.to_string()))?,
                None => RecordBatch::new_empty(schema),
            };
            open.held.clear();
            parts.extend(encoder.write(&held)?);
            open.encoder = Some(encoder);
        }
        for part in parts {
            self.store(part).await?;
        }
        Ok(())
    }

    async fn store(&mut self, part: crate::parts::EncodedPart) -> Result<(), LakeError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let name = format!(
            "part-{}-{}-{:03}.parquet",
            open.mark, open.unique, open.files
        );
        open.files += 1;
        let add = self
            .lake
            .store_part(&self.table, &open.slice, &name, part)
            .await?;
        self.done.adds.push(add);
        Ok(())
    }
}

/// The mark in a file's name.
fn mark_of_file(name: &str) -> Option<&str> {
    let (mark, _) = name.strip_prefix("part-")?.split_once('-')?;
    Some(mark)
}

/// When a file of ours was begun, by its name.
fn begun_at(name: &str) -> Option<i64> {
    let (_, unique) = name.strip_prefix("part-")?.split_once('-')?;
    let (millis, _) = unique.split_once('-')?;
    i64::from_str_radix(millis, 16).ok()
}

/// The columns with those texts as codes that have few words in these rows.
fn coded_schema(schema: &SchemaRef, rows: &[RecordBatch]) -> SchemaRef {
    let fields: Vec<Arc<Field>> = schema
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Utf8 if has_few_words(field.name(), rows) => {
                Arc::new(Field::new(field.name(), code_type(), true))
            }
            _ => Arc::clone(field),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn has_few_words(name: &str, rows: &[RecordBatch]) -> bool {
    if rows.iter().map(RecordBatch::num_rows).sum::<usize>() < FEW_ROWS {
        return true;
    }
    let mut words: HashSet<&str> = HashSet::new();
    let mut count = 0;
    for column in rows.iter().filter_map(|batch| batch.column_by_name(name)) {
        let taken = column.len().min(SAMPLE_ROWS - count);
        count += taken;
        if let Some(texts) = column.as_string_view_opt() {
            words.extend(texts.iter().take(taken).flatten());
        } else if let Some(texts) = column.as_string_opt::<i32>() {
            words.extend(texts.iter().take(taken).flatten());
        }
    }
    words.len() * 4 <= count
}

impl Lake {
    /// The slices of a table at a version (the newest when `None`); `None` when it does not exist.
    pub async fn slices(
        &self,
        name: &TableName,
        version: Option<i64>,
    ) -> Result<Option<TableSlices>, LakeError> {
        let state = match version {
            Some(_) => self.state_at(name, version).await?,
            None => match self.newest(name).await? {
                Some(state) => state,
                None => return Ok(None),
            },
        };
        let mut slices: BTreeMap<Vec<i32>, SliceFiles> = BTreeMap::new();
        for file in state.files() {
            let key = file.values().iter().copied().collect::<Option<Vec<i32>>>();
            let key = key.ok_or_else(|| {
                LakeError::Internal(format!("a file of `{name}` lies in no slice"))
            })?;
            slices.entry(key).or_default().add(file);
        }
        Ok(Some(TableSlices {
            version: state.version(),
            slices,
        }))
    }

    /// A writer of slices of a table, which must exist. Files are cut into row groups of `rows`.
    pub async fn coded_writer(
        self: &Arc<Self>,
        name: &TableName,
        rows: usize,
    ) -> Result<CodedWriter, LakeError> {
        let state = self.existing(name).await?;
        Ok(CodedWriter {
            lake: Arc::clone(self),
            table: name.clone(),
            schema: Self::file_schema(&state)?,
            options: PartOptions {
                row_group_rows: rows,
                text_statistics: false,
                for_codes: true,
                // A scan spreads files over the cores, and the largest slice should not be one file.
                file_bytes: FILE_BYTES,
                ..PartOptions::default()
            },
            open: None,
            done: CodedSlices::default(),
        })
    }

    /// Makes stored slices take the place of what the table holds of them, in one commit.
    pub async fn replace_coded(
        &self,
        name: &TableName,
        slices: CodedSlices,
        info: CommitInfo,
    ) -> Result<i64, LakeError> {
        let seen = self.last_seen(name).await?.version();
        self.commit_adds(name, &slices.adds, &slices.slices, &info, seen)
            .await
    }

    /// Deletes the files of coded slices that the newest version does not name: those of slices that
    /// were replaced or dropped, and those that were never committed. Who still reads an earlier
    /// version loses it, so this is for tables that nobody keeps a version of. Gives their number.
    pub async fn sweep_coded(&self, name: &TableName) -> Result<usize, LakeError> {
        let Some(state) = self.newest(name).await? else {
            return Ok(0);
        };
        let folder = self.object_path(&format!("{}/{}", name.schema(), name.table()))?;
        let found: Vec<_> = self
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(LakeError::storage("list the files of a table"))?;
        let stem = format!("{folder}/");
        let oldest_kept = self.now_millis() - KEPT_MILLIS;
        let mut swept = 0;
        for object in found {
            let path = object.location;
            let is_unused = path
                .as_ref()
                .strip_prefix(&stem)
                .is_some_and(|relative| !state.has_file(relative));
            let is_old = path
                .filename()
                .and_then(begun_at)
                .is_some_and(|begun| begun < oldest_kept);
            if is_unused && is_old {
                self.store
                    .delete(&path)
                    .await
                    .map_err(LakeError::storage("delete an unused data file"))?;
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Deletes every table of the schema whose name `is_old` is true of, files and log. Who reads one
    /// of them, loses it. Gives their names.
    pub async fn drop_tables(
        &self,
        schema: &str,
        is_old: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Vec<TableName>, LakeError> {
        let folder = self.object_path(schema)?;
        let listed = self
            .store
            .list_with_delimiter(Some(&folder))
            .await
            .map_err(LakeError::storage("list a schema"))?;
        let mut dropped = Vec::new();
        for place in listed.common_prefixes {
            let Some(name) = place
                .filename()
                .filter(|name| is_old(name))
                .and_then(|name| TableName::new(schema, name).ok())
            else {
                continue;
            };
            let objects: Vec<_> = self
                .store
                .list(Some(&place))
                .try_collect()
                .await
                .map_err(LakeError::storage("list the files of a table"))?;
            for object in objects {
                self.store
                    .delete(&object.location)
                    .await
                    .map_err(LakeError::storage("delete a table"))?;
            }
            self.forget(&name);
            dropped.push(name);
        }
        Ok(dropped)
    }
}
