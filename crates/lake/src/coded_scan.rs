//! Coded tables read column by column: the files of a version, and the rows of one of them as codes.
//!
//! A calculation that reads a whole table needs no query for it: it takes one file after the other, in
//! any order and on any core, and of each the columns that it wants, as they are stored
//! ([`pages`](crate::pages)). What a file holds in another form than codes and numbers is read by the
//! Parquet library, column by column too. What may not live here: what is done with rows.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, new_null_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use bytes::Buf;
use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use object_store::path::Path;
use object_store::{GetOptions, GetResultPayload, ObjectStore};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::error::LOCAL;
use crate::local::{AsFile, read_at_once};
use crate::pages::{Spare, StoredColumn};
use crate::scan::PinnedTable;
use crate::{Lake, LakeError, TableName, pages};

/// How much of a file is first asked for to find its footer; most footers are smaller.
const FOOTER_BYTES: u64 = 64 << 10;

/// What lies between two columns is read along with them when it is not more than this.
const GAP_BYTES: u64 = 32 << 10;

/// The files of a coded table at a version.
#[derive(Debug)]
pub struct CodedFiles {
    store: Arc<dyn ObjectStore>,
    schema: SchemaRef,
    files: Vec<CodedFile>,
}

#[derive(Debug)]
struct CodedFile {
    path: Path,
    bytes: u64,
    values: Vec<Option<i32>>,
}

/// A file whose footer is known, of which some columns are wanted.
#[derive(Debug)]
pub struct OpenedFile {
    source: Source,
    schema: SchemaRef,
    columns: Vec<usize>,
    metadata: Arc<ParquetMetaData>,
    size: u64,
    /// Where the bytes begin that were read along with the footer, and these.
    tail: (u64, Bytes),
}

/// Where the bytes of a file come from.
#[derive(Debug)]
struct Source {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// The file, where the store is this machine's file system and it was opened before.
    local: Mutex<Option<File>>,
}

/// Parts of a file, each with the place where it begins, and the buffer that all lie in.
type ReadParts = (Vec<(u64, Bytes)>, Option<Arc<Vec<u8>>>);

/// A row group, of which some columns are in memory as they are stored.
#[derive(Debug)]
pub struct FetchedGroup {
    file: Arc<OpenedFile>,
    group: usize,
    parts: Parts,
    /// What the parts lie in, where they were read into a buffer that is kept.
    buffer: Option<Arc<Vec<u8>>>,
}

impl CodedFiles {
    /// Of a table whose files are known.
    pub(crate) fn of(table: &PinnedTable) -> Self {
        let values = table.partition_values();
        let values: Vec<_> = values
            .columns()
            .iter()
            .filter_map(|column| column.as_primitive_opt::<Int32Type>())
            .collect();
        let files = table.files().iter().enumerate();
        let files = files.map(|(place, file)| CodedFile {
            path: file.path.clone(),
            bytes: file.bytes,
            values: values
                .iter()
                .map(|column| column.is_valid(place).then(|| column.value(place)))
                .collect(),
        });
        Self {
            store: table.store(),
            schema: table.columns(),
            files: files.collect(),
        }
    }

    /// The columns of the files, with the types of their values: text as `Utf8View`.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The files whose partition values, in the order of the partition columns, are wanted: their
    /// numbers, each with its bytes.
    pub fn chosen(&self, is_wanted: impl Fn(&[Option<i32>]) -> bool) -> Vec<(usize, u64)> {
        let files = self.files.iter().enumerate();
        let files = files.filter(|(_, file)| is_wanted(&file.values));
        files.map(|(number, file)| (number, file.bytes)).collect()
    }

    /// Opens a file for columns, by their places in [`CodedFiles::schema`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn open(&self, file: usize, columns: &[usize]) -> Result<OpenedFile, LakeError> {
        let Some(file) = self.files.get(file) else {
            return Err(LakeError::Internal("there is no such file".to_owned()));
        };
        let source = Source {
            store: Arc::clone(&self.store),
            path: file.path.clone(),
            local: Mutex::default(),
        };
        let footer = footer(&source, file.bytes).await;
        let (metadata, from, tail) = footer.map_err(|error| source.failed(error))?;
        Ok(OpenedFile {
            source,
            schema: Arc::clone(&self.schema),
            columns: columns.to_vec(),
            metadata: Arc::new(metadata),
            size: file.bytes,
            tail: (from, tail),
        })
    }
}

/// What must be read for some columns of a row group, in order, near ones together.
fn wanted(
    group: &RowGroupMetaData,
    schema: &SchemaRef,
    columns: &[usize],
) -> Result<Vec<Range<u64>>, LakeError> {
    let names = columns
        .iter()
        .filter_map(|column| schema.fields().get(*column));
    let names: Vec<&str> = names.map(|field| field.name().as_str()).collect();
    let chunks = group.columns().iter();
    let chunks = chunks.filter(|chunk| match chunk.column_path().parts() {
        [name] => names.contains(&name.as_str()),
        _ => false,
    });
    let ranges = chunks.map(|chunk| {
        let data = chunk.data_page_offset();
        let start = chunk
            .dictionary_page_offset()
            .map_or(data, |dictionary| dictionary.min(data));
        // The library takes for granted that these are not below zero.
        match (u64::try_from(start), u64::try_from(chunk.compressed_size())) {
            (Ok(start), Ok(length)) => Ok(start..start.saturating_add(length)),
            _ => Err(pages::damaged()),
        }
    });
    let mut ranges: Vec<Range<u64>> = ranges.collect::<Result<_, _>>()?;
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(GAP_BYTES) => {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    Ok(merged)
}

/// The footer of a file, and its last bytes with the place where they begin.
async fn footer(source: &Source, size: u64) -> Result<(ParquetMetaData, u64, Bytes), LakeError> {
    let mut wanted = FOOTER_BYTES.min(size);
    let mut reader = ParquetMetaDataReader::new();
    let failed = "read the end of a data file";
    loop {
        let from = size - wanted;
        let read = source
            .read(std::slice::from_ref(&(from..size)), Vec::new(), failed)
            .await?;
        let tail = read.0.into_iter().next();
        let (_, tail) = tail.ok_or_else(pages::damaged)?;
        match reader.try_parse_sized(&tail, size) {
            Ok(()) => {
                let metadata = reader.finish().map_err(LakeError::parquet(failed))?;
                return Ok((metadata, from, tail));
            }
            Err(ParquetError::NeedMoreData(more)) if wanted < size => {
                wanted = (more as u64).max(wanted + 1).min(size);
            }
            Err(error) => return Err(LakeError::parquet(failed)(error)),
        }
    }
}

impl OpenedFile {
    /// How many row groups it has.
    pub fn groups(&self) -> usize {
        self.metadata.num_row_groups()
    }

    fn group(&self, group: usize) -> Result<&RowGroupMetaData, LakeError> {
        let lost = || LakeError::Internal("a data file lacks a row group".to_owned());
        self.metadata.row_groups().get(group).ok_or_else(lost)
    }

    /// Reads the columns of a row group into memory: into `buffer`, where the store is this machine's
    /// file system.
    ///
    /// # Errors
    /// When there is no such row group, or it cannot be read.
    pub async fn fetch(
        self: &Arc<Self>,
        group: usize,
        buffer: Vec<u8>,
    ) -> Result<FetchedGroup, LakeError> {
        let (from, tail) = &self.tail;
        let failed = |error| self.source.failed(error);
        let wanted = wanted(self.group(group)?, &self.schema, &self.columns).map_err(failed)?;
        let ranges = wanted.into_iter().filter(|range| range.start < *from);
        let ranges: Vec<Range<u64>> = ranges.collect();
        if ranges.iter().any(|range| range.end > self.size) {
            return Err(failed(pages::damaged()));
        }
        let what = "read columns of a data file";
        let read = self.source.read(&ranges, buffer, what).await;
        let (mut parts, buffer) = read.map_err(failed)?;
        parts.push((*from, tail.clone()));
        let size = self.size;
        Ok(FetchedGroup {
            file: Arc::clone(self),
            group,
            parts: Parts { size, parts },
            buffer,
        })
    }
}

impl Source {
    /// What went wrong, with the name of the file.
    fn failed(&self, error: LakeError) -> LakeError {
        LakeError::data_file(&self.path, error)
    }

    /// Parts of the file: into `buffer`, where the store is this machine's file system.
    async fn read(
        &self,
        ranges: &[Range<u64>],
        buffer: Vec<u8>,
        what: &'static str,
    ) -> Result<ReadParts, LakeError> {
        let failed = || LakeError::storage(what);
        let Some((first, others)) = ranges.split_first() else {
            return Ok((Vec::new(), None));
        };
        let known = self.local().take();
        let file = match known {
            Some(file) => file,
            None => {
                let mut options = GetOptions::new().with_range(Some(first.clone()));
                options.extensions.insert(AsFile);
                let opened = self.store.get_opts(&self.path, options).await;
                let opened = opened.map_err(failed())?;
                match opened.payload {
                    GetResultPayload::File(file, _) => file,
                    GetResultPayload::Stream(_) => {
                        let mut read = vec![opened.bytes().await.map_err(failed())?];
                        let others = self.store.get_ranges(&self.path, others).await;
                        read.extend(others.map_err(failed())?);
                        let starts = ranges.iter().map(|range| range.start);
                        return Ok((starts.zip(read).collect(), None));
                    }
                }
            }
        };
        let (file, buffer) = read_local(file, buffer, ranges).await.map_err(|error| {
            failed()(object_store::Error::Generic {
                store: LOCAL,
                source: Box::new(error),
            })
        })?;
        *self.local() = Some(file);
        let whole = Bytes::from_owner(Kept(Arc::clone(&buffer)));
        let mut end = 0;
        let parts = ranges.iter().map(|range| {
            let from = end;
            end += (range.end - range.start) as usize;
            (range.start, whole.slice(from..end))
        });
        Ok((parts.collect(), Some(buffer)))
    }

    fn local(&self) -> MutexGuard<'_, Option<File>> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that can be had back when nobody reads it any more.
struct Kept(Arc<Vec<u8>>);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Parts of a file, one behind the other.
async fn read_local(
    mut file: File,
    mut buffer: Vec<u8>,
    ranges: &[Range<u64>],
) -> std::io::Result<(File, Arc<Vec<u8>>)> {
    let lengths = ranges.iter().map(|range| range.end - range.start);
    // What was there before is written over and not cleared first.
    buffer.resize(lengths.sum::<u64>() as usize, 0);
    let read = each_part(&mut buffer, ranges, |start, own| {
        read_at_once(&file, own, start)
    });
    if read.is_ok() {
        return Ok((file, Arc::new(buffer)));
    }
    let ranges = ranges.to_vec();
    let reading = SpawnedTask::spawn_blocking(move || {
        each_part(&mut buffer, &ranges, |start, own| {
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(own)
        })?;
        Ok((file, Arc::new(buffer)))
    });
    let died = |error| std::io::Error::other(format!("reading a data file died: {error}"));
    reading.await.map_err(died)?
}

/// Each part of a file with its place in the buffer.
fn each_part(
    buffer: &mut [u8],
    ranges: &[Range<u64>],
    mut read: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut left = buffer;
    for range in ranges {
        let length = (range.end - range.start) as usize;
        let (own, rest) = left.split_at_mut_checked(length).unwrap_or_default();
        read(range.start, own)?;
        left = rest;
    }
    Ok(())
}

impl FetchedGroup {
    /// Its rows: the columns in the order in which they were asked for, and their number.
    /// Buffers are taken from `spare` where it has some.
    ///
    /// # Errors
    /// When the file does not hold what it says.
    pub fn read(self, spare: &mut Spare) -> Result<(usize, Vec<StoredColumn>), LakeError> {
        let read = self.columns(spare);
        let read = read.map_err(|error| self.file.source.failed(error));
        // Pages are unpacked, so that nobody has a part of it.
        let Self { parts, buffer, .. } = self;
        drop(parts);
        if let Some(Ok(buffer)) = buffer.map(Arc::try_unwrap) {
            spare.put_raw(buffer);
        }
        read
    }

    fn columns(&self, spare: &mut Spare) -> Result<(usize, Vec<StoredColumn>), LakeError> {
        let lost = || LakeError::Internal("a data file lost a column".to_owned());
        let file = &self.file;
        let of_group = file.group(self.group)?;
        let rows = usize::try_from(of_group.num_rows()).map_err(|_| lost())?;
        let schema = file.metadata.file_metadata().schema_descr();
        let mut columns = Vec::with_capacity(file.columns.len());
        for column in &file.columns {
            let field = file.schema.fields().get(*column).ok_or_else(lost)?;
            let found = schema.columns().iter().enumerate();
            let mut found = found.filter(|(_, leaf)| match leaf.path().parts() {
                [name] => name == field.name(),
                _ => false,
            });
            let Some((leaf, described)) = found.next_back() else {
                columns.push(new_null_array(field.data_type(), rows).into());
                continue;
            };
            let chunk = of_group.columns().get(leaf).ok_or_else(lost)?;
            let parts = Arc::new(self.parts.clone());
            let mut reader = SerializedPageReader::new(parts, chunk, rows, None)
                .map_err(LakeError::parquet("read a column of a data file"))?;
            let nullable = described.max_def_level() == 1;
            let flat = described.max_rep_level() == 0 && described.max_def_level() <= 1;
            let stored = described.physical_type();
            let read = match flat {
                true => {
                    let data_type = field.data_type();
                    pages::column(&mut reader, stored, nullable, data_type, rows, spare)?
                }
                false => None,
            };
            let read = match read {
                Some(read) => read,
                None => self.otherwise(leaf, rows, field.data_type())?,
            };
            if read.rows() != rows {
                return Err(pages::damaged());
            }
            columns.push(read);
        }
        Ok((rows, columns))
    }

    /// A column as the Parquet library reads it.
    fn otherwise(
        &self,
        leaf: usize,
        rows: usize,
        data_type: &DataType,
    ) -> Result<StoredColumn, LakeError> {
        let failed = |error| LakeError::parquet("read a column of a data file")(error);
        let lost = || LakeError::Internal("a data file lost a column".to_owned());
        let options = ArrowReaderOptions::new();
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(&self.file.metadata), options);
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            self.parts.clone(),
            metadata.map_err(failed)?,
        );
        let mask = ProjectionMask::leaves(builder.parquet_schema(), [leaf]);
        let reader = builder
            .with_projection(mask)
            .with_row_groups(vec![self.group])
            .with_batch_size(rows.max(1))
            .build()
            .map_err(failed)?;
        let batches: Vec<_> = reader
            .collect::<Result<_, _>>()
            .map_err(|error| failed(ParquetError::External(Box::new(error))))?;
        let column = match batches.first() {
            None => return Ok(new_null_array(data_type, rows).into()),
            Some(first) => concat_batches(&first.schema(), &batches).map_err(|_| lost())?,
        };
        let column = column.columns().first().ok_or_else(lost)?;
        if let Some(coded) = column.as_dictionary_opt::<Int32Type>() {
            return Ok(StoredColumn {
                codes: Some(Arc::new(coded.keys().clone())),
                values: Arc::clone(coded.values()),
            });
        }
        Ok(cast(column, data_type).map_err(|_| lost())?.into())
    }
}

/// Parts of a file that are in memory, by where they begin.
#[derive(Debug, Clone)]
struct Parts {
    size: u64,
    parts: Vec<(u64, Bytes)>,
}

impl Parts {
    /// What is there from a place on.
    fn from(&self, start: u64) -> parquet::errors::Result<Bytes> {
        let found = self.parts.iter().find_map(|(from, bytes)| {
            let skipped = usize::try_from(start.checked_sub(*from)?).ok()?;
            (skipped < bytes.len()).then(|| bytes.slice(skipped..))
        });
        found.ok_or_else(|| ParquetError::EOF("a part of a file was not read".to_owned()))
    }
}

impl Length for Parts {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for Parts {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let bytes = self.from(start)?;
        match length <= bytes.len() {
            true => Ok(bytes.slice(..length)),
            false => Err(ParquetError::EOF(
                "a part of a file was not read".to_owned(),
            )),
        }
    }
}

impl Lake {
    /// The files of a table at a version, to be read by codes; `None` when only the format layer can
    /// read the table.
    ///
    /// # Errors
    /// When the table does not exist at that version, or its log cannot be read.
    pub async fn coded_files(
        &self,
        name: &TableName,
        version: i64,
    ) -> Result<Option<CodedFiles>, LakeError> {
        let state = self.state_at(name, Some(version)).await?;
        let pinned = self.pinned(name, &state)?;
        Ok(pinned.map(|pinned| CodedFiles::of(&pinned)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn parts_of_a_file_lie_one_behind_the_other_in_the_buffer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers");
        let bytes: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let cases: [(&[Range<u64>], bool); 5] = [
            (&[], true),
            (&[0..100_000], true),
            (&[3..3, 70_000..99_999, 5..6], true),
            (&[0..10, 99_999..100_001], false),
            (&[200_000..200_001], false),
        ];
        for (ranges, is_there) in cases {
            let wanted = is_there.then(|| {
                let parts = ranges.iter();
                let parts = parts.map(|part| &bytes[part.start as usize..part.end as usize]);
                parts.collect::<Vec<_>>().concat()
            });
            // Whatever the buffer had before, and more than once.
            let mut file = File::open(&path).unwrap();
            for before in [0, 7, 200_000] {
                match read_local(file, vec![9; before], ranges).await {
                    Ok((again, read)) => {
                        assert_eq!(Some(&*read), wanted.as_ref());
                        file = again;
                    }
                    Err(_) => {
                        assert_eq!(wanted, None);
                        file = File::open(&path).unwrap();
                    }
                }
            }
        }
    }
}
