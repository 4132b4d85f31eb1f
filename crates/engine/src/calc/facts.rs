//! Facts: conformed relations that calculation reads in coded, sorted form.
//!
//! A relation whose header says `-- stored: person_pid, visit_on` is kept as a table of the schema
//! `fact`, which no principal can name, with one slice for each organiser and year of deliveries of its
//! raw table, sorted by those columns: a month of a small county is less than a file costs to open. The relation's text stays its definition: a slice is marked with the digest of all
//! it was computed from (the texts of the relation and of what it reads, the reference tables, the
//! files of the raw slices), and slices with another mark are computed again before a calculation
//! reads them. A relation that cannot be stored for any reason is read as the view it is; the report
//! says so. What may not live here: how slices are stored (the lake), what a scan does with codes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::Column;
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream};
use datafusion::logical_expr::{LogicalPlanBuilder, col, lit};
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::Expr;
use futures::TryStreamExt;
use serde::Serialize;
use tietopohja_domain::Problem;
use tietopohja_lake::{
    CodedFiles, CodedSlices, CodedWriter, CommitInfo, LakeError, Slice, SliceFiles, TableName,
};
use tokio::task::JoinSet;

use super::CalcProgress;
use super::fingerprint::Inputs;
use super::persons::{
    ListId, Met, NumberOf, PersonList, number_column, person_columns, with_number_columns,
};
use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::{RECURSION_LIMIT, Relation, RelationName};
use crate::plain::plain_schema;
use crate::statement;
use crate::tables::table;

/// Raised when the same relation over the same rows would be stored differently.
const FORMAT: &str = "tietopohja-fact/7";

/// The schema of facts.
const SCHEMA: &str = "fact";

/// What tells slices apart: the organiser and the year of a delivery's period.
const PARTITIONS: [&str; 2] = ["county", "delivery_year"];

/// Slices are computed together up to this many rows, so that small ones share the planning.
const GROUP_ROWS: u64 = 256 * 1024;

/// And up to this many slices: each is a term of a condition.
const GROUP_SLICES: usize = 64;

/// Bytes of memory that sorting takes for each row, at most nearly always.
const ROW_BYTES: usize = 512;

/// Digits of a table's name that tell its columns.
const COLUMNS_DIGITS: usize = 8;

/// Rows of a row group: what a core reads at once, so that the codes of its columns stay in its cache.
const ROW_GROUP_ROWS: usize = 64 * 1024;

/// What happened to one stored relation before a calculation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FactReport {
    /// The relation.
    pub relation: String,
    /// Its slices: one for each organiser and year with deliveries in force.
    pub slices: usize,
    /// Of those, slices that were computed and stored anew.
    pub stored: usize,
    /// Slices taken away, because their deliveries are no more.
    pub removed: usize,
    /// Rows stored anew.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
    /// Why the calculation read the view instead.
    pub gave_way: Option<String>,
}

/// A slice: organiser and year.
pub(super) type Key = (i32, i32);

/// The files of a raw table that a slice is computed from.
#[derive(Default)]
struct Landed {
    /// Period and name of each file, in order.
    files: Vec<String>,
    rows: u64,
}

/// What a slice should be computed from, and how many rows that has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) mark: String,
    pub(super) rows: u64,
}

/// A stored relation as it should be.
struct Aim {
    raw: RelationName,
    raw_table: TableName,
    columns: SchemaRef,
    /// The list that its persons are numbered by, if it has any.
    list: Option<ListId>,
    fact: TableName,
    wanted: BTreeMap<Key, Wanted>,
}

/// A stored relation that is up to date.
#[derive(Debug)]
pub(crate) struct Fact {
    relation: RelationName,
    /// The table, whose name tells the columns.
    pub(super) table: String,
    /// What each slice is computed from.
    pub(super) slices: BTreeMap<Key, Wanted>,
    /// `None` of a relation that is only looked at.
    stored: Option<StoredFact>,
}

#[derive(Debug)]
struct StoredFact {
    columns: SchemaRef,
    /// The columns with those of the numbers of persons.
    numbered: SchemaRef,
    table: Arc<dyn TableProvider>,
    files: Option<Arc<CodedFiles>>,
}

impl Fact {
    /// A session that sees what this one sees, and of the relation these slices only.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the relation was only looked at.
    pub(super) fn only(
        &self,
        resolver: &Arc<Resolver>,
        slices: &BTreeSet<Key>,
    ) -> Result<Arc<Resolver>> {
        let Some(stored) = &self.stored else {
            return Err(EngineError::internal("a relation is not stored yet"));
        };
        let name = &self.relation;
        let some =
            |columns: &Schema| as_relation(name, columns, Arc::clone(&stored.table), Some(slices));
        let session = resolver.fork();
        session.put_instead(name.clone(), some(&stored.columns)?);
        let files = stored.files.as_ref();
        let files = files.map(|files| FactFiles::of(files, &stored.numbered, Some(slices)));
        session.put_coded(name.clone(), some(&stored.numbered)?, files);
        Ok(session)
    }
}

/// The files of a stored relation that a session sees, to be read by codes.
#[derive(Debug, Clone)]
pub(crate) struct FactFiles {
    pub(super) files: Arc<CodedFiles>,
    /// The files by number, each with its bytes.
    pub(super) chosen: Vec<(usize, u64)>,
    /// The columns of the relation, with those of the numbers of persons.
    pub(super) columns: SchemaRef,
}

impl FactFiles {
    /// The files of these slices, or all.
    fn of(files: &Arc<CodedFiles>, columns: &SchemaRef, slices: Option<&BTreeSet<Key>>) -> Self {
        let is_wanted = |values: &[Option<i32>]| match (values, slices) {
            (_, None) => true,
            ([Some(county), Some(year)], Some(slices)) => slices.contains(&(*county, *year)),
            (_, Some(_)) => false,
        };
        Self {
            files: Arc::clone(files),
            chosen: files.chosen(is_wanted),
            columns: Arc::clone(columns),
        }
    }
}

/// Slices that are computed by one query, each with its mark.
#[derive(Default, Clone)]
struct Group {
    slices: BTreeMap<Key, String>,
    rows: u64,
}

/// The storing of one relation.
struct Job {
    resolver: Arc<Resolver>,
    raw: RelationName,
    raw_table: TableName,
    fact: TableName,
    sql: String,
    of: RelationName,
    /// The columns of the relation, and with those of the numbers of persons.
    columns: SchemaRef,
    numbered: SchemaRef,
    /// Whether one group is all that is stored.
    is_alone: bool,
    /// The numbers of its persons, if it has any.
    persons: Option<Arc<PersonList>>,
}

impl Engine {
    /// Brings the stored relations up to date that these texts read, and lets the session read them.
    /// Gives those that are, by name.
    pub(crate) async fn refresh_facts(
        self: &Arc<Self>,
        resolver: &Arc<Resolver>,
        inputs: &Inputs,
        reads: &BTreeSet<RelationName>,
        progress: &dyn CalcProgress,
    ) -> (Vec<FactReport>, BTreeMap<String, Fact>) {
        let mut reports = Vec::new();
        let mut facts = BTreeMap::new();
        for name in self.warehouse.models.stored(reads) {
            let Some(relation) = self.warehouse.models.get(&name) else {
                continue;
            };
            let started = Instant::now();
            progress.storing(&name.to_string());
            let mut report = FactReport {
                relation: name.to_string(),
                slices: 0,
                stored: 0,
                removed: 0,
                rows: 0,
                seconds: 0.0,
                gave_way: None,
            };
            let ended =
                Box::pin(self.refresh(resolver, inputs, &name, relation, &mut report)).await;
            match ended {
                Ok(Some(fact)) => {
                    facts.insert(name.to_string(), fact);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(relation = %name, %error, "a relation was not stored");
                    report.gave_way = Some(error.to_string());
                }
            }
            report.seconds = started.elapsed().as_secs_f64();
            reports.push(report);
        }
        (reports, facts)
    }

    /// The stored relations that these texts read, as a calculation would bring them up to date.
    /// Stores nothing; what could not be stored is left out.
    pub(crate) async fn planned_facts(
        &self,
        resolver: &Arc<Resolver>,
        inputs: &Inputs,
        reads: &BTreeSet<RelationName>,
    ) -> BTreeMap<String, Fact> {
        let mut facts = BTreeMap::new();
        for name in self.warehouse.models.stored(reads) {
            let Some(relation) = self.warehouse.models.get(&name) else {
                continue;
            };
            let aim = Box::pin(self.aim(resolver, inputs, &name, relation, false)).await;
            if let Ok(Some(aim)) = aim {
                let fact = Fact {
                    relation: name.clone(),
                    table: aim.fact.to_string(),
                    slices: aim.wanted,
                    stored: None,
                };
                facts.insert(name.to_string(), fact);
            }
        }
        facts
    }

    /// What a stored relation should be; `None` when nothing of it has landed. The list of persons that
    /// it needs is made when `make` is said.
    async fn aim(
        &self,
        resolver: &Arc<Resolver>,
        inputs: &Inputs,
        name: &RelationName,
        relation: &Relation,
        make: bool,
    ) -> Result<Option<Aim>> {
        let sources = self.warehouse.models.sources([name]);
        let Some(raw) = sources.iter().find(|source| source.schema == "raw") else {
            return Ok(None);
        };
        let columns = self.fact_columns(resolver, name, relation).await?;
        let raw_table = table("raw", &raw.name)?;
        let Some(raw_version) = resolver.version(&raw_table).await? else {
            return Ok(None);
        };
        let list = match person_columns(&columns).is_empty() {
            true => None,
            // While there is no list there are no facts that name it.
            false => Some(self.person_list(make).await?.unwrap_or_default()),
        };
        let fact = table(SCHEMA, &table_name(name, &columns, list))?;
        let lake = &self.options.lake;
        let landed = lake.slices(&raw_table, Some(raw_version)).await;
        let Some(landed) = landed.map_err(|error| unread(&raw_table, error))? else {
            return Ok(None);
        };
        let landed = landed_by_key(&raw_table, landed.slices)?;
        let wanted = self
            .wanted(resolver, inputs, name, &sources, landed)
            .await?;
        Ok(Some(Aim {
            raw: raw.clone(),
            raw_table,
            columns,
            list,
            fact,
            wanted,
        }))
    }

    async fn refresh(
        self: &Arc<Self>,
        resolver: &Arc<Resolver>,
        inputs: &Inputs,
        name: &RelationName,
        relation: &Relation,
        report: &mut FactReport,
    ) -> Result<Option<Fact>> {
        let Some(aim) = self.aim(resolver, inputs, name, relation, true).await? else {
            return Ok(None);
        };
        let Aim {
            columns,
            list,
            fact,
            wanted,
            ..
        } = aim;
        let numbered = match list {
            None => Arc::clone(&columns),
            Some(list) => with_number_columns(&columns, list),
        };
        let unread = |error| unread(&fact, error);
        let lake = &self.options.lake;
        lake.sweep_coded(&fact).await.map_err(unread)?;
        report.slices = wanted.len();
        let present = lake.slices(&fact, None).await.map_err(unread)?;
        let (known, present) = match present {
            Some(present) => (Some(present.version), by_key(&fact, present.slices)?),
            None => (None, BTreeMap::new()),
        };
        let stale: Vec<(Key, &Wanted)> = wanted
            .iter()
            .filter(|(key, wanted)| {
                !present
                    .get(key)
                    .is_some_and(|slice| slice.has_mark(&wanted.mark))
            })
            .map(|(key, wanted)| (*key, wanted))
            .collect();
        let gone: Vec<Key> = present
            .keys()
            .filter(|key| !wanted.contains_key(key))
            .copied()
            .collect();
        let version = match known {
            Some(version) if stale.is_empty() && gone.is_empty() => version,
            None if wanted.is_empty() => return Ok(None),
            _ => {
                report.stored = stale.len();
                report.removed = gone.len();
                let job = Job {
                    resolver: Arc::clone(resolver),
                    raw: aim.raw,
                    raw_table: aim.raw_table,
                    fact: fact.clone(),
                    sql: sorted_sql(name, relation, &columns, list),
                    of: name.clone(),
                    columns: Arc::clone(&columns),
                    numbered: Arc::clone(&numbered),
                    is_alone: false,
                    persons: None,
                };
                self.store_slices(job, list, stale, &gone, report).await?
            }
        };
        // Another calculation may have stored slices of other deliveries meanwhile.
        let seen = lake.slices(&fact, Some(version)).await.map_err(unread)?;
        let seen = by_key(&fact, seen.map(|seen| seen.slices).unwrap_or_default())?;
        let is_right = seen.len() == wanted.len()
            && wanted.iter().all(|(key, wanted)| {
                seen.get(key)
                    .is_some_and(|slice| slice.has_mark(&wanted.mark))
            });
        if !is_right {
            return Err(unread(LakeError::Busy {
                table: fact.clone(),
            }));
        }
        let table = lake.provider(&fact, Some(version)).await.map_err(unread)?;
        let files = lake.coded_files(&fact, version).await.map_err(unread)?;
        let files = files.map(Arc::new);
        let whole = |columns: &Schema| as_relation(name, columns, Arc::clone(&table), None);
        resolver.put_instead(name.clone(), whole(&columns)?);
        let all = files.as_ref();
        let all = all.map(|files| FactFiles::of(files, &numbered, None));
        resolver.put_coded(name.clone(), whole(&numbered)?, all);
        resolver.pin(fact.clone(), version);
        Ok(Some(Fact {
            relation: name.clone(),
            table: fact.to_string(),
            slices: wanted,
            stored: Some(StoredFact {
                columns,
                numbered,
                table,
                files,
            }),
        }))
    }

    /// The slices that there should be, each with its mark.
    async fn wanted(
        &self,
        resolver: &Arc<Resolver>,
        inputs: &Inputs,
        name: &RelationName,
        sources: &BTreeSet<RelationName>,
        landed: BTreeMap<Key, Landed>,
    ) -> Result<BTreeMap<Key, Wanted>> {
        let mut hasher = blake3::Hasher::new();
        let mut part = |text: &str| {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        };
        part(FORMAT);
        for (read, text) in self.warehouse.models.texts([name]) {
            part(&read.to_string());
            part(text);
        }
        for source in sources {
            part(&source.to_string());
            if source.schema == "reference" {
                part(&self.reference_state(resolver, inputs, source).await?);
            }
        }
        let wanted = landed.into_iter().map(|(key, landed)| {
            let mut of_slice = hasher.clone();
            for file in &landed.files {
                of_slice.update(file.as_bytes()).update(b"\n");
            }
            let digest = of_slice.finalize().to_hex();
            let mark = digest.as_str().chars().take(32).collect();
            let rows = landed.rows;
            (key, Wanted { mark, rows })
        });
        Ok(wanted.collect())
    }

    /// The columns of a relation, which must be able to tell its slices apart.
    async fn fact_columns(
        &self,
        resolver: &Arc<Resolver>,
        name: &RelationName,
        relation: &Relation,
    ) -> Result<SchemaRef> {
        let wrong = |message: String| EngineError::Definitions {
            problems: vec![Problem::new(relation.file.clone(), message)],
        };
        // Of a resolver of its own, so that the session does not keep the view's plan.
        let afresh = resolver.afresh();
        let Some(view) = afresh.table(&name.schema, &name.name).await? else {
            return Err(wrong(format!("`{name}` is not there")));
        };
        let columns = plain_schema(&view.schema());
        let of = |column: &str| columns.field_with_name(column).ok();
        if of("period").is_none_or(|field| *field.data_type() != DataType::Int32) {
            return Err(wrong(
                "a stored relation has the column `period` of its staging relation".to_owned(),
            ));
        }
        if PARTITIONS.iter().any(|column| of(column).is_some()) {
            return Err(wrong(
                "a stored relation has `county_code` and `period`, and no column `county` or `delivery_year`"
                    .to_owned(),
            ));
        }
        let order = relation.stored.iter().map(String::as_str);
        for column in order.chain(["county_code"]) {
            if of(column).is_none() {
                return Err(wrong(format!("there is no column `{column}` to sort by")));
            }
        }
        Ok(columns)
    }

    /// Computes slices and commits them; gives the version that holds them.
    async fn store_slices(
        self: &Arc<Self>,
        mut job: Job,
        list: Option<ListId>,
        stale: Vec<(Key, &Wanted)>,
        gone: &[Key],
        report: &mut FactReport,
    ) -> Result<i64> {
        let (fact, relation) = (job.fact.clone(), job.of.name.clone());
        let failed =
            |error| EngineError::lake(format!("the table `{fact}` could not be written"), error);
        let lake = &self.options.lake;
        lake.ensure_table(&fact, table_schema(&job.numbered), &PARTITIONS)
            .await
            .map_err(failed)?;
        let groups = groups(stale);
        job.is_alone = groups.len() == 1;
        if let Some(list) = list {
            let mut met = Met::new(self);
            for group in &groups {
                Box::pin(self.meet(&job, group, &mut met)).await?;
            }
            job.persons = Some(Arc::new(self.number_persons(list, met).await?));
        }
        let job = Arc::new(job);
        let mut waiting = VecDeque::from(groups);
        let mut lanes = self.target_partitions().max(1);
        let mut running = JoinSet::new();
        let mut stored = CodedSlices::default();
        loop {
            while running.len() < lanes
                && let Some(group) = waiting.pop_front()
            {
                let (engine, job, is_alone) = (Arc::clone(self), Arc::clone(&job), lanes == 1);
                running.spawn(async move {
                    let ended = engine.store_group(&job, group.clone()).await;
                    (group, is_alone, ended)
                });
            }
            let Some(joined) = running.join_next().await else {
                break;
            };
            let died = |error| EngineError::internal_because("a part of storing died", error);
            match joined.map_err(died)? {
                (_, _, Ok(slices)) => stored.extend(slices),
                // Sorts that spill want more memory together than there is; each has it alone.
                (group, false, Err(EngineError::Resource { .. })) => {
                    lanes = 1;
                    waiting.push_front(group);
                }
                (_, _, Err(error)) => return Err(error),
            }
        }
        for key in gone {
            stored.drop_slice(slice_of(*key));
        }
        report.rows = stored.rows;
        let version = lake
            .replace_coded(&fact, stored, CommitInfo::default())
            .await
            .map_err(failed)?;
        lake.maintain(&fact).await.map_err(failed)?;
        // Tables of the same relation with columns that it had before.
        let is_old =
            |name: &str| name != fact.table() && relation_of(name) == Some(relation.as_str());
        lake.drop_tables(SCHEMA, &is_old).await.map_err(failed)?;
        Ok(version)
    }

    /// Gathers the persons in the rows of a group of slices.
    async fn meet(&self, job: &Job, group: &Group, met: &mut Met) -> Result<()> {
        let lost = || EngineError::internal("the persons of a stored relation");
        for column in person_columns(&job.columns) {
            let sql = format!(
                "SELECT DISTINCT CAST(county_code AS INT) AS county, \"{column}\" AS member FROM {} \
                 WHERE \"{column}\" IS NOT NULL",
                job.of
            );
            let mut stream = self
                .rows_of(job, group, &sql, self.target_partitions())
                .await?;
            while let Some(batch) = stream.try_next().await? {
                let [county, members] = batch.columns() else {
                    return Err(lost());
                };
                let county = county.as_primitive_opt::<Int32Type>().ok_or_else(lost)?;
                met.add(county, members)?;
            }
        }
        Ok(())
    }

    /// The rows that a query over a relation gives, when it sees a group of slices and no more.
    async fn rows_of(
        &self,
        job: &Job,
        group: &Group,
        sql: &str,
        partitions: usize,
    ) -> Result<SendableRecordBatchStream> {
        let resolver = job.resolver.afresh();
        let Some(raw) = resolver.stored(&job.raw_table).await? else {
            return Err(EngineError::internal("a raw table has gone"));
        };
        resolver.put_instead(job.raw.clone(), only(&job.raw, raw, group.slices.keys())?);
        let state = resolver.inner_state();
        let config = state.config().clone().with_target_partitions(partitions);
        let mut state = SessionStateBuilder::new_from_existing(state)
            .with_config(config)
            .build();
        if let Some(persons) = &job.persons {
            let number_of = Arc::new(NumberOf::function(persons));
            state.register_udf(number_of)?;
        }
        state.mark_start_execution();
        let parsed = statement::parse(sql, RECURSION_LIMIT)?;
        let plan = state.statement_to_plan(parsed.tree).await?;
        let physical = state.create_physical_plan(&plan).await?;
        Ok(execute_stream(physical, state.task_ctx())?)
    }

    /// Computes a group of slices.
    async fn store_group(self: Arc<Self>, job: &Job, group: Group) -> Result<CodedSlices> {
        let failed = |error| {
            EngineError::lake(
                format!("the table `{}` could not be written", job.fact),
                error,
            )
        };
        // Other groups use the other cores. One that is alone uses them all, where it need not spill:
        // sorts that do, and what merges them, want more memory together than there is.
        let bytes =
            usize::try_from(group.rows).map_or(usize::MAX, |rows| rows.saturating_mul(ROW_BYTES));
        let partitions = match job.is_alone && bytes <= self.options.memory_bytes {
            true => self.target_partitions(),
            false => 1,
        };
        let mut stream = self.rows_of(job, &group, &job.sql, partitions).await?;
        let mut writer = self
            .options
            .lake
            .coded_writer(&job.fact, ROW_GROUP_ROWS)
            .await
            .map_err(failed)?;
        let mut left = group.slices;
        let mut open: Option<Key> = None;
        while let Some(batch) = stream.try_next().await? {
            for (key, rows) in runs(&batch)? {
                if open != Some(key) {
                    // A slice comes once, and only if it was asked for.
                    let Some(mark) = left.remove(&key) else {
                        return Err(EngineError::UserSql {
                            message: format!(
                                "a row of `{}` is not of the organiser and year of its delivery",
                                job.of
                            ),
                        });
                    };
                    writer.begin(slice_of(key), &mark).await.map_err(failed)?;
                    open = Some(key);
                }
                writer.write(rows).await.map_err(failed)?;
            }
        }
        finish(writer, left).await.map_err(failed)
    }
}

/// Ends a writer; the slices that had no rows are stored as empty.
async fn finish(
    mut writer: CodedWriter,
    empty: BTreeMap<Key, String>,
) -> Result<CodedSlices, LakeError> {
    for (key, mark) in empty {
        writer.begin(slice_of(key), &mark).await?;
    }
    writer.finish().await
}

/// The rows of a relation, with the numbers of their persons, in the order in which they are stored,
/// persons by their numbers: the key makes it complete.
fn sorted_sql(
    name: &RelationName,
    relation: &Relation,
    columns: &Schema,
    list: Option<ListId>,
) -> String {
    let persons = person_columns(columns);
    let number_of = |column: &str| number_column(column, list.unwrap_or_default());
    let numbers = persons.iter().map(|column| {
        let number = number_of(column);
        format!(", {}(\"{column}\") AS \"{number}\"", NumberOf::NAME)
    });
    let numbers: String = numbers.collect();
    let mut order = PARTITIONS.map(str::to_owned).to_vec();
    for column in relation.stored.iter().chain(&relation.key) {
        let column = match persons.contains(&column.as_str()) {
            true => format!("\"{}\"", number_of(column)),
            false => column.clone(),
        };
        if !order.contains(&column) && column != "county_code" {
            order.push(column);
        }
    }
    format!(
        "SELECT *, CAST(county_code AS INT) AS county, CAST(period / 100 AS INT) AS delivery_year{numbers} FROM {name} ORDER BY {}",
        order.join(", ")
    )
}

/// The name of the table of a relation's facts. Other columns, another way of storing, or another list
/// of persons are another table: none of them can be changed in place.
fn table_name(name: &RelationName, columns: &Schema, list: Option<ListId>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORMAT.as_bytes()).update(b"\n");
    for field in columns.fields() {
        let line = format!("{} {}\n", field.name(), field.data_type());
        hasher.update(line.as_bytes());
    }
    if let Some(list) = list {
        hasher.update(number_column("", list).as_bytes());
    }
    let digest = hasher.finalize().to_hex();
    let short: String = digest.as_str().chars().take(COLUMNS_DIGITS).collect();
    format!("{}_{short}", name.name)
}

/// The name of the relation whose facts a table holds.
fn relation_of(table: &str) -> Option<&str> {
    let (relation, digits) = table.rsplit_once('_')?;
    let is_digest = digits.len() == COLUMNS_DIGITS
        && digits
            .chars()
            .all(|digit| digit.is_ascii_hexdigit() && !digit.is_ascii_uppercase());
    is_digest.then_some(relation)
}

/// The table of a relation's facts: its columns, and those of the slice.
fn table_schema(columns: &Schema) -> SchemaRef {
    let partitions = PARTITIONS.map(|column| Arc::new(Field::new(column, DataType::Int32, true)));
    let fields = columns.fields().iter().cloned().chain(partitions);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The facts with the columns of the relation, in its order: all of them, or some slices.
fn as_relation(
    name: &RelationName,
    columns: &Schema,
    facts: Arc<dyn TableProvider>,
    slices: Option<&BTreeSet<Key>>,
) -> Result<Arc<dyn TableProvider>> {
    let columns: Vec<Expr> = columns
        .fields()
        .iter()
        .map(|field| Expr::Column(Column::from_name(field.name())))
        .collect();
    let mut plan = LogicalPlanBuilder::scan(name.to_string(), provider_as_source(facts), None)?;
    if let Some(slices) = slices {
        plan = plan.filter(in_slices(slices))?;
    }
    let plan = plan.project(columns)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// Whether a row of facts is of one of these slices: a term for each organiser.
fn in_slices(slices: &BTreeSet<Key>) -> Expr {
    let [of_county, of_year] = PARTITIONS;
    let mut years: BTreeMap<i32, Vec<Expr>> = BTreeMap::new();
    for (county, year) in slices {
        years.entry(*county).or_default().push(lit(*year));
    }
    years
        .into_iter()
        .map(|(county, years)| {
            let of_years = col(of_year).in_list(years, false);
            col(of_county).eq(lit(county)).and(of_years)
        })
        .reduce(Expr::or)
        .unwrap_or(lit(false))
}

fn unread(table: &TableName, error: LakeError) -> EngineError {
    EngineError::lake(format!("the table `{table}` could not be read"), error)
}

/// Some slices of a raw table.
fn only<'a>(
    name: &RelationName,
    raw: Arc<dyn TableProvider>,
    keys: impl Iterator<Item = &'a Key>,
) -> Result<Arc<dyn TableProvider>> {
    let condition = keys
        .map(|(county, year)| {
            let of_year = col("period").between(lit(year * 100), lit(year * 100 + 99));
            col("county").eq(lit(*county)).and(of_year)
        })
        .reduce(Expr::or)
        .unwrap_or(lit(false));
    let plan = LogicalPlanBuilder::scan(name.to_string(), provider_as_source(raw), None)?
        .filter(condition)?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// Small slices together, large ones alone.
fn groups(stale: Vec<(Key, &Wanted)>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (key, wanted) in stale {
        let has_room = groups.last().is_some_and(|group| {
            group.slices.len() < GROUP_SLICES && group.rows + wanted.rows <= GROUP_ROWS
        });
        if !has_room {
            groups.push(Group::default());
        }
        if let Some(group) = groups.last_mut() {
            group.rows += wanted.rows;
            group.slices.insert(key, wanted.mark.clone());
        }
    }
    groups
}

/// The parts of a batch in which organiser and year stay the same.
fn runs(batch: &RecordBatch) -> Result<Vec<(Key, RecordBatch)>> {
    let column = |name: &str| -> Result<Int32Array> {
        let found = batch
            .column_by_name(name)
            .and_then(|column| column.as_primitive_opt::<Int32Type>());
        match found {
            Some(column) if column.null_count() == 0 => Ok(column.clone()),
            _ => Err(EngineError::internal(format!(
                "rows without `{name}` cannot be stored"
            ))),
        }
    };
    let (county, year) = (column("county")?, column("delivery_year")?);
    let keys: Vec<Key> = county
        .values()
        .iter()
        .copied()
        .zip(year.values().iter().copied())
        .collect();
    let mut from = 0;
    Ok(keys
        .chunk_by(|a, b| a == b)
        .filter_map(|run| {
            let rows = batch.slice(from, run.len());
            from += run.len();
            Some((*run.first()?, rows))
        })
        .collect())
}

fn slice_of((county, year): Key) -> Slice {
    let [of_county, of_year] = PARTITIONS;
    Slice::new(&[(of_county, county), (of_year, year)])
}

fn key_of(name: &TableName, values: &[i32]) -> Result<Key> {
    match values {
        [county, time] => Ok((*county, *time)),
        _ => Err(EngineError::internal(format!(
            "`{name}` is not partitioned by organiser and time"
        ))),
    }
}

/// The slices of a raw table, which are of organiser and period, by organiser and year.
fn landed_by_key(
    name: &TableName,
    slices: BTreeMap<Vec<i32>, SliceFiles>,
) -> Result<BTreeMap<Key, Landed>> {
    let mut landed: BTreeMap<Key, Landed> = BTreeMap::new();
    for ((county, period), files) in by_key(name, slices)? {
        let of_year = landed.entry((county, period / 100)).or_default();
        let names = files.identities().map(|file| format!("{period} {file}"));
        of_year.files.extend(names);
        of_year.rows += files.rows.unwrap_or(GROUP_ROWS);
    }
    Ok(landed)
}

fn by_key(
    name: &TableName,
    slices: BTreeMap<Vec<i32>, SliceFiles>,
) -> Result<BTreeMap<Key, SliceFiles>> {
    slices
        .into_iter()
        .map(|(key, files)| Ok((key_of(name, &key)?, files)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_slices_are_computed_together_and_large_ones_alone() {
        let wanted = |rows: u64| Wanted {
            mark: rows.to_string(),
            rows,
        };
        for (rows, sizes) in [
            (vec![1, 2, 3], vec![3]),
            (vec![GROUP_ROWS, 1, 1], vec![1, 2]),
            (vec![1, GROUP_ROWS, 1], vec![1, 1, 1]),
            (
                vec![1; 2 * GROUP_SLICES + 1],
                vec![GROUP_SLICES, GROUP_SLICES, 1],
            ),
            (vec![], vec![]),
        ] {
            let all: Vec<Wanted> = rows.iter().map(|rows| wanted(*rows)).collect();
            let stale = all
                .iter()
                .enumerate()
                .map(|(at, wanted)| ((7, at as i32), wanted))
                .collect();
            let found: Vec<usize> = groups(stale)
                .iter()
                .map(|group| group.slices.len())
                .collect();
            assert_eq!(found, sizes);
        }
    }

    #[test]
    fn a_table_is_named_by_relation_and_columns() {
        let columns = |of: DataType| Schema::new(vec![Field::new("a", of, true)]);
        let name = RelationName::new("conformed", "home_care_visit");
        let long = table_name(&name, &columns(DataType::Int64), None);
        let others = [
            table_name(&name, &columns(DataType::Int32), None),
            table_name(&name, &columns(DataType::Int64), Some(1)),
            table_name(&name, &columns(DataType::Int64), Some(2)),
        ];
        let all: BTreeSet<&String> = others.iter().chain([&long]).collect();
        assert_eq!(all.len(), 4);
        assert_eq!(relation_of(&long), Some("home_care_visit"));
        for other in ["home_care_visit", "home_care_visit_3f2A91c0", "3f2a91c0"] {
            assert_eq!(relation_of(other), None);
        }
    }

    #[test]
    fn rows_are_cut_where_the_slice_changes() {
        let numbers = |values: Vec<i32>| Arc::new(Int32Array::from(values)) as _;
        let batch = RecordBatch::try_from_iter([
            ("county", numbers(vec![7, 7, 7, 8])),
            ("delivery_year", numbers(vec![2_023, 2_023, 2_024, 2_024])),
        ])
        .unwrap();
        let found: Vec<(Key, usize)> = runs(&batch)
            .unwrap()
            .into_iter()
            .map(|(key, rows)| (key, rows.num_rows()))
            .collect();
        assert_eq!(found, [((7, 2_023), 2), ((7, 2_024), 1), ((8, 2_024), 1)]);
    }
}
