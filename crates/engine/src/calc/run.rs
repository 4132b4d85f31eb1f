//! One run: what is stale is computed, stored and recorded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::MemTable;
use futures::future::{BoxFuture, try_join_all};
use tietopohja_disclosure::{Profile, Profiles};
use tietopohja_domain::{Problem, Timestamp};
use tietopohja_indicators::{Catalogue, Compiled, Indicator, Language, RowMeasure, RowPart};
use tietopohja_lake::{CommitInfo, Slice, SliceRows, StoredSlice};

use super::facts::Fact;
use super::fingerprint::{Inputs, Reads};
use super::found::{Found, Prepared, PreparedCells};
use super::kept::{Kept, KeptCells, Record};
use super::rollup::Shared;
use super::rows::{Stamp, component_rows, stamp_of, value_rows};
use super::scan::{AloneReport, ScanReport, scans_of};
use super::{
    CalcProgress, CalcReport, CalcRequest, IndicatorOutcome, IndicatorResult, PlannedStep,
    StaleReason, of_definition,
};
use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::memory::QueryMemory;
use crate::model::{RelationName, reads_of};
use crate::plain::{conform, plain_schema};
use crate::reference::definition_files;
use crate::tables::{
    INDICATOR_NO, calculation_schema, component_schema, indicator_schema, not_written, run_schema,
    table, value_schema,
};

/// What relations and values of nearly all indicators read, in the order in which they depend on each
/// other. The ledger has many small files. They are read once for a run.
const READ_BY_ALL: [(&str, &str); 2] = [("meta", "delivery"), ("meta", "delivered_month")];

/// What many read: calendar, areas, residents. They are read once for a run that needs them.
const READ_BY_MANY: [(&str, &str); 6] = [
    ("reference", "period"),
    ("reference", "county"),
    ("reference", "municipality_on"),
    ("reference", "area_member"),
    ("reference", "population"),
    ("reference", "population_total"),
];

/// What every run writes.
const WRITTEN_BY_ALL: [(&str, &str); 6] = [
    COMPONENTS,
    RESTRICTED,
    PUBLISHED,
    ("meta", "calculation"),
    ("meta", "indicator"),
    ("meta", "run"),
];

/// What scans have found takes one of so many parts of the memory; the others are for the next scan
/// and for what is computed of it.
const FOUND_SHARE: usize = 4;

/// Counts of persons that several indicators need take one of so many parts at most.
const COUNTED_SHARE: usize = 16;

/// The cells of components.
const COMPONENTS: (&str, &str) = ("component", "cell");
/// Values before protection.
const RESTRICTED: (&str, &str) = ("result", "indicator_value");
/// Values after it.
const PUBLISHED: (&str, &str) = ("published", "indicator_value");

/// A row of `meta.calculation`.
#[derive(Debug, Clone)]
struct Calculation {
    indicator: String,
    number: i32,
    version: String,
    fingerprint: String,
    run_id: String,
    calculated_at: i64,
    component_rows: i64,
    value_rows: i64,
    suppressed: i64,
    seconds: f64,
    /// From what the stored cells were computed.
    record: Record,
}

/// Everything that one run shares.
struct Run {
    resolver: Arc<Resolver>,
    catalogue: Arc<Catalogue>,
    profiles: Profiles,
    inputs: Inputs,
    before: BTreeMap<String, Calculation>,
    /// Numbers of indicators whose results a run that ended early has stored in part.
    unfinished: BTreeSet<i32>,
    stamp: Stamp,
    /// What values of several indicators are made with.
    shared: Shared,
    /// Memory for what scans have found.
    found: QueryMemory,
}

/// An indicator with its queries, and the digest of what they depend on.
struct Todo<'a> {
    indicator: &'a Indicator,
    compiled: Compiled,
    /// `None` when a text cannot be read: it fails where it is computed.
    reads: Option<Reads>,
    /// `None` when it cannot be told: whoever computes the indicator meets the error.
    fingerprint: Option<String>,
}

impl Todo<'_> {
    /// Whether what is stored was computed from something else, or is stored in part.
    fn is_stale(&self, run: &Run) -> bool {
        let before = run.before.get(self.indicator.id());
        self.fingerprint.is_none()
            || run.unfinished.contains(&self.indicator.number())
            || before.map(|before| &before.fingerprint) != self.fingerprint.as_ref()
    }
}

/// An indicator to compute, away from the others.
struct Job {
    id: String,
    version: String,
    compiled: Compiled,
    fingerprint: Option<String>,
    /// What a shared scan has found, by component.
    prepared: BTreeMap<String, Found>,
    /// What is kept of earlier runs.
    kept: Arc<Kept>,
    /// Whether values come from the value query too.
    by_query: bool,
}

impl Job {
    /// Takes what is prepared for the indicator.
    fn of(todo: Todo<'_>, prepared: &mut Prepared, kept: &Arc<Kept>, by_query: bool) -> Self {
        let id = todo.indicator.id().to_owned();
        let components = todo.compiled.components.iter();
        let own = components.filter_map(|component| {
            let rows = prepared.remove(&(id.clone(), component.name.clone()))?;
            Some((component.name.clone(), rows))
        });
        Self {
            prepared: own.collect(),
            kept: Arc::clone(kept),
            version: todo.indicator.version().to_owned(),
            id,
            compiled: todo.compiled,
            fingerprint: todo.fingerprint,
            by_query,
        }
    }
}

impl Job {
    /// The result before anything is computed.
    fn unfinished(&self) -> IndicatorResult {
        IndicatorResult {
            id: self.id.clone(),
            version: self.version.clone(),
            outcome: IndicatorOutcome::Computed,
            component_rows: 0,
            kept_rows: 0,
            value_rows: 0,
            suppressed: 0,
            seconds: 0.0,
        }
    }
}

/// The end of a job, however its task ended.
fn ended_of<E>(ended: std::result::Result<Ended, E>, job: &Job) -> Ended
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    ended.unwrap_or_else(|error| {
        let died = "the computation of an indicator died";
        Ended::failed(
            job.unfinished(),
            &EngineError::internal_because(died, error),
        )
    })
}

impl Ended {
    fn failed(mut result: IndicatorResult, error: &EngineError) -> Self {
        result.fail(error);
        Self {
            result,
            computed: None,
            refused: matches!(error, EngineError::Resource { .. }),
        }
    }
}

impl IndicatorResult {
    fn fail(&mut self, error: &EngineError) {
        tracing::debug!(indicator = self.id, error = ?error, "an indicator failed");
        self.outcome = IndicatorOutcome::Failed {
            message: error.to_string(),
        };
    }
}

/// What the computation of a batch is told.
struct Lane<'a> {
    run: &'a Arc<Run>,
    kept: &'a Arc<Kept>,
    by_query: bool,
    progress: &'a dyn CalcProgress,
    total: usize,
}

/// Indicators that share a relation, directly or through others, are computed together; what they
/// share need not be kept longer than that.
fn batches(stale: Vec<Todo<'_>>) -> Vec<Vec<Todo<'_>>> {
    let mut batches: Vec<(BTreeSet<String>, Vec<Todo<'_>>)> = Vec::new();
    for todo in stale {
        let rows = todo.compiled.components.iter();
        let mut tables: BTreeSet<String> = rows
            .filter_map(|component| component.row.as_ref().ok())
            .map(|row| row.table.clone())
            .collect();
        let mut together = Vec::new();
        let mut apart = Vec::new();
        for (known, members) in batches {
            if known.is_disjoint(&tables) {
                apart.push((known, members));
            } else {
                tables.extend(known);
                together.extend(members);
            }
        }
        together.push(todo);
        apart.push((tables, together));
        batches = apart;
    }
    let batches = batches.into_iter();
    batches.map(|(_, members)| apart(members)).collect()
}

/// The same indicators in another order: those whose components take the same rows of the same persons
/// stand apart. The first counts the persons, and the next would wait for it.
fn apart(batch: Vec<Todo<'_>>) -> Vec<Todo<'_>> {
    let mut met: Vec<(RowPart, usize)> = Vec::new();
    let mut turns: Vec<(usize, Todo<'_>)> = Vec::with_capacity(batch.len());
    for todo in batch {
        let rows = todo.compiled.components.iter();
        let mut rows = rows.filter_map(|component| component.row.as_ref().ok());
        let turn = rows.find(|row| row.person.is_some()).map_or(0, |row| {
            let row = RowPart {
                measure: RowMeasure::Persons,
                ..row.clone()
            };
            match met.iter_mut().find(|(known, _)| *known == row) {
                Some((_, turn)) => {
                    *turn += 1;
                    *turn
                }
                None => {
                    met.push((row, 0));
                    0
                }
            }
        });
        turns.push((turn, todo));
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, todo)| todo).collect()
}

/// The relations that components of these indicators name.
fn read_by(stale: &[Todo<'_>]) -> BTreeSet<RelationName> {
    let reads = stale.iter().filter_map(|todo| todo.reads.as_ref());
    reads
        .flat_map(|reads| reads.components.iter().cloned())
        .collect()
}

/// What an indicator's computation gave: rows that are stored and not yet visible.
struct Computed {
    components: StoredSlice,
    restricted: StoredSlice,
    published: StoredSlice,
    record: Record,
    component_rows: u64,
    kept_rows: u64,
    value_rows: u64,
    suppressed: u64,
}

/// The computation of an indicator when it has ended.
struct Ended {
    result: IndicatorResult,
    /// What it gave, unless it failed.
    computed: Option<(Calculation, Computed)>,
    /// Whether it failed for want of memory, which others may have had.
    refused: bool,
}

/// Rows that are being made.
type Making = BoxFuture<'static, Result<RecordBatch>>;

/// Rows that wait to become visible.
#[derive(Default)]
struct Pending {
    components: Vec<StoredSlice>,
    restricted: Vec<StoredSlice>,
    published: Vec<StoredSlice>,
}

impl Engine {
    /// What a calculation of these indicators (none means all) would compute, and why. Runs no
    /// component.
    ///
    /// # Errors
    /// [`EngineError::Definitions`] and [`EngineError::NotFound`], as [`Engine::calc`].
    pub async fn plan_calc(self: &Arc<Self>, ids: &[String]) -> Result<Vec<PlannedStep>> {
        let run = self.begin().await?;
        let mut steps = Vec::new();
        for todo in self.todo(&run, ids).await? {
            let reason = match run.before.get(todo.indicator.id()) {
                None => StaleReason::NeverComputed,
                Some(_) if todo.is_stale(&run) => StaleReason::Changed,
                Some(_) => continue,
            };
            if todo.fingerprint.is_none() {
                let reads = Reads::of(&todo.compiled)?;
                self.fingerprint_in(&run, todo.indicator, &todo.compiled, &reads)
                    .await?;
            }
            steps.push(PlannedStep {
                id: todo.indicator.id().to_owned(),
                reason,
            });
        }
        Ok(steps)
    }

    /// How the components of stale indicators would be computed: which of them share a pass over a
    /// relation, and why the others do not. Runs nothing.
    ///
    /// # Errors
    /// As [`Engine::plan_calc`].
    pub async fn plan_scans(
        self: &Arc<Self>,
        ids: &[String],
    ) -> Result<(Vec<ScanReport>, Vec<AloneReport>)> {
        let run = self.begin().await?;
        let mut stale = self.todo(&run, ids).await?;
        stale.retain(|todo| todo.is_stale(&run));
        let reads = read_by(&stale);
        let facts = self.planned_facts(&run.resolver, &run.inputs, &reads).await;
        let kept = self.kept_of(&run, facts, &stale, false).await?;
        let stale = stale.iter().map(|todo| (todo.indicator, &todo.compiled));
        let (scans, alone) = scans_of(stale, &kept);
        let alone = alone.into_iter().map(|(component, why)| AloneReport {
            component,
            why: why.to_string(),
        });
        Ok((
            scans.iter().map(|scan| scan.report(&kept)).collect(),
            alone.collect(),
        ))
    }

    /// What can be kept of stale indicators' cells; nothing when all is to be computed.
    async fn kept_of(
        &self,
        run: &Run,
        facts: BTreeMap<String, Fact>,
        stale: &[Todo<'_>],
        full: bool,
    ) -> Result<Kept> {
        let cells = match full {
            true => None,
            false => self.cell_slices(&run.resolver).await,
        };
        let stale = stale.iter().map(|todo| {
            let id = todo.indicator.id();
            let before = run.before.get(id).map(|before| &before.record);
            (id, &todo.compiled, before)
        });
        self.kept(&run.resolver, facts, stale, cells.as_ref()).await
    }

    async fn todo<'a>(self: &Arc<Self>, run: &'a Run, ids: &[String]) -> Result<Vec<Todo<'a>>> {
        let mut todo = Vec::new();
        let mut wanted = chosen(&run.catalogue, ids)?;
        // Who commits shows what an earlier run has left in the tables, so that must be made anew.
        for indicator in run.catalogue.indicators() {
            let is_wanted = |wanted: &&Indicator| wanted.number() == indicator.number();
            if run.unfinished.contains(&indicator.number()) && !wanted.iter().any(is_wanted) {
                wanted.push(indicator);
            }
        }
        let compiled = self.compiled(run, &wanted).await?;
        for (indicator, (compiled, reads)) in wanted.into_iter().zip(compiled) {
            let fingerprint = match &reads {
                Some(reads) => {
                    let fingerprint = self.fingerprint_in(run, indicator, &compiled, reads);
                    fingerprint.await.ok()
                }
                None => None,
            };
            todo.push(Todo {
                indicator,
                compiled,
                reads,
                fingerprint,
            });
        }
        Ok(todo)
    }

    /// Computes indicators: those asked for, or all, and of them those whose inputs have changed,
    /// or all when `full`.
    ///
    /// An indicator that fails keeps the values it had, is named in the report, and does not stop
    /// the others. Components are written first, then restricted values, then published ones, then
    /// what was computed from what, and readers see all of it when the record of the run is written:
    /// a crash before makes the next run compute again.
    ///
    /// # Errors
    /// [`EngineError::Definitions`] when the definitions have problems, [`EngineError::NotFound`] for
    /// an unknown id, [`EngineError::Lake`] when results cannot be written.
    pub async fn calc(
        self: &Arc<Self>,
        request: &CalcRequest,
        progress: &dyn CalcProgress,
    ) -> Result<CalcReport> {
        let started = Instant::now();
        let run = Arc::new(self.begin().await?);
        let mut after = run.before.clone();
        let mut pending = Pending::default();
        let mut results = Vec::new();
        let mut stale = Vec::new();
        for todo in self.todo(&run, &request.ids).await? {
            if request.full || todo.is_stale(&run) {
                stale.push(todo);
            } else if let Some(before) = run.before.get(todo.indicator.id()) {
                results.push(before.unchanged());
            }
        }
        tracing::debug!(stale = stale.len(), "what is stale is known");
        self.hold_for(&run, &stale, request.one_by_one).await?;
        tracing::debug!("what many read is held");
        let (facts, kept) = if request.one_by_one {
            (Vec::new(), Kept::nothing())
        } else {
            let reads = read_by(&stale);
            let (reports, facts) = self
                .refresh_facts(&run.resolver, &run.inputs, &reads, progress)
                .await;
            let kept = self.kept_of(&run, facts, &stale, request.full).await?;
            (reports, kept)
        };
        tracing::debug!("facts are stored and kept results known");
        let kept = Arc::new(kept);
        let total = stale.len();
        if total > 0 {
            self.ensure_results(&run.catalogue).await?;
        }
        let mut reports = Vec::new();
        let mut number = 0;
        let mut coming = batches(stale).into_iter();
        let mut batch = coming.next().unwrap_or_default();
        let mut ready = self.prepare(&run, &batch, &kept, request, progress).await;
        while !batch.is_empty() {
            // What one pass leaves undone on one core, the next begins on the other.
            let next = coming.next().unwrap_or_default();
            let (prepared, scans) = ready;
            reports.extend(scans);
            let first = number + 1;
            number += batch.len();
            let lane = Lane {
                run: &run,
                kept: &kept,
                by_query: request.one_by_one,
                progress,
                total,
            };
            let of_batch = self.finish_batch(lane, batch, prepared, first);
            let ((mut ended, refused), prepared) = tokio::join!(
                Box::pin(of_batch),
                Box::pin(self.prepare(&run, &next, &kept, request, progress))
            );
            for job in refused {
                // Nothing is computed beside it now.
                let last = ended_of(self.spawn(&run, &job).await, &job);
                progress.finished(&last.result);
                ended.push(last);
            }
            for Ended {
                result, computed, ..
            } in ended
            {
                if let Some((calculation, computed)) = computed {
                    pending.components.push(computed.components);
                    pending.restricted.push(computed.restricted);
                    pending.published.push(computed.published);
                    after.insert(result.id.clone(), calculation);
                }
                results.push(result);
            }
            (batch, ready) = (next, prepared);
        }
        results.sort_by(|a, b| a.id.cmp(&b.id));
        let retired = if request.ids.is_empty() {
            retire(&run, &mut after, &mut pending)
        } else {
            false
        };
        let computed = results
            .iter()
            .filter(|result| result.outcome == IndicatorOutcome::Computed)
            .count();
        let failed = results
            .iter()
            .any(|result| matches!(result.outcome, IndicatorOutcome::Failed { .. }));
        let recorded = computed > 0 || retired || failed;
        tracing::debug!("values are stored");
        let finishing = Instant::now();
        if recorded {
            let after = after.into_values().collect();
            self.finish(&run, request, &results, after, pending).await?;
        }
        Ok(CalcReport {
            run_id: recorded.then(|| run.stamp.run_id.clone()),
            indicators: results,
            facts,
            scans: reports,
            seconds: started.elapsed().as_secs_f64(),
            commit_seconds: finishing.elapsed().as_secs_f64(),
        })
    }

    /// The passes that a batch shares; none when components are computed by their own queries.
    async fn prepare(
        &self,
        run: &Run,
        batch: &[Todo<'_>],
        kept: &Arc<Kept>,
        request: &CalcRequest,
        progress: &dyn CalcProgress,
    ) -> (Prepared, Vec<ScanReport>) {
        match request.one_by_one {
            true => (Prepared::new(), Vec::new()),
            false => self.shared(run, batch, kept, progress).await,
        }
    }

    /// Computes the indicators of a batch, numbered from `first`. Planning a query is the work of one
    /// core, so several are computed at a time. Those that were refused memory come back undone.
    async fn finish_batch(
        self: &Arc<Self>,
        lane: Lane<'_>,
        batch: Vec<Todo<'_>>,
        mut prepared: Prepared,
        first: usize,
    ) -> (Vec<Ended>, Vec<Arc<Job>>) {
        let lanes = self.options.target_partitions.max(1);
        let mut waiting = (first..).zip(batch);
        let mut running = VecDeque::new();
        let mut all = Vec::new();
        let mut refused = Vec::new();
        loop {
            while running.len() < lanes
                && let Some((number, todo)) = waiting.next()
            {
                let id = todo.indicator.id();
                lane.progress.started(id, number, lane.total);
                let job = Arc::new(Job::of(todo, &mut prepared, lane.kept, lane.by_query));
                running.push_back((self.spawn(lane.run, &job), job));
            }
            let Some((first, job)) = running.pop_front() else {
                break;
            };
            let ended = ended_of(first.await, &job);
            if ended.refused {
                refused.push(job);
                continue;
            }
            lane.progress.finished(&ended.result);
            all.push(ended);
        }
        (all, refused)
    }

    async fn begin(self: &Arc<Self>) -> Result<Run> {
        let died = |error| EngineError::internal_because("the start of a run died", error);
        let resolver = self.plain_resolver();
        let profiles = self.profiles()?;
        // Planning is the work of one core, so what does not wait for the other is done beside it.
        let (engine, session) = (Arc::clone(self), Arc::clone(&resolver));
        let written = WRITTEN_BY_ALL.iter();
        let written = written.filter_map(|(schema, name)| table(schema, name).ok());
        let opened = self.options.lake.open_ahead(written);
        let beside: BoxFuture<'static, Result<_>> = Box::pin(async move {
            let catalogue = engine.catalogue().await?;
            tracing::debug!("definitions are read");
            opened.wait().await;
            tracing::debug!("tables of results are open");
            let before = engine.calculations(&session).await?;
            tracing::debug!("the last calculations are known");
            Ok((catalogue, before))
        });
        let beside = SpawnedTask::spawn(beside);
        for (schema, name) in READ_BY_ALL {
            self.hold(&resolver, schema, name).await?;
            tracing::debug!(schema, name, "a relation is held");
        }
        let inputs = self.inputs(&resolver).await?;
        tracing::debug!("versions of sources are known");
        let (catalogue, before) = beside.await.map_err(died)??;
        let unfinished = self.unfinished().await?;
        let part = |share| {
            let runtime = self.warehouse.template.runtime_env();
            QueryMemory::of(runtime, self.memory_bytes() / share)
        };
        Ok(Run {
            resolver,
            unfinished,
            catalogue,
            profiles,
            inputs,
            before,
            stamp: stamp_of(self.now()),
            shared: Shared::new(&part(COUNTED_SHARE).runtime().memory_pool),
            found: part(FOUND_SHARE),
        })
    }

    /// Holds what queries of these indicators read more than once. Values that are rolled up read the
    /// calendar and the areas once for all, and residents for each way in which they are divided.
    async fn hold_for(
        self: &Arc<Self>,
        run: &Run,
        stale: &[Todo<'_>],
        by_query: bool,
    ) -> Result<()> {
        let mut reads: BTreeSet<RelationName> = BTreeSet::new();
        for todo in stale {
            let Some(own) = &todo.reads else { continue };
            match &todo.compiled.roll_up {
                Some(roll_up) if !by_query => {
                    reads.extend(own.components.iter().cloned());
                    let residents = roll_up.residents.as_ref();
                    let residents = residents.and_then(|own| reads_of(&own.sql).ok());
                    reads.extend(residents.into_iter().flatten());
                }
                _ => reads.extend(own.all.iter().cloned()),
            }
        }
        let sources = run.resolver.warehouse().models.sources(&reads);
        let needed = READ_BY_MANY.into_iter();
        let needed =
            needed.filter(|(schema, name)| sources.contains(&RelationName::new(*schema, *name)));
        let holding = needed.map(|(schema, name)| {
            let (engine, session) = (Arc::clone(self), Arc::clone(&run.resolver));
            let holding: BoxFuture<'static, Result<()>> =
                Box::pin(async move { engine.hold(&session, schema, name).await });
            SpawnedTask::spawn(holding)
        });
        for holding in holding.collect::<Vec<_>>() {
            let died = |error| EngineError::internal_because("the start of a run died", error);
            holding.await.map_err(died)??;
        }
        Ok(())
    }

    /// Reads a relation once and keeps its rows for everything else that this session plans.
    async fn hold(&self, resolver: &Arc<Resolver>, schema: &str, name: &str) -> Result<()> {
        let Some(table) = resolver.table(schema, name).await? else {
            return Ok(());
        };
        let rows = self
            .run(resolver, &format!("SELECT * FROM {schema}.{name}"))
            .await?;
        let columns = rows
            .first()
            .map_or_else(|| table.schema(), RecordBatch::schema);
        let held = MemTable::try_new(columns, vec![rows])?;
        resolver.put_instead(RelationName::new(schema, name), Arc::new(held));
        Ok(())
    }

    pub(crate) fn profiles(&self) -> Result<Profiles> {
        let files = definition_files(self, "definitions/disclosure")?;
        Profiles::parse(&files).map_err(|problems| EngineError::Definitions { problems })
    }

    /// Every pass that the indicators of a batch share.
    async fn shared(
        &self,
        run: &Run,
        batch: &[Todo<'_>],
        kept: &Arc<Kept>,
        progress: &dyn CalcProgress,
    ) -> (Prepared, Vec<ScanReport>) {
        let batch = batch.iter().map(|todo| (todo.indicator, &todo.compiled));
        let (scans, _) = scans_of(batch, kept);
        let mut prepared = Prepared::new();
        let mut reports = Vec::new();
        for scan in scans {
            progress.scanning(&scan.table);
            let breakdowns = run.catalogue.breakdowns();
            let (found, report) = self
                .run_scan(&run.resolver, scan, kept, breakdowns, &run.found)
                .await;
            prepared.extend(found);
            reports.push(report);
            tracing::debug!("a pass has ended");
        }
        (prepared, reports)
    }

    fn spawn(self: &Arc<Self>, run: &Arc<Run>, job: &Arc<Job>) -> SpawnedTask<Ended> {
        let one = Arc::clone(self).one(Arc::clone(run), Arc::clone(job));
        let work: BoxFuture<'static, Ended> = Box::pin(one);
        SpawnedTask::spawn(work)
    }

    /// Computes one indicator; what goes wrong is told in the result.
    async fn one(self: Arc<Self>, run: Arc<Run>, job: Arc<Job>) -> Ended {
        let started = Instant::now();
        let mut result = job.unfinished();
        let ended = Box::pin(self.one_of(&run, &job)).await;
        result.seconds = started.elapsed().as_secs_f64();
        match ended {
            Ok((fingerprint, computed)) => {
                result.component_rows = computed.component_rows;
                result.kept_rows = computed.kept_rows;
                result.value_rows = computed.value_rows;
                result.suppressed = computed.suppressed;
                let record = computed.record.clone();
                let calculation = Calculation::of(&run, &job, fingerprint, &result, record);
                Ended {
                    result,
                    computed: Some((calculation, computed)),
                    refused: false,
                }
            }
            Err(error) => Ended::failed(result, &error),
        }
    }

    async fn one_of(&self, run: &Run, job: &Job) -> Result<(String, Computed)> {
        let indicator = find(&run.catalogue, &job.id)?;
        let fingerprint = match &job.fingerprint {
            Some(fingerprint) => fingerprint.clone(),
            None => {
                let reads = Reads::of(&job.compiled)?;
                self.fingerprint_in(run, indicator, &job.compiled, &reads)
                    .await?
            }
        };
        let profile = profile_of(run, indicator)?;
        let computed = self.compute_indicator(run, indicator, profile, job).await?;
        Ok((fingerprint, computed))
    }

    async fn fingerprint_in(
        &self,
        run: &Run,
        indicator: &Indicator,
        compiled: &Compiled,
        reads: &Reads,
    ) -> Result<String> {
        let profile = format!("{:?}", profile_of(run, indicator)?);
        let of = (indicator, compiled, reads);
        self.fingerprint(&run.resolver, &run.inputs, of, &profile)
            .await
    }

    /// The queries of indicators, and what these read: `None` where that cannot be told. Reading long
    /// texts is the work of one core for each.
    async fn compiled(
        &self,
        run: &Run,
        indicators: &[&Indicator],
    ) -> Result<Vec<(Compiled, Option<Reads>)>> {
        let lanes = self.options.target_partitions.max(1);
        let lane = indicators.len().div_ceil(lanes).max(1);
        let lanes = indicators.chunks(lane).map(|own| {
            let catalogue = Arc::clone(&run.catalogue);
            let own: Vec<Indicator> = own.iter().copied().cloned().collect();
            SpawnedTask::spawn_blocking(move || {
                let own = own.iter().map(|indicator| catalogue.compile(indicator));
                own.map(|compiled| {
                    let reads = Reads::of(&compiled).ok();
                    (compiled, reads)
                })
                .collect::<Vec<_>>()
            })
        });
        let lanes: Vec<_> = lanes.collect();
        let mut compiled = Vec::with_capacity(indicators.len());
        for lane in lanes {
            let died = |error| EngineError::internal_because("reading definitions died", error);
            compiled.extend(lane.await.map_err(died)?);
        }
        Ok(compiled)
    }

    /// Components from the tables, values from the components.
    async fn compute_indicator(
        &self,
        run: &Run,
        indicator: &Indicator,
        profile: &Profile,
        job: &Job,
    ) -> Result<Computed> {
        let breakdowns = run.catalogue.breakdowns();
        let resolver = run.resolver.fork();
        let mut kept = self.kept_for(indicator, job, breakdowns).await;
        let rolled_up = job.compiled.roll_up.as_ref().filter(|_| !job.by_query);
        let mut components = Vec::new();
        let mut making: Vec<Making> = Vec::new();
        let mut cells = BTreeMap::new();
        let mut kept_rows = 0;
        // Let go when the indicator is done.
        let mut memory = Vec::new();
        let pool = &self.warehouse.template.runtime_env().memory_pool;
        for component in &job.compiled.components {
            let name = &component.name;
            let mut found = None;
            if let Some(own) = job.prepared.get(name) {
                let (cells, held) = own.read(pool).await?;
                memory.push(held);
                found = Some(cells);
            }
            let mut prepared = found.as_ref();
            let mut joined = None;
            if job.kept.read_for(&job.id, name).is_some() {
                // What a pass found of changed slices is not the component.
                let found = kept.as_mut().map(|kept| {
                    let of = (job.id.as_str(), name.as_str());
                    job.kept.joined(of, kept, prepared)
                });
                prepared = None;
                match found {
                    Some(Ok(found)) => joined = Some(found),
                    Some(Err(error)) => not_kept(&job.id, &error),
                    None => {}
                }
            }
            if let (Some(own), Some(_), None) = (prepared, rolled_up, &joined) {
                cells.insert(name.clone(), own.clone());
                making.push(sorted_cells(indicator, name, breakdowns, own));
                continue;
            }
            let (batches, sets) = match (joined, prepared) {
                (Some((batches, rows)), _) => {
                    kept_rows += rows;
                    (batches, None)
                }
                (None, Some(cells)) => (vec![cells.rows.clone()], cells.sets.as_deref()),
                (None, None) => (self.run(&resolver, &component.sql).await?, None),
            };
            let rows = component_rows(indicator, name, breakdowns, &batches, sets)?;
            let own = prepared.cloned().unwrap_or_else(|| PreparedCells {
                rows: rows.clone(),
                sets: None,
            });
            cells.insert(name.clone(), own);
            components.push(rows.clone());
            making.push(Box::pin(std::future::ready(Ok(rows))));
        }
        // Sorting and encoding are the work of one core for each. Values need neither, nor do cells wait
        // for values.
        let number = indicator.number();
        let storing = self.store(COMPONENTS, number, making)?;
        let made = async {
            let batches = match rolled_up {
                Some(roll_up) => {
                    self.rolled_up(&resolver, &run.shared, roll_up, cells)
                        .await?
                }
                None => {
                    // The value query reads the fresh components under their public name.
                    let schema = component_schema(breakdowns);
                    let cells = MemTable::try_new(schema, vec![components.clone()])?;
                    resolver.put_instead(RelationName::new("component", "cell"), Arc::new(cells));
                    self.run(&resolver, &job.compiled.value_sql).await?
                }
            };
            value_rows(indicator, breakdowns, profile, &run.stamp, &batches)
        };
        let values = match made.await {
            Ok(values) => values,
            Err(error) => {
                // It is computed again, for want of memory or by the next run, and stored then.
                if let Ok(Ok((_, cells))) = storing.await {
                    let name = table(COMPONENTS.0, COMPONENTS.1)?;
                    self.options.lake.discard_slice(&name, cells).await;
                }
                return Err(error);
            }
        };
        let value_rows = values.restricted.num_rows();
        let made = |rows| -> Vec<Making> { vec![Box::pin(std::future::ready(Ok(rows)))] };
        // Where nothing is hidden both tables have the same rows, which are encoded once.
        let published = match values.are_the_same() {
            true => None,
            false => Some(self.store(PUBLISHED, number, made(values.published.clone()))?),
        };
        let restricted = self.store(RESTRICTED, number, made(values.restricted))?;
        let stored = |ended: std::result::Result<Result<(_, StoredSlice)>, _>| {
            ended.map_err(|error| EngineError::internal_because("storing rows died", error))?
        };
        let (components, stored_cells) = stored(storing.await)?;
        let component_rows: usize = components.iter().map(RecordBatch::num_rows).sum();
        let restricted = stored(restricted.await)?.1;
        let published = match published {
            Some(storing) => stored(storing.await)?.1,
            None => match self.copied(&restricted).await? {
                Some(copied) => copied,
                None => {
                    let storing = self.store(PUBLISHED, number, made(values.published))?;
                    stored(storing.await)?.1
                }
            },
        };
        Ok(Computed {
            record: job.kept.record(&job.compiled, &components, &stored_cells),
            components: stored_cells,
            restricted,
            published,
            component_rows: component_rows as u64,
            kept_rows: kept_rows as u64,
            value_rows: value_rows as u64,
            suppressed: values.suppressed,
        })
    }

    /// Values of which none is hidden, stored as published too; `None` where they must be written anew.
    async fn copied(&self, restricted: &StoredSlice) -> Result<Option<StoredSlice>> {
        let (from, to) = (
            table(RESTRICTED.0, RESTRICTED.1)?,
            table(PUBLISHED.0, PUBLISHED.1)?,
        );
        let copied = self.options.lake.copy_slice(&from, restricted, &to).await;
        copied.map_err(|error| not_written(&to, error))
    }

    /// The stored cells of an indicator that are kept; `None` when there are none, or they cannot be
    /// had.
    async fn kept_for(
        &self,
        indicator: &Indicator,
        job: &Job,
        breakdowns: &[String],
    ) -> Option<KeptCells> {
        let of = (job.id.as_str(), indicator.number());
        let kept = Box::pin(self.kept_cells(&job.kept, of, breakdowns)).await;
        kept.unwrap_or_else(|error| {
            not_kept(&job.id, &error);
            None
        })
    }

    /// Stores rows of an indicator as they are made, to become visible with the run. Gives them too.
    fn store(
        &self,
        (schema, name): (&str, &str),
        number: i32,
        making: Vec<Making>,
    ) -> Result<SpawnedTask<Result<(Vec<RecordBatch>, StoredSlice)>>> {
        let name = table(schema, name)?;
        let lake = self.options.lake.clone();
        let work: BoxFuture<'static, Result<_>> = Box::pin(async move {
            let batches = try_join_all(making).await?;
            let rows = SliceRows {
                slice: Slice::new(&[(INDICATOR_NO, number)]),
                batches: batches.clone(),
            };
            let stored = lake.store_slice(&name, rows).await;
            let stored = stored.map_err(|error| not_written(&name, error))?;
            Ok((batches, stored))
        });
        Ok(SpawnedTask::spawn(work))
    }

    /// Makes the tables that results go to.
    async fn ensure_results(&self, catalogue: &Catalogue) -> Result<()> {
        let values = value_schema(catalogue.breakdowns());
        for ((schema, name), columns) in [
            (COMPONENTS, component_schema(catalogue.breakdowns())),
            (RESTRICTED, Arc::clone(&values)),
            (PUBLISHED, values),
        ] {
            let name = table(schema, name)?;
            let lake = &self.options.lake;
            let made = lake.ensure_table(&name, columns, &[INDICATOR_NO]).await;
            made.map_err(|error| not_written(&name, error))?;
        }
        Ok(())
    }

    async fn finish(
        &self,
        run: &Run,
        request: &CalcRequest,
        results: &[IndicatorResult],
        calculations: Vec<Calculation>,
        pending: Pending,
    ) -> Result<()> {
        let record = table("meta", "run")?;
        let group = self.group(&record, run_schema()).await?;
        for (name, stored) in [
            (COMPONENTS, pending.components),
            (RESTRICTED, pending.restricted),
            (PUBLISHED, pending.published),
        ] {
            self.replace(name, stored, group.info()).await?;
        }
        let rows = calculation_rows(&calculations)?;
        self.overwrite(
            &table("meta", "calculation")?,
            calculation_schema(),
            vec![rows],
            group.info(),
        )
        .await?;
        let rows = indicator_rows(&run.catalogue)?;
        let name = table("meta", "indicator")?;
        self.overwrite(&name, indicator_schema(), vec![rows], group.info())
            .await?;
        let rows = run_row(
            run,
            request,
            results,
            self.now(),
            &self.options.engine_version,
        )?;
        let lake = &self.options.lake;
        let made = lake.append(&record, vec![rows], group.info()).await;
        made.map_err(|error| not_written(&record, error))?;
        let folded = lake.fold(&record).await;
        folded.map_err(|error| not_written(&record, error))?;
        let kept = lake.maintain(&record).await;
        kept.map_err(|error| not_written(&record, error))
    }

    /// What a run that ended before its last commit has left in the tables of results.
    async fn unfinished(&self) -> Result<BTreeSet<i32>> {
        let mut numbers = BTreeSet::new();
        for (schema, name) in [COMPONENTS, RESTRICTED, PUBLISHED] {
            let name = table(schema, name)?;
            let lake = &self.options.lake;
            let left = lake.unsettled_slices(&name, INDICATOR_NO).await;
            numbers.extend(left.map_err(|error| {
                EngineError::lake(format!("the table `{name}` could not be opened"), error)
            })?);
        }
        Ok(numbers)
    }

    async fn replace(
        &self,
        (schema, name): (&str, &str),
        stored: Vec<StoredSlice>,
        info: CommitInfo,
    ) -> Result<()> {
        if stored.is_empty() {
            return Ok(());
        }
        let name = table(schema, name)?;
        let lake = &self.options.lake;
        let made = lake.commit_slices(&name, stored, info).await;
        made.map_err(|error| not_written(&name, error))?;
        let kept = lake.maintain(&name).await;
        kept.map_err(|error| not_written(&name, error))
    }

    /// `meta.calculation` as it was; empty when the values it speaks of are not there.
    async fn calculations(
        &self,
        resolver: &Arc<Resolver>,
    ) -> Result<BTreeMap<String, Calculation>> {
        for (schema, name) in [COMPONENTS, RESTRICTED, PUBLISHED] {
            if resolver.version(&table(schema, name)?).await?.is_none() {
                return Ok(BTreeMap::new());
            }
        }
        // Columns came later than the table.
        let Some(known) = resolver.table("meta", "calculation").await? else {
            return Ok(BTreeMap::new());
        };
        let known = known.schema();
        let columns = calculation_schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .filter(|column| known.field_with_name(column).is_ok())
            .collect::<Vec<_>>();
        let sql = format!("SELECT {} FROM meta.calculation", columns.join(", "));
        let mut found = BTreeMap::new();
        for batch in self.run(resolver, &sql).await? {
            let batch = conform(&batch, &plain_schema(&batch.schema()))?;
            for calculation in calculations_of(&batch) {
                found.insert(calculation.indicator.clone(), calculation);
            }
        }
        Ok(found)
    }
}

impl Calculation {
    fn of(
        run: &Run,
        job: &Job,
        fingerprint: String,
        result: &IndicatorResult,
        record: Record,
    ) -> Self {
        let count = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        Self {
            indicator: job.id.clone(),
            number: job.compiled.indicator_no,
            version: job.version.clone(),
            fingerprint,
            run_id: run.stamp.run_id.clone(),
            calculated_at: run.stamp.at.as_microsecond(),
            component_rows: count(result.component_rows),
            value_rows: count(result.value_rows),
            suppressed: count(result.suppressed),
            seconds: result.seconds,
            record,
        }
    }

    /// The result of an indicator that need not be computed again.
    fn unchanged(&self) -> IndicatorResult {
        let count = |rows: i64| u64::try_from(rows).unwrap_or(0);
        IndicatorResult {
            id: self.indicator.clone(),
            version: self.version.clone(),
            outcome: IndicatorOutcome::Unchanged,
            component_rows: count(self.component_rows),
            kept_rows: count(self.component_rows),
            value_rows: count(self.value_rows),
            suppressed: count(self.suppressed),
            seconds: 0.0,
        }
    }
}

/// Takes away what indicators left that no longer exist.
fn retire(run: &Run, after: &mut BTreeMap<String, Calculation>, pending: &mut Pending) -> bool {
    let gone: Vec<(String, i32)> = after
        .values()
        .filter(|calculation| run.catalogue.get(&calculation.indicator).is_none())
        .map(|calculation| (calculation.indicator.clone(), calculation.number))
        .collect();
    for (id, number) in &gone {
        after.remove(id);
        for stored in [
            &mut pending.components,
            &mut pending.restricted,
            &mut pending.published,
        ] {
            let slice = Slice::new(&[(INDICATOR_NO, *number)]);
            stored.push(StoredSlice::without_rows(slice));
        }
    }
    !gone.is_empty()
}

/// The rows of a component that are being put in order, on a core of their own.
fn sorted_cells(
    indicator: &Indicator,
    component: &str,
    breakdowns: &[String],
    cells: &PreparedCells,
) -> Making {
    let (indicator, cells) = (indicator.clone(), cells.clone());
    let (component, breakdowns) = (component.to_owned(), breakdowns.to_vec());
    let sorting = SpawnedTask::spawn_blocking(move || {
        let rows = std::slice::from_ref(&cells.rows);
        component_rows(
            &indicator,
            &component,
            &breakdowns,
            rows,
            cells.sets.as_deref(),
        )
    });
    Box::pin(async move {
        let died = |error| EngineError::internal_because("sorting of cells died", error);
        sorting.await.map_err(died)?
    })
}

fn not_kept(indicator: &str, error: &EngineError) {
    tracing::debug!(indicator, %error, "a component is computed whole after all");
}

/// The indicators of these ids, or all.
pub(crate) fn chosen<'a>(catalogue: &'a Catalogue, ids: &[String]) -> Result<Vec<&'a Indicator>> {
    if ids.is_empty() {
        return Ok(catalogue.indicators().iter().collect());
    }
    let ids: BTreeSet<&String> = ids.iter().collect();
    ids.into_iter().map(|id| find(catalogue, id)).collect()
}

/// The indicator of an id.
pub(crate) fn find<'a>(catalogue: &'a Catalogue, id: &str) -> Result<&'a Indicator> {
    catalogue.get(id).ok_or_else(|| {
        let near = match catalogue.suggest(id) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`tietopohja indicator list` shows those that are".to_owned(),
        };
        EngineError::NotFound {
            message: format!("there is no indicator `{id}`; {near}"),
        }
    })
}

fn profile_of<'a>(run: &'a Run, indicator: &Indicator) -> Result<&'a Profile> {
    let name = indicator.disclosure_profile();
    run.profiles.get(name).ok_or_else(|| {
        let problem: Problem = of_definition(
            indicator.file(),
            format!("there is no disclosure profile `{name}`"),
        )
        .help(format!(
            "the profiles are {}",
            run.profiles.names().join(", ")
        ));
        EngineError::Definitions {
            problems: vec![problem],
        }
    })
}

fn calculations_of(batch: &RecordBatch) -> Vec<Calculation> {
    let text = |name: &str, row: usize| -> Option<String> {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let long = |name: &str, row: usize| -> i64 {
        let column = batch
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<Int64Type>());
        column.map_or(0, |column| column.value(row))
    };
    (0..batch.num_rows())
        .filter_map(|row| {
            let moment = batch
                .column_by_name("calculated_at")?
                .as_primitive_opt::<TimestampMicrosecondType>()?;
            let number = batch
                .column_by_name("number")?
                .as_primitive_opt::<Int32Type>()?;
            let seconds = batch
                .column_by_name("seconds")?
                .as_primitive_opt::<Float64Type>()?;
            Some(Calculation {
                indicator: text("indicator", row)?,
                number: number.value(row),
                version: text("version", row)?,
                fingerprint: text("fingerprint", row)?,
                run_id: text("run_id", row)?,
                calculated_at: moment.value(row),
                component_rows: long("component_rows", row),
                value_rows: long("value_rows", row),
                suppressed: long("suppressed", row),
                seconds: seconds.value(row),
                record: Record {
                    digests: text("component_digests", row),
                    slices: text("component_slices", row),
                    files: text("component_files", row),
                },
            })
        })
        .collect()
}

fn calculation_rows(calculations: &[Calculation]) -> Result<RecordBatch> {
    let text = |of: fn(&Calculation) -> &str| {
        Arc::new(
            calculations
                .iter()
                .map(|row| Some(of(row)))
                .collect::<StringArray>(),
        ) as ArrayRef
    };
    let long = |of: fn(&Calculation) -> i64| {
        Arc::new(
            calculations
                .iter()
                .map(|row| Some(of(row)))
                .collect::<Int64Array>(),
        ) as ArrayRef
    };
    let recorded = |of: fn(&Calculation) -> Option<&str>| {
        Arc::new(calculations.iter().map(of).collect::<StringArray>()) as ArrayRef
    };
    let moments: Vec<i64> = calculations.iter().map(|row| row.calculated_at).collect();
    let seconds: Float64Array = calculations.iter().map(|row| Some(row.seconds)).collect();
    rows(
        calculation_schema(),
        vec![
            text(|row| &row.indicator),
            Arc::new(
                calculations
                    .iter()
                    .map(|row| Some(row.number))
                    .collect::<Int32Array>(),
            ),
            text(|row| &row.version),
            text(|row| &row.fingerprint),
            text(|row| &row.run_id),
            Arc::new(TimestampMicrosecondArray::from(moments).with_timezone("UTC")),
            long(|row| row.component_rows),
            long(|row| row.value_rows),
            long(|row| row.suppressed),
            Arc::new(seconds),
            recorded(|row| row.record.digests.as_deref()),
            recorded(|row| row.record.slices.as_deref()),
            recorded(|row| row.record.files.as_deref()),
        ],
    )
}

/// `meta.indicator`: one row for each output.
fn indicator_rows(catalogue: &Catalogue) -> Result<RecordBatch> {
    let words = |words: Vec<String>| words.join(",");
    let mut columns: Vec<Vec<Option<String>>> = vec![Vec::new(); indicator_schema().fields().len()];
    for indicator in catalogue.indicators() {
        let title = |language| indicator.text(language).map(|text| text.title.clone());
        for output in indicator.outputs() {
            let row = [
                Some(indicator.id().to_owned()),
                Some(indicator.version().to_owned()),
                Some(indicator.kind().to_string()),
                title(Language::Fi),
                title(Language::Sv),
                title(Language::En),
                Some(output.name().to_owned()),
                Some(output.unit().to_owned()),
                Some(indicator.mandate().to_string()),
                Some(indicator.status().to_string()),
                Some(words(
                    indicator.levels().iter().map(ToString::to_string).collect(),
                )),
                Some(words(
                    indicator.grains().iter().map(ToString::to_string).collect(),
                )),
            ];
            for (column, cell) in columns.iter_mut().zip(row) {
                column.push(cell);
            }
        }
    }
    let arrays = columns
        .into_iter()
        .map(|column| Arc::new(StringArray::from(column)) as ArrayRef)
        .collect();
    rows(indicator_schema(), arrays)
}

fn run_row(
    run: &Run,
    request: &CalcRequest,
    results: &[IndicatorResult],
    finished: Timestamp,
    engine_version: &str,
) -> Result<RecordBatch> {
    let failed = results
        .iter()
        .filter(|result| matches!(result.outcome, IndicatorOutcome::Failed { .. }))
        .count();
    let computed: Vec<&str> = results
        .iter()
        .filter(|result| result.outcome == IndicatorOutcome::Computed)
        .map(|result| result.id.as_str())
        .collect();
    let status = match (failed, computed.is_empty()) {
        (0, _) => "done",
        (_, false) => "partly_failed",
        (_, true) => "failed",
    };
    let json = |value: serde_json::Result<String>| {
        value.map_err(|error| EngineError::internal_because("a row of `meta.run`", error))
    };
    let trigger = if request.trigger.is_empty() {
        "manual"
    } else {
        &request.trigger
    };
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let moment = |at: Timestamp| {
        Arc::new(TimestampMicrosecondArray::from(vec![at.as_microsecond()]).with_timezone("UTC"))
            as ArrayRef
    };
    rows(
        run_schema(),
        vec![
            text(&run.stamp.run_id),
            moment(run.stamp.at),
            moment(finished),
            text(trigger),
            text(&json(serde_json::to_string(&computed))?),
            text(status),
            text(engine_version),
            text(&json(serde_json::to_string(&run.resolver.used_versions()))?),
        ],
    )
}

fn rows(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns)
        .map_err(|error| EngineError::internal_because("rows do not fit their table", error))
}
