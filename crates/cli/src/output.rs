//! Rows to standard output, in the form the reader wants.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;
use futures::{Stream, StreamExt};

use crate::failure::Failure;

/// Forms of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Aligned columns for reading
    Table,
    /// Comma-separated with a header row; empty for null
    Csv,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    Ndjson,
    /// A Markdown table
    Markdown,
    /// A Parquet file
    Parquet,
    /// An Arrow IPC stream
    Arrow,
}

/// Most rows an aligned table holds in memory to find its column widths.
const TABLE_ROWS: usize = 100_000;

fn fault(error: impl std::fmt::Display) -> Failure {
    Failure::internal(format!("the result cannot be written: {error}"))
}

/// Writes a stream of batches; gives the number of rows.
pub(crate) async fn write_stream<E>(
    schema: SchemaRef,
    mut rows: impl Stream<Item = Result<RecordBatch, E>> + Unpin,
    form: Form,
) -> Result<usize, Failure>
where
    Failure: From<E>,
{
    let schema = readable_schema(&schema);
    let mut out = io::BufWriter::new(io::stdout().lock_later());
    let mut count = 0;
    let mut kept = Vec::new();
    let mut csv = match form {
        Form::Csv => Some(Csv::begin(&mut out, &schema)?),
        _ => None,
    };
    let mut parquet = match form {
        Form::Parquet => Some(
            parquet::arrow::ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), None)
                .map_err(fault)?,
        ),
        _ => None,
    };
    let mut ipc = match form {
        Form::Arrow => {
            Some(arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &schema).map_err(fault)?)
        }
        _ => None,
    };
    if form == Form::Json {
        write!(out, "[")?;
    }
    while let Some(batch) = rows.next().await {
        let batch = readable(&batch?, &schema)?;
        match form {
            Form::Csv => {
                if let Some(csv) = &mut csv {
                    csv.rows(&mut out, &batch)?;
                }
            }
            Form::Json | Form::Ndjson => json_rows(&mut out, &batch, form, count)?,
            Form::Parquet => {
                if let Some(writer) = &mut parquet {
                    writer.write(&batch).map_err(fault)?;
                }
            }
            Form::Arrow => {
                if let Some(writer) = &mut ipc {
                    writer.write(&batch).map_err(fault)?;
                    out.write_all(&std::mem::take(writer.get_mut()))?;
                }
            }
            Form::Table | Form::Markdown => {
                if count + batch.num_rows() > TABLE_ROWS {
                    return Err(Failure::usage(format!(
                        "more than {TABLE_ROWS} rows do not fit a table: add LIMIT, or use `-o csv`"
                    )));
                }
                kept.push(batch.clone());
            }
        }
        count += batch.num_rows();
    }
    match form {
        Form::Json => writeln!(out, "{}]", if count > 0 { "\n" } else { "" })?,
        Form::Table | Form::Markdown => grid(&mut out, &schema, &kept, form)?,
        Form::Csv | Form::Ndjson | Form::Parquet | Form::Arrow => {}
    }
    if let Some(writer) = parquet {
        out.write_all(&writer.into_inner().map_err(fault)?)?;
    }
    if let Some(mut writer) = ipc {
        writer.finish().map_err(fault)?;
        out.write_all(writer.get_ref())?;
    }
    out.flush()?;
    Ok(count)
}

/// Standard output that is locked for each write only, so that the writer can be held over an await.
struct Stdout;

trait LockLater {
    fn lock_later(self) -> Stdout;
}

impl LockLater for io::Stdout {
    fn lock_later(self) -> Stdout {
        Stdout
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().lock().flush()
    }
}

/// Pseudonyms and states are shown as hexadecimal text.
fn readable_schema(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            if is_bytes(field.data_type()) {
                Field::new(field.name(), DataType::Utf8, true)
            } else {
                field.as_ref().clone().with_nullable(true)
            }
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary
            | DataType::BinaryView
            | DataType::LargeBinary
            | DataType::FixedSizeBinary(_)
    )
}

fn readable(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, Failure> {
    let columns: Vec<ArrayRef> = batch
        .columns()
        .iter()
        .map(|column| {
            if !is_bytes(column.data_type()) {
                return Ok(Arc::clone(column));
            }
            let plain = arrow::compute::cast(column, &DataType::Binary).map_err(fault)?;
            let bytes = plain.as_binary::<i32>();
            Ok(Arc::new(
                bytes
                    .iter()
                    .map(|value| value.map(hex))
                    .collect::<StringArray>(),
            ) as ArrayRef)
        })
        .collect::<Result<_, Failure>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(fault)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn formatters<'a>(
    batch: &'a RecordBatch,
    options: &FormatOptions<'a>,
) -> Result<Vec<ArrayFormatter<'a>>, Failure> {
    batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), options).map_err(fault))
        .collect()
}

struct Csv;

impl Csv {
    fn begin(out: &mut impl Write, schema: &Schema) -> Result<Csv, Failure> {
        let names: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| quoted(field.name()))
            .collect();
        writeln!(out, "{}", names.join(","))?;
        Ok(Csv)
    }

    fn rows(&mut self, out: &mut impl Write, batch: &RecordBatch) -> Result<(), Failure> {
        let options = FormatOptions::default();
        let formatters = formatters(batch, &options)?;
        for row in 0..batch.num_rows() {
            for (place, (formatter, column)) in formatters.iter().zip(batch.columns()).enumerate() {
                if place > 0 {
                    out.write_all(b",")?;
                }
                if column.is_valid(row) {
                    out.write_all(number_or_text(column, row, formatter).as_bytes())?;
                }
            }
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// Floating-point numbers are written so that they read back to the same bits.
fn number_or_text(column: &ArrayRef, row: usize, formatter: &ArrayFormatter<'_>) -> String {
    match column.data_type() {
        DataType::Float64 => format!(
            "{:?}",
            column
                .as_primitive::<arrow::datatypes::Float64Type>()
                .value(row)
        ),
        _ => quoted(&formatter.value(row).to_string()),
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn json_rows(
    out: &mut impl Write,
    batch: &RecordBatch,
    form: Form,
    before: usize,
) -> Result<(), Failure> {
    let options = FormatOptions::default();
    let formatters = formatters(batch, &options)?;
    for row in 0..batch.num_rows() {
        let mut object = serde_json::Map::new();
        for ((field, column), formatter) in batch
            .schema()
            .fields()
            .iter()
            .zip(batch.columns())
            .zip(&formatters)
        {
            object.insert(field.name().clone(), json_value(column, row, formatter));
        }
        let text = serde_json::Value::Object(object).to_string();
        match form {
            Form::Json if before + row == 0 => write!(out, "\n{text}")?,
            Form::Json => write!(out, ",\n{text}")?,
            _ => writeln!(out, "{text}")?,
        }
    }
    Ok(())
}

fn json_value(column: &ArrayRef, row: usize, formatter: &ArrayFormatter<'_>) -> serde_json::Value {
    use serde_json::Value;
    if column.is_null(row) {
        return Value::Null;
    }
    let text = formatter.value(row).to_string();
    match column.data_type() {
        DataType::Boolean => Value::Bool(text == "true"),
        kind if kind.is_integer() => text.parse::<i64>().map_or(Value::String(text), Value::from),
        DataType::Float64 => Value::from(
            column
                .as_primitive::<arrow::datatypes::Float64Type>()
                .value(row),
        ),
        DataType::Float32 => text.parse::<f64>().map_or(Value::Null, Value::from),
        _ => Value::String(text),
    }
}

fn grid(
    out: &mut impl Write,
    schema: &Schema,
    batches: &[RecordBatch],
    form: Form,
) -> Result<(), Failure> {
    let options = FormatOptions::default();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for batch in batches {
        let formatters = formatters(batch, &options)?;
        rows.extend((0..batch.num_rows()).map(|row| {
            formatters
                .iter()
                .map(|formatter| formatter.value(row).to_string().replace('\n', " "))
                .collect()
        }));
    }
    let names: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    let right: Vec<bool> = schema
        .fields()
        .iter()
        .map(|field| field.data_type().is_numeric())
        .collect();
    text_grid(out, &names, &right, &rows, form == Form::Markdown)?;
    Ok(())
}

/// Aligned columns of text; numbers to the right.
pub(crate) fn text_grid(
    out: &mut impl Write,
    names: &[String],
    right: &[bool],
    rows: &[Vec<String>],
    markdown: bool,
) -> io::Result<()> {
    let mut widths: Vec<usize> = names
        .iter()
        .map(|name| name.chars().count().max(3))
        .collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |out: &mut dyn Write, cells: &[String]| -> io::Result<()> {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .zip(right.iter().chain(std::iter::repeat(&false)))
            .map(|((cell, width), right)| {
                let room = " ".repeat(width.saturating_sub(cell.chars().count()));
                if *right {
                    format!("{room}{cell}")
                } else {
                    format!("{cell}{room}")
                }
            })
            .collect();
        if markdown {
            writeln!(out, "| {} |", padded.join(" | "))
        } else {
            writeln!(out, "{}", padded.join("  ").trim_end())
        }
    };
    line(out, names)?;
    let rules: Vec<String> = widths
        .iter()
        .zip(right.iter().chain(std::iter::repeat(&false)))
        .map(|(width, right)| {
            if markdown && *right {
                format!("{}:", "-".repeat(width - 1))
            } else {
                "-".repeat(*width)
            }
        })
        .collect();
    line(out, &rules)?;
    rows.iter().try_for_each(|row| line(out, row))
}

/// Prints text to standard output.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Prints a value as JSON on standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value).map_err(fault)?)
}

/// Prints a line for people to standard error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
