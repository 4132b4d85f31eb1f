//! Rows into Parquet files: encoding, statistics, and the put into storage.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type,
    SchemaRef,
};
use bytes::Bytes;
use deltalake_core::kernel::Add;
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnPath;
use serde_json::{Map, Value, json};

use crate::{Lake, LakeError, Slice, TableName};

/// How Parquet files are cut.
#[derive(Debug, Clone, Copy)]
pub struct PartOptions {
    /// Rows of a row group: the unit of skipping and of the encoder's memory.
    pub row_group_rows: usize,
    /// A file is closed when its encoded size passes this.
    pub file_bytes: usize,
    /// Keep the least and greatest text of each row group. Off for rows about people, whose texts
    /// could name them; a delivery's rows are found by partition, not by text.
    pub text_statistics: bool,
    /// Written to be read whole and often: nothing that has codes, and no number that is added, is
    /// compressed, and numbers of many values have no dictionary.
    pub for_codes: bool,
}

impl Default for PartOptions {
    fn default() -> Self {
        Self {
            row_group_rows: 256 * 1024,
            file_bytes: 64 << 20,
            text_statistics: true,
            for_codes: false,
        }
    }
}

/// A file's content, encoded and not yet stored.
pub(crate) struct EncodedPart {
    pub(crate) bytes: Bytes,
    pub(crate) metadata: ParquetMetaData,
}

/// Encodes batches of one schema (without partition columns) into one file after another.
pub(crate) struct PartEncoder {
    schema: SchemaRef,
    options: PartOptions,
    writer: Option<ArrowWriter<Vec<u8>>>,
}

impl PartEncoder {
    pub(crate) fn new(schema: SchemaRef, options: PartOptions) -> Self {
        Self {
            schema,
            options,
            writer: None,
        }
    }

    /// Encodes a batch; gives back the file when this batch filled it.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<Option<EncodedPart>, LakeError> {
        let batch = conform(batch, &self.schema)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            empty => {
                let properties = properties(&batch, self.options);
                let writer =
                    ArrowWriter::try_new(Vec::new(), Arc::clone(&self.schema), Some(properties))
                        .map_err(LakeError::parquet("begin a file"))?;
                empty.insert(writer)
            }
        };
        writer
            .write(&batch)
            .map_err(LakeError::parquet("encode rows"))?;
        if writer.bytes_written() + writer.in_progress_size() >= self.options.file_bytes {
            self.finish()
        } else {
            Ok(None)
        }
    }

    /// Closes the file in progress, if any.
    pub(crate) fn finish(&mut self) -> Result<Option<EncodedPart>, LakeError> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(None);
        };
        let metadata = writer
            .finish()
            .map_err(LakeError::parquet("close a file"))?;
        let bytes = std::mem::take(writer.inner_mut());
        Ok(Some(EncodedPart {
            bytes: bytes.into(),
            metadata,
        }))
    }
}

/// Person pseudonyms, their numbers (`person_pid#…`) and component states carry no statistics: a minimum
/// is a person.
fn is_private(name: &str, data_type: &DataType) -> bool {
    name.ends_with("_pid") || name.contains('#') || matches!(data_type, DataType::Binary)
}

/// A file that begins with fewer rows is written plainly: what compression and dictionaries cost a
/// reader for each page is more than such a file holds. The ledger has one of a row a delivery.
const SMALL_ROWS: usize = 64;

/// A column that begins with fewer bytes is not compressed: making a compressor for it takes longer than
/// writing it, and so does taking it apart again.
const SMALL_BYTES: usize = 32 << 10;

/// Binary values of more bytes on average have no dictionary: they are states, which are hardly ever equal.
const LONG_BINARY: usize = 32;

/// Rows looked at to see whether a text column is worth a dictionary.
const SAMPLE_ROWS: usize = 1024;

/// Rows looked at to see whether a column of numbers is, if there are so many: days of three years are
/// few among them.
const NUMBERS_LOOKED_AT: usize = 16 * 1024;

/// True when nearly every text of the first rows is another: a dictionary would only be filled,
/// row group after row group, until it is given up.
fn is_distinct_text(column: &dyn Array) -> bool {
    let Some(texts) = column.as_string_opt::<i32>() else {
        return false;
    };
    let sample = texts.len().min(SAMPLE_ROWS);
    let distinct: HashSet<&str> = texts.iter().take(sample).flatten().collect();
    sample == SAMPLE_ROWS && distinct.len() * 100 >= sample * 98
}

/// True for bytes that are nearly all different in the first rows, and for numbers of which more than
/// half are: their dictionary would be given up too.
fn is_mostly_distinct(column: &dyn Array) -> bool {
    if let Some(bytes) = column.as_binary_opt::<i32>() {
        let sample = bytes.len().min(SAMPLE_ROWS);
        let distinct: HashSet<&[u8]> = bytes.iter().take(sample).flatten().collect();
        return sample == SAMPLE_ROWS && distinct.len() * 100 >= sample * 98;
    }
    distinct_numbers(column)
        .is_some_and(|(distinct, sample)| sample >= SAMPLE_ROWS && distinct * 2 > sample)
}

/// How many values the first rows of a column of numbers have, and how many rows these are; `None` for
/// other columns.
fn distinct_numbers(column: &dyn Array) -> Option<(usize, usize)> {
    fn values<T: ArrowPrimitiveType<Native: Eq + std::hash::Hash>>(sample: &dyn Array) -> usize {
        let values: HashSet<T::Native> = sample.as_primitive::<T>().iter().flatten().collect();
        values.len()
    }
    let sample = column.slice(0, column.len().min(NUMBERS_LOOKED_AT));
    let distinct = match sample.data_type() {
        DataType::Int32 => values::<Int32Type>(&sample),
        DataType::Int64 => values::<Int64Type>(&sample),
        DataType::Date32 => values::<Date32Type>(&sample),
        DataType::Decimal128(..) => values::<Decimal128Type>(&sample),
        DataType::Float64 => {
            let values = sample.as_primitive::<Float64Type>().iter().flatten();
            values.map(f64::to_bits).collect::<HashSet<_>>().len()
        }
        _ => return None,
    };
    Some((distinct, sample.len()))
}

fn is_long_binary(column: &dyn Array) -> bool {
    let states = column.as_binary_opt::<i32>();
    states.is_some_and(|states| {
        let offsets = states.value_offsets();
        let bytes = offsets.last().zip(offsets.first());
        let bytes = bytes.map_or(0, |(last, first)| (last - first) as usize);
        bytes > states.len() * LONG_BINARY
    })
}

/// `first` is the first batch of the file.
fn properties(first: &RecordBatch, options: PartOptions) -> WriterProperties {
    let small = first.num_rows() < SMALL_ROWS;
    let compression = match small {
        true => Compression::UNCOMPRESSED,
        false => Compression::ZSTD(ZstdLevel::try_new(1).unwrap_or_default()),
    };
    let mut builder = WriterProperties::builder()
        .set_compression(compression)
        .set_dictionary_enabled(!small)
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("tietopohja ", env!("CARGO_PKG_VERSION")).to_owned());
    for (field, values) in first.schema_ref().fields().iter().zip(first.columns()) {
        let column = ColumnPath::from(field.name().as_str());
        let bytes = values.to_data().get_slice_memory_size();
        let is_null = values.null_count() == values.len();
        if is_null || bytes.is_ok_and(|bytes| bytes < SMALL_BYTES) {
            builder = builder.set_column_compression(column.clone(), Compression::UNCOMPRESSED);
        }
        if is_long_binary(values.as_ref()) || is_mostly_distinct(values.as_ref()) {
            builder = builder.set_column_dictionary_enabled(column.clone(), false);
        }
        if field.name() == "row_no" {
            builder = builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED);
        }
        if is_distinct_text(values.as_ref()) {
            builder = builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column.clone(), Encoding::DELTA_BYTE_ARRAY);
        }
        if options.for_codes && !small {
            builder = for_codes(builder, &column, values);
        }
        let text = match field.data_type() {
            DataType::Utf8 => true,
            DataType::Dictionary(_, values) => **values == DataType::Utf8,
            _ => false,
        };
        if (text && !options.text_statistics) || is_private(field.name(), field.data_type()) {
            builder = builder.set_column_statistics_enabled(column, EnabledStatistics::None);
        }
    }
    builder.build()
}

/// How a column is written that is read by codes. Numbers that have few values are codes too: days above
/// all, of which a year has 366. The others are stored as differences, which take a third of the bytes
/// of numbers that stand alone. Those that are all different tell rows apart, and nobody adds them.
fn for_codes(
    properties: WriterPropertiesBuilder,
    column: &ColumnPath,
    values: &ArrayRef,
) -> WriterPropertiesBuilder {
    let plainly = |properties: WriterPropertiesBuilder| {
        properties.set_column_compression(column.clone(), Compression::UNCOMPRESSED)
    };
    match values.data_type() {
        DataType::Dictionary(..) => plainly(properties),
        DataType::Int32 | DataType::Int64 | DataType::Date32 => {
            let (distinct, sample) = distinct_numbers(values).unwrap_or_default();
            let is_told = sample >= SAMPLE_ROWS;
            let few = !is_told || distinct * 4 <= sample;
            let properties = properties
                .set_column_dictionary_enabled(column.clone(), few)
                .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED);
            match is_told && distinct == sample {
                true => properties,
                false => plainly(properties),
            }
        }
        _ => properties,
    }
}

/// The batch with exactly the columns of `schema`, in its order and types; missing columns are null.
pub(crate) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, LakeError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast(column, field.data_type()).map_err(|_| {
                LakeError::Internal(format!(
                    "column `{}` cannot be stored as {}",
                    field.name(),
                    field.data_type()
                ))
            }),
            None => Ok(arrow::array::new_null_array(
                field.data_type(),
                batch.num_rows(),
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| LakeError::Internal(error.to_string()))
}

impl Lake {
    /// Stores an encoded file of a table and gives the action that would make it part of the table.
    pub(crate) async fn store_part(
        &self,
        table: &TableName,
        slice: &Slice,
        file_name: &str,
        part: EncodedPart,
    ) -> Result<Add, LakeError> {
        let relative = slice.path_of(file_name);
        let path = self.object_path(&format!("{}/{}/{relative}", table.schema(), table.table()))?;
        let size = part.bytes.len() as i64;
        self.store
            .put(&path, PutPayload::from_bytes(part.bytes))
            .await
            .map_err(LakeError::storage("store a data file"))?;
        Ok(Add {
            path: relative,
            partition_values: slice
                .columns()
                .iter()
                .map(|(column, value)| (column.clone(), Some(value.to_string())))
                .collect::<HashMap<_, _>>(),
            size,
            modification_time: self.now_millis(),
            data_change: true,
            stats: Some(log_statistics(&part.metadata)),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        })
    }
}

/// The statistics of a file as the Delta log holds them: row count, and for integer and date
/// columns minimum, maximum and nulls. Text has none: it could be a name.
fn log_statistics(metadata: &ParquetMetaData) -> String {
    let mut minimum = Map::new();
    let mut maximum = Map::new();
    let mut nulls = Map::new();
    let schema = metadata.file_metadata().schema_descr();
    for (index, column) in schema.columns().iter().enumerate() {
        let chunks: Option<Vec<&Statistics>> = metadata
            .row_groups()
            .iter()
            .map(|group| group.column(index).statistics())
            .collect();
        let Some(chunks) = chunks else { continue };
        let is_date = matches!(
            column.logical_type_ref(),
            Some(parquet::basic::LogicalType::Date)
        );
        let plain_integer = matches!(
            column.logical_type_ref(),
            None | Some(parquet::basic::LogicalType::Integer { .. })
        );
        if !is_date && !plain_integer {
            continue;
        }
        let bounds: Option<Vec<(i64, i64)>> = chunks
            .iter()
            .filter_map(|chunk| match chunk {
                Statistics::Int32(values) => Some(
                    values
                        .min_opt()
                        .zip(values.max_opt())
                        .map(|(a, b)| (i64::from(*a), i64::from(*b))),
                ),
                Statistics::Int64(values) => Some(
                    values
                        .min_opt()
                        .zip(values.max_opt())
                        .map(|(a, b)| (*a, *b)),
                ),
                _ => None,
            })
            // A chunk of nulls alone has no bounds and does not widen the file's.
            .filter(|bounds| bounds.is_some())
            .collect();
        let Some(bounds) = bounds.filter(|bounds| !bounds.is_empty()) else {
            continue;
        };
        let Some(null_count) = chunks
            .iter()
            .map(|chunk| chunk.null_count_opt())
            .sum::<Option<u64>>()
        else {
            continue;
        };
        let low = bounds.iter().map(|(low, _)| *low).min().unwrap_or_default();
        let high = bounds
            .iter()
            .map(|(_, high)| *high)
            .max()
            .unwrap_or_default();
        let shown = |value: i64| {
            if is_date {
                day_text(value).map(Value::from)
            } else {
                Some(json!(value))
            }
        };
        if let (Some(low), Some(high)) = (shown(low), shown(high)) {
            minimum.insert(column.name().to_owned(), low);
            maximum.insert(column.name().to_owned(), high);
            nulls.insert(column.name().to_owned(), json!(null_count));
        }
    }
    json!({ "numRecords": metadata.file_metadata().num_rows(), "minValues": minimum, "maxValues": maximum, "nullCount": nulls }).to_string()
}

/// `yyyy-mm-dd` of a day number counted from 1970-01-01.
fn day_text(day: i64) -> Option<String> {
    let epoch = jiff::civil::Date::constant(1970, 1, 1);
    epoch
        .checked_add(jiff::Span::new().try_days(day).ok()?)
        .ok()
        .map(|date| date.to_string())
}
