//! Shared scans: the components of many indicators from one pass over each relation.
//!
//! A component that takes rows of one relation as they are, or spells of it in the months that they
//! reach, says so as a [`RowPart`](tietopohja_indicators::RowPart). All such components of the stale
//! indicators are grouped by relation, those over spells apart from the others. Each group reads its
//! relation once, every expression is evaluated once however many definitions use it, and [`Cells`]
//! does all groupings in that pass. The result is the same, to the bit, as that of the components' own
//! queries, which remain the definition of what a component is: a scan that fails, or does not fit in
//! memory even in parts ([`parts`](super::parts)), gives way to them, so that sharing can make a
//! calculation faster and never wrong.
//!
//! What may not live here: what an indicator means (`indicators`), the arithmetic (`kernels`), where
//! cells wait until their indicator is computed (`found.rs`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray,
    new_null_array,
};
use arrow::compute::{DatePart, date_part, filter};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::{ExecutionPlanProperties, SendableRecordBatchStream};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use serde::Serialize;
use tietopohja_indicators::{Alone, Compiled, Indicator, RowMeasure, RowPart, RowPeriod, UNKNOWN};
use tietopohja_kernels::{
    CellColumn, CellSpec, Cells, DaysOf, FinishedCells, GroupRows, GroupSpec, InputColumn,
};
use tokio::task::{JoinSet, spawn_blocking};

use super::direct::{Direct, Lane, OfValues, decoded};
use super::found::{ComponentKey, Finds, Found, Prepared, PreparedCells};
use super::kept::{Kept, Slices, SlicesRead};
use super::marks::MarkedScan;
use super::parts::check;
use super::persons::{ListId, numbers_of};
use super::spells::{Expansion, OfMonth, SpellKey, SpellScan, delivered_months};
use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::memory::QueryMemory;
use crate::model::{RECURSION_LIMIT, RelationName};
use crate::plain::to_type;
use crate::statement;

/// One pass over a relation, for [`crate::Engine::plan_scans`] and the report of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScanReport {
    /// The relation.
    pub table: String,
    /// Whether its rows are spells, each of which counts in the months that it reaches.
    pub spells: bool,
    /// Whether these become marks, and not rows of months. Where months that begin on the same day do
    /// not end on the same, they become rows after all.
    pub marks: bool,
    /// The components, as `indicator/component`.
    pub components: Vec<String>,
    /// Columns and expressions that the pass evaluates.
    pub expressions: usize,
    /// Groupings that it keeps: components with the same filter and breakdowns share one.
    pub groupings: usize,
    /// How much of the relation it reads, where that is stored; cells of the rest are kept.
    pub slices: Option<SlicesRead>,
    /// In how many parts it was made: several when memory was refused, none when it was only planned
    /// or nothing had to be read.
    pub parts: usize,
    /// Bytes of what it found that waited in a temporary file, because memory was short.
    pub spilled_bytes: u64,
    /// How long it took; zero when it was only planned.
    pub seconds: f64,
    /// Why the components were computed one by one after all.
    pub gave_way: Option<String>,
}

/// A component that is computed by a query of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AloneReport {
    /// The component, as `indicator/component`.
    pub component: String,
    /// Why it cannot share a scan.
    pub why: String,
}

/// A pass over one relation that is ready to run.
#[derive(Debug)]
pub(crate) struct SharedScan {
    pub(super) table: String,
    /// The slices of the stored relation that it reads, unless it reads them all.
    pub(super) slices: Option<Slices>,
    spells: Option<SpellScan>,
    columns: Vec<(Source, CellColumn)>,
    keys: Vec<Vec<usize>>,
    groups: Vec<GroupSpec>,
    components: Vec<Part>,
}

/// What a column of the pass is made from.
#[derive(Debug, Clone, PartialEq)]
enum Source {
    /// An expression over the relation.
    Sql(String),
    /// The month of a spell.
    Month(OfMonth),
}

/// A component, and where it finds its columns in the pass.
#[derive(Debug)]
struct Part {
    indicator: String,
    component: String,
    area_base: &'static str,
    breakdowns: Vec<String>,
    has_delivery: bool,
    group: usize,
    number: Number,
    histogram: Option<usize>,
    care_days: Option<usize>,
    set: Option<usize>,
    /// The column of which only the greatest value of an area and year counts: it is the last of the
    /// key.
    latest: Option<usize>,
}

/// Where the key of a grouping has the month or year.
const PERIOD: usize = 1;
/// Where it has the delivery, if it has one; breakdowns follow.
pub(super) const DELIVERY: usize = 2;

/// What becomes of `n`.
#[derive(Debug, Clone, Copy)]
enum Number {
    Rows,
    Sum(usize),
    Nothing,
}

/// The scans of some indicators' components, by relation and by what of it must be read, and the
/// components that share none.
pub(crate) fn scans_of<'a>(
    indicators: impl IntoIterator<Item = (&'a Indicator, &'a Compiled)>,
    kept: &Kept,
) -> (Vec<SharedScan>, Vec<(String, Alone)>) {
    let mut scans: BTreeMap<(String, Option<SpellKey>, Option<Slices>), SharedScan> =
        BTreeMap::new();
    let mut alone = Vec::new();
    for (indicator, compiled) in indicators {
        for component in &compiled.components {
            match &component.row {
                Ok(row) => {
                    let spells = row.spell.as_ref().map(SpellKey::of);
                    let slices = kept.read_for(indicator.id(), &component.name).cloned();
                    let scan = SharedScan::of(&row.table, spells.as_ref(), slices.clone());
                    let key = (row.table.clone(), spells, slices);
                    let scan = scans.entry(key).or_insert(scan);
                    if let Err(why) = scan.add(indicator.id(), &component.name, row) {
                        alone.push((format!("{}/{}", indicator.id(), component.name), why));
                    }
                }
                Err(why) => alone.push((format!("{}/{}", indicator.id(), component.name), *why)),
            }
        }
    }
    (scans.into_values().collect(), alone)
}

impl SharedScan {
    fn of(table: &str, spells: Option<&SpellKey>, slices: Option<Slices>) -> Self {
        Self {
            table: table.to_owned(),
            slices,
            spells: spells.map(SpellScan::of),
            columns: Vec::new(),
            keys: Vec::new(),
            groups: Vec::new(),
            components: Vec::new(),
        }
    }

    fn add(&mut self, indicator: &str, component: &str, row: &RowPart) -> Result<(), Alone> {
        let period = match &row.period {
            Some(RowPeriod::MonthOf(day)) => {
                self.column(format!("CAST({day} AS DATE)"), CellColumn::Month)
            }
            Some(RowPeriod::YearOf(day)) => {
                self.column(format!("CAST({day} AS DATE)"), CellColumn::Year)
            }
            Some(RowPeriod::Day(day)) => {
                self.column(format!("CAST({day} AS DATE)"), CellColumn::Day)
            }
            None => self.month_column(OfMonth::Start),
        };
        // Breakdowns come last, so that groupings with and without them share their beginning.
        let mut key = vec![self.column(row.area.clone(), CellColumn::Text), period];
        if let Some(delivery) = &row.delivery {
            key.push(self.column(delivery.clone(), CellColumn::Text));
        }
        for (_, member) in &row.breakdowns {
            key.push(self.column(member.clone(), CellColumn::TextOr(UNKNOWN)));
        }
        let latest = row
            .latest
            .as_ref()
            .map(|latest| self.column(latest.clone(), CellColumn::Text));
        key.extend(latest);
        let key = found_or_added(&mut self.keys, key);
        // Each condition stands alone: many components share most of theirs.
        let mut filters: Vec<usize> = Vec::new();
        for condition in &row.filters {
            let column = self.column(condition.clone(), CellColumn::Filter);
            found_or_added(&mut filters, column);
        }
        if let (Some(spells), Some(part)) = (&mut self.spells, &row.spell) {
            for condition in spells.conditions(part) {
                let column = self.month_column(condition);
                found_or_added(&mut filters, column);
            }
        }
        filters.sort_unstable();
        let mut care_days = None;
        let (number, histogram, members) = match &row.measure {
            RowMeasure::CareDays => {
                let days = self.month_column(OfMonth::CareDays);
                let person = row.person.clone().ok_or(Alone::SeveralRelations)?;
                let member = self.column(person, CellColumn::Member);
                let month = PERIOD;
                care_days = Some(DaysOf {
                    member,
                    days,
                    month,
                });
                (NumberOf::Nothing, None, None)
            }
            RowMeasure::Rows => (NumberOf::Rows, None, row.person.clone()),
            RowMeasure::Persons => (NumberOf::Nothing, None, row.person.clone()),
            RowMeasure::Sum(amount) => {
                let amount = self.column(format!("CAST({amount} AS BIGINT)"), CellColumn::Whole);
                (NumberOf::Sum(amount), None, row.person.clone())
            }
            RowMeasure::Days(weight) => {
                let days = match &mut self.spells {
                    Some(spells) => spells.days(weight.as_ref()),
                    None => OfMonth::Days(None),
                };
                let days = self.month_column(days);
                (NumberOf::Sum(days), None, row.person.clone())
            }
            RowMeasure::Things(thing) => (NumberOf::Nothing, None, Some(thing.clone())),
            RowMeasure::Waits(days) => {
                let days = self.column(days.clone(), CellColumn::Whole);
                (NumberOf::Rows, Some(days), row.person.clone())
            }
        };
        let members = members.map(|members| self.column(members, CellColumn::Member));
        let group = match self
            .groups
            .iter()
            .position(|group| group.key == key && group.filters == filters)
        {
            Some(group) => group,
            None => {
                self.groups.push(GroupSpec {
                    key,
                    filters,
                    ..GroupSpec::default()
                });
                self.groups.len() - 1
            }
        };
        let Some(spec) = self.groups.get_mut(group) else {
            return Err(Alone::SeveralRelations);
        };
        let number = match number {
            NumberOf::Rows => Number::Rows,
            NumberOf::Sum(amount) => Number::Sum(found_or_added(&mut spec.sums, amount)),
            NumberOf::Nothing => Number::Nothing,
        };
        self.components.push(Part {
            indicator: indicator.to_owned(),
            component: component.to_owned(),
            area_base: row.area_base,
            breakdowns: row
                .breakdowns
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            has_delivery: row.delivery.is_some(),
            group,
            number,
            histogram: histogram.map(|days| found_or_added(&mut spec.histograms, days)),
            care_days: care_days.map(|days| found_or_added(&mut spec.days, days)),
            set: members.map(|members| found_or_added(&mut spec.sets, members)),
            latest,
        });
        Ok(())
    }

    fn column(&mut self, sql: String, of: CellColumn) -> usize {
        found_or_added(&mut self.columns, (Source::Sql(sql), of))
    }

    fn month_column(&mut self, of_month: OfMonth) -> usize {
        let of = of_month.use_of();
        found_or_added(&mut self.columns, (Source::Month(of_month), of))
    }

    /// What the pass selects of a relation with these columns.
    fn selected(&self, columns: &Schema) -> Selected {
        let mut selected: Vec<String> = Vec::new();
        let inputs = self.spells.iter().flat_map(|spells| &spells.inputs);
        let inputs = inputs.map(|sql| found_or_added(&mut selected, sql.clone()));
        let inputs = inputs.collect();
        let mut from = Vec::new();
        for (source, of) in &self.columns {
            let sql = match source {
                Source::Sql(sql) => sql,
                Source::Month(of_month) => {
                    from.push(Origin::Month(of_month.clone()));
                    continue;
                }
            };
            if let (CellColumn::Member, Some((numbers, list))) = (of, numbers_of(columns, sql)) {
                let place = found_or_added(&mut selected, format!("\"{numbers}\""));
                from.push(Origin::Number(place, list));
                continue;
            }
            let place = found_or_added(&mut selected, sql.clone());
            from.push(Origin::Query(place, AsType::default()));
        }
        Selected {
            selected,
            from,
            inputs,
        }
    }

    /// The query that selects this.
    fn query(&self, selected: &[String]) -> String {
        let selected = selected.iter().enumerate();
        let selected = selected.map(|(place, sql)| format!("    {sql} AS c{place}"));
        let selected = selected.collect::<Vec<_>>().join(",\n");
        format!("SELECT\n{selected}\nFROM {}", self.table)
    }

    /// Which columns of the greatest value are whole numbers; the others are text or days, whose order
    /// is that of their text.
    fn numbers(&self, from: &[Origin], columns: &Schema) -> Result<BTreeSet<usize>> {
        let mut numbers = BTreeSet::new();
        for latest in self.components.iter().filter_map(|part| part.latest) {
            let Some(Origin::Query(place, _)) = from.get(latest) else {
                continue;
            };
            match columns.fields().get(*place).map(|field| field.data_type()) {
                Some(number) if number.is_integer() => {
                    numbers.insert(latest);
                }
                Some(
                    DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Date32,
                ) => {}
                Some(DataType::Dictionary(_, text)) if text.is_string() => {}
                _ => {
                    return Err(EngineError::internal(
                        "the greatest value is kept of whole numbers, text and days only",
                    ));
                }
            }
        }
        Ok(numbers)
    }

    /// What the cells are; `from` tells where their columns come from.
    fn spec(&self, from: &[Origin]) -> CellSpec {
        let columns = self.columns.iter().zip(from);
        let columns = columns.map(|((_, of), from)| match from {
            Origin::Number(_, list) => CellColumn::Number(*list),
            Origin::Query(..) | Origin::Month(_) => *of,
        });
        CellSpec {
            columns: columns.collect(),
            keys: self.keys.clone(),
            groups: self.groups.clone(),
        }
    }

    /// The pass in words.
    pub(crate) fn report(&self, kept: &Kept) -> ScanReport {
        let components = self
            .components
            .iter()
            .map(|part| format!("{}/{}", part.indicator, part.component));
        let inputs = self.spells.as_ref().map_or(0, |spells| spells.inputs.len());
        let of_month = self.columns.iter().map(|(source, _)| match source {
            Source::Sql(_) => None,
            Source::Month(of_month) => Some(of_month.clone()),
        });
        let of_month: Vec<Option<OfMonth>> = of_month.collect();
        let spec = CellSpec {
            columns: self.columns.iter().map(|(_, of)| *of).collect(),
            keys: self.keys.clone(),
            groups: self.groups.clone(),
        };
        ScanReport {
            table: self.table.clone(),
            spells: self.spells.is_some(),
            marks: self.spells.is_some()
                && MarkedScan::of(&spec, &of_month, &Arc::default()).is_some(),
            components: components.collect(),
            expressions: self.columns.len() + inputs,
            groupings: self.groups.len(),
            slices: kept.slices_of(&self.table, self.slices.as_ref()),
            parts: 0,
            spilled_bytes: 0,
            seconds: 0.0,
            gave_way: None,
        }
    }

    /// Whether each cell is of one slice of the relation: it keeps its delivery, and no other row
    /// decides whether its rows count.
    pub(super) fn is_by_slice(&self) -> bool {
        let mut components = self.components.iter();
        components.all(|part| part.has_delivery && part.latest.is_none())
    }

    /// The cells of a grouping's components.
    fn components_of(
        &self,
        group: usize,
        rows: &GroupRows,
        pass: &Pass,
    ) -> Result<Vec<(ComponentKey, PreparedCells)>> {
        let nothing = Nothing::default();
        let own = self.components.iter().filter(|part| part.group == group);
        let own = own.map(|part| {
            let newest = match part.latest {
                Some(latest) => Some(newest_of(rows, pass.made.numbers.contains(&latest))?),
                None => None,
            };
            let rows = newest.as_ref().unwrap_or(rows);
            let sets = part.set.map(|set| rows.sets.get(set).ok_or_else(lost));
            let cells = PreparedCells {
                rows: part.batch(rows, &pass.of.breakdowns, &nothing)?,
                sets: sets.transpose()?.cloned(),
            };
            Ok(((part.indicator.clone(), part.component.clone()), cells))
        });
        own.collect()
    }
}

/// What the passes of a scan have in common.
pub(super) struct ScanRun {
    pub(super) scan: SharedScan,
    pub(super) kept: Arc<Kept>,
    pub(super) finds: Finds,
    breakdowns: Vec<String>,
}

/// What the rows of a pass were.
struct MadeFrom {
    /// Which columns of the greatest value are whole numbers.
    numbers: BTreeSet<usize>,
    /// What becomes of its cells, where they are those of marks.
    marks: Option<Arc<MarkedScan>>,
}

/// A pass whose rows have been read.
struct Pass {
    of: Arc<ScanRun>,
    made: MadeFrom,
    /// The slices that it read, where it is one of several parts.
    part: Option<Slices>,
}

impl Pass {
    /// The rows of a grouping.
    fn rows(&self, cells: &FinishedCells, group: usize) -> Result<GroupRows> {
        match &self.made.marks {
            None => Ok(cells.rows(group)?),
            Some(marks) => marks.rows(cells, group),
        }
    }

    /// Puts aside what was found of a grouping's components.
    fn put(&self, group: usize, rows: &GroupRows) -> Result<Vec<(ComponentKey, Found)>> {
        if let Some(slices) = &self.part {
            check(rows, &self.of.kept, slices)?;
        }
        let cells = self.of.scan.components_of(group, rows, self)?;
        // Other parts need the memory.
        self.of.finds.put(cells, self.part.is_none())
    }
}

/// What a pass selects of a relation.
struct Selected {
    /// The expressions.
    selected: Vec<String>,
    /// Where each column of the pass comes from.
    from: Vec<Origin>,
    /// The expressions that the months of spells are made from.
    inputs: Vec<usize>,
}

/// Where a column of a scan comes from.
#[derive(Debug, Clone)]
enum Origin {
    /// An expression that is selected.
    Query(usize, AsType),
    /// Numbers of persons that are selected, in a list.
    Number(usize, ListId),
    /// The month of a spell.
    Month(OfMonth),
}

impl Origin {
    fn of_month(&self) -> Option<OfMonth> {
        match self {
            Origin::Month(of_month) => Some(of_month.clone()),
            Origin::Query(..) | Origin::Number(..) => None,
        }
    }
}

/// What was found of every component, several groupings at a time; `memory` is that of the cells.
async fn finished(
    cells: Cells,
    memory: Option<MemoryReservation>,
    pass: Pass,
    lanes: usize,
) -> Result<Prepared> {
    let died = |error| EngineError::internal_because("a part of a scan died", error);
    let cells: Result<FinishedCells> =
        spawn_blocking(|| Ok(cells.finish()?)).await.map_err(died)?;
    let groups = pass.of.scan.groups.len();
    let lanes = lanes.clamp(1, groups.max(1));
    let shared = Arc::new((cells?, memory, pass));
    // Groups differ in size. Whoever is free takes the next of them.
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..lanes {
        let (shared, next) = (Arc::clone(&shared), Arc::clone(&next));
        tasks.spawn_blocking(move || {
            let (cells, _, pass) = &*shared;
            let mut put = Vec::new();
            loop {
                let group = next.fetch_add(1, Ordering::Relaxed);
                if group >= groups {
                    return Ok::<_, EngineError>(put);
                }
                put.push(pass.put(group, &pass.rows(cells, group)?)?);
            }
        });
    }
    drop(shared);
    let mut prepared = Prepared::new();
    while let Some(joined) = tasks.join_next().await {
        prepared.extend(joined.map_err(died)??.into_iter().flatten());
    }
    Ok(prepared)
}

/// The cells with the greatest value of the key's last column, of each area and year.
fn newest_of(group: &GroupRows, are_numbers: bool) -> Result<GroupRows> {
    let failed = |error| EngineError::internal_because("the newest rows of a scan", error);
    let [areas, periods, .., latest] = group.keys.as_slice() else {
        return Err(lost());
    };
    let years = date_part(periods, DatePart::Year).map_err(failed)?;
    let years = years.as_primitive_opt::<Int32Type>().ok_or_else(lost)?;
    let areas = areas.as_string_opt::<i32>().ok_or_else(lost)?;
    let latest = latest.as_string_opt::<i32>().ok_or_else(lost)?;
    // Text by its bytes, numbers by their size; a null is no value.
    let values: Vec<Option<(i128, &str)>> = latest
        .iter()
        .map(|text| {
            let text = text?;
            match are_numbers {
                true => Some((text.parse().ok()?, "")),
                false => Some((0, text)),
            }
        })
        .collect();
    let mut greatest: BTreeMap<(&str, i32), (i128, &str)> = BTreeMap::new();
    let keys = areas.iter().zip(years);
    let keys: Vec<Option<(&str, i32)>> = keys.map(|(area, year)| area.zip(year)).collect();
    for (key, value) in keys.iter().zip(&values) {
        if let (Some(key), Some(value)) = (key, value) {
            let known = greatest.entry(*key).or_insert(*value);
            *known = (*known).max(*value);
        }
    }
    let kept = keys.iter().zip(&values).map(|(key, value)| {
        let greatest = key.as_ref().and_then(|key| greatest.get(key));
        value.is_some() && greatest == value.as_ref()
    });
    let kept = BooleanArray::from(kept.collect::<Vec<_>>());
    let of = |values: &dyn Array| filter(values, &kept).map_err(failed);
    let rows = (0u32..).zip(&kept).filter(|(_, kept)| *kept == Some(true));
    let rows: Vec<u32> = rows.map(|(row, _)| row).collect();
    let whole = |values: &Int64Array| -> Result<Int64Array> {
        Ok(of(values)?.as_primitive_opt().ok_or_else(lost)?.clone())
    };
    let states = |values: &BinaryArray| -> Result<BinaryArray> {
        Ok(of(values)?.as_binary_opt().ok_or_else(lost)?.clone())
    };
    Ok(GroupRows {
        keys: group
            .keys
            .iter()
            .map(|key| of(key))
            .collect::<Result<_>>()?,
        counts: whole(&group.counts)?,
        sums: group.sums.iter().map(whole).collect::<Result<_>>()?,
        histograms: group.histograms.iter().map(states).collect::<Result<_>>()?,
        sets: group
            .sets
            .iter()
            .map(|sets| Arc::new(sets.chosen(rows.iter().copied())))
            .collect(),
        days: group.days.iter().map(states).collect::<Result<_>>()?,
    })
}

/// As [`Number`], before the amount has its place in a group.
enum NumberOf {
    Rows,
    Sum(usize),
    Nothing,
}

pub(super) fn found_or_added<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    match list.iter().position(|known| *known == item) {
        Some(place) => place,
        None => {
            list.push(item);
            list.len() - 1
        }
    }
}

fn lost() -> EngineError {
    EngineError::internal("a shared scan lost a column")
}

/// Columns without a value, made once for the components of a grouping.
#[derive(Default)]
struct Nothing(RefCell<Vec<ArrayRef>>);

impl Nothing {
    fn of(&self, data_type: &DataType, rows: usize) -> ArrayRef {
        let mut known = self.0.borrow_mut();
        let mut same = known.iter();
        let same = same.find(|known| known.data_type() == data_type && known.len() == rows);
        if let Some(same) = same {
            return Arc::clone(same);
        }
        let made = new_null_array(data_type, rows);
        known.push(Arc::clone(&made));
        made
    }
}

impl Part {
    /// The rows with the columns that a component's own query gives.
    fn batch(
        &self,
        group: &GroupRows,
        breakdowns: &[String],
        nothing: &Nothing,
    ) -> Result<RecordBatch> {
        let rows = group.counts.len();
        let none = |data_type| nothing.of(&data_type, rows);
        let key = |place: usize| group.keys.get(place).cloned().ok_or_else(lost);
        let number = match self.number {
            Number::Rows => Arc::new(group.counts.clone()) as ArrayRef,
            Number::Sum(place) => Arc::new(group.sums.get(place).ok_or_else(lost)?.clone()),
            Number::Nothing => none(DataType::Int64),
        };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("area", key(0)?),
            (
                "area_base",
                Arc::new(StringArray::new_repeated(self.area_base, rows)),
            ),
            ("period_start", key(PERIOD)?),
        ];
        let first_breakdown = DELIVERY + usize::from(self.has_delivery);
        for name in breakdowns {
            let own = self.breakdowns.iter().position(|own| own == name);
            columns.push((
                name,
                match own {
                    Some(place) => key(first_breakdown + place)?,
                    None => none(DataType::Utf8),
                },
            ));
        }
        columns.push(("age", none(DataType::Int32)));
        columns.push((
            "delivery_id",
            if self.has_delivery {
                key(DELIVERY)?
            } else {
                none(DataType::Utf8)
            },
        ));
        columns.push(("n", number));
        columns.push(("persons", none(DataType::Binary)));
        columns.push((
            "hist",
            match (self.histogram, self.care_days) {
                (None, None) => none(DataType::Binary),
                (None, Some(place)) => Arc::new(group.days.get(place).ok_or_else(lost)?.clone()),
                (Some(place), _) => Arc::new(group.histograms.get(place).ok_or_else(lost)?.clone()),
            },
        ));
        columns.push(("x", none(DataType::Float64)));
        let fields = columns
            .iter()
            .map(|(name, values)| Field::new(*name, values.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = columns.into_iter().map(|(_, values)| values).collect();
        RecordBatch::try_new(schema, columns)
            .map_err(|error| EngineError::internal_because("rows of a shared scan", error))
    }
}

impl Engine {
    /// Runs a scan. An error leaves the components to their own queries; what is found is held in
    /// `memory`.
    pub(crate) async fn run_scan(
        &self,
        resolver: &Arc<Resolver>,
        scan: SharedScan,
        kept: &Arc<Kept>,
        breakdowns: &[String],
        memory: &QueryMemory,
    ) -> (Prepared, ScanReport) {
        let started = Instant::now();
        let mut report = scan.report(kept);
        if scan.slices.as_ref().is_some_and(Slices::is_empty) {
            return (Prepared::new(), report);
        }
        let run = Arc::new(ScanRun {
            scan,
            kept: Arc::clone(kept),
            finds: Finds::new(memory.runtime()),
            breakdowns: breakdowns.to_vec(),
        });
        let ended = self.in_parts(resolver, &run).await;
        report.seconds = started.elapsed().as_secs_f64();
        report.spilled_bytes = run.finds.written();
        match ended {
            Ok((prepared, parts)) => {
                report.parts = parts;
                (prepared, report)
            }
            Err(error) => {
                tracing::debug!(table = report.table, %error, "a shared scan gave way");
                report.gave_way = Some(error.to_string());
                (Prepared::new(), report)
            }
        }
    }

    /// One pass over all slices that a scan reads, or over those of one of its parts.
    pub(super) async fn pass(
        &self,
        resolver: &Arc<Resolver>,
        run: &Arc<ScanRun>,
        part: Option<Slices>,
    ) -> Result<Prepared> {
        let scan = &run.scan;
        let slices = part.as_ref().or(scan.slices.as_ref());
        let session = run.kept.session_of(resolver, &scan.table, slices)?;
        let (cells, made, memory) = Box::pin(self.cells_of(&session, scan)).await?;
        tracing::debug!(table = scan.table, "parts of a pass are one");
        let of = Arc::clone(run);
        let pass = Pass { of, made, part };
        finished(cells, memory, pass, self.options.target_partitions).await
    }

    /// The columns of a relation; none when there is no such relation.
    fn columns_of<'a>(
        &'a self,
        resolver: &'a Arc<Resolver>,
        table: String,
    ) -> BoxFuture<'a, Result<SchemaRef>> {
        Box::pin(async move {
            let found = match table.split_once('.') {
                None => None,
                Some((schema, name)) => match resolver.coded(&RelationName::new(schema, name)) {
                    None => resolver.table(schema, name).await?,
                    coded => coded,
                },
            };
            Ok(found.map_or_else(|| Arc::new(Schema::empty()), |table| table.schema()))
        })
    }

    /// The cells of a pass, what its rows were, and the memory that the cells stand in.
    async fn cells_of(
        &self,
        resolver: &Arc<Resolver>,
        scan: &SharedScan,
    ) -> Result<(Cells, MadeFrom, Option<MemoryReservation>)> {
        let mut state = resolver.coded_state();
        state.mark_start_execution();
        let files = match scan.table.split_once('.') {
            Some((schema, name)) => resolver.coded_files(&RelationName::new(schema, name)),
            None => None,
        };
        let direct = files.and_then(|files| {
            let selected = scan.selected(&files.columns);
            let direct = Direct::of(&state, files, &selected.selected)?;
            Some((direct, selected))
        });
        let context = state.task_ctx();
        let (rows, types, selected) = match direct {
            Some((direct, selected)) => {
                let types = direct.types()?;
                let lanes = direct.lanes(self.target_partitions()).into_iter();
                (lanes.map(Rows::Files).collect(), Arc::new(types), selected)
            }
            None => {
                let columns = self.columns_of(resolver, scan.table.clone()).await?;
                let selected = scan.selected(&columns);
                let parsed = statement::parse(&scan.query(&selected.selected), RECURSION_LIMIT)?;
                let plan = state.statement_to_plan(parsed.tree).await?;
                let physical = state.create_physical_plan(&plan).await?;
                let partitions = 0..physical.output_partitioning().partition_count();
                let streams = partitions.map(|partition| {
                    let stream = physical.execute(partition, Arc::clone(&context))?;
                    Ok(Rows::Stream(stream))
                });
                let streams: Result<Vec<Rows>> = streams.collect();
                (streams?, physical.schema(), selected)
            }
        };
        let (from, inputs) = (selected.from, selected.inputs);
        let expansion = match &scan.spells {
            None => None,
            Some(spells) => {
                let months = Box::pin(self.run(resolver, &spells.months)).await?;
                let months = Arc::new(delivered_months(&months)?);
                tracing::debug!(table = scan.table, "months of a pass are known");
                let of_month: Vec<Option<OfMonth>> = from.iter().map(Origin::of_month).collect();
                let spec = scan.spec(&from);
                Some(Expansion::new(spells, months, inputs, &spec, &of_month))
            }
        };
        let marks = expansion.as_ref().and_then(|made| made.marks.clone());
        let spec = match &marks {
            Some(marks) => marks.spec.clone(),
            None => scan.spec(&from),
        };
        let numbers = scan.numbers(&from, &types)?;
        // Dropping the set stops the parts that still run.
        let mut tasks = JoinSet::new();
        for (partition, rows) in rows.into_iter().enumerate() {
            let memory = MemoryConsumer::new(format!("scan of {}", scan.table))
                .register(context.memory_pool());
            let uses = scan.spec(&from).columns;
            let (from, expansion) = (from.clone(), expansion.clone());
            let cells = Cells::new(spec.clone())?;
            tasks.spawn(async move {
                let part = part_of(rows, cells, from, uses, expansion, memory).await;
                (partition, part)
            });
        }
        let mut parts = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            let died = |error| EngineError::internal_because("a part of a scan died", error);
            let ended = joined
                .map_err(died)
                .and_then(|(partition, part)| Ok((partition, part?)));
            match ended {
                Ok(part) => parts.push(part),
                Err(error) => {
                    // What the others hold is given back before anybody tries with less.
                    tasks.shutdown().await;
                    return Err(error);
                }
            }
        }
        tracing::debug!(table = scan.table, "all rows of a pass are read");
        parts.sort_by_key(|(partition, _)| *partition);
        let mut whole = Cells::new(spec)?;
        let mut held: Option<MemoryReservation> = None;
        for (_, (cells, memory)) in parts {
            match &mut held {
                None => {
                    whole = cells;
                    held = Some(memory);
                }
                Some(held) => {
                    whole.merge(cells)?;
                    drop(memory);
                    held.try_resize(whole.heap_bytes())?;
                }
            }
        }
        Ok((whole, MadeFrom { numbers, marks }, held))
    }
}

/// Where the rows of one part of a pass come from.
enum Rows {
    /// A query.
    Stream(SendableRecordBatchStream),
    /// Files of a stored relation.
    Files(Lane),
}

impl Rows {
    /// The next rows, by what is selected.
    async fn next(&mut self) -> Result<Option<Vec<InputColumn>>> {
        match self {
            Rows::Stream(stream) => Ok(stream
                .try_next()
                .await?
                .map(|batch| InputColumn::of_arrays(batch.columns()))),
            Rows::Files(lane) => lane.next().await,
        }
    }
}

/// The cells of one partition, with the memory they stand in. `uses` are those of its columns.
async fn part_of(
    mut rows: Rows,
    mut cells: Cells,
    mut from: Vec<Origin>,
    uses: Vec<CellColumn>,
    expansion: Option<Expansion>,
    memory: MemoryReservation,
) -> Result<(Cells, MemoryReservation)> {
    let of_month: Vec<Option<OfMonth>> = from.iter().map(Origin::of_month).collect();
    let grow = |cells: &Cells| Ok(memory.try_resize(cells.heap_bytes())?);
    while let Some(batch) = rows.next().await? {
        if let Some(expansion) = &expansion {
            let given = from
                .iter_mut()
                .zip(&uses)
                .map(|(from, of)| match from {
                    Origin::Month(_) => Ok(None),
                    Origin::Query(..) | Origin::Number(..) => taken(&batch, from, *of).map(Some),
                })
                .collect::<Result<Vec<_>>>()?;
            expansion.update(&mut cells, &batch, &given, &of_month, grow)?;
            continue;
        }
        let columns = from
            .iter_mut()
            .zip(&uses)
            .map(|(from, of)| taken(&batch, from, *of))
            .collect::<Result<Vec<_>>>()?;
        cells.update(&columns)?;
        grow(&cells)?;
    }
    Ok((cells, memory))
}

/// A column of the scan in a type that [`Cells`] takes. What is coded stays coded, and whole numbers
/// that are keys stay numbers: text is made of them once for each value and not for each row.
fn taken(batch: &[InputColumn], from: &mut Origin, of: CellColumn) -> Result<InputColumn> {
    let column = |place: usize| batch.get(place).ok_or_else(lost);
    match from {
        Origin::Query(place, as_type) => as_type.column(column(*place)?, of),
        Origin::Number(place, _) => {
            AsType::default().column(column(*place)?, CellColumn::Number(0))
        }
        Origin::Month(_) => Err(lost()),
    }
}

/// A column in the type of its use, where it has another. Values of codes are turned once.
#[derive(Debug, Clone, Default)]
struct AsType(OfValues);

impl AsType {
    fn column(&mut self, column: &InputColumn, of: CellColumn) -> Result<InputColumn> {
        let is_key = matches!(of, CellColumn::Text | CellColumn::TextOr(_));
        let values = column.values();
        if column.codes().is_none() || of == CellColumn::Member {
            let as_number = is_key && is_whole(values.data_type());
            return Ok(match as_number {
                true => decoded(column, &DataType::Int64)?.into(),
                false => decoded(column, &of.data_type())?.into(),
            });
        }
        let is_right = match values.data_type() {
            DataType::Utf8 | DataType::Utf8View if is_key => true,
            data_type => *data_type == of.data_type(),
        };
        if is_right {
            return Ok(column.clone());
        }
        let turned = self
            .0
            .of(values, |values| to_type(values, &of.data_type()))?;
        Ok(column.with_values(turned)?)
    }
}

/// Whether it is a whole number that stands as its decimal text.
fn is_whole(data_type: &DataType) -> bool {
    data_type.is_integer() && *data_type != DataType::UInt64
}

#[cfg(test)]
mod tests {
    use arrow::array::Date32Array;

    use super::*;

    #[test]
    fn the_newest_cells_are_those_of_the_greatest_value_of_their_area_and_year() {
        // Area, day (2024-01-01 is 19 723), value; kept as numbers, kept as text.
        let cells = [
            (Some("01"), 19_723, Some("9"), false, true),
            (Some("01"), 19_754, Some("10"), true, false),
            (Some("01"), 19_783, Some("10"), true, false),
            (Some("01"), 20_089, Some("9"), true, true),
            (Some("02"), 19_723, Some("9"), true, true),
            (Some("02"), 19_723, None, false, false),
            (None, 19_723, Some("7"), false, false),
        ];
        let group = GroupRows {
            keys: vec![
                Arc::new(cells.iter().map(|cell| cell.0).collect::<StringArray>()),
                Arc::new(
                    cells
                        .iter()
                        .map(|cell| Some(cell.1))
                        .collect::<Date32Array>(),
                ),
                Arc::new(cells.iter().map(|cell| cell.2).collect::<StringArray>()),
            ],
            counts: (0..7).map(Some).collect(),
            sums: Vec::new(),
            histograms: Vec::new(),
            sets: Vec::new(),
            days: Vec::new(),
        };
        for (are_numbers, place) in [(true, 3), (false, 4)] {
            let kept = newest_of(&group, are_numbers).unwrap();
            let wanted = (0i64..).zip(&cells).filter(|(_, cell)| match place {
                3 => cell.3,
                _ => cell.4,
            });
            let wanted: Int64Array = wanted.map(|(number, _)| Some(number)).collect();
            assert_eq!(kept.counts, wanted, "as numbers: {are_numbers}");
            assert!(kept.keys.iter().all(|key| key.len() == wanted.len()));
        }
    }
}
