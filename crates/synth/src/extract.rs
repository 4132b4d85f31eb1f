//! Writing one extract file: cells into a byte buffer, rows into the file.
//!
//! Sources give a row cell by cell, in the order of their columns, and never
//! see the form of the file (encoding, line ends) nor the defects planted in
//! it. No cell allocates. To write a further kind of value: a method of
//! [`Extract`] that ends with [`Extract::close`].

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use crate::days::{Day, Month, OPEN, civil};
use crate::defects::{Altered, Defect, Surroundings};
use crate::error::SynthError;
use crate::manifest::{FileEntry, PlantedDefect, PlantedFinding, decimal_text};
use crate::set_defects::SetDefect;

/// A column of an extract: the name in contracts and the header in the file.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) header: &'static str,
}

/// How a source system writes its files. All use `;`, decimal comma and dd.mm.yyyy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// UTF-8 with a byte order mark, LF.
    Utf8,
    /// ISO-8859-1, CRLF, open ends as 31.12.9999.
    Latin1,
    /// UTF-8 with a byte order mark, CRLF.
    Utf8Crlf,
}

/// One source table.
#[derive(Debug)]
pub(crate) struct Dataset {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    pub(crate) form: Form,
    /// Defects that may be planted, in the order in which files take them.
    pub(crate) defects: &'static [Defect],
    /// How many of them one file takes.
    pub(crate) defects_per_file: usize,
    /// Defects of the rows as a set, one for each SQL check of the contract.
    pub(crate) set_defects: &'static [SetDefect],
}

impl Dataset {
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// More columns than any dataset has.
const MAX_COLUMNS: usize = 20;

/// The bytes of the row that is being written.
#[derive(Debug, Default)]
pub(crate) struct RowBuffer {
    bytes: Vec<u8>,
    ends: [u32; MAX_COLUMNS],
    cells: usize,
}

impl RowBuffer {
    /// The bytes of the n-th cell.
    pub(crate) fn cell(&self, n: usize) -> &[u8] {
        let start = if n == 0 {
            0
        } else {
            self.ends[n - 1] as usize + 1
        };
        &self.bytes[start..self.ends[n] as usize]
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.cells = 0;
    }
}

/// One file in the making.
pub(crate) struct Extract {
    dataset: &'static Dataset,
    path: PathBuf,
    out: BufWriter<File>,
    entry: FileEntry,
    row: RowBuffer,
    /// The row's decimals as (column, hundredths), added to `sums` when the row is good.
    amounts: [(usize, i64); 4],
    amounts_used: usize,
    sums: Vec<Option<i128>>,
    surroundings: Surroundings,
    /// Defects still to plant, the next one last, and the first row that may take it.
    waiting: Vec<&'static Defect>,
    next_defect_row: u64,
    defect_gap: u64,
    /// Defects of the set that still wait for a row.
    waiting_of_set: Vec<&'static SetDefect>,
}

/// Which defects a file takes.
#[derive(Debug, Default)]
pub(crate) struct Planted {
    /// Of single rows, in their order.
    pub(crate) of_rows: Vec<&'static Defect>,
    /// Rows between two of these.
    pub(crate) gap: u64,
    /// Of the rows together.
    pub(crate) of_set: Vec<&'static SetDefect>,
}

impl Extract {
    /// Starts the file and writes its header.
    pub(crate) fn create(
        path: PathBuf,
        dataset: &'static Dataset,
        entry: FileEntry,
        surroundings: Surroundings,
        planted: Planted,
    ) -> Result<Extract, SynthError> {
        let Planted {
            of_rows,
            gap,
            of_set,
        } = planted;
        let file = File::create(&path).map_err(|source| SynthError::Write {
            path: path.clone(),
            source,
        })?;
        let mut extract = Extract {
            dataset,
            path,
            out: BufWriter::with_capacity(1 << 18, file),
            entry,
            row: RowBuffer::default(),
            amounts: [(0, 0); 4],
            amounts_used: 0,
            sums: vec![None; dataset.columns.len()],
            surroundings,
            waiting: of_rows.into_iter().rev().collect(),
            next_defect_row: 2 + gap,
            defect_gap: gap.max(1),
            waiting_of_set: of_set,
        };
        if dataset.form != Form::Latin1 {
            extract.write(b"\xEF\xBB\xBF")?;
        }
        for (i, column) in dataset.columns.iter().enumerate() {
            extract.write(if i == 0 { b"" } else { b";" })?;
            extract.write(column.header.as_bytes())?;
        }
        extract.write(line_end(dataset.form))?;
        Ok(extract)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SynthError> {
        self.entry.bytes += bytes.len() as u64;
        self.out
            .write_all(bytes)
            .map_err(|source| SynthError::Write {
                path: self.path.clone(),
                source,
            })
    }

    /// Ends the cell.
    fn close(&mut self) {
        self.row.ends[self.row.cells] = self.row.bytes.len() as u32;
        self.row.cells += 1;
        self.row.bytes.push(b';');
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.push_text(text);
        self.close();
    }

    fn push_text(&mut self, text: &str) {
        if self.dataset.form != Form::Latin1 || text.is_ascii() {
            self.row.bytes.extend_from_slice(text.as_bytes());
        } else {
            // Texts of the generators stay inside ISO-8859-1.
            self.row.bytes.extend(
                text.chars()
                    .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')),
            );
        }
    }

    pub(crate) fn ascii(&mut self, bytes: &[u8]) {
        self.row.bytes.extend_from_slice(bytes);
        self.close();
    }

    /// A personal identity code; personnel systems sometimes lose its case or its first zero.
    pub(crate) fn identity_code(&mut self, code: &[u8; 11]) {
        let row = self.entry.rows;
        match self.dataset.form {
            Form::Latin1 if row % 97 == 41 => {
                let lower = code.to_ascii_lowercase();
                self.row.bytes.extend_from_slice(&lower);
            }
            Form::Latin1 if row % 61 == 17 && code[0] == b'0' => {
                self.row.bytes.extend_from_slice(&code[1..])
            }
            _ => self.row.bytes.extend_from_slice(code),
        }
        self.close();
    }

    pub(crate) fn blank(&mut self) {
        self.close();
    }

    pub(crate) fn number(&mut self, n: u64) {
        push_number(&mut self.row.bytes, n);
        self.close();
    }

    /// A name such as `KH-007`: prefix and zero-padded number.
    pub(crate) fn label(&mut self, prefix: &str, n: u64, width: usize) {
        self.push_text(prefix);
        push_padded(&mut self.row.bytes, n, width);
        self.close();
    }

    /// A running number such as `09-202401-0000123`.
    pub(crate) fn running(&mut self, county: i32, period: i32, n: u64, width: usize) {
        push_padded(&mut self.row.bytes, county as u64, 2);
        self.row.bytes.push(b'-');
        push_number(&mut self.row.bytes, period as u64);
        self.row.bytes.push(b'-');
        push_padded(&mut self.row.bytes, n, width);
        self.close();
    }

    /// A three-digit municipality code.
    pub(crate) fn municipality(&mut self, code: u16) {
        push_padded(&mut self.row.bytes, u64::from(code), 3);
        self.close();
    }

    pub(crate) fn date(&mut self, on: Day) {
        push_date(&mut self.row.bytes, on);
        self.close();
    }

    /// A date that may be missing.
    pub(crate) fn maybe_date(&mut self, on: Option<Day>) {
        if let Some(on) = on {
            push_date(&mut self.row.bytes, on);
        }
        self.close();
    }

    /// The end of a spell as it is known on `known`: later ends are still open.
    pub(crate) fn end_date(&mut self, end: Day, known: Day) {
        if end <= known && end != OPEN {
            push_date(&mut self.row.bytes, end);
        } else if self.dataset.form == Form::Latin1 {
            self.row.bytes.extend_from_slice(b"31.12.9999");
        }
        self.close();
    }

    /// `yyyymm`.
    pub(crate) fn month(&mut self, month: Month) {
        push_number(&mut self.row.bytes, month.number() as u64);
        self.close();
    }

    /// A decimal of hundredths with a decimal comma; counted in the column's control sum.
    pub(crate) fn decimal(&mut self, hundredths: i64) {
        if let Some(place) = self.amounts.get_mut(self.amounts_used) {
            *place = (self.row.cells, hundredths);
            self.amounts_used += 1;
        }
        push_decimal(&mut self.row.bytes, hundredths);
        self.close();
    }

    /// `K` or `E`.
    pub(crate) fn flag(&mut self, yes: bool) {
        self.row.bytes.push(if yes { b'K' } else { b'E' });
        self.close();
    }

    /// Writes the row; a defect that waits for such a row is planted in it.
    pub(crate) fn end_row(&mut self) -> Result<(), SynthError> {
        debug_assert_eq!(
            self.row.cells,
            self.dataset.columns.len(),
            "{}",
            self.dataset.name
        );
        let row_no = self.entry.rows + 2;
        if row_no >= self.next_defect_row
            && let Some(defect) = self.waiting.last().copied()
            && let Some(column) = self.dataset.column(defect.field)
        {
            match defect.alter(self.dataset, &self.row, column, &self.surroundings) {
                None => {}
                Some(Altered::Repeated) => {
                    let again = self.row.bytes.clone();
                    self.plain_row()?;
                    self.row.bytes = again;
                    self.planted(defect, row_no + 1);
                    return self.bad_row(&[], self.row.cells);
                }
                Some(Altered::Shortened) => {
                    self.planted(defect, row_no);
                    return self.bad_row(&[], self.row.cells - 1);
                }
                Some(Altered::Cells(cells)) => {
                    self.planted(defect, row_no);
                    return self.bad_row(&cells, self.row.cells);
                }
            }
        }
        if !self.plant_in_set(row_no)? {
            self.plain_row()?;
        }
        self.row.clear();
        self.amounts_used = 0;
        Ok(())
    }

    /// Plants a defect of the set when the row suits one; tells whether the row is written.
    fn plant_in_set(&mut self, row_no: u64) -> Result<bool, SynthError> {
        let suiting = self
            .waiting_of_set
            .iter()
            .enumerate()
            .find_map(|(place, defect)| {
                Some((place, *defect, defect.alter(self.dataset, &self.row)?))
            });
        let Some((place, defect, cells)) = suiting else {
            return Ok(false);
        };
        self.waiting_of_set.remove(place);
        let mut rows = vec![row_no];
        if defect.copies {
            self.good_row(&[])?;
            rows.push(row_no + 1);
        }
        self.good_row(&cells)?;
        self.finding(defect.rule, defect.kind, rows);
        Ok(true)
    }

    /// Notes what must be found in the rows as a set.
    pub(crate) fn finding(&mut self, rule: &str, kind: &str, rows: Vec<u64>) {
        self.entry.findings.push(PlantedFinding {
            rule: rule.to_owned(),
            kind: kind.to_owned(),
            rows,
        });
    }

    fn planted(&mut self, defect: &Defect, row: u64) {
        self.waiting.pop();
        self.next_defect_row = row + self.defect_gap;
        let column = self
            .dataset
            .columns
            .iter()
            .find(|column| column.name == defect.field && !defect.is_of_the_row());
        self.entry.defects.push(PlantedDefect {
            row,
            field: column.map_or("", |column| column.name).to_owned(),
            header: column.map_or("", |column| column.header).to_owned(),
            rule: defect.rule.to_owned(),
            kind: defect.kind.to_owned(),
        });
    }

    /// Counts the row among those to be accepted, with its amounts.
    fn accept(&mut self) {
        for (column, hundredths) in &self.amounts[..self.amounts_used] {
            *self.sums[*column].get_or_insert(0) += i128::from(*hundredths);
        }
        self.entry.rows += 1;
        self.entry.accepted += 1;
    }

    /// Writes the row as the source gave it.
    fn plain_row(&mut self) -> Result<(), SynthError> {
        self.accept();
        // The separator after the last cell gives way to the line end.
        self.row.bytes.pop();
        self.row
            .bytes
            .extend_from_slice(line_end(self.dataset.form));
        self.entry.bytes += self.row.bytes.len() as u64;
        self.out
            .write_all(&self.row.bytes)
            .map_err(|source| SynthError::Write {
                path: self.path.clone(),
                source,
            })
    }

    /// Writes the row with some cells changed, and keeps it. Its amounts stay as they are.
    fn good_row(&mut self, cells: &[(usize, Vec<u8>)]) -> Result<(), SynthError> {
        self.accept();
        let line = self.line(cells, self.row.cells);
        self.write(&line)
    }

    /// Writes the first `count` cells of the row, some of them changed.
    fn bad_row(&mut self, cells: &[(usize, Vec<u8>)], count: usize) -> Result<(), SynthError> {
        let line = self.line(cells, count);
        self.entry.rows += 1;
        self.row.clear();
        self.amounts_used = 0;
        self.write(&line)
    }

    fn line(&self, cells: &[(usize, Vec<u8>)], count: usize) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.row.bytes.len() + 16);
        for n in 0..count {
            if n > 0 {
                line.push(b';');
            }
            let changed = cells.iter().find(|(column, _)| *column == n);
            line.extend_from_slice(changed.map_or_else(|| self.row.cell(n), |(_, bytes)| bytes));
        }
        line.extend_from_slice(line_end(self.dataset.form));
        line
    }

    /// Flushes the file and gives its entry in the manifest.
    pub(crate) fn finish(mut self) -> Result<FileEntry, SynthError> {
        self.out.flush().map_err(|source| SynthError::Write {
            path: self.path.clone(),
            source,
        })?;
        for (column, sum) in self.dataset.columns.iter().zip(&self.sums) {
            if let Some(sum) = sum {
                self.entry
                    .sums
                    .insert(column.name.to_owned(), decimal_text(*sum, 2));
            }
        }
        if share_is_noted(self.entry.rows, self.entry.defects.len() as u64) {
            self.finding(SHARE_NOTED, "many_defects_for_few_rows", Vec::new());
        }
        Ok(self.entry)
    }
}

/// The check that every contract has on the share of quarantined rows.
const SHARE_NOTED: &str = "quarantined_share_noted";

/// Whether so many rows of a file are bad that its delivery lands with a warning: one in a hundred,
/// where there are a hundred.
fn share_is_noted(rows: u64, bad: u64) -> bool {
    rows >= 100 && bad * 100 >= rows
}

fn line_end(form: Form) -> &'static [u8] {
    match form {
        Form::Utf8 => b"\n",
        Form::Latin1 | Form::Utf8Crlf => b"\r\n",
    }
}

/// Appends the decimal digits of a number.
pub(crate) fn push_number(bytes: &mut Vec<u8>, n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = n;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(&digits[at..]);
}

/// Appends at least `width` digits.
pub(crate) fn push_padded(bytes: &mut Vec<u8>, n: u64, width: usize) {
    let digits = n.checked_ilog10().unwrap_or(0) as usize + 1;
    bytes.extend(std::iter::repeat_n(b'0', width.saturating_sub(digits)));
    push_number(bytes, n);
}

/// Appends `dd.mm.yyyy`.
pub(crate) fn push_date(bytes: &mut Vec<u8>, on: Day) {
    let (year, month, day) = civil(on);
    let two = |n: i32| [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
    let ([d1, d2], [m1, m2], [y1, y2], [y3, y4]) =
        (two(day), two(month), two(year / 100), two(year % 100));
    bytes.extend_from_slice(&[d1, d2, b'.', m1, m2, b'.', y1, y2, y3, y4]);
}

/// Appends hundredths with a decimal comma.
pub(crate) fn push_decimal(bytes: &mut Vec<u8>, hundredths: i64) {
    if hundredths < 0 {
        bytes.push(b'-');
    }
    push_number(bytes, hundredths.unsigned_abs() / 100);
    let cents = (hundredths.unsigned_abs() % 100) as u8;
    bytes.extend_from_slice(&[b',', b'0' + cents / 10, b'0' + cents % 10]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::days::day;

    fn pushed(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut bytes = Vec::new();
        push(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_share_of_one_in_a_hundred_is_noted() {
        for (rows, bad, noted) in [
            (0, 0, false),
            (99, 50, false),
            (100, 0, false),
            (100, 1, true),
            (101, 1, false),
            (1_000_000, 9_999, false),
            (1_000_000, 10_000, true),
        ] {
            assert_eq!(share_is_noted(rows, bad), noted, "{bad} of {rows}");
        }
    }

    #[test]
    fn numbers_dates_and_decimals_have_finnish_forms() {
        for (n, text) in [
            (0, "0"),
            (7, "7"),
            (10, "10"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(pushed(|b| push_number(b, n)), text);
        }
        for (n, width, text) in [
            (0, 3, "000"),
            (9, 3, "009"),
            (99, 3, "099"),
            (100, 3, "100"),
            (1234, 3, "1234"),
        ] {
            assert_eq!(pushed(|b| push_padded(b, n, width)), text);
        }
        for (hundredths, text) in [
            (0, "0,00"),
            (5, "0,05"),
            (-5, "-0,05"),
            (123_456, "1234,56"),
            (-100, "-1,00"),
        ] {
            assert_eq!(pushed(|b| push_decimal(b, hundredths)), text);
        }
        assert_eq!(pushed(|b| push_date(b, day(2024, 2, 29))), "29.02.2024");
    }
}
