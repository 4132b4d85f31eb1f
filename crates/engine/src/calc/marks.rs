//! Spells in shared scans as marks: what a pass adds up where no row of a month is needed.
//!
//! A row for each month of each spell is needed where components keep sets of persons or ask for ages.
//! Where every component of a pass counts spells, or adds amounts or days of them, each spell becomes
//! the few marks between which it counts instead, and months are made of these at the end. Both ways
//! give the same rows, to the bit.
//!
//! What may not live here: what a mark is and how months are made of marks (`kernels`).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use tietopohja_kernels::{
    CellColumn, CellSpec, DeliveredMonths, FinishedCells, GroupRows, GroupSpec, InputColumn,
    MarkedGroup, MarkedSum, Reach, SpellMarks,
};

use super::direct::decoded;
use super::scan::found_or_added;
use super::spells::OfMonth;
use crate::error::{EngineError, Result};

/// A pass over marks.
#[derive(Debug)]
pub(super) struct MarkedScan {
    pub(super) spec: CellSpec,
    columns: Vec<Source>,
    amounts: Vec<Amount>,
    groups: Vec<MarkedGroup>,
    months: Arc<DeliveredMonths>,
}

/// What a column of marks is made from. Amounts are told by their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A column of the spells, by its place in the specification for months.
    Spell(usize),
    /// The first day of the month.
    Start,
    /// Changes of the number of spells, or of the sum of amounts.
    Change(Reach, Option<usize>),
    /// Changes of the number of spells with an amount.
    Known(Reach, usize),
    /// Days that the month has not in full, times amounts.
    Part(Reach, Option<usize>),
}

/// Amounts of spells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    /// A column of the specification for months.
    Column(usize),
    /// An input that days are made from.
    Input(usize),
}

impl MarkedScan {
    /// The pass that gives what one over rows of months would give, where there is one; `of_month` says
    /// which columns of the specification depend on the month, and how.
    pub(super) fn of(
        spec: &CellSpec,
        of_month: &[Option<OfMonth>],
        months: &Arc<DeliveredMonths>,
    ) -> Option<Self> {
        let mut made = Self {
            spec: CellSpec::default(),
            columns: Vec::new(),
            amounts: Vec::new(),
            groups: Vec::new(),
            months: Arc::clone(months),
        };
        if !months.have_one_calendar() {
            return None;
        }
        for key in &spec.keys {
            let key = key.iter().map(|column| {
                let use_of = *spec.columns.get(*column)?;
                Some(match of_month.get(*column)? {
                    None => made.column(Source::Spell(*column), use_of),
                    Some(OfMonth::Start) => made.column(Source::Start, use_of),
                    Some(_) => return None,
                })
            });
            let key = key.collect::<Option<Vec<usize>>>()?;
            made.spec.keys.push(key);
        }
        for group in &spec.groups {
            made.add(of_month, group)?;
        }
        Some(made)
    }

    /// Adds a group, if its months can be made of marks.
    fn add(&mut self, of_month: &[Option<OfMonth>], group: &GroupSpec) -> Option<()> {
        if !group.sets.is_empty() || !group.histograms.is_empty() || !group.days.is_empty() {
            return None;
        }
        let mut own = GroupSpec {
            key: group.key,
            ..GroupSpec::default()
        };
        let mut reach = Reach::AnyDay;
        for column in &group.filters {
            match of_month.get(*column)? {
                None => {
                    let filter = self.column(Source::Spell(*column), CellColumn::Filter);
                    own.filters.push(filter);
                }
                Some(OfMonth::LastDay) => reach = Reach::LastDay,
                Some(_) => return None,
            }
        }
        let mut add = |made: &mut Self, source: Source| {
            let column = made.column(source, CellColumn::Whole);
            found_or_added(&mut own.sums, column)
        };
        let count = add(self, Source::Change(reach, None));
        let sums = group.sums.iter().map(|column| {
            let (amount, is_days) = match of_month.get(*column)? {
                None => (Some(Amount::Column(*column)), false),
                Some(OfMonth::Days(weight)) => (weight.map(Amount::Input), true),
                Some(_) => return None,
            };
            let amount = amount.map(|amount| found_or_added(&mut self.amounts, amount));
            Some(MarkedSum {
                change: add(self, Source::Change(reach, amount)),
                known: amount.map(|amount| add(self, Source::Known(reach, amount))),
                part: is_days.then(|| add(self, Source::Part(reach, amount))),
            })
        });
        let sums = sums.collect::<Option<Vec<MarkedSum>>>()?;
        let key = self.spec.keys.get(group.key)?;
        let is_start = |column: &usize| self.columns.get(*column) == Some(&Source::Start);
        self.groups.push(MarkedGroup {
            month: key.iter().position(is_start)?,
            count,
            sums,
        });
        self.spec.groups.push(own);
        Some(())
    }

    fn column(&mut self, source: Source, use_of: CellColumn) -> usize {
        let place = found_or_added(&mut self.columns, source);
        if place == self.spec.columns.len() {
            self.spec.columns.push(use_of);
        }
        place
    }

    /// The amounts of a batch of spells: `spells` are those columns of the specification for months that
    /// have a row for each, `inputs` what days are made from.
    pub(super) fn amounts(
        &self,
        spells: &[Option<InputColumn>],
        inputs: &[ArrayRef],
    ) -> Result<Vec<Int64Array>> {
        let amounts = self.amounts.iter().map(|amount| {
            let column = match amount {
                Amount::Column(column) => decoded(spell(spells, *column)?, &DataType::Int64)?,
                Amount::Input(place) => Arc::clone(inputs.get(*place).ok_or_else(lost)?),
            };
            let whole = column.as_primitive_opt::<Int64Type>().cloned();
            whole.ok_or_else(|| EngineError::internal("an amount of a spell is no whole number"))
        });
        amounts.collect()
    }

    /// The columns of marks of spells with these amounts.
    pub(super) fn batch(
        &self,
        marks: &SpellMarks<'_>,
        spells: &[Option<InputColumn>],
        amounts: &[Int64Array],
    ) -> Result<Vec<InputColumn>> {
        let of = |place: usize| amounts.get(place).ok_or_else(lost);
        let columns = self.columns.iter().map(|source| {
            let numbers = match *source {
                Source::Spell(column) => return Ok(spell(spells, column)?.take(marks.rows())?),
                Source::Start => return Ok(marks.starts()?),
                Source::Change(reach, amount) => marks.changes(reach, amount.map(of).transpose()?),
                Source::Known(reach, amount) => marks.changes_of_known(reach, of(amount)?),
                Source::Part(reach, amount) => marks.parts(reach, amount.map(of).transpose()?),
            };
            Ok(InputColumn::from(Arc::new(numbers?) as ArrayRef))
        });
        columns.collect()
    }

    /// The months of a group.
    pub(super) fn rows(&self, cells: &FinishedCells, group: usize) -> Result<GroupRows> {
        let marked = self.groups.get(group).ok_or_else(lost)?;
        Ok(cells.rows_of_marks(group, marked, &self.months)?)
    }
}

fn spell(spells: &[Option<InputColumn>], column: usize) -> Result<&InputColumn> {
    spells.get(column).and_then(Option::as_ref).ok_or_else(lost)
}

fn lost() -> EngineError {
    EngineError::internal("a scan of marks lost a column")
}
