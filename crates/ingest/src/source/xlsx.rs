//! Workbooks: one sheet, read cell by cell from a file held in memory.
//!
//! A workbook is a zip archive, so its size on disk says little: every part is unpacked once into
//! nothing, counted, before a decoder sees it. Sheets are never held as a grid, since a single cell
//! in the last corner would make one of 17 thousand million cells. To read another workbook form:
//! a file beside this one.

use std::io::{Cursor, Read};

use calamine::{DataRef, Reader as _, Xlsx};
use tietopohja_contract::{Dialect, TextBlock};

use super::csv::{Malformed, Split};
use crate::error::{FaultAt, SourceFault};
use crate::limits::LandLimits;

/// Rows handed over at a time.
const BLOCK_ROWS: usize = 8_192;

/// A workbook whose size was checked.
pub(crate) struct WorkbookReader {
    bytes: Vec<u8>,
    sheet: String,
    header_row: u32,
    columns: usize,
    dialect: Dialect,
    max_field: usize,
    block_bytes: usize,
}

impl WorkbookReader {
    /// Checks the archive, finds the sheet and its header. `agreed` is the contract's way of
    /// writing; numbers and dates that the workbook holds as such are printed in it.
    pub(crate) fn open(
        bytes: Vec<u8>,
        title: bool,
        agreed: Dialect,
        limits: &LandLimits,
    ) -> Result<(WorkbookReader, Vec<String>), FaultAt> {
        check_archive(&bytes, limits)?;
        let mut book = open_book(&bytes)?;
        let names = book.sheet_names();
        let sheet = names.into_iter().next().ok_or(SourceFault::NoSheet)?;
        let mut reader = WorkbookReader {
            bytes: Vec::new(),
            sheet,
            header_row: 0,
            columns: 0,
            dialect: Dialect {
                iso: true,
                ..agreed
            },
            max_field: limits.max_field_bytes,
            block_bytes: limits.block_bytes,
        };
        let mut header: Vec<String> = Vec::new();
        reader
            .each_row(&mut book, &mut |row, cells| {
                let filled = cells.iter().filter(|cell| !cell.is_empty()).count();
                // A title stands alone on its row.
                if filled == 0 || (filled == 1 && title) {
                    return Ok(true);
                }
                reader_header(&mut header, cells);
                if header.len() > limits.max_columns {
                    let fault = SourceFault::TooManyColumns {
                        found: header.len(),
                        limit: limits.max_columns,
                    };
                    return Err(FaultAt::row(i64::from(row) + 1, fault));
                }
                Ok(false)
            })
            .map(|row| reader.header_row = row.unwrap_or_default())?;
        if header.is_empty() {
            return Err(SourceFault::Empty.into());
        }
        drop(book);
        reader.columns = header.len();
        reader.bytes = bytes;
        Ok((reader, header))
    }

    /// Hands over the rows below the header; `emit` says whether to go on.
    pub(crate) fn run(self, emit: &mut dyn FnMut(Split) -> bool) -> Result<(), FaultAt> {
        let mut book = open_book(&self.bytes)?;
        let mut rows = BlockRows::new(self.columns, self.dialect);
        let header_row = self.header_row;
        let stopped = self.each_row(&mut book, &mut |row, cells| {
            if row > header_row {
                rows.push(i64::from(row) + 1, cells);
                if rows.lines.len() >= BLOCK_ROWS || rows.text.len() >= self.block_bytes {
                    return Ok(emit(rows.take()));
                }
            }
            Ok(true)
        })?;
        if stopped.is_none() && !(rows.lines.is_empty() && rows.malformed.is_empty()) {
            emit(rows.take());
        }
        Ok(())
    }

    /// Calls `each` with every row that has a cell, in order, until it answers false; gives the row
    /// at which it did.
    fn each_row(
        &self,
        book: &mut Xlsx<Cursor<&[u8]>>,
        each: &mut dyn FnMut(u32, &[String]) -> Result<bool, FaultAt>,
    ) -> Result<Option<u32>, FaultAt> {
        let mut cells = book
            .worksheet_cells_reader(&self.sheet)
            .map_err(|_| SourceFault::WorkbookDamaged)?;
        let mut current: Option<u32> = None;
        let mut row: Vec<String> = Vec::new();
        loop {
            let cell = cells.next_cell().map_err(|_| FaultAt {
                row: current.map(|row| i64::from(row) + 1),
                fault: SourceFault::WorkbookDamaged,
            })?;
            let (place, value) = match cell {
                Some(cell) => (Some(cell.get_position()), cell.get_value().clone()),
                None => (None, DataRef::Empty),
            };
            let here = place.map(|(row, _)| row);
            if current.is_some() && current != here {
                let finished = current.unwrap_or_default();
                if here.is_some_and(|next| next < finished) {
                    return Err(FaultAt::row(
                        i64::from(finished) + 1,
                        SourceFault::WorkbookDamaged,
                    ));
                }
                if !each(finished, &row)? {
                    return Ok(Some(finished));
                }
                row.clear();
            }
            current = here;
            let Some((at, column)) = place else {
                return Ok(None);
            };
            let text = print(&value, self.dialect);
            if text.len() > self.max_field {
                return Err(FaultAt::row(
                    i64::from(at) + 1,
                    SourceFault::FieldTooLong {
                        limit: self.max_field,
                    },
                ));
            }
            let column = column as usize;
            // Excel itself has 16 384 columns; an empty cell far out is formatting only.
            if column >= 16_384 {
                return Err(FaultAt::row(
                    i64::from(at) + 1,
                    SourceFault::WorkbookDamaged,
                ));
            }
            if !text.is_empty() {
                if row.len() <= column {
                    row.resize(column + 1, String::new());
                }
                if let Some(cell) = row.get_mut(column) {
                    *cell = text;
                }
            }
        }
    }
}

fn reader_header(header: &mut Vec<String>, cells: &[String]) {
    header.extend(cells.iter().map(|cell| cell.trim().to_owned()));
    while header.last().is_some_and(String::is_empty) {
        header.pop();
    }
}

fn open_book(bytes: &[u8]) -> Result<Xlsx<Cursor<&[u8]>>, FaultAt> {
    Xlsx::new(Cursor::new(bytes)).map_err(|_| SourceFault::WorkbookDamaged.into())
}

/// A cell as the contract's sources would write it.
fn print(value: &DataRef<'_>, dialect: Dialect) -> String {
    match value {
        DataRef::Empty => String::new(),
        DataRef::Int(number) => number.to_string(),
        DataRef::Float(number) => print_number(*number, dialect),
        DataRef::String(text) | DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => {
            text.clone()
        }
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Bool(yes) => if *yes { "1" } else { "0" }.to_owned(),
        DataRef::DateTime(moment) if moment.is_datetime() => {
            let (year, month, day, hour, minute, second, _) = moment.to_ymd_hms_milli();
            match (hour, minute, second) {
                (0, 0, 0) => format!("{year:04}-{month:02}-{day:02}"),
                // A time where a date is agreed is for the contract to refuse.
                _ => format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"),
            }
        }
        DataRef::DateTime(duration) => print_number(duration.as_f64(), dialect),
        // `#N/A` and the like: refused by every type but text, where it shows what it is.
        DataRef::Error(error) => error.to_string(),
    }
}

/// The number with the 15 significant digits a spreadsheet shows: 0.1 + 0.2 is 0.3 to its author.
fn print_number(number: f64, dialect: Dialect) -> String {
    let shown = format!("{number:.14e}").parse::<f64>().unwrap_or(number);
    let text = shown.to_string();
    match dialect.decimal {
        tietopohja_contract::DecimalMark::Comma => text.replace('.', ","),
        tietopohja_contract::DecimalMark::Point => text,
    }
}

/// Rows collected into a block.
struct BlockRows {
    columns: usize,
    dialect: Dialect,
    text: Vec<u8>,
    cells: Vec<(u32, u32)>,
    lines: Vec<i64>,
    malformed: Vec<(i64, Malformed)>,
}

impl BlockRows {
    fn new(columns: usize, dialect: Dialect) -> Self {
        Self {
            columns,
            dialect,
            text: Vec::new(),
            cells: Vec::new(),
            lines: Vec::new(),
            malformed: Vec::new(),
        }
    }

    fn push(&mut self, row: i64, cells: &[String]) {
        if cells.iter().all(String::is_empty) {
            return;
        }
        if cells.len() > self.columns {
            self.malformed
                .push((row, Malformed::Width { found: cells.len() }));
            return;
        }
        for column in 0..self.columns {
            let cell = cells.get(column).map(String::as_bytes).unwrap_or_default();
            let start = self.text.len() as u32;
            self.text.extend_from_slice(cell);
            self.cells.push((start, self.text.len() as u32));
        }
        self.lines.push(row);
    }

    fn take(&mut self) -> Split {
        let lines = std::mem::take(&mut self.lines);
        let malformed = std::mem::take(&mut self.malformed);
        let records = (lines.len() + malformed.len()) as i64;
        let block = TextBlock {
            first_row: lines.first().copied().unwrap_or_default(),
            rows: lines.len(),
            columns: self.columns,
            text: std::mem::take(&mut self.text),
            cells: std::mem::take(&mut self.cells),
            dialect: self.dialect,
            row_lines: Some(lines),
        };
        Split {
            block,
            malformed,
            records,
        }
    }
}

/// Unpacks every part into nothing and counts. What the archive says of itself is not trusted.
fn check_archive(bytes: &[u8], limits: &LandLimits) -> Result<(), FaultAt> {
    let damaged = || FaultAt::from(SourceFault::WorkbookDamaged);
    let directory = Directory::find(bytes).ok_or_else(damaged)?;
    let mut total = 0u64;
    let mut is_workbook = false;
    for part in directory {
        let part = part.ok_or_else(damaged)?;
        is_workbook |= part.name.eq_ignore_ascii_case(b"xl/workbook.xml")
            || part.name.eq_ignore_ascii_case(b"[Content_Types].xml");
        let room = limits.max_workbook_unpacked_bytes.saturating_sub(total);
        let size = match part.method {
            0 => part.packed.len() as u64,
            8 => {
                let mut unpacked = flate2::read::DeflateDecoder::new(part.packed).take(room + 1);
                std::io::copy(&mut unpacked, &mut std::io::sink()).map_err(|_| damaged())?
            }
            _ => return Err(damaged()),
        };
        if size > room {
            return Err(SourceFault::UnpackTotal {
                limit: limits.max_workbook_unpacked_bytes,
            }
            .into());
        }
        total += size;
    }
    if is_workbook {
        Ok(())
    } else {
        Err(SourceFault::OtherArchive.into())
    }
}

/// The central directory of a zip archive.
struct Directory<'a> {
    bytes: &'a [u8],
    at: usize,
    left: usize,
}

struct Part<'a> {
    name: &'a [u8],
    method: u16,
    packed: &'a [u8],
}

impl<'a> Directory<'a> {
    fn find(bytes: &'a [u8]) -> Option<Directory<'a>> {
        // The end record is 22 bytes and a comment of at most 65 535.
        let tail = bytes.len().saturating_sub(22 + 65_535);
        let end = tail + memchr::memmem::rfind(bytes.get(tail..)?, b"PK\x05\x06")?;
        let left = usize::from(u16_at(bytes, end + 10)?);
        let at = u32_at(bytes, end + 16)? as usize;
        // These values say that sizes are in a 64-bit record; no workbook within the limit needs it.
        (left != 0xffff && at < bytes.len()).then_some(Directory { bytes, at, left })
    }

    fn part(&mut self) -> Option<Part<'a>> {
        let bytes = self.bytes;
        let at = self.at;
        if bytes.get(at..at.checked_add(4)?)? != b"PK\x01\x02" {
            return None;
        }
        let lengths = [
            u16_at(bytes, at + 28)?,
            u16_at(bytes, at + 30)?,
            u16_at(bytes, at + 32)?,
        ]
        .map(usize::from);
        let [name, extra, comment] = lengths;
        let local = u32_at(bytes, at + 42)? as usize;
        let size = u32_at(bytes, at + 20)? as usize;
        let data = local.checked_add(
            30 + usize::from(u16_at(bytes, local.checked_add(26)?)?)
                + usize::from(u16_at(bytes, local + 28)?),
        )?;
        self.at = at + 46 + name + extra + comment;
        Some(Part {
            name: bytes.get(at + 46..at + 46 + name)?,
            method: u16_at(bytes, at + 10)?,
            packed: bytes.get(data..data.checked_add(size)?)?,
        })
    }
}

impl<'a> Iterator for Directory<'a> {
    /// A part, or `None` inside when the directory is damaged.
    type Item = Option<Part<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let part = self.part();
        if part.is_none() {
            self.left = 0;
        }
        Some(part)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk::<2>()
        .map(|pair| u16::from_le_bytes(*pair))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk::<4>()
        .map(|four| u32::from_le_bytes(*four))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;
    use tietopohja_contract::DecimalMark;

    /// A zip archive of the parts, deflated.
    pub(crate) fn archive(parts: &[(&str, &str)]) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::new(), Vec::new());
        for (name, text) in parts {
            let mut encoder =
                flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text.as_bytes()).unwrap();
            let packed = encoder.finish().unwrap();
            let mut crc = flate2::Crc::new();
            crc.update(text.as_bytes());
            let local = bytes.len() as u32;
            let mut head = Vec::new();
            head.extend_from_slice(&20u16.to_le_bytes());
            head.extend_from_slice(&0u16.to_le_bytes());
            head.extend_from_slice(&8u16.to_le_bytes());
            head.extend_from_slice(&[0, 0, 0x21, 0x50]);
            head.extend_from_slice(&crc.sum().to_le_bytes());
            head.extend_from_slice(&(packed.len() as u32).to_le_bytes());
            head.extend_from_slice(&(text.len() as u32).to_le_bytes());
            head.extend_from_slice(&(name.len() as u16).to_le_bytes());
            head.extend_from_slice(&0u16.to_le_bytes());
            bytes.extend_from_slice(b"PK\x03\x04");
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&packed);
            directory.extend_from_slice(b"PK\x01\x02\x14\x00");
            directory.extend_from_slice(&head);
            directory.extend_from_slice(&[0; 10]);
            directory.extend_from_slice(&local.to_le_bytes());
            directory.extend_from_slice(name.as_bytes());
        }
        let at = bytes.len() as u32;
        bytes.extend_from_slice(&directory);
        bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        bytes.extend_from_slice(&(parts.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&(parts.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&(directory.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&at.to_le_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes
    }

    /// A workbook with one sheet of the given `<row>` elements; style 1 is a date.
    pub(crate) fn workbook(rows: &str) -> Vec<u8> {
        let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
        let rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        archive(&[
            (
                "[Content_Types].xml",
                "<?xml version=\"1.0\"?><Types xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\"/>",
            ),
            (
                "_rels/.rels",
                &format!(
                    "<?xml version=\"1.0\"?><Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" Type=\"{rel}/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>"
                ),
            ),
            (
                "xl/workbook.xml",
                &format!(
                    "<?xml version=\"1.0\"?><workbook xmlns=\"{main}\" xmlns:r=\"{rel}\"><sheets><sheet name=\"Taul1\" sheetId=\"1\" r:id=\"rId1\"/></sheets></workbook>"
                ),
            ),
            (
                "xl/_rels/workbook.xml.rels",
                &format!(
                    "<?xml version=\"1.0\"?><Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" Type=\"{rel}/worksheet\" Target=\"worksheets/sheet1.xml\"/><Relationship Id=\"rId2\" Type=\"{rel}/styles\" Target=\"styles.xml\"/></Relationships>"
                ),
            ),
            (
                "xl/styles.xml",
                &format!(
                    "<?xml version=\"1.0\"?><styleSheet xmlns=\"{main}\"><cellXfs count=\"2\"><xf numFmtId=\"0\"/><xf numFmtId=\"14\"/></cellXfs></styleSheet>"
                ),
            ),
            (
                "xl/worksheets/sheet1.xml",
                &format!(
                    "<?xml version=\"1.0\"?><worksheet xmlns=\"{main}\"><sheetData>{rows}</sheetData></worksheet>"
                ),
            ),
        ])
    }

    fn text(cell: &str, value: &str) -> String {
        format!("<c r=\"{cell}\" t=\"inlineStr\"><is><t>{value}</t></is></c>")
    }

    const AGREED: Dialect = Dialect {
        decimal: DecimalMark::Comma,
        iso: false,
        finnish: true,
    };

    type Rows = Vec<(i64, Vec<String>)>;

    fn read(bytes: Vec<u8>) -> Result<(Vec<String>, Rows), FaultAt> {
        let (reader, header) = WorkbookReader::open(bytes, true, AGREED, &LandLimits::default())?;
        let mut rows = Vec::new();
        reader.run(&mut |split| {
            let block = split.block;
            for row in 0..block.rows {
                let cells = &block.cells[row * block.columns..(row + 1) * block.columns];
                let cells = cells.iter().map(|(a, b)| {
                    String::from_utf8(block.text[*a as usize..*b as usize].to_vec()).unwrap()
                });
                rows.push((block.row_no(row), cells.collect()));
            }
            true
        })?;
        Ok((header, rows))
    }

    #[test]
    fn numbers_dates_and_text_come_out_as_agreed() {
        let rows = format!(
            "<row r=\"1\">{}{}{}</row><row r=\"2\">{}<c r=\"B2\"><v>0.30000000000000004</v></c><c r=\"C2\" s=\"1\"><v>45292</v></c></row>\
             <row r=\"5\"><c r=\"B5\"><v>1234</v></c><c r=\"C5\" t=\"b\"><v>1</v></c></row>",
            text("A1", "nimi"),
            text("B1", "maara"),
            text("C1", "pvm"),
            text("A2", "Äiti")
        );
        let (header, rows) = read(workbook(&rows)).unwrap();
        assert_eq!(header, ["nimi", "maara", "pvm"]);
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            rows,
            [
                (2, row(["Äiti", "0,3", "2024-01-01"])),
                (5, row(["", "1234", "1"]))
            ]
        );
    }

    #[test]
    fn a_cell_in_the_last_corner_takes_no_memory() {
        let rows = format!(
            "<row r=\"1\">{}{}</row><row r=\"1048576\"><c r=\"XFD1048576\"><v>1</v></c></row>",
            text("A1", "a"),
            text("B1", "b")
        );
        let (_, rows) = read(workbook(&rows)).unwrap();
        assert_eq!(rows, []);
    }

    #[test]
    fn archives_that_are_no_workbook_or_too_large_or_damaged_are_named() {
        assert_eq!(
            read(archive(&[("a.csv", "a;b")])).unwrap_err().fault,
            SourceFault::OtherArchive
        );
        let bomb = workbook(&format!(
            "<row r=\"1\">{}</row>",
            text("A1", &"0".repeat(4 << 20))
        ));
        let limits = LandLimits {
            max_workbook_unpacked_bytes: 1 << 20,
            ..LandLimits::default()
        };
        let at = WorkbookReader::open(bomb, true, AGREED, &limits)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(at.fault, SourceFault::UnpackTotal { limit: 1 << 20 });
        let good = workbook(&format!("<row r=\"1\">{}</row>", text("A1", "a")));
        for cut in [30, good.len() / 2, good.len() - 1] {
            assert_eq!(
                read(good[..cut].to_vec()).unwrap_err().fault,
                SourceFault::WorkbookDamaged,
                "{cut}"
            );
        }
        assert_eq!(read(workbook("")).unwrap_err().fault, SourceFault::Empty);
    }
}
