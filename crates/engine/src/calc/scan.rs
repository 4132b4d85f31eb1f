//! Shared scans: the components of many indicators from one pass over each relation.
//!
//! A component that takes rows of one relation as they are says so as a
//! [`RowPart`](tietopohja_indicators::RowPart). All such components of the stale indicators are
//! grouped by relation; each relation is read once, every expression is evaluated once however many
//! definitions use it, and [`Cells`] does all groupings in that pass. The result is the same, to the
//! bit, as that of the components' own queries, which remain the definition of what a component is:
//! a scan that fails or does not fit in memory gives way to them, so that sharing can make a
//! calculation faster and never wrong.
//!
//! What may not live here: what an indicator means (`indicators`), the arithmetic (`kernels`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_plan::{ExecutionPlanProperties, SendableRecordBatchStream};
use futures::TryStreamExt;
use serde::Serialize;
use tietopohja_indicators::{Alone, Compiled, Indicator, RowMeasure, RowPart, RowPeriod};
use tietopohja_kernels::{CellColumn, CellSpec, Cells, GroupRows, GroupSpec};
use tokio::task::JoinSet;

use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::RECURSION_LIMIT;
use crate::plain::to_type;
use crate::statement;

/// Component rows by indicator and component, before constants and order.
pub(crate) type Prepared = BTreeMap<(String, String), RecordBatch>;

/// One pass over a relation, for [`crate::Engine::plan_scans`] and the report of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScanReport {
    /// The relation.
    pub table: String,
    /// The components, as `indicator/component`.
    pub components: Vec<String>,
    /// Columns and expressions that the pass evaluates.
    pub expressions: usize,
    /// Groupings that it keeps: components with the same filter and breakdowns share one.
    pub groupings: usize,
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
    table: String,
    columns: Vec<(String, CellColumn)>,
    keys: Vec<Vec<usize>>,
    groups: Vec<GroupSpec>,
    parts: Vec<Part>,
}

/// Where a component finds its columns in the pass.
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
    set: Option<usize>,
}

/// What becomes of `n`.
#[derive(Debug, Clone, Copy)]
enum Number {
    Rows,
    Sum(usize),
    Nothing,
}

/// The scans of some indicators' components, by relation, and the components that share none.
pub(crate) fn scans_of<'a>(
    indicators: impl IntoIterator<Item = (&'a Indicator, &'a Compiled)>,
) -> (Vec<SharedScan>, Vec<(String, Alone)>) {
    let mut scans: BTreeMap<String, SharedScan> = BTreeMap::new();
    let mut alone = Vec::new();
    for (indicator, compiled) in indicators {
        for component in &compiled.components {
            match &component.row {
                Ok(row) => {
                    let scan = scans
                        .entry(row.table.clone())
                        .or_insert_with(|| SharedScan::of(&row.table));
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
    fn of(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            columns: Vec::new(),
            keys: Vec::new(),
            groups: Vec::new(),
            parts: Vec::new(),
        }
    }

    fn add(&mut self, indicator: &str, component: &str, row: &RowPart) -> Result<(), Alone> {
        let period = match &row.period {
            Some(RowPeriod::MonthOf(day)) => {
                self.column(format!("CAST({day} AS DATE)"), CellColumn::Month)
            }
            Some(RowPeriod::Day(day)) => {
                self.column(format!("CAST({day} AS DATE)"), CellColumn::Day)
            }
            None => return Err(Alone::Spells),
        };
        // Breakdowns come last, so that groupings with and without them share their beginning.
        let mut key = vec![self.column(row.area.clone(), CellColumn::Text), period];
        if let Some(delivery) = &row.delivery {
            key.push(self.column(delivery.clone(), CellColumn::Text));
        }
        for (_, member) in &row.breakdowns {
            key.push(self.column(member.clone(), CellColumn::Text));
        }
        let key = found_or_added(&mut self.keys, key);
        let filter = (!row.filters.is_empty())
            .then(|| self.column(row.filters.join(" AND "), CellColumn::Filter));
        let (number, histogram, members) = match &row.measure {
            RowMeasure::Rows => (NumberOf::Rows, None, row.person.clone()),
            RowMeasure::Persons => (NumberOf::Nothing, None, row.person.clone()),
            RowMeasure::Sum(amount) => {
                let amount = self.column(format!("CAST({amount} AS BIGINT)"), CellColumn::Whole);
                (NumberOf::Sum(amount), None, row.person.clone())
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
            .position(|group| group.key == key && group.filter == filter)
        {
            Some(group) => group,
            None => {
                self.groups.push(GroupSpec {
                    key,
                    filter,
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
        self.parts.push(Part {
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
            set: members.map(|members| found_or_added(&mut spec.sets, members)),
        });
        Ok(())
    }

    fn column(&mut self, sql: String, of: CellColumn) -> usize {
        found_or_added(&mut self.columns, (sql, of))
    }

    /// The query of the pass.
    pub(crate) fn sql(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .enumerate()
            .map(|(place, (sql, _))| format!("    {sql} AS c{place}"))
            .collect();
        format!("SELECT\n{}\nFROM {}", columns.join(",\n"), self.table)
    }

    fn spec(&self) -> CellSpec {
        CellSpec {
            columns: self.columns.iter().map(|(_, of)| *of).collect(),
            keys: self.keys.clone(),
            groups: self.groups.clone(),
        }
    }

    /// The pass in words.
    pub(crate) fn report(&self) -> ScanReport {
        let components = self
            .parts
            .iter()
            .map(|part| format!("{}/{}", part.indicator, part.component));
        ScanReport {
            table: self.table.clone(),
            components: components.collect(),
            expressions: self.columns.len(),
            groupings: self.groups.len(),
            seconds: 0.0,
            gave_way: None,
        }
    }

    /// Component rows from the finished cells.
    fn rows(&self, mut cells: Cells, breakdowns: &[String]) -> Result<Prepared> {
        let mut groups: Vec<GroupRows> = Vec::with_capacity(self.groups.len());
        for group in 0..self.groups.len() {
            groups.push(cells.rows(group)?);
        }
        let mut prepared = Prepared::new();
        for part in &self.parts {
            let group = groups.get(part.group).ok_or_else(lost)?;
            let batch = part.batch(group, breakdowns)?;
            prepared.insert((part.indicator.clone(), part.component.clone()), batch);
        }
        Ok(prepared)
    }
}

/// As [`Number`], before the amount has its place in a group.
enum NumberOf {
    Rows,
    Sum(usize),
    Nothing,
}

fn found_or_added<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
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

impl Part {
    /// The rows with the columns that a component's own query gives.
    fn batch(&self, group: &GroupRows, breakdowns: &[String]) -> Result<RecordBatch> {
        let rows = group.counts.len();
        let key = |place: usize| group.keys.get(place).cloned().ok_or_else(lost);
        let bytes = |states: &[arrow::array::BinaryArray], place: Option<usize>| match place {
            None => Ok(new_null_array(&DataType::Binary, rows)),
            Some(place) => states
                .get(place)
                .map(|states| Arc::new(states.clone()) as ArrayRef)
                .ok_or_else(lost),
        };
        let number = match self.number {
            Number::Rows => Arc::new(group.counts.clone()) as ArrayRef,
            Number::Sum(place) => Arc::new(group.sums.get(place).ok_or_else(lost)?.clone()),
            Number::Nothing => Arc::new(Int64Array::new_null(rows)),
        };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("area", key(0)?),
            (
                "area_base",
                Arc::new(StringArray::from(vec![self.area_base; rows])),
            ),
            ("period_start", key(1)?),
        ];
        let first_breakdown = if self.has_delivery { 3 } else { 2 };
        for name in breakdowns {
            let own = self.breakdowns.iter().position(|own| own == name);
            columns.push((
                name,
                match own {
                    Some(place) => key(first_breakdown + place)?,
                    None => new_null_array(&DataType::Utf8, rows),
                },
            ));
        }
        columns.push(("age", new_null_array(&DataType::Int32, rows)));
        columns.push((
            "delivery_id",
            if self.has_delivery {
                key(2)?
            } else {
                new_null_array(&DataType::Utf8, rows)
            },
        ));
        columns.push(("n", number));
        columns.push(("persons", bytes(&group.sets, self.set)?));
        columns.push(("hist", bytes(&group.histograms, self.histogram)?));
        columns.push(("x", new_null_array(&DataType::Float64, rows)));
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
    /// Runs a pass. An error leaves the components to their own queries.
    pub(crate) async fn run_scan(
        &self,
        resolver: &Arc<Resolver>,
        scan: &SharedScan,
        breakdowns: &[String],
    ) -> (Prepared, ScanReport) {
        let started = Instant::now();
        let ended = Box::pin(self.cells_of(resolver, scan)).await;
        let ended = ended.and_then(|cells| scan.rows(cells, breakdowns));
        let mut report = scan.report();
        report.seconds = started.elapsed().as_secs_f64();
        match ended {
            Ok(prepared) => (prepared, report),
            Err(error) => {
                tracing::debug!(table = scan.table, %error, "a shared scan gave way");
                report.gave_way = Some(error.to_string());
                (Prepared::new(), report)
            }
        }
    }

    async fn cells_of(&self, resolver: &Arc<Resolver>, scan: &SharedScan) -> Result<Cells> {
        let parsed = statement::parse(&scan.sql(), RECURSION_LIMIT)?;
        let mut state = resolver.coded_state();
        state.mark_start_execution();
        let plan = state.statement_to_plan(parsed.tree).await?;
        let physical = state.create_physical_plan(&plan).await?;
        let context = state.task_ctx();
        // Dropping the set stops the parts that still run.
        let mut tasks = JoinSet::new();
        for partition in 0..physical.output_partitioning().partition_count() {
            let stream = physical.execute(partition, Arc::clone(&context))?;
            let memory = MemoryConsumer::new(format!("scan of {}", scan.table))
                .register(context.memory_pool());
            let spec = scan.spec();
            tasks.spawn(async move { (partition, part_of(stream, spec, memory).await) });
        }
        let mut parts = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            let (partition, part) = joined
                .map_err(|error| EngineError::internal_because("a part of a scan died", error))?;
            parts.push((partition, part?));
        }
        parts.sort_by_key(|(partition, _)| *partition);
        let mut whole = Cells::new(scan.spec())?;
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
        Ok(whole)
    }
}

/// The cells of one partition, with the memory they stand in.
async fn part_of(
    mut stream: SendableRecordBatchStream,
    spec: CellSpec,
    memory: MemoryReservation,
) -> Result<(Cells, MemoryReservation)> {
    let types: Vec<DataType> = spec.columns.iter().map(|of| of.data_type()).collect();
    let mut cells = Cells::new(spec)?;
    while let Some(batch) = stream.try_next().await? {
        let columns = batch
            .columns()
            .iter()
            .zip(&types)
            .map(|(column, wanted)| to_type(column, wanted))
            .collect::<Result<Vec<_>>>()?;
        cells.update(&columns)?;
        memory.try_resize(cells.heap_bytes())?;
    }
    Ok((cells, memory))
}
