//! Defects that are planted in single rows, each of a kind that one rule must catch.
//!
//! Every dataset lists its own defects; here is what each fault does to a row.
//! A fault changes a row so that exactly one rule breaks. It may decline a row
//! (a blank cell cannot get a wrong end), and then waits for the next. To add a
//! fault: a variant of [`Fault`], its arm in [`Defect::alter`], and the lines of
//! the datasets that plant it.

use crate::days::{Day, Month, civil, day};
use crate::extract::{Dataset, RowBuffer, push_date, push_decimal};

/// One kind of defect of one column.
#[derive(Debug)]
pub(crate) struct Defect {
    /// What is done, in words that stay the same over datasets.
    pub(crate) kind: &'static str,
    /// The column that is changed, by its English name.
    pub(crate) field: &'static str,
    pub(crate) fault: Fault,
    /// The rule that must catch it.
    pub(crate) rule: &'static str,
    /// A column that must be empty or open in the row, so that no second rule breaks.
    pub(crate) without: Option<&'static str>,
}

/// A defect for any row.
pub(crate) const fn defect(
    kind: &'static str,
    field: &'static str,
    fault: Fault,
    rule: &'static str,
) -> Defect {
    Defect {
        kind,
        field,
        fault,
        rule,
        without: None,
    }
}

/// A defect for rows in which the column `without` is empty or open.
pub(crate) const fn defect_without(
    kind: &'static str,
    field: &'static str,
    fault: Fault,
    rule: &'static str,
    without: &'static str,
) -> Defect {
    Defect {
        kind,
        field,
        fault,
        rule,
        without: Some(without),
    }
}

/// What is done to the cell.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The identity code's control character is another one.
    HetuControl,
    /// The identity code's birth date does not exist.
    HetuDate,
    /// The identity code's century sign is not in use.
    HetuSign,
    /// The identity code has lost its end.
    HetuForm,
    /// The business identity code's check digit is another one.
    CheckDigit,
    /// The cell holds this text instead.
    Text(&'static str),
    /// The cell is empty.
    Missing,
    /// The municipality has ended before the row's date.
    EndedMunicipality,
    /// 29.2. of a year without it.
    NoLeapDay,
    /// A date after today.
    Future,
    /// A day of the month, or the year, before the delivery's period.
    EarlierPeriod,
    /// The month before the delivery's year.
    EarlierMonth,
    /// The spell starts in the year after the delivery's period.
    LaterPeriod,
    /// A date three days before the one in the named column.
    Before(&'static str),
    /// The amount is one euro more than its factors give.
    WrongProduct,
    /// A decimal point where a comma is agreed.
    Point,
    /// The row stands twice.
    Repeat,
    /// The row's last cell is missing, with its separator.
    ShortRow,
}

/// What a fault did.
pub(crate) enum Altered {
    /// Other bytes for these cells.
    Cells(Vec<(usize, Vec<u8>)>),
    /// The row is to be written a second time.
    Repeated,
    /// The row is to be written without its last cell.
    Shortened,
}

/// What faults need to know about the delivery.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// First day of the period.
    pub(crate) first: Day,
    /// Last day of the period.
    pub(crate) last: Day,
    pub(crate) today: Day,
    /// A municipality that had ended before the period.
    pub(crate) ended_municipality: Option<u16>,
}

/// Rules about a row as a whole: their rejects name no column.
const OF_THE_ROW: [&str; 3] = ["duplicate_key", "row_width", "row_quote"];

impl Defect {
    /// True when the reject names no column.
    pub(crate) fn is_of_the_row(&self) -> bool {
        OF_THE_ROW.contains(&self.rule)
    }

    /// The changed cells, or `None` when the row does not suit.
    pub(crate) fn alter(
        &self,
        dataset: &Dataset,
        row: &RowBuffer,
        column: usize,
        around: &Surroundings,
    ) -> Option<Altered> {
        let cell = row.cell(column);
        if let Some(other) = self.without
            && !matches!(row.cell(dataset.column(other)?), b"" | b"31.12.9999")
        {
            return None;
        }
        let changed = match self.fault {
            Fault::Repeat => return Some(Altered::Repeated),
            Fault::ShortRow => return Some(Altered::Shortened),
            // Codes that have lost their zero stay as they are.
            Fault::HetuControl | Fault::HetuDate | Fault::HetuSign if cell.len() != 11 => {
                return None;
            }
            Fault::HetuControl => {
                let (last, code) = cell.split_last()?;
                // Every character of the alphabet but the right one is wrong.
                [
                    code,
                    if last.eq_ignore_ascii_case(&b'5') {
                        b"6"
                    } else {
                        b"5"
                    },
                ]
                .concat()
            }
            Fault::HetuDate => [b"3102", cell.get(4..)?].concat(),
            Fault::HetuSign => [cell.get(..6)?, b"Z", cell.get(7..)?].concat(),
            Fault::HetuForm => cell.get(..8)?.to_vec(),
            Fault::CheckDigit => {
                let (last, base) = cell.split_last()?;
                [base, &[b'0' + (last - b'0' + 1) % 10]].concat()
            }
            Fault::Text(text) => text.as_bytes().to_vec(),
            Fault::Missing => Vec::new(),
            Fault::EndedMunicipality => format!("{:03}", around.ended_municipality?).into_bytes(),
            Fault::NoLeapDay => {
                let (year, _, _) = civil(around.first);
                let year = if day(year, 3, 1) - day(year, 2, 28) == 2 {
                    year - 1
                } else {
                    year
                };
                format!("29.02.{year}").into_bytes()
            }
            Fault::Future => date(around.today + 3650),
            Fault::EarlierPeriod => date(around.first - 5),
            Fault::EarlierMonth => format!("{}12", civil(around.first).0 - 1).into_bytes(),
            Fault::LaterPeriod if around.last + 5 > around.today => return None,
            Fault::LaterPeriod => date(around.last + 5),
            Fault::Before(other) => {
                // Not so early that the row leaves the period.
                let other = read_date(row.cell(dataset.column(other)?))?;
                date((other - 3 >= around.first).then_some(other - 3)?)
            }
            Fault::WrongProduct => {
                let mut bytes = Vec::new();
                push_decimal(&mut bytes, read_decimal(cell)? + 100);
                bytes
            }
            Fault::Point => cell
                .iter()
                .map(|byte| if *byte == b',' { b'.' } else { *byte })
                .collect(),
        };
        // A blank cell stays what it was, unless the fault writes its own text.
        let suits = !cell.is_empty() || matches!(self.fault, Fault::Text(_));
        (suits && changed != cell).then(|| Altered::Cells(vec![(column, changed)]))
    }
}

fn date(on: Day) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_date(&mut bytes, on);
    bytes
}

/// A `dd.mm.yyyy` that this crate wrote; open ends are no dates.
fn read_date(cell: &[u8]) -> Option<Day> {
    let text = std::str::from_utf8(cell).ok()?;
    let mut parts = text.split('.').map(|part| part.parse::<i32>().ok());
    let (d, m, y) = (parts.next()??, parts.next()??, parts.next()??);
    (y < 2079).then(|| Month::new(y, m).first + d - 1)
}

/// Hundredths that this crate wrote.
fn read_decimal(cell: &[u8]) -> Option<i64> {
    let digits: Vec<u8> = cell.iter().copied().filter(|byte| *byte != b',').collect();
    std::str::from_utf8(&digits).ok()?.parse().ok()
}
