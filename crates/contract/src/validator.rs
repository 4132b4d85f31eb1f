//! The validator: one contract in the setting of one delivery, applied to
//! blocks of text. It is shared by worker threads and keeps no state between
//! blocks.
//!
//! A block is read column by column: dates first, since codes are looked up on
//! the row's date, then the others, then the checks between columns. Rows are
//! told apart last. Each kind of check is in `checks`.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Int32Array, Int64Array,
    StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::FilterBuilder;
use arrow::datatypes::DataType;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::block::{Action, Checked, DeliveryContext, FileFinding, Pseudonymise, TextBlock};
use crate::checks::boolean::BooleanReader;
use crate::checks::business_id::BusinessIdReader;
use crate::checks::code::{CodeIndex, CodeReader};
use crate::checks::date::{DateReader, Days};
use crate::checks::decimal::DecimalReader;
use crate::checks::header::{self, HeaderMap};
use crate::checks::hetu::HetuReader;
use crate::checks::integer::IntegerReader;
use crate::checks::key::KeyHasher;
use crate::checks::month::MonthReader;
use crate::checks::period::{self, Window};
use crate::checks::text::{TextReader, Texts};
use crate::checks::{Column, Present, Rejects, read_column};
use crate::codes::CodeLists;
use crate::contract::{Contract, DateRange, LastDay, Measure, PeriodTest, Property, PropertyType};
use crate::{days, rules};

/// Checks blocks of one delivery against one contract.
pub struct Validator {
    contract: Arc<Contract>,
    context: DeliveryContext,
    pseudonymise: Arc<dyn Pseudonymise>,
    today: i32,
    /// For each property that is a code.
    indexes: Vec<Option<CodeIndex>>,
    /// For each property: `findings` name under which its empty cells count.
    counted_nulls: Vec<Option<Arc<str>>>,
    counts_home: bool,
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validator")
            .field("contract", &self.contract.name())
            .field("context", &self.context)
            .finish()
    }
}

/// `findings` name of accepted rows whose municipality belongs to the
/// delivering county.
pub(crate) const HOME_ROWS: &str = "home_county_rows";

/// `findings` name of the empty cells of a property.
pub(crate) fn null_count_name(property: &str) -> String {
    format!("empty_cells.{property}")
}

/// One column of values, with one entry for each row of the block.
#[derive(Debug)]
enum Values {
    Text(Texts),
    Days(Vec<i32>),
    Integers {
        values: Vec<i64>,
        wide: bool,
    },
    Decimals {
        values: Vec<i128>,
        precision: u8,
        scale: u8,
    },
    Booleans(Vec<bool>),
    People {
        pseudonyms: Vec<[u8; 16]>,
        birth_days: Vec<i32>,
        male: Vec<bool>,
    },
}

#[derive(Debug)]
struct ReadColumn {
    values: Values,
    present: Present,
}

impl Validator {
    /// A validator for one delivery. The code lists must be those the contract
    /// was parsed with; a list that is missing here refuses every code.
    pub fn new(
        contract: Arc<Contract>,
        lists: Arc<CodeLists>,
        context: DeliveryContext,
        pseudonymise: Arc<dyn Pseudonymise>,
    ) -> Validator {
        let empty = crate::codes::CodeList::empty();
        let indexes = contract
            .properties
            .iter()
            .map(|property| match &property.kind {
                PropertyType::Code { list, width, .. } => {
                    Some(CodeIndex::new(lists.list(list).unwrap_or(&empty), *width))
                }
                _ => None,
            })
            .collect();
        let counted_nulls = contract
            .properties
            .iter()
            .map(|property| {
                let name: Arc<str> = Arc::from(null_count_name(&property.name));
                contract
                    .set_checks
                    .iter()
                    .any(|check| check.measure == Measure::Missing(name.clone()))
                    .then_some(name)
            })
            .collect();
        let counts_home = contract
            .set_checks
            .iter()
            .any(|check| check.measure == Measure::HomeCounty);
        let today = days::from_date(context.today);
        Validator {
            contract,
            context,
            pseudonymise,
            today,
            indexes,
            counted_nulls,
            counts_home,
        }
    }

    /// The contract that is applied.
    pub fn contract(&self) -> &Arc<Contract> {
        &self.contract
    }

    /// Finds the contract's columns in the header of a file. The error holds
    /// every finding, at least one of which refuses the file.
    pub fn map_header(&self, header: &[String]) -> Result<HeaderMap, Vec<FileFinding>> {
        header::map(&self.contract, header)
    }

    /// Checks one block. Never fails and never panics: what cannot be read is
    /// a reject.
    pub fn check(&self, map: &HeaderMap, block: &TextBlock) -> Checked {
        let mut rejects = Rejects::new(block);
        let mut home = Vec::new();
        let columns = self.read_columns(map, block, &mut rejects, &mut home);
        self.check_periods(&columns, block, &mut rejects);
        let warned = self.check_rows(&columns, block, &mut rejects);

        let bad = rejects.bad();
        let rejected = bad.iter().filter(|bad| **bad).count();
        let keep = (rejected > 0).then(|| bad.iter().map(|bad| !bad).collect::<Vec<bool>>());
        let kept = |row: &usize| {
            keep.as_ref()
                .is_none_or(|keep| keep.get(*row).copied().unwrap_or(false))
        };
        let rows: Vec<usize> = (0..block.rows).filter(kept).collect();

        let keys = self.keys(&columns, &rows);
        let (sums, sums_received) = self.sums(&columns, block.rows, &rows);
        let findings = self.findings(&columns, &warned, &home, &rows);
        let Some(batch) = self.batch(columns, keep, rows.len()) else {
            return self.refuse_all(block);
        };
        Checked {
            batch,
            row_no: rows.iter().map(|row| block.row_no(*row)).collect(),
            keys,
            rejects: rejects.into_sorted(),
            rejected_rows: rejected as u64,
            sums,
            sums_received,
            findings,
        }
    }

    fn read_columns(
        &self,
        map: &HeaderMap,
        block: &TextBlock,
        rejects: &mut Rejects<'_>,
        home: &mut Vec<bool>,
    ) -> Vec<ReadColumn> {
        let properties = &self.contract.properties;
        let is_date = |property: &Property| {
            matches!(
                property.kind,
                PropertyType::Date(_) | PropertyType::Month(_)
            )
        };
        let mut columns: Vec<Option<ReadColumn>> = properties.iter().map(|_| None).collect();
        for dates in [true, false] {
            for (at, property) in properties
                .iter()
                .enumerate()
                .filter(|(_, property)| is_date(property) == dates)
            {
                let column = self.column(map, block, at, property);
                let read = self.read(column, at, property, &columns, rejects, home);
                if let Some(place) = columns.get_mut(at) {
                    *place = Some(read);
                }
            }
        }
        columns.into_iter().flatten().collect()
    }

    fn column<'a>(
        &self,
        map: &HeaderMap,
        block: &'a TextBlock,
        at: usize,
        property: &'a Property,
    ) -> Column<'a> {
        Column {
            block,
            position: map.positions.get(at).copied().unwrap_or(usize::MAX),
            header: &property.header,
            required: property.required,
            null_when: &property.null_when,
        }
    }

    fn read(
        &self,
        column: Column<'_>,
        at: usize,
        property: &Property,
        columns: &[Option<ReadColumn>],
        rejects: &mut Rejects<'_>,
        home: &mut Vec<bool>,
    ) -> ReadColumn {
        let rows = column.block.rows;
        let dialect = column.block.dialect;
        match &property.kind {
            PropertyType::Text { max_length, scan } => {
                let mut reader = TextReader::new(*max_length, scan.is_some(), rows);
                let present = read_column(column, &mut reader, rejects);
                ReadColumn {
                    values: Values::Text(reader.texts),
                    present,
                }
            }
            PropertyType::Date(range) => {
                let mut reader = DateReader::new(dialect, self.days(*range), rows);
                let present = read_column(column, &mut reader, rejects);
                ReadColumn {
                    values: Values::Days(reader.days),
                    present,
                }
            }
            PropertyType::Month(range) => {
                let mut reader = MonthReader::new(self.days(*range), rows);
                let present = read_column(column, &mut reader, rejects);
                ReadColumn {
                    values: Values::Days(reader.days),
                    present,
                }
            }
            PropertyType::Integer { wide, range } => {
                let mut reader = IntegerReader::new(dialect.decimal, *wide, *range, rows);
                let present = read_column(column, &mut reader, rejects);
                ReadColumn {
                    values: Values::Integers {
                        values: reader.values,
                        wide: *wide,
                    },
                    present,
                }
            }
            PropertyType::Decimal {
                precision,
                scale,
                range,
                sum: _,
            } => {
                let mut reader =
                    DecimalReader::new(dialect.decimal, *precision, *scale, *range, rows);
                let present = read_column(column, &mut reader, rejects);
                let values = Values::Decimals {
                    values: reader.values,
                    precision: *precision,
                    scale: *scale,
                };
                ReadColumn { values, present }
            }
            PropertyType::Boolean => {
                let mut reader = BooleanReader::new(rows);
                let present = read_column(column, &mut reader, rejects);
                ReadColumn {
                    values: Values::Booleans(reader.values),
                    present,
                }
            }
            PropertyType::Hetu { domain } => {
                let codes = self.context.identity_codes;
                let mut reader =
                    HetuReader::new(&*self.pseudonymise, domain, codes, self.today, rows);
                let present = read_column(column, &mut reader, rejects);
                let HetuReader {
                    pseudonyms,
                    birth_days,
                    male,
                    ..
                } = reader;
                ReadColumn {
                    values: Values::People {
                        pseudonyms,
                        birth_days,
                        male,
                    },
                    present,
                }
            }
            PropertyType::BusinessId => {
                let mut reader = BusinessIdReader::new(rows);
                let present = read_column(column, &mut reader, rejects);
                ReadColumn {
                    values: Values::Text(reader.texts),
                    present,
                }
            }
            PropertyType::Code {
                list,
                width: _,
                valid_on,
            } => {
                let dates = valid_on.and_then(|at| match columns.get(at) {
                    Some(Some(ReadColumn {
                        values: Values::Days(days),
                        present,
                    })) => Some((days.as_slice(), present)),
                    _ => None,
                });
                let first_day = days::from_date(self.context.period.first_day());
                let counts = self.counts_home && list.as_ref() == MUNICIPALITY;
                let county = counts.then(|| self.context.county.number());
                let Some(Some(index)) = self.indexes.get(at) else {
                    return ReadColumn {
                        values: Values::Text(Texts::new(rows, 0)),
                        present: Present::default(),
                    };
                };
                let mut reader = CodeReader::new(index, dates, first_day, county, rows);
                let present = read_column(column, &mut reader, rejects);
                if counts {
                    *home = reader.home;
                }
                ReadColumn {
                    values: Values::Text(reader.texts),
                    present,
                }
            }
        }
    }

    fn days(&self, range: DateRange) -> Days {
        match range.last {
            LastDay::Today => Days {
                first: range.first,
                last: self.today,
                last_is_today: true,
            },
            LastDay::Fixed(last) => Days {
                first: range.first,
                last,
                last_is_today: false,
            },
        }
    }

    fn check_periods(&self, columns: &[ReadColumn], block: &TextBlock, rejects: &mut Rejects<'_>) {
        for rule in &self.contract.periods {
            let (date, to) = match rule.test {
                PeriodTest::Within { date } | PeriodTest::WithinYear { date } => (date, None),
                PeriodTest::Overlaps { from, to } => (from, Some(to)),
            };
            let (Some(from), Some(property)) =
                (days_of(columns, date), self.contract.properties.get(date))
            else {
                continue;
            };
            let to = to.and_then(|to| days_of(columns, to));
            let window = Window::of(rule.test, self.context.period);
            for row in 0..block.rows {
                let Some(day) = from.at(row) else { continue };
                let inside = match &to {
                    None => window.holds(day),
                    Some(to) => window.overlaps(day, to.at(row)),
                };
                if inside {
                    continue;
                }
                if let Some((column, codes)) = &rule.when
                    && !has_code(columns, *column, row, codes)
                {
                    continue;
                }
                let message = period::message(rule.test, self.context.period);
                rejects.add(
                    row,
                    rules::shared(rules::WRONG_PERIOD),
                    &property.header,
                    message,
                );
            }
        }
    }

    /// Checks between columns; returns for each check the rows that break it
    /// without being rejected.
    fn check_rows(
        &self,
        columns: &[ReadColumn],
        block: &TextBlock,
        rejects: &mut Rejects<'_>,
    ) -> Vec<Vec<usize>> {
        let mut warned = Vec::with_capacity(self.contract.cross_checks.len());
        for check in &self.contract.cross_checks {
            let mut passed = Vec::new();
            for row in 0..block.rows {
                if check
                    .equation
                    .holds(|column| columns.get(column).and_then(|c| c.number(row)))
                {
                    continue;
                }
                match (check.action, self.contract.properties.get(check.field)) {
                    (Action::Quarantine | Action::Reject, Some(property)) => {
                        rejects.add(
                            row,
                            check.rule.clone(),
                            &property.header,
                            check.message.clone(),
                        );
                    }
                    (Action::Warn | Action::Hold, _) | (_, None) => passed.push(row),
                }
            }
            warned.push(passed);
        }
        warned
    }

    fn keys(&self, columns: &[ReadColumn], rows: &[usize]) -> Vec<u128> {
        let parts: Vec<&ReadColumn> = self
            .contract
            .key
            .iter()
            .filter_map(|at| columns.get(*at))
            .collect();
        let mut hasher = KeyHasher::default();
        rows.iter()
            .map(|row| {
                for part in &parts {
                    part.add_to_key(*row, &mut hasher);
                }
                hasher.finish()
            })
            .collect()
    }

    #[expect(
        clippy::type_complexity,
        reason = "two lists of the same shape, named where they are kept"
    )]
    fn sums(
        &self,
        columns: &[ReadColumn],
        all: usize,
        kept: &[usize],
    ) -> (Vec<(String, i128)>, Vec<(String, i128)>) {
        let mut accepted = Vec::new();
        let mut received = Vec::new();
        for (column, property) in columns.iter().zip(&self.contract.properties) {
            if let (PropertyType::Decimal { sum: true, .. }, Values::Decimals { values, .. }) =
                (&property.kind, &column.values)
            {
                // A refused cell holds zero, so it adds nothing.
                let sum = |rows: &mut dyn Iterator<Item = usize>| {
                    rows.filter_map(|row| values.get(row))
                        .fold(0i128, |sum, value| sum.saturating_add(*value))
                };
                accepted.push((property.name.to_string(), sum(&mut kept.iter().copied())));
                received.push((property.name.to_string(), sum(&mut (0..all))));
            }
        }
        (accepted, received)
    }

    fn findings(
        &self,
        columns: &[ReadColumn],
        warned: &[Vec<usize>],
        home: &[bool],
        rows: &[usize],
    ) -> Vec<(Arc<str>, u64)> {
        let mut findings = Vec::new();
        for (check, passed) in self.contract.cross_checks.iter().zip(warned) {
            // Both lists are in row order.
            let count = passed
                .iter()
                .filter(|row| rows.binary_search(row).is_ok())
                .count();
            if count > 0 {
                findings.push((check.rule.clone(), count as u64));
            }
        }
        if self.counts_home {
            let count = rows
                .iter()
                .filter(|row| home.get(**row).copied().unwrap_or(false))
                .count();
            findings.push((Arc::from(HOME_ROWS), count as u64));
        }
        for (column, name) in columns.iter().zip(&self.counted_nulls) {
            if let (Some(name), Some(_)) = (name, column.present.flags()) {
                let count = rows.iter().filter(|row| !column.present.at(**row)).count();
                findings.push((name.clone(), count as u64));
            }
        }
        findings
    }

    fn batch(
        &self,
        columns: Vec<ReadColumn>,
        keep: Option<Vec<bool>>,
        rows: usize,
    ) -> Option<RecordBatch> {
        let mut arrays = Vec::with_capacity(self.contract.schema.fields().len());
        for (column, property) in columns.into_iter().zip(&self.contract.properties) {
            arrays.extend(column.into_arrays(property)?);
        }
        let arrays = match keep {
            None => arrays,
            Some(keep) => {
                let predicate = FilterBuilder::new(&BooleanArray::from(keep))
                    .optimize()
                    .build();
                arrays
                    .iter()
                    .map(|array| predicate.filter(array))
                    .collect::<Result<_, _>>()
                    .ok()?
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.contract.arrow_schema(), arrays, &options).ok()
    }

    /// Reached only by a fault of this program: the columns read do not fit
    /// the schema. Nothing of the block is let in, and every row says so.
    #[cold]
    fn refuse_all(&self, block: &TextBlock) -> Checked {
        let mut rejects = Rejects::new(block);
        let field: Arc<str> = Arc::from("*");
        for row in 0..block.rows {
            let message = "the row could not be kept because of a fault in the program".to_owned();
            rejects.add(row, rules::shared(rules::INTERNAL), &field, message);
        }
        Checked {
            batch: RecordBatch::new_empty(self.contract.arrow_schema()),
            row_no: Vec::new(),
            keys: Vec::new(),
            rejects: rejects.into_sorted(),
            rejected_rows: block.rows as u64,
            sums: Vec::new(),
            sums_received: Vec::new(),
            findings: Vec::new(),
        }
    }
}

/// The list whose codes map to counties.
pub(crate) const MUNICIPALITY: &str = "fi.municipality";

struct DaysOf<'a> {
    days: &'a [i32],
    present: &'a Present,
}

impl DaysOf<'_> {
    #[inline]
    fn at(&self, row: usize) -> Option<i32> {
        if self.present.at(row) {
            self.days.get(row).copied()
        } else {
            None
        }
    }
}

fn days_of(columns: &[ReadColumn], at: usize) -> Option<DaysOf<'_>> {
    match columns.get(at) {
        Some(ReadColumn {
            values: Values::Days(days),
            present,
        }) => Some(DaysOf { days, present }),
        _ => None,
    }
}

fn has_code(columns: &[ReadColumn], at: usize, row: usize, codes: &[Arc<str>]) -> bool {
    match columns.get(at) {
        Some(ReadColumn {
            values: Values::Text(texts),
            present,
        }) if present.at(row) => codes.iter().any(|code| code.as_bytes() == texts.get(row)),
        _ => false,
    }
}

impl ReadColumn {
    /// The value as a number in units of its last decimal; dates as days.
    #[inline]
    fn number(&self, row: usize) -> Option<i128> {
        if !self.present.at(row) {
            return None;
        }
        match &self.values {
            Values::Days(days) => days.get(row).map(|day| i128::from(*day)),
            Values::Integers { values, .. } => values.get(row).map(|value| i128::from(*value)),
            Values::Decimals { values, .. } => values.get(row).copied(),
            Values::Text(_) | Values::Booleans(_) | Values::People { .. } => None,
        }
    }

    #[inline]
    fn add_to_key(&self, row: usize, hasher: &mut KeyHasher) {
        match &self.values {
            Values::Text(texts) => hasher.text(texts.get(row)),
            Values::Days(days) => hasher.integer(days.get(row).copied().unwrap_or_default().into()),
            Values::Integers { values, .. } => {
                hasher.integer(values.get(row).copied().unwrap_or_default())
            }
            Values::Decimals { values, .. } => {
                hasher.decimal(values.get(row).copied().unwrap_or_default())
            }
            Values::Booleans(values) => {
                hasher.integer(values.get(row).copied().unwrap_or_default().into())
            }
            Values::People { pseudonyms, .. } => {
                hasher.text(pseudonyms.get(row).map_or(&[][..], |p| p))
            }
        }
    }

    fn into_arrays(self, property: &Property) -> Option<Vec<ArrayRef>> {
        // A required column without a value is in no accepted row, so its
        // nulls would be cut away; a null buffer is not worth its cost.
        let nulls = if property.required {
            None
        } else {
            self.present.flags().map(NullBuffer::from)
        };
        Some(match self.values {
            Values::Text(texts) => vec![text_array(texts, nulls)?],
            Values::Days(days) => vec![Arc::new(Date32Array::new(days.into(), nulls))],
            Values::Integers { values, wide: true } => {
                vec![Arc::new(Int64Array::new(values.into(), nulls))]
            }
            Values::Integers {
                values,
                wide: false,
            } => {
                let values: Vec<i32> = values
                    .into_iter()
                    .map(|v| i32::try_from(v).unwrap_or_default())
                    .collect();
                vec![Arc::new(Int32Array::new(values.into(), nulls))]
            }
            Values::Decimals {
                values,
                precision,
                scale,
            } => {
                let array = Decimal128Array::new(values.into(), nulls);
                let data_type =
                    DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX));
                vec![Arc::new(array.with_data_type(data_type))]
            }
            Values::Booleans(values) => vec![Arc::new(BooleanArray::new(values.into(), nulls))],
            Values::People {
                pseudonyms,
                birth_days,
                male,
            } => {
                let mut sexes = Texts::new(male.len(), 6);
                for male in &male {
                    let sex = if *male {
                        tietopohja_domain::Sex::Male
                    } else {
                        tietopohja_domain::Sex::Female
                    };
                    if sexes.push(sex.as_str().as_bytes()).is_err() {
                        sexes.push_empty();
                    }
                }
                let offsets =
                    OffsetBuffer::from_lengths(pseudonyms.iter().map(|pseudonym| pseudonym.len()));
                let bytes = pseudonyms.into_flattened();
                vec![
                    Arc::new(BinaryArray::new(offsets, bytes.into(), nulls.clone())),
                    Arc::new(Date32Array::new(birth_days.into(), nulls.clone())),
                    text_array(sexes, nulls)?,
                ]
            }
        })
    }
}

/// The texts were checked to be UTF-8 one by one, so an error is a fault of
/// this program; the whole block is then refused.
fn text_array(texts: Texts, nulls: Option<NullBuffer>) -> Option<ArrayRef> {
    let Texts { ends, bytes } = texts;
    let offsets = OffsetBuffer::new(ScalarBuffer::from(ends));
    StringArray::try_new(offsets, bytes.into(), nulls)
        .ok()
        .map(|array| Arc::new(array) as ArrayRef)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Date32Type, Decimal128Type};
    use arrow::util::pretty::pretty_format_batches;

    use super::*;
    use crate::testing::{self, check_lines};

    const GOOD: &str = "T1;010190-900P;A;05.03.2024;06.03.2024;10,00;x\n";

    /// The rejects of the second of two rows; the first is good.
    fn check(line: &str, expected: &[&str]) {
        let (_, checked) = check_lines(&format!("{GOOD}{line}\n"));
        let shown: Vec<String> = checked
            .rejects
            .iter()
            .map(|r| format!("{} {} {}", r.row_no, r.field, r.rule))
            .collect();
        assert_eq!(shown, expected, "{line}");
        assert_eq!(
            checked.row_no,
            if expected.is_empty() {
                vec![2, 3]
            } else {
                vec![2]
            },
            "{line}"
        );
    }

    #[test]
    fn a_row_is_accepted_or_told_apart_with_its_rules() {
        check("T2;010190-900P;A;05.03.2024;;10,00;", &[]);
        check("T2;010190-900P;A;05.03.2024;31.12.9999;10,00;", &[]);
        check(
            ";010190-900P;A;05.03.2024;;10,00;",
            &["3 numero required_missing"],
        );
        check(
            "T2;020516C903L;A;05.03.2024;;10,00;",
            &["3 hetu hetu_control"],
        );
        check(
            "T2;010190-900P;C;05.03.2024;;10,00;",
            &["3 laji code_unknown"],
        );
        check(
            "T2;010190-900P;A;31.02.2024;;10,00;",
            &["3 alkupvm date_impossible"],
        );
        check(
            "T2;010190-900P;A;05.05.2024;;10,00;",
            &["3 alkupvm date_future"],
        );
        check(
            "T2;010190-900P;A;05.03.2024;01.01.2031;10,00;",
            &["3 loppupvm date_range"],
        );
        check(
            "T2;010190-900P;A;05.03.2024;;10.00;",
            &["3 euro decimal_separator"],
        );
        check(
            "T2;010190-900P;A;05.03.2024;;10,00;ks. 010190-900P",
            &["3 selite identity_code_in_text"],
        );
        check(
            "T2345678901;010190-900P;A;05.03.2024;;10,00;",
            &["3 numero too_long"],
        );
    }

    #[test]
    fn a_row_with_many_faults_tells_them_all() {
        check(
            ";x;C;35.03.2024;1;ten;",
            &[
                "3 alkupvm date_impossible",
                "3 loppupvm date_form",
                "3 numero required_missing",
                "3 hetu hetu_form",
                "3 laji code_unknown",
                "3 euro decimal_form",
            ],
        );
    }

    #[test]
    fn a_row_outside_the_delivered_month_is_told_apart() {
        check(
            "T2;010190-900P;A;29.02.2024;;10,00;",
            &["3 alkupvm wrong_period"],
        );
        check(
            "T2;010190-900P;A;01.04.2024;;10,00;",
            &["3 alkupvm wrong_period"],
        );
    }

    #[test]
    fn a_code_is_judged_on_the_rows_date() {
        check("T2;010190-900P;B;09.03.2024;;10,00;", &[]);
        check(
            "T2;010190-900P;B;10.03.2024;;10,00;",
            &["3 laji code_expired"],
        );
    }

    #[test]
    fn columns_are_compared_with_each_other() {
        check(
            "T2;010190-900P;A;05.03.2024;04.03.2024;10,00;",
            &["3 loppupvm ended_before_started"],
        );
        // A refused date is told once, not again by the comparison.
        check(
            "T2;010190-900P;A;05.03.2024;4.13.2024;10,00;",
            &["3 loppupvm date_impossible"],
        );
    }

    #[test]
    fn a_warning_leaves_the_row_in_and_counts_it() {
        let (_, checked) = check_lines("T2;010190-900P;A;05.03.2024;;1000,01;\n");
        assert_eq!(checked.row_no, [2]);
        assert!(checked.findings.contains(&(Arc::from("large_amount"), 1)));
        assert!(
            checked
                .findings
                .contains(&(Arc::from("empty_cells.ended_on"), 1))
        );
    }

    #[test]
    fn accepted_rows_become_columns_without_the_identity_code() {
        let (_, checked) = check_lines(
            "T1;010190-900P;A;05.03.2024;06.03.2024;1 234,50-;huomio ä\nT2;x;A;1.3.2024;;5,00;\nT3;020516C903K;B;1.3.2024;;0,5;\n",
        );
        let shown = pretty_format_batches(&[checked.batch.clone()])
            .unwrap()
            .to_string();
        let expected = "\
+---------+----------------------------------+-------------------+------------+------+------------+------------+----------+----------+
| case_no | client_pid                       | client_birth_date | client_sex | kind | started_on | ended_on   | amount   | note     |
+---------+----------------------------------+-------------------+------------+------+------------+------------+----------+----------+
| T1      | 636c69656e3031303139302d39303050 | 1990-01-01        | female     | A    | 2024-03-05 | 2024-03-06 | -1234.50 | huomio ä |
| T3      | 636c69656e303230353136433930334b | 2016-05-02        | male       | B    | 2024-03-01 |            | 0.50     |          |
+---------+----------------------------------+-------------------+------------+------+------------+------------+----------+----------+";
        assert_eq!(shown, expected);
        assert_eq!(checked.row_no, [2, 4]);
        assert_eq!(checked.rejected_rows, 1);
        assert_eq!(checked.sums, [("amount".to_owned(), -123_400)]);
        assert_eq!(checked.sums_received, [("amount".to_owned(), -122_900)]);
    }

    #[test]
    fn messages_never_show_the_value() {
        let secret = "020516C903L";
        let lines = format!(
            "{secret};{secret};{secret};{secret};{secret};{secret};{secret} x x x x x x x x x x x x x x x x x x x x x x\n"
        );
        let (validator, checked) = check_lines(&lines);
        assert_eq!(checked.rejected_rows, 1);
        let mut totals = crate::Totals::default();
        totals.add(&checked);
        let said = format!(
            "{:?} {:?} {validator:?}",
            checked.rejects,
            validator.contract().conclude(&totals)
        );
        assert!(!said.contains(secret) && !said.contains("020516"), "{said}");
    }

    #[test]
    fn equal_keys_give_equal_numbers_however_they_are_written() {
        let (_, checked) = check_lines(
            "T1;010190-900P;A;05.03.2024;;1,00;\n T1 ;020516C903K;A;5.3.2024;;2;\nT2;010190-900P;A;05.03.2024;;1,00;\n",
        );
        let keys = &checked.keys;
        assert_eq!(keys.len(), 3);
        assert_eq!(keys.first(), keys.get(1));
        assert_ne!(keys.first(), keys.get(2));
    }

    #[test]
    fn a_typed_reader_prints_points_and_iso_dates() {
        let validator = testing::validator(testing::contract());
        let header: Vec<String> = validator
            .contract()
            .properties()
            .iter()
            .map(|p| p.header().to_string())
            .collect();
        let map = validator.map_header(&header).unwrap();
        let block = testing::block(
            "T1;010190-900P;A;2024-03-05;;1234.5;\n",
            crate::Dialect::TYPED,
        );
        let checked = validator.check(&map, &block);
        assert_eq!(checked.rejects, []);
        assert_eq!(
            checked
                .batch
                .column_by_name("amount")
                .unwrap()
                .as_primitive::<Decimal128Type>()
                .value(0),
            123_450
        );
        let day = days::from_civil(2024, 3, 5).unwrap();
        assert_eq!(
            checked
                .batch
                .column_by_name("started_on")
                .unwrap()
                .as_primitive::<Date32Type>()
                .value(0),
            day
        );
    }

    #[test]
    fn a_block_without_rows_gives_an_empty_batch() {
        let (_, checked) = check_lines("");
        assert_eq!((checked.batch.num_rows(), checked.rejected_rows), (0, 0));
        assert_eq!(checked.batch.schema(), testing::contract().arrow_schema());
    }

    /// Bytes that look random and are the same in every run.
    struct Noise(u64);

    impl Noise {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 33) as usize % limit
        }
    }

    #[test]
    fn every_row_is_accepted_or_rejected_whatever_the_bytes() {
        let pieces: [&[u8]; 22] = [
            b"T1",
            b"010190-900P",
            b"A",
            b"B",
            b"05.03.2024",
            b"29.2.2023",
            b"10,00",
            b"10.00",
            b"",
            b" ",
            b"\0",
            b"\xFF\xFE",
            b"\xEF\xBB\xBF",
            "ä\u{a0}–".as_bytes(),
            b"31.12.9999",
            b"-",
            b"99999999999999999999999999999999999999999999",
            b"K",
            b"\xC2",
            b"1 234,5-",
            b"\n\r\t",
            b"2024-03-05",
        ];
        let validator = testing::validator(testing::contract());
        let header: Vec<String> = validator
            .contract()
            .properties()
            .iter()
            .map(|p| p.header().to_string())
            .collect();
        let map = validator.map_header(&header).unwrap();
        let mut noise = Noise(0x5EED);
        for _ in 0..300 {
            let rows = noise.below(40);
            let mut text = Vec::new();
            let mut cells = Vec::new();
            for _ in 0..rows * header.len() {
                let start = text.len() as u32;
                for _ in 0..=noise.below(2) {
                    text.extend_from_slice(pieces[noise.below(pieces.len())]);
                }
                // Now and then a cell that lies outside the text.
                let lost = if noise.below(50) == 0 { 1_000_000 } else { 0 };
                cells.push((start, text.len() as u32 + lost));
            }
            let block = TextBlock {
                first_row: 2,
                rows,
                columns: header.len(),
                text,
                cells,
                dialect: validator.contract().format().dialect(),
                row_lines: None,
            };
            let checked = validator.check(&map, &block);
            let rejected: std::collections::BTreeSet<i64> =
                checked.rejects.iter().map(|r| r.row_no).collect();
            assert_eq!(checked.batch.num_rows(), checked.row_no.len());
            assert_eq!(checked.keys.len(), checked.row_no.len());
            assert_eq!(rejected.len() as u64, checked.rejected_rows);
            assert_eq!(checked.row_no.len() + rejected.len(), rows);
            assert!(checked.row_no.iter().all(|row| !rejected.contains(row)));
            assert!(
                checked
                    .rejects
                    .iter()
                    .all(|r| r.rule.as_ref() != rules::INTERNAL)
            );
            let nulls = checked
                .batch
                .column_by_name("amount")
                .map(|c| c.null_count());
            assert_eq!(nulls, Some(0));
        }
    }
}
