//! Parquet files of plain columns.
//!
//! Typed values are printed and go through the same checks as text, so that one contract judges
//! every form alike. Nested columns are refused. What may not live here: the meaning of a value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;
use tietopohja_contract::{Dialect, TextBlock};

use super::Names;
use super::csv::Split;
use crate::error::{FaultAt, SourceFault};
use crate::limits::LandLimits;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// A Parquet file whose columns can be read.
pub(crate) struct ParquetReader {
    batches: ParquetRecordBatchReader,
    rows: u64,
    bytes: u64,
    read: Arc<AtomicU64>,
}

/// A run of rows as Parquet gives them.
#[derive(Debug)]
pub(crate) struct ArrowChunk {
    pub(crate) batch: RecordBatch,
    /// Number of the first row; the first row of the file is 1, as there is no header.
    pub(crate) first_row: i64,
}

impl ParquetReader {
    /// Reads the file's description and gives its column names, as the contract calls them. `read`
    /// is moved along with the rows, as if they were spread evenly over the file.
    pub(crate) fn open<R: ChunkReader + 'static>(
        file: R,
        names: &Names,
        limits: &LandLimits,
        read: &Arc<AtomicU64>,
    ) -> Result<(ParquetReader, Vec<String>), FaultAt> {
        let bytes = file.len();
        let builder =
            ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| fault(&error))?;
        let metadata = Arc::clone(builder.metadata());
        let too_large = |bytes: i64| {
            u64::try_from(bytes).map_or(true, |bytes| bytes > limits.max_row_group_bytes)
        };
        if metadata
            .row_groups()
            .iter()
            .any(|group| too_large(group.total_byte_size()))
        {
            return Err(SourceFault::RowGroupTooLarge {
                limit: limits.max_row_group_bytes,
            }
            .into());
        }
        let header = column_names(builder.schema(), names, limits)?;
        let rows = u64::try_from(metadata.file_metadata().num_rows())
            .map_err(|_| SourceFault::ParquetDamaged)?;
        let batches = builder
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| fault(&error))?;
        Ok((
            ParquetReader {
                batches,
                rows,
                bytes,
                read: Arc::clone(read),
            },
            header,
        ))
    }

    /// Hands over the rows; `emit` says whether to go on.
    pub(crate) fn run(self, emit: &mut dyn FnMut(ArrowChunk) -> bool) -> Result<(), FaultAt> {
        let ParquetReader {
            batches,
            rows: all,
            bytes,
            read,
        } = self;
        let mut first_row = 1i64;
        for batch in batches {
            let batch = batch.map_err(|error| match error {
                arrow::error::ArrowError::ExternalError(inner) => {
                    match inner.downcast_ref::<ParquetError>() {
                        Some(error) => fault(error),
                        None => SourceFault::ParquetDamaged.into(),
                    }
                }
                other if is_unknown_packing(&other.to_string()) => {
                    SourceFault::ParquetPacking.into()
                }
                _ => FaultAt::row(first_row, SourceFault::ParquetDamaged),
            })?;
            let rows = batch.num_rows() as i64;
            if !emit(ArrowChunk { batch, first_row }) {
                return Ok(());
            }
            first_row += rows;
            let share = u128::from(bytes) * (first_row as u128 - 1) / u128::from(all.max(1));
            read.store(u64::try_from(share).unwrap_or(bytes), Ordering::Relaxed);
        }
        Ok(())
    }
}

fn fault(error: &ParquetError) -> FaultAt {
    match error {
        error if is_unknown_packing(&error.to_string()) => SourceFault::ParquetPacking.into(),
        _ => SourceFault::ParquetDamaged.into(),
    }
}

fn is_unknown_packing(message: &str) -> bool {
    message.contains("Disabled feature")
}

fn column_names(
    schema: &SchemaRef,
    names: &Names,
    limits: &LandLimits,
) -> Result<Vec<String>, FaultAt> {
    let fields = schema.fields();
    if fields.len() > limits.max_columns {
        return Err(SourceFault::TooManyColumns {
            found: fields.len(),
            limit: limits.max_columns,
        }
        .into());
    }
    fields
        .iter()
        .map(|field| {
            let known = names
                .columns()
                .iter()
                .find(|column| column.is_called(field.name()));
            match (is_plain(field.data_type()), known) {
                (true, Some(column)) => Ok(column.header.clone()),
                (true, None) => Ok(field.name().clone()),
                (false, _) => {
                    Err(SourceFault::ParquetColumn(super::mask_identity_codes(field.name())).into())
                }
            }
        })
        .collect()
}

fn is_plain(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_plain(value),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Boolean
        | DataType::Null => true,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => true,
        DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal128(_, _)
        | DataType::Decimal256(_, _) => true,
        other => other.is_numeric(),
    }
}

/// Prints a run of rows as cells.
pub(crate) fn split(
    chunk: &ArrowChunk,
    max_field: usize,
    mut cells: Vec<(u32, u32)>,
) -> Result<Split, FaultAt> {
    let ArrowChunk { batch, first_row } = chunk;
    let columns = batch
        .columns()
        .iter()
        .map(print)
        .collect::<Result<Vec<_>, _>>()?;
    let rows = batch.num_rows();
    let mut text = Vec::new();
    cells.clear();
    cells.reserve(rows * columns.len());
    for row in 0..rows {
        for column in &columns {
            let start = text.len() as u32;
            if column.is_valid(row) {
                let value = column.value(row);
                if value.len() > max_field {
                    return Err(FaultAt::row(
                        first_row + row as i64,
                        SourceFault::FieldTooLong { limit: max_field },
                    ));
                }
                if memchr::memchr(0, value.as_bytes()).is_some() {
                    return Err(FaultAt::row(first_row + row as i64, SourceFault::NulByte));
                }
                text.extend_from_slice(value.as_bytes());
            }
            // 8 192 rows of 1 000 cells of 1 MiB would pass 4 GiB; such a run is not an extract.
            let end = u32::try_from(text.len()).map_err(|_| {
                FaultAt::row(
                    first_row + row as i64,
                    SourceFault::RecordTooLong {
                        limit: u32::MAX as usize,
                    },
                )
            })?;
            cells.push((start, end));
        }
    }
    let block = TextBlock {
        first_row: *first_row,
        rows,
        columns: columns.len(),
        text,
        cells,
        dialect: Dialect::TYPED,
        row_lines: None,
    };
    Ok(Split {
        block,
        malformed: Vec::new(),
        records: rows as i64,
    })
}

/// A column as text: ISO dates, decimal point, 1 and 0 for booleans.
fn print(column: &Arc<dyn Array>) -> Result<StringArray, FaultAt> {
    let damaged = |_| FaultAt::from(SourceFault::ParquetDamaged);
    let plain = match column.data_type() {
        DataType::Dictionary(_, value) => cast(column, value).map_err(damaged)?,
        _ => Arc::clone(column),
    };
    let printed = match plain.data_type() {
        DataType::Boolean => cast(&plain, &DataType::Int8)
            .and_then(|numbers| cast(&numbers, &DataType::Utf8))
            .map_err(damaged)?,
        _ => cast(&plain, &DataType::Utf8).map_err(damaged)?,
    };
    let strings = printed.as_string::<i32>();
    Ok(match plain.data_type() {
        // A midnight is how many systems write a date.
        DataType::Timestamp(_, _) | DataType::Date64 => strings
            .iter()
            .map(|value| value.map(without_midnight))
            .collect(),
        // 12.0 is how a float column writes 12.
        data_type if data_type.is_floating() => strings
            .iter()
            .map(|value| value.map(|text| text.strip_suffix(".0").unwrap_or(text)))
            .collect(),
        _ => strings.clone(),
    })
}

fn without_midnight(text: &str) -> &str {
    match text.split_once('T') {
        Some((date, time))
            if time
                .trim_end_matches('Z')
                .bytes()
                .all(|b| matches!(b, b'0' | b':' | b'.')) =>
        {
            date
        }
        _ => text,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
        TimestampMicrosecondArray,
    };
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;

    fn file(columns: Vec<(&str, ArrayRef)>) -> Bytes {
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns
                .into_iter()
                .map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap().into()
    }

    fn rows(bytes: Bytes) -> Result<Vec<Vec<String>>, FaultAt> {
        let limits = LandLimits::default();
        let (reader, _) = ParquetReader::open(bytes, &Names::default(), &limits, &Arc::default())?;
        let mut rows = Vec::new();
        reader.run(&mut |chunk| {
            let block = split(&chunk, limits.max_field_bytes, Vec::new())
                .unwrap()
                .block;
            for row in 0..block.rows {
                let cells = &block.cells[row * block.columns..(row + 1) * block.columns];
                rows.push(
                    cells
                        .iter()
                        .map(|(a, b)| {
                            String::from_utf8(block.text[*a as usize..*b as usize].to_vec())
                                .unwrap()
                        })
                        .collect(),
                );
            }
            true
        })?;
        Ok(rows)
    }

    #[test]
    fn typed_values_are_printed_exactly() {
        let bytes = file(vec![
            (
                "text",
                Arc::new(StringArray::from(vec![Some("Ä;\n"), None])),
            ),
            ("int", Arc::new(Int64Array::from(vec![Some(-5), Some(7)]))),
            (
                "amount",
                Arc::new(
                    Decimal128Array::from(vec![Some(-123_450), Some(5)])
                        .with_precision_and_scale(14, 2)
                        .unwrap(),
                ),
            ),
            (
                "float",
                Arc::new(Float64Array::from(vec![Some(12.0), Some(0.25)])),
            ),
            (
                "yes",
                Arc::new(BooleanArray::from(vec![Some(true), Some(false)])),
            ),
            ("day", Arc::new(Date32Array::from(vec![Some(19_723), None]))),
            (
                "moment",
                Arc::new(TimestampMicrosecondArray::from(vec![
                    Some(1_704_067_200_000_000),
                    Some(1_704_067_201_000_000),
                ])),
            ),
        ]);
        assert_eq!(
            rows(bytes).unwrap(),
            [
                [
                    "Ä;\n",
                    "-5",
                    "-1234.50",
                    "12",
                    "1",
                    "2024-01-01",
                    "2024-01-01"
                ],
                ["", "7", "0.05", "0.25", "0", "", "2024-01-01T00:00:01"]
            ]
        );
    }

    #[test]
    fn a_cut_or_changed_file_is_damaged_and_nested_columns_are_refused() {
        let numbers: Vec<i64> = (0..5_000).map(|n| n * n % 977).collect();
        let good = file(vec![("n", Arc::new(Int64Array::from(numbers)))]);
        for cut in [8, good.len() / 2, good.len() - 1] {
            assert_eq!(
                rows(good.slice(..cut)).unwrap_err().fault,
                SourceFault::ParquetDamaged
            );
        }
        let list =
            arrow::array::ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([
                Some([Some(1)]),
            ]);
        assert_eq!(
            rows(file(vec![("parts", Arc::new(list))]))
                .unwrap_err()
                .fault,
            SourceFault::ParquetColumn("parts".to_owned())
        );
    }
}
