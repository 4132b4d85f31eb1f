//! Text of a reference file into typed columns. The files are ours and small, so a file is read
//! whole; every cell is checked, and what is wrong is told with its line.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Builder, Decimal128Builder, Float64Builder, Int32Builder, Int64Builder,
    RecordBatch, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tietopohja_domain::{Date, Problem, did_you_mean};

/// Problems told of one file; the rest would repeat them.
const MOST_PROBLEMS: usize = 20;

/// A column of a table and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Name in the table.
    pub(crate) name: String,
    /// Name in the file's header.
    pub(crate) from: String,
    /// Exact type.
    pub(crate) data_type: DataType,
    /// The file may lack the column; then it is null.
    pub(crate) optional: bool,
}

impl Column {
    #[cfg(test)]
    pub(crate) fn new(name: &str, data_type: DataType) -> Self {
        Self {
            name: name.to_owned(),
            from: name.to_owned(),
            data_type,
            optional: false,
        }
    }
}

/// The schema of columns.
pub(crate) fn schema_of(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| Field::new(&column.name, column.data_type.clone(), true))
        .collect();
    Arc::new(Schema::new(fields))
}

/// Reads a file with a header line.
///
/// An empty cell is null. `key` columns may not be null and must tell every row apart.
///
/// # Errors
/// Every problem found, up to a bound, each with its line.
pub(crate) fn read(
    file: &str,
    text: &str,
    separator: char,
    columns: &[Column],
    key: &[String],
) -> Result<RecordBatch, Vec<Problem>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut problems = Problems {
        file,
        found: Vec::new(),
    };
    let mut records = Records::new(text, separator);
    let Some((_, header)) = records.next() else {
        problems.tell(
            1,
            "the file is empty".to_owned(),
            Some("the first line names the columns"),
        );
        return Err(problems.found);
    };
    let places = places(&header, columns, &mut problems);
    if !problems.found.is_empty() {
        return Err(problems.found);
    }
    let mut builders: Vec<CellBuilder> = columns
        .iter()
        .map(|column| CellBuilder::new(&column.data_type))
        .collect();
    let key_places: Vec<usize> = key
        .iter()
        .filter_map(|name| columns.iter().position(|column| column.name == *name))
        .collect();
    let mut seen: HashMap<Vec<String>, u32> = HashMap::new();
    let mut rows = 0usize;
    for (line, record) in &mut records {
        if problems.found.len() >= MOST_PROBLEMS {
            break;
        }
        if record.len() != header.len() {
            let (has, wanted) = (record.len(), header.len());
            problems.tell(
                line,
                format!("{has} fields where the header has {wanted}"),
                Some("quote a field that holds the separator"),
            );
            continue;
        }
        for ((column, place), builder) in columns.iter().zip(&places).zip(&mut builders) {
            let cell = place
                .and_then(|place| record.get(place))
                .map_or("", |cell| cell.trim());
            if let Err(wanted) = builder.push(cell) {
                problems.tell(
                    line,
                    format!("`{cell}` in `{}` is not {wanted}", column.from),
                    None,
                );
            }
        }
        let key_of_row: Vec<String> = key_places
            .iter()
            .map(|at| places.get(*at).copied().flatten())
            .map(|place| {
                place
                    .and_then(|place| record.get(place))
                    .map_or("", |cell| cell.trim())
                    .to_owned()
            })
            .collect();
        if let Some(at) = key_of_row.iter().position(String::is_empty) {
            let column = key.get(at).map_or("", String::as_str);
            problems.tell(line, format!("the key column `{column}` is empty"), None);
        } else if !key_of_row.is_empty()
            && let Some(first) = seen.insert(key_of_row.clone(), line)
        {
            problems.tell(
                line,
                format!(
                    "the key ({}) is also on line {first}",
                    key_of_row.join(", ")
                ),
                Some("remove one of the rows, or add a column to the key"),
            );
        }
        rows += 1;
    }
    if let Some(line) = records.unclosed {
        problems.tell(
            line,
            "a quoted field does not end".to_owned(),
            Some("close it with `\"`"),
        );
    }
    if !problems.found.is_empty() {
        return Err(problems.found);
    }
    let arrays: Vec<ArrayRef> = builders.into_iter().map(CellBuilder::finish).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(schema_of(columns), arrays, &options).map_err(|error| {
        vec![Problem::new(
            file,
            format!("the columns do not fit together: {error}"),
        )]
    })
}

struct Problems<'a> {
    file: &'a str,
    found: Vec<Problem>,
}

impl Problems<'_> {
    fn tell(&mut self, line: u32, message: String, help: Option<&str>) {
        let problem = Problem::new(self.file, message).at(line);
        self.found.push(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }
}

/// Where each column stands in the header; an optional column may be nowhere.
fn places(
    header: &[String],
    columns: &[Column],
    problems: &mut Problems<'_>,
) -> Vec<Option<usize>> {
    let names: Vec<&str> = header.iter().map(|name| name.trim()).collect();
    for (at, name) in names.iter().enumerate() {
        if names.iter().take(at).any(|earlier| earlier == name) {
            problems.tell(1, format!("the column `{name}` is there twice"), None);
        }
    }
    columns
        .iter()
        .map(|column| {
            let place = names.iter().position(|name| *name == column.from);
            if place.is_none() && !column.optional {
                let help = match did_you_mean(&column.from, names.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the file has {}", names.join(", ")),
                };
                problems.tell(
                    1,
                    format!("the column `{}` is missing", column.from),
                    Some(&help),
                );
            }
            place
        })
        .collect()
}

/// One column in the making.
enum CellBuilder {
    Text(StringBuilder),
    Int(Int32Builder),
    BigInt(Int64Builder),
    Float(Float64Builder),
    Date(Date32Builder),
    Decimal {
        values: Decimal128Builder,
        precision: u8,
        scale: i8,
    },
}

impl CellBuilder {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Int32 => Self::Int(Int32Builder::new()),
            DataType::Int64 => Self::BigInt(Int64Builder::new()),
            DataType::Float64 => Self::Float(Float64Builder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Decimal128(precision, scale) => Self::Decimal {
                values: Decimal128Builder::new()
                    .with_data_type(DataType::Decimal128(*precision, *scale)),
                precision: *precision,
                scale: *scale,
            },
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// Adds a cell; a cell that does not fit is null and named by what was wanted.
    fn push(&mut self, cell: &str) -> Result<(), String> {
        match self {
            Self::Text(values) => {
                values.append_option((!cell.is_empty()).then_some(cell));
                Ok(())
            }
            Self::Int(values) => {
                number(cell, "a whole number", |value| values.append_option(value))
            }
            Self::BigInt(values) => {
                number(cell, "a whole number", |value| values.append_option(value))
            }
            Self::Float(values) => {
                let value = cell.parse::<f64>().ok().filter(|value| value.is_finite());
                values.append_option(value);
                let fits = cell.is_empty() || value.is_some();
                if fits {
                    Ok(())
                } else {
                    Err("a number with a decimal point".to_owned())
                }
            }
            Self::Date(values) => {
                if cell.is_empty() {
                    values.append_null();
                    return Ok(());
                }
                let day = cell
                    .parse::<Date>()
                    .ok()
                    .filter(|_| cell.len() == 10)
                    .and_then(day_number);
                values.append_option(day);
                day.map(|_| ())
                    .ok_or_else(|| "a date as yyyy-mm-dd".to_owned())
            }
            Self::Decimal {
                values,
                precision,
                scale,
            } => {
                if cell.is_empty() {
                    values.append_null();
                    return Ok(());
                }
                let exact = decimal(cell, *precision, *scale);
                values.append_option(exact);
                exact.map(|_| ()).ok_or_else(|| {
                    format!(
                        "a number of at most {precision} digits, {scale} of them after the point"
                    )
                })
            }
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut values) => Arc::new(values.finish()),
            Self::Int(mut values) => Arc::new(values.finish()),
            Self::BigInt(mut values) => Arc::new(values.finish()),
            Self::Float(mut values) => Arc::new(values.finish()),
            Self::Date(mut values) => Arc::new(values.finish()),
            Self::Decimal { mut values, .. } => Arc::new(values.finish()),
        }
    }
}

fn number<T: std::str::FromStr>(
    cell: &str,
    wanted: &str,
    mut append: impl FnMut(Option<T>),
) -> Result<(), String> {
    if cell.is_empty() {
        append(None);
        return Ok(());
    }
    match cell.parse::<T>() {
        Ok(value) => {
            append(Some(value));
            Ok(())
        }
        Err(_) => {
            append(None);
            Err(wanted.to_owned())
        }
    }
}

/// Days from 1970-01-01.
pub(crate) fn day_number(date: Date) -> Option<i32> {
    let epoch = Date::constant(1970, 1, 1);
    i32::try_from(date.duration_since(epoch).as_hours() / 24).ok()
}

/// A decimal text as a whole number of its smallest unit; `None` when it does not fit exactly.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) {
        return None;
    }
    let scale = usize::try_from(scale).ok()?;
    let fraction = if fraction.len() > scale {
        let (kept, dropped) = fraction.split_at(scale);
        if dropped.bytes().any(|byte| byte != b'0') {
            return None;
        }
        kept
    } else {
        fraction
    };
    let digits = format!("{whole}{fraction:0<scale$}");
    if digits.trim_start_matches('0').len() > usize::from(precision) {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    Some(if negative { -value } else { value })
}

/// Records of a delimited text, each with the line it begins on. Fields may be quoted; a quote in a
/// quoted field is doubled. Empty lines are passed over.
struct Records<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    separator: char,
    line: u32,
    /// The line where a quoted field began that never ended.
    unclosed: Option<u32>,
}

impl<'a> Records<'a> {
    fn new(text: &'a str, separator: char) -> Self {
        Self {
            rest: text.chars().peekable(),
            separator,
            line: 1,
            unclosed: None,
        }
    }

    fn record(&mut self) -> Option<(u32, Vec<String>)> {
        self.rest.peek()?;
        let start = self.line;
        let mut record = Vec::new();
        let mut field = String::new();
        let mut quoted = false;
        loop {
            match self.rest.next() {
                None => {
                    if quoted {
                        self.unclosed = Some(start);
                    }
                    record.push(field);
                    return Some((start, record));
                }
                Some('"') if quoted => {
                    if self.rest.next_if_eq(&'"').is_some() {
                        field.push('"');
                    } else {
                        quoted = false;
                    }
                }
                Some('"') if field.is_empty() => quoted = true,
                Some('\n') if quoted => {
                    self.line += 1;
                    field.push('\n');
                }
                Some('\r') if !quoted && self.rest.peek() == Some(&'\n') => {}
                Some('\n') => {
                    self.line += 1;
                    record.push(field);
                    return Some((start, record));
                }
                Some(letter) if letter == self.separator && !quoted => {
                    record.push(std::mem::take(&mut field));
                }
                Some(letter) => field.push(letter),
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = (u32, Vec<String>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (line, record) = self.record()?;
            if record.len() > 1 || record.first().is_some_and(|field| !field.is_empty()) {
                return Some((line, record));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Date32Type, Decimal128Type, Float64Type, Int32Type};

    use super::*;

    fn columns() -> Vec<Column> {
        vec![
            Column::new("code", DataType::Utf8),
            Column::new("year", DataType::Int32),
            Column::new("share", DataType::Float64),
            Column::new("from", DataType::Date32),
            Column::new("amount", DataType::Decimal128(6, 2)),
        ]
    }

    const HEADER: &str = "code,year,share,from,amount\n";

    fn problems(body: &str) -> Vec<String> {
        let key = ["code".to_owned()];
        match read("t.csv", &format!("{HEADER}{body}"), ',', &columns(), &key) {
            Ok(batch) => vec![format!("{} rows", batch.num_rows())],
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn cells_get_their_exact_types() {
        let text = format!(
            "\u{feff}{HEADER}007,2024,0.5,2024-02-29,12.5\r\n\"a,\"\"b\"\"\",-1,1e3,,-0.05\n\n008,,,,\n"
        );
        let batch = read("t.csv", &text, ',', &columns(), &["code".to_owned()]).unwrap();
        assert_eq!(batch.num_rows(), 3);
        let codes: Vec<_> = batch
            .column(0)
            .as_string::<i32>()
            .iter()
            .flatten()
            .collect();
        assert_eq!(codes, ["007", "a,\"b\"", "008"]);
        assert_eq!(
            batch
                .column(1)
                .as_primitive::<Int32Type>()
                .iter()
                .collect::<Vec<_>>(),
            [Some(2024), Some(-1), None]
        );
        assert_eq!(
            batch.column(2).as_primitive::<Float64Type>().value(1),
            1000.0
        );
        assert_eq!(
            batch.column(3).as_primitive::<Date32Type>().value(0),
            19_782
        );
        let amounts: Vec<_> = batch
            .column(4)
            .as_primitive::<Decimal128Type>()
            .iter()
            .collect();
        assert_eq!(amounts, [Some(1250), Some(-5), None]);
        assert_eq!(batch.column(4).data_type(), &DataType::Decimal128(6, 2));
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        assert_eq!(
            problems("1,x,0.1,2024-13-01,1\n2,1,1,2024-01-01\n1,3,,,1.005\n,4,,,\n"),
            [
                "t.csv:2: `x` in `year` is not a whole number",
                "t.csv:2: `2024-13-01` in `from` is not a date as yyyy-mm-dd",
                "t.csv:3: 4 fields where the header has 5\n  help: quote a field that holds the separator",
                "t.csv:4: `1.005` in `amount` is not a number of at most 6 digits, 2 of them after the point",
                "t.csv:4: the key (1) is also on line 2\n  help: remove one of the rows, or add a column to the key",
                "t.csv:5: the key column `code` is empty",
            ]
        );
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        for (body, part) in [
            ("a,3000000000,,,\n", "whole number"),
            ("a,,NaN,,\n", "decimal point"),
            ("a,,\"1,5\",,\n", "decimal point"),
            ("a,,,20240101,\n", "yyyy-mm-dd"),
            ("a,,,,12345.67\n", "at most 6 digits"),
            ("a,,,,1.10000\n", "1 rows"),
            ("a,,,,+1\n", "at most 6 digits"),
        ] {
            let told = problems(body);
            assert!(
                told.len() == 1 && told[0].contains(part),
                "{body}: {told:?}"
            );
        }
    }

    #[test]
    fn header_problems_are_told_before_rows() {
        let told = |header: &str| {
            let error = read("t.csv", header, ',', &columns(), &[]).unwrap_err();
            error
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(";")
        };
        assert!(told("").contains("t.csv:1: the file is empty"));
        assert!(told("code,years,share,from,amount\n").contains("did you mean `years`?"));
        assert!(
            told("code,year,year,share,from,amount\n").contains("the column `year` is there twice")
        );
    }

    #[test]
    fn an_unclosed_quote_is_told_and_ends() {
        assert_eq!(
            problems("\"a,1,1,2024-01-01,1\n"),
            [
                "t.csv:2: 1 fields where the header has 5\n  help: quote a field that holds the separator",
                "t.csv:2: a quoted field does not end\n  help: close it with `\"`",
            ]
        );
    }

    #[test]
    fn a_quoted_line_break_counts_lines() {
        let told = problems("\"a\nb\",1,,,\nc,x,,,\n");
        assert_eq!(told, ["t.csv:4: `x` in `year` is not a whole number"]);
    }
}
