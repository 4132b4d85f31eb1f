//! A source file opened for reading: its form recognised, its header known, its rows to come.
//!
//! One file for each form: `csv`, `ndjson`, `xlsx`, `parquet`. A reader finds where records end and
//! runs in one thread; a splitter cuts cells and runs in many. Nothing here judges a value. To add
//! a form: a file with both halves, its first bytes in [`Form::of`], a variant in the enums below.

mod bytes;
mod csv;
mod encoding;
mod ndjson;
mod parquet;
mod scan;
mod xlsx;

use std::fs::File;
use std::io::{Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tietopohja_contract::{Contract, Dialect, Encoding, PropertyType};

use self::bytes::{ByteStream, Packing, read_fault};
pub(crate) use self::bytes::{FileMark, hash_file};
use self::csv::{CsvAgreement, CsvReader, CsvShape, TextChunk};
pub(crate) use self::csv::{Malformed, Split};
use self::encoding::TextEncoding;
use self::ndjson::{NdjsonReader, NdjsonShape};
use self::parquet::{ArrowChunk, ParquetReader};
use self::xlsx::WorkbookReader;
use crate::error::{FaultAt, SourceFault};
use crate::limits::LandLimits;

/// What a contract agrees, as far as reading needs it.
#[derive(Debug, Clone)]
pub(crate) struct Agreement {
    csv: CsvAgreement,
    dialect: Dialect,
    names: Names,
}

impl Agreement {
    pub(crate) fn of(contract: &Contract) -> Agreement {
        let format = contract.format();
        let encodings = format.encodings().iter().map(|encoding| match encoding {
            Encoding::Utf8 => TextEncoding::Utf8,
            Encoding::Iso8859_1 => TextEncoding::Latin1,
            Encoding::Iso8859_15 => TextEncoding::Latin9,
            Encoding::Windows1252 => TextEncoding::Windows1252,
        });
        let columns = contract.properties().iter().map(|property| ColumnName {
            header: property.header().to_string(),
            name: property.name().to_owned(),
            // An identity code is never optional as a column, even where a cell may be empty.
            optional: !property.required() && !matches!(property.kind(), PropertyType::Hetu { .. }),
        });
        Agreement {
            csv: CsvAgreement {
                separators: format.separators().to_vec(),
                encodings: encodings.collect(),
                title: contract.properties().len() > 1,
            },
            dialect: format.dialect(),
            names: Names {
                columns: columns.collect(),
            },
        }
    }
}

/// The contract's columns by both of their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    columns: Vec<ColumnName>,
}

/// A column's name in source files, and its English name, which typed files may use.
#[derive(Debug, Clone)]
pub(crate) struct ColumnName {
    header: String,
    name: String,
    optional: bool,
}

impl ColumnName {
    fn is_called(&self, text: &str) -> bool {
        self.header == text || self.name == text
    }
}

impl Names {
    fn columns(&self) -> &[ColumnName] {
        &self.columns
    }
}

/// An opened source.
pub(crate) struct Source {
    /// Column names in the file's order. Names that hold an identity code are refused before.
    pub(crate) header: Vec<String>,
    pub(crate) reader: Reader,
    pub(crate) splitter: Splitter,
}

/// Finds records, in one thread.
pub(crate) enum Reader {
    Csv(CsvReader),
    Ndjson(NdjsonReader),
    Workbook(WorkbookReader),
    Parquet(ParquetReader),
}

/// Cuts cells, in many threads.
pub(crate) enum Splitter {
    Csv(CsvShape),
    Ndjson(NdjsonShape),
    Workbook,
    Parquet { max_field: usize },
}

/// What a reader hands to a splitter.
pub(crate) enum Work {
    Text(TextChunk),
    Arrow(ArrowChunk),
    Cut(Split),
}

/// The form of a file, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Zip,
    Parquet,
    Ndjson,
    Text,
}

impl Form {
    fn of(first: &[u8]) -> Result<Form, SourceFault> {
        match first {
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Ok(Form::Zip),
            [b'P', b'A', b'R', b'1', ..] => Ok(Form::Parquet),
            [0xd0, 0xcf, 0x11, 0xe0, ..] => Err(SourceFault::OldWorkbook),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(SourceFault::Utf16),
            // UTF-16 without its mark: every other byte of its Latin letters is zero.
            [first, 0, second, 0, ..] | [0, first, 0, second, ..]
                if *first != 0 && *second != 0 =>
            {
                Err(SourceFault::Utf16)
            }
            _ => {
                let text = first
                    .strip_prefix(b"\xef\xbb\xbf")
                    .unwrap_or(first)
                    .trim_ascii_start();
                match text {
                    [b'{', ..] => Ok(Form::Ndjson),
                    // Control characters other than white space at the very start are no text.
                    [0x01..=0x08 | 0x0e..=0x1f | 0x7f, ..] => Err(SourceFault::UnknownForm),
                    _ => Ok(Form::Text),
                }
            }
        }
    }
}

/// Opens a file. `read` counts the bytes read of it while its rows are read.
pub(crate) fn open_file(
    path: &Path,
    agreement: &Agreement,
    limits: &LandLimits,
    read: &Arc<AtomicU64>,
) -> Result<Source, FaultAt> {
    let mut file = bytes::open(path)?;
    let mut first = Vec::new();
    file.by_ref()
        .take(FIRST_BYTES)
        .read_to_end(&mut first)
        .map_err(|error| read_fault(&error))?;
    file.rewind().map_err(|error| read_fault(&error))?;
    let size = file.metadata().map_err(|error| read_fault(&error))?.len();
    open(Input::File(file, size), &first, agreement, limits, read)
}

/// Opens bytes in memory: for tests and fuzzing.
pub(crate) fn open_bytes(
    bytes: Vec<u8>,
    agreement: &Agreement,
    limits: &LandLimits,
) -> Result<Source, FaultAt> {
    let first: Vec<u8> = bytes.iter().copied().take(FIRST_BYTES as usize).collect();
    open(
        Input::Bytes(bytes),
        &first,
        agreement,
        limits,
        &Arc::default(),
    )
}

/// Bytes looked at to recognise a form.
const FIRST_BYTES: u64 = 512;

enum Input {
    File(File, u64),
    Bytes(Vec<u8>),
}

impl Input {
    fn stream(self) -> Box<dyn Read + Send> {
        match self {
            Input::File(file, _) => Box::new(file),
            Input::Bytes(bytes) => Box::new(Cursor::new(bytes)),
        }
    }

    fn whole(self, limits: &LandLimits) -> Result<Vec<u8>, FaultAt> {
        let size = match &self {
            Input::File(_, size) => *size,
            Input::Bytes(bytes) => bytes.len() as u64,
        };
        if size > limits.max_workbook_bytes {
            return Err(SourceFault::WorkbookTooLarge {
                limit: limits.max_workbook_bytes,
            }
            .into());
        }
        match self {
            Input::Bytes(bytes) => Ok(bytes),
            Input::File(file, _) => {
                let mut bytes = Vec::new();
                file.take(limits.max_workbook_bytes)
                    .read_to_end(&mut bytes)
                    .map_err(|error| read_fault(&error))?;
                Ok(bytes)
            }
        }
    }
}

fn open(
    input: Input,
    first: &[u8],
    agreement: &Agreement,
    limits: &LandLimits,
    read: &Arc<AtomicU64>,
) -> Result<Source, FaultAt> {
    let packing = Packing::of(first);
    let source = if packing == Packing::Plain {
        match Form::of(first)? {
            Form::Zip => {
                let bytes = input.whole(limits)?;
                read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                open_workbook(bytes, agreement, limits)?
            }
            Form::Parquet => open_parquet(input, agreement, limits, read)?,
            form => open_stream(
                ByteStream::open(input.stream(), first, Arc::clone(read), limits)?,
                form,
                agreement,
                limits,
            )?,
        }
    } else {
        let mut stream = ByteStream::open(input.stream(), first, Arc::clone(read), limits)?;
        let mut start = Vec::new();
        stream.fill(&mut start, FIRST_BYTES as usize)?;
        let form = Form::of(&start)?;
        match form {
            Form::Zip => return Err(SourceFault::PackedContainer("a workbook").into()),
            Form::Parquet => return Err(SourceFault::PackedContainer("Parquet").into()),
            _ => open_stream(stream.with_front(start), form, agreement, limits)?,
        }
    };
    if source.header.iter().any(|name| holds_identity_code(name)) {
        return Err(SourceFault::HeaderIsData.into());
    }
    let named = |name: &String| {
        agreement
            .names
            .columns
            .iter()
            .any(|column| column.header.to_lowercase() == name.to_lowercase())
    };
    if !source.header.iter().any(named) {
        return Err(SourceFault::HeaderUnknown.into());
    }
    Ok(source)
}

fn open_stream(
    stream: ByteStream,
    form: Form,
    agreement: &Agreement,
    limits: &LandLimits,
) -> Result<Source, FaultAt> {
    if form == Form::Ndjson {
        let (reader, header, keys) = NdjsonReader::open(stream, &agreement.names, limits)?;
        let shape = NdjsonShape {
            keys,
            max_field: limits.max_field_bytes,
        };
        return Ok(Source {
            header,
            reader: Reader::Ndjson(reader),
            splitter: Splitter::Ndjson(shape),
        });
    }
    let (reader, header) = CsvReader::open(stream, &agreement.csv, limits)?;
    let shape = CsvShape {
        separator: reader.separator(),
        columns: header.len(),
        dialect: agreement.dialect,
        max_field: limits.max_field_bytes,
    };
    Ok(Source {
        header,
        reader: Reader::Csv(reader),
        splitter: Splitter::Csv(shape),
    })
}

fn open_workbook(
    bytes: Vec<u8>,
    agreement: &Agreement,
    limits: &LandLimits,
) -> Result<Source, FaultAt> {
    let (reader, header) = guarded(SourceFault::WorkbookDamaged, || {
        WorkbookReader::open(bytes, agreement.csv.title, agreement.dialect, limits)
    })?;
    Ok(Source {
        header,
        reader: Reader::Workbook(reader),
        splitter: Splitter::Workbook,
    })
}

fn open_parquet(
    input: Input,
    agreement: &Agreement,
    limits: &LandLimits,
    read: &Arc<AtomicU64>,
) -> Result<Source, FaultAt> {
    let (reader, header) = guarded(SourceFault::ParquetDamaged, || match input {
        Input::File(file, _) => ParquetReader::open(file, &agreement.names, limits, read),
        Input::Bytes(bytes) => {
            ParquetReader::open(::bytes::Bytes::from(bytes), &agreement.names, limits, read)
        }
    })?;
    Ok(Source {
        header,
        reader: Reader::Parquet(reader),
        splitter: Splitter::Parquet {
            max_field: limits.max_field_bytes,
        },
    })
}

/// Runs a decoder that is not ours. Should it panic on a damaged file, that is the file's fault.
fn guarded<T>(
    fault: SourceFault,
    decode: impl FnOnce() -> Result<T, FaultAt>,
) -> Result<T, FaultAt> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(fault.into()))
}

impl Reader {
    /// Hands over every record; `emit` says whether to go on, `spare` gives a buffer to reuse.
    pub(crate) fn run(
        self,
        spare: &mut dyn FnMut() -> Vec<u8>,
        emit: &mut dyn FnMut(Work) -> bool,
    ) -> Result<(), FaultAt> {
        match self {
            Reader::Csv(mut reader) => {
                while let Some(chunk) = reader.next_chunk(spare())? {
                    if !emit(Work::Text(chunk)) {
                        break;
                    }
                }
                Ok(())
            }
            Reader::Ndjson(mut reader) => {
                while let Some(chunk) = reader.next_chunk(spare())? {
                    if !emit(Work::Text(chunk)) {
                        break;
                    }
                }
                Ok(())
            }
            Reader::Workbook(reader) => guarded(SourceFault::WorkbookDamaged, || {
                reader.run(&mut |split| emit(Work::Cut(split)))
            }),
            Reader::Parquet(reader) => guarded(SourceFault::ParquetDamaged, || {
                reader.run(&mut |chunk| emit(Work::Arrow(chunk)))
            }),
        }
    }
}

impl Splitter {
    /// Cuts cells; `cells` is a list to reuse.
    pub(crate) fn split(&self, work: Work, cells: Vec<(u32, u32)>) -> Result<Split, FaultAt> {
        match (self, work) {
            (_, Work::Cut(split)) => Ok(split),
            (Splitter::Csv(shape), Work::Text(chunk)) => {
                let TextChunk {
                    bytes,
                    first_row,
                    offset,
                    encoding,
                } = chunk;
                let row_at = |bytes: &[u8], place: usize| {
                    csv::row_at(bytes, place, first_row, shape.separator)
                };
                let text = encoding::to_utf8(bytes, encoding, offset, &row_at)?;
                csv::split(text, first_row, shape, cells)
            }
            (Splitter::Ndjson(shape), Work::Text(chunk)) => ndjson::split(chunk, shape, cells),
            (Splitter::Parquet { max_field }, Work::Arrow(chunk)) => {
                guarded(SourceFault::ParquetDamaged, || {
                    parquet::split(&chunk, *max_field, cells)
                })
            }
            // A reader and its splitter are made together, so no other pair exists.
            (
                Splitter::Workbook
                | Splitter::Csv(_)
                | Splitter::Ndjson(_)
                | Splitter::Parquet { .. },
                Work::Text(_) | Work::Arrow(_),
            ) => Err(SourceFault::UnknownForm.into()),
        }
    }
}

/// Whether a name holds something written like an identity code, valid or not.
pub(crate) fn holds_identity_code(text: &str) -> bool {
    find_identity_code(text.as_bytes()).is_some()
}

/// The text with everything written like an identity code replaced: for names that messages show.
pub(crate) fn mask_identity_codes(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(at) = find_identity_code(rest.as_bytes()) {
        // Identity codes are ASCII, so these are character boundaries.
        let (before, code) = rest.split_at_checked(at).unwrap_or((rest, ""));
        masked.push_str(before);
        masked.push_str("***");
        rest = code.get(11..).unwrap_or_default();
    }
    masked.push_str(rest);
    masked
}

fn find_identity_code(text: &[u8]) -> Option<usize> {
    let is_code = |code: &[u8]| match code {
        [date @ .., sign, a, b, c, control] => {
            date.iter().all(u8::is_ascii_digit)
                && matches!(sign.to_ascii_uppercase(), b'+' | b'-' | b'A'..=b'F' | b'U'..=b'Y')
                && [a, b, c].into_iter().all(u8::is_ascii_digit)
                && control.is_ascii_alphanumeric()
        }
        _ => false,
    };
    text.windows(11).position(is_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_known_by_their_first_bytes() {
        for (first, form) in [
            (b"PK\x03\x04rest".as_slice(), Ok(Form::Zip)),
            (b"PAR1....", Ok(Form::Parquet)),
            (b"  {\"a\":1}", Ok(Form::Ndjson)),
            (b"\xef\xbb\xbf{\"a\":1}", Ok(Form::Ndjson)),
            (b"a;b", Ok(Form::Text)),
            (b"", Ok(Form::Text)),
            (b"\xd0\xcf\x11\xe0\xa1", Err(SourceFault::OldWorkbook)),
            (b"\xff\xfea\0", Err(SourceFault::Utf16)),
            (b"a\0;\0b\0", Err(SourceFault::Utf16)),
            (b"\x7fELF", Err(SourceFault::UnknownForm)),
        ] {
            assert_eq!(Form::of(first), form, "{first:?}");
        }
    }

    #[test]
    fn identity_codes_are_masked_in_names() {
        for (text, masked) in [
            ("hr_010190-999X_2024.csv", "hr_***_2024.csv"),
            ("010190a999x", "***"),
            ("ä010190+999Xö010190-998W", "ä***ö***"),
            ("hr_absence_07_202401.csv", "hr_absence_07_202401.csv"),
            ("", ""),
        ] {
            assert_eq!(mask_identity_codes(text), masked);
            assert_eq!(holds_identity_code(text), masked.contains('*'));
        }
    }
}
