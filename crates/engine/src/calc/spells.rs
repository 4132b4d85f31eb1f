//! Spells in shared scans: a row for each month that counts, made as the rows of the scan come.
//!
//! A component over spells takes of each spell what one over events takes of each row, and then counts
//! it in every month that its organiser has delivered and that it reaches. So a scan of spells reads
//! its relation once, as any other; each batch meets the months (a few hundred, read before), and what
//! comes of it is added in pieces, so that a batch of long spells takes no more memory than one of
//! short ones. Components that look at any day of a month and those that look at its last day share
//! the scan: the latter are a condition more. Where no component needs a row of a month, spells become
//! marks ([`marks`](super::marks)).
//!
//! What may not live here: which spells reach which months (`kernels`), what a component means
//! (`indicators`).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Date32Type, Int64Type};
use tietopohja_indicators::{SpellAges, SpellPart, SpellReach};
use tietopohja_kernels::{
    AgeDay, CellColumn, CellSpec, Cells, DeliveredMonths, InputColumn, Reach, SpellMonths,
    SpellRows, passing,
};

use super::direct::decoded;
use super::marks::MarkedScan;
use super::scan::found_or_added;
use crate::error::{EngineError, Result};
use crate::plain::to_type;

/// Rows of a piece: its columns stay near.
const PIECE_ROWS: usize = 1 << 14;

/// What scans over one relation of spells have in common, when they can be one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SpellKey {
    organiser: String,
    first_day: String,
    last_day: String,
    months: String,
}

impl SpellKey {
    pub(super) fn of(part: &SpellPart) -> Self {
        Self {
            organiser: part.organiser.clone(),
            first_day: part.first_day.clone(),
            last_day: part.last_day.clone(),
            months: part.months.clone(),
        }
    }
}

/// Columns that the months of spells are made from, by their place: always these three first.
const ORGANISER: usize = 0;
const FIRST_DAY: usize = 1;
const LAST_DAY: usize = 2;

/// The spells of a scan.
#[derive(Debug, Clone)]
pub(super) struct SpellScan {
    /// The query of the months that count.
    pub(super) months: String,
    /// Expressions over the relation that [`OfMonth`] is made from.
    pub(super) inputs: Vec<String>,
    /// Whether any component looks at all days of a month, and not at its last.
    any_day: bool,
}

/// A column that depends on the month. Numbers are places among the inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OfMonth {
    /// The first day of the month.
    Start,
    /// The days of the spell in the month, times a weight.
    Days(Option<usize>),
    /// The days of the month that the spell has, a bit for each.
    CareDays,
    /// Whether the spell covers the month's last day.
    LastDay,
    /// Whether the age is within bounds.
    Aged {
        birth_date: usize,
        day: AgeDay,
        from: Option<u32>,
        to: Option<u32>,
    },
}

impl SpellScan {
    pub(super) fn of(key: &SpellKey) -> Self {
        Self {
            months: key.months.clone(),
            inputs: vec![
                key.organiser.clone(),
                key.first_day.clone(),
                key.last_day.clone(),
            ],
            any_day: false,
        }
    }

    /// The conditions on the months in which a component counts a spell.
    pub(super) fn conditions(&mut self, part: &SpellPart) -> Vec<OfMonth> {
        let mut conditions = Vec::new();
        match part.reach {
            SpellReach::AnyDay => self.any_day = true,
            SpellReach::LastDay => conditions.push(OfMonth::LastDay),
        }
        if let Some(ages) = &part.ages {
            let SpellAges {
                birth_date,
                from,
                to,
                at_year_end,
            } = ages;
            conditions.push(OfMonth::Aged {
                birth_date: self.input(format!("CAST({birth_date} AS DATE)")),
                day: match at_year_end {
                    true => AgeDay::YearEnd,
                    false => AgeDay::MonthEnd,
                },
                from: *from,
                to: *to,
            });
        }
        conditions
    }

    /// The days of a spell, times a weight where there is one.
    pub(super) fn days(&mut self, weight: Option<&String>) -> OfMonth {
        let weight = weight.map(|weight| self.input(format!("CAST({weight} AS BIGINT)")));
        OfMonth::Days(weight)
    }

    fn input(&mut self, sql: String) -> usize {
        found_or_added(&mut self.inputs, sql)
    }

    fn reach(&self) -> Reach {
        match self.any_day {
            true => Reach::AnyDay,
            false => Reach::LastDay,
        }
    }
}

/// The months that were delivered, from the rows of their query.
pub(super) fn delivered_months(batches: &[RecordBatch]) -> Result<DeliveredMonths> {
    let Some(first) = batches.first() else {
        return Ok(DeliveredMonths::default());
    };
    let rows = concat_batches(&first.schema(), batches)
        .map_err(|error| EngineError::internal_because("rows of delivered months", error))?;
    let column = |name: &str, data_type: DataType| match rows.column_by_name(name) {
        Some(column) => to_type(column, &data_type),
        None => Err(EngineError::internal("a delivered month lacks a column")),
    };
    let organisers = column("organiser", DataType::Utf8)?;
    let starts = column("period_start", DataType::Date32)?;
    let ends = column("period_end", DataType::Date32)?;
    let organisers: &StringArray = organisers.as_string();
    Ok(DeliveredMonths::new(
        organisers,
        starts.as_primitive::<Date32Type>(),
        ends.as_primitive::<Date32Type>(),
    )?)
}

/// What one part of a scan needs to make rows of months.
#[derive(Debug, Clone)]
pub(super) struct Expansion {
    months: Arc<DeliveredMonths>,
    reach: Reach,
    /// The columns of the query that the inputs are.
    inputs: Vec<usize>,
    /// Conditions that do not depend on the month, for each way of having them: a spell that meets
    /// none of these lists counts nowhere. No lists when every spell may count.
    kept: Vec<Vec<usize>>,
    /// The pass over marks, where that does.
    pub(super) marks: Option<Arc<MarkedScan>>,
}

impl Expansion {
    /// `of_month` says which columns of the specification depend on the month, and how.
    pub(super) fn new(
        spells: &SpellScan,
        months: Arc<DeliveredMonths>,
        inputs: Vec<usize>,
        spec: &CellSpec,
        of_month: &[Option<OfMonth>],
    ) -> Self {
        let mut kept: Vec<Vec<usize>> = Vec::new();
        for group in &spec.groups {
            let is_of_spell = |column: &usize| matches!(of_month.get(*column), Some(None));
            let filters = group.filters.iter().copied();
            found_or_added(&mut kept, filters.filter(is_of_spell).collect());
        }
        if kept.iter().any(Vec::is_empty) {
            kept.clear();
        }
        Self {
            marks: MarkedScan::of(spec, of_month, &months).map(Arc::new),
            months,
            reach: spells.reach(),
            inputs,
            kept,
        }
    }

    /// Adds a batch of spells: `given` are the columns of the specification that have a row for each
    /// spell, `of_month` what the others are.
    pub(super) fn update(
        &self,
        cells: &mut Cells,
        batch: &[InputColumn],
        given: &[Option<InputColumn>],
        of_month: &[Option<OfMonth>],
        mut after_piece: impl FnMut(&Cells) -> Result<()>,
    ) -> Result<()> {
        let inputs = self.inputs.iter().enumerate().map(|(input, place)| {
            let column = batch.get(*place).ok_or_else(lost)?;
            let own = column.values().data_type();
            match input {
                ORGANISER if is_text(own) => decoded(column, &DataType::Utf8View),
                ORGANISER => Err(EngineError::internal("the organiser of a spell is no text")),
                _ => decoded(column, own),
            }
        });
        let inputs = inputs.collect::<Result<Vec<ArrayRef>>>()?;
        let organisers = inputs.get(ORGANISER).ok_or_else(lost)?;
        let selection = self.selection(given);
        let rows = SpellRows {
            organisers: organisers.as_string_view(),
            first: days(inputs.get(FIRST_DAY).ok_or_else(lost)?)?,
            last: days(inputs.get(LAST_DAY).ok_or_else(lost)?)?,
            selection: selection.as_ref(),
        };
        if let Some(marked) = &self.marks {
            // A mark tells both what counts on any day and what does on the last.
            let mut reached = self.months.reached(rows, Reach::AnyDay)?;
            let amounts = marked.amounts(given, &inputs)?;
            while let Some(marks) = reached.next_marks(PIECE_ROWS) {
                cells.update(&marked.batch(&marks, given, &amounts)?)?;
                after_piece(cells)?;
            }
            return Ok(());
        }
        let mut reached = self.months.reached(rows, self.reach)?;
        while let Some(piece) = reached.next_piece(PIECE_ROWS) {
            let columns = given.iter().zip(of_month);
            let columns = columns.map(|(given, of_month)| match (given, of_month) {
                (Some(column), _) => Ok(column.take(piece.rows())?),
                (None, Some(of_month)) => of_month.column(&piece, &inputs),
                (None, None) => Err(lost()),
            });
            cells.update(&columns.collect::<Result<Vec<_>>>()?)?;
            after_piece(cells)?;
        }
        Ok(())
    }

    /// The spells that some component may count; all when there is none.
    fn selection(&self, given: &[Option<InputColumn>]) -> Option<BooleanBuffer> {
        let met = |column: &usize| passing(given.get(*column)?.as_ref()?);
        let mut any: Option<BooleanBuffer> = None;
        for filters in &self.kept {
            // A list of which a condition is missing keeps every spell.
            let met = filters.iter().map(met).collect::<Option<Vec<_>>>()?;
            let all = met.into_iter().reduce(|all, filter| &all & &filter)?;
            any = Some(match any {
                None => all,
                Some(any) => &any | &all,
            });
        }
        any
    }
}

impl OfMonth {
    /// The column of a piece of months, of which `inputs` have a row for each spell.
    fn column(&self, piece: &SpellMonths<'_>, inputs: &[ArrayRef]) -> Result<InputColumn> {
        let input = |place: usize| inputs.get(place).ok_or_else(lost);
        let column: ArrayRef = match self {
            OfMonth::Start => return Ok(piece.starts()?),
            OfMonth::LastDay => Arc::new(piece.cover_last_day()),
            OfMonth::CareDays => Arc::new(piece.days_of_month()?),
            OfMonth::Days(weight) => {
                let weights = match weight {
                    None => None,
                    Some(place) => Some(whole(input(*place)?)?),
                };
                Arc::new(piece.days(weights)?)
            }
            OfMonth::Aged {
                birth_date,
                day,
                from,
                to,
            } => {
                let births = days(input(*birth_date)?)?;
                Arc::new(piece.aged(births, *day, *from, *to))
            }
        };
        Ok(column.into())
    }

    /// What the column is for.
    pub(super) fn use_of(&self) -> CellColumn {
        match self {
            OfMonth::Start => CellColumn::Day,
            OfMonth::Days(_) | OfMonth::CareDays => CellColumn::Whole,
            OfMonth::LastDay | OfMonth::Aged { .. } => CellColumn::Filter,
        }
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// A moment has no place among days: such a column is left to the component's own query.
fn days(column: &ArrayRef) -> Result<&Date32Array> {
    let days = column.as_primitive_opt::<Date32Type>();
    days.ok_or_else(|| EngineError::internal("a day of a spell is no day"))
}

fn whole(column: &ArrayRef) -> Result<&Int64Array> {
    let whole = column.as_primitive_opt::<Int64Type>();
    whole.ok_or_else(|| EngineError::internal("a weight of a spell is no whole number"))
}

fn lost() -> EngineError {
    EngineError::internal("a scan of spells lost a column")
}
