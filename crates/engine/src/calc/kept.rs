//! Kept cells: of a component of which a few slices have changed, only those are scanned.
//!
//! A stored relation has a slice for each organiser and year of deliveries, with a mark of all it was
//! made from ([`facts`](super::facts)). A row belongs to one delivery and a delivery to one slice. So
//! the cells of a component that takes rows of such a relation as they are, and keeps their delivery,
//! can be told apart by slice: those of slices with the mark that they had are read from
//! `component.cell`, those of other slices are computed by a scan of these slices alone, and the two
//! together are the component, to the bit.
//!
//! From what the stored cells were computed, `meta.calculation` says ([`Record`]): the digest of each
//! component's query, the marks of the slices, and the files that the cells lie in. Cells are written
//! one commit earlier; those in other files than the recorded ones are of another calculation, and
//! nothing of them is kept. What goes wrong here leaves a component to its own query.
//!
//! What may not live here: how a slice is scanned (`scan.rs`), what a slice is (`facts.rs`). To keep
//! cells of another kind of component: [`digest_of`], which says what they depend on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use serde::Serialize;
use tietopohja_indicators::{Compiled, ComponentSql};
use tietopohja_kernels::list_of_sets;
use tietopohja_lake::{Slice, StoredSlice, TableSlices};

use super::facts::{Fact, Key, Wanted};
use super::fingerprint;
use super::found::PreparedCells;
use crate::catalog::Resolver;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::reads_of;
use crate::plain::{conform, plain_schema, plain_type, to_type};
use crate::tables::{INDICATOR_NO, table};

/// Raised when what is recorded would mean something else.
const FORMAT: &str = "tietopohja-kept/1";

/// Some slices of a stored relation.
pub(crate) type Slices = BTreeSet<Key>;

/// How much of a stored relation a pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SlicesRead {
    /// The slices that it reads.
    pub read: usize,
    /// All slices of the relation.
    pub of: usize,
}

/// From what the stored cells of an indicator were computed: three texts of `meta.calculation`, all
/// of them JSON. None of them where nothing of it can be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Component to the digest of what its cells depend on, beside the slices.
    pub(crate) digests: Option<String>,
    /// Stored relation to the mark of each slice.
    pub(crate) slices: Option<String>,
    /// The files of `component.cell` that hold the cells.
    pub(crate) files: Option<String>,
}

type Digests = BTreeMap<String, String>;
/// By relation and by slice, as `county.year`.
type Marks = BTreeMap<String, BTreeMap<String, String>>;

/// A record that was read.
struct Recorded {
    digests: Digests,
    marks: Marks,
    files: BTreeSet<String>,
}

/// What is done with the cells of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Keep {
    /// Slices whose cells are kept.
    kept: Slices,
    /// Slices that are scanned; cells of slices that are neither are dropped.
    read: Slices,
}

/// What a run keeps of earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The stored relations that are up to date, by name.
    facts: BTreeMap<String, Fact>,
    /// The slice of each delivery.
    deliveries: HashMap<String, Key>,
    /// The version of `component.cell` that holds them.
    version: i64,
    /// By indicator and component, where something is kept.
    keeps: BTreeMap<String, BTreeMap<String, Keep>>,
}

/// Cells of an indicator's components that are kept, with the memory that they stand in.
#[derive(Debug)]
pub(crate) struct KeptCells {
    cells: BTreeMap<String, Vec<RecordBatch>>,
    _memory: MemoryReservation,
}

impl Record {
    fn parsed(&self) -> Option<Recorded> {
        let parsed = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Some(Recorded {
            digests: serde_json::from_str(&parsed(&self.digests)?).ok()?,
            marks: serde_json::from_str(&parsed(&self.slices)?).ok()?,
            files: serde_json::from_str(&parsed(&self.files)?).ok()?,
        })
    }
}

/// The digest of what the cells of a component depend on, beside the slices of the stored relation
/// whose rows it takes; `None` when cells cannot be told apart by slice.
fn digest_of(component: &ComponentSql, facts: &BTreeMap<String, Fact>) -> Option<String> {
    let row = component.row.as_ref().ok()?;
    let fact = facts.get(&row.table)?;
    // Spells count in the months that were delivered, the newest version depends on other rows.
    let is_of_slice = row.delivery.is_some() && row.spell.is_none() && row.latest.is_none();
    let reads = reads_of(&component.sql).ok()?;
    let reads_it_alone = reads.len() == 1 && reads.iter().all(|read| read.to_string() == row.table);
    if !is_of_slice || !reads_it_alone {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    for text in [
        FORMAT,
        fingerprint::FORMAT,
        &row.table,
        &fact.table,
        &component.name,
        &component.sql,
    ] {
        hasher
            .update(&(text.len() as u64).to_le_bytes())
            .update(text.as_bytes());
    }
    Some(hasher.finalize().to_hex().to_string())
}

fn word_of((county, year): Key) -> String {
    format!("{county:02}.{year}")
}

/// Which cells of a component are kept, when its slices had these marks; `None` when it is as well
/// computed whole.
fn keep_of(slices: &BTreeMap<Key, Wanted>, marks: &BTreeMap<String, String>) -> Option<Keep> {
    let mut keep = Keep {
        kept: Slices::new(),
        read: Slices::new(),
    };
    let (mut rows, mut to_read) = (0u64, 0u64);
    for (key, slice) in slices {
        rows += slice.rows;
        if marks.get(&word_of(*key)) == Some(&slice.mark) {
            keep.kept.insert(*key);
        } else {
            keep.read.insert(*key);
            to_read += slice.rows;
        }
    }
    // Reading stored cells has its price too.
    let is_less = keep.read.is_empty() || to_read.saturating_mul(2) <= rows;
    is_less.then_some(keep)
}

/// Slices with their rows in two parts with about as many rows, none of them empty.
fn halved(slices: &[(Key, u64)]) -> Option<[Slices; 2]> {
    let all: u64 = slices.iter().map(|(_, rows)| rows).sum();
    let mut before = 0u64;
    let middle = slices.iter().take_while(|(_, rows)| {
        before += rows;
        before.saturating_mul(2) <= all
    });
    let middle = middle.count().clamp(1, slices.len().checked_sub(1)?.max(1));
    let (first, second) = slices.split_at_checked(middle)?;
    let keys = |part: &[(Key, u64)]| part.iter().map(|(key, _)| *key).collect();
    (!second.is_empty()).then(|| [keys(first), keys(second)])
}

impl Kept {
    /// Nothing is kept, and nothing is recorded of what is computed.
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    /// The slices that must be scanned for a component; `None` when it is computed whole.
    pub(crate) fn read_for(&self, indicator: &str, component: &str) -> Option<&Slices> {
        Some(&self.keep(indicator, component)?.read)
    }

    fn keep(&self, indicator: &str, component: &str) -> Option<&Keep> {
        self.keeps.get(indicator)?.get(component)
    }

    /// How much a pass over some slices of a relation, or all of them, reads.
    pub(crate) fn slices_of(&self, relation: &str, slices: Option<&Slices>) -> Option<SlicesRead> {
        let of = self.facts.get(relation)?.slices.len();
        let read = slices.map_or(of, Slices::len);
        Some(SlicesRead { read, of })
    }

    /// Some slices of a relation, or all of them, in two halves of about as many rows; `None` when it
    /// is not stored or there is but one.
    pub(super) fn halves_of(&self, relation: &str, slices: Option<&Slices>) -> Option<[Slices; 2]> {
        let fact = self.facts.get(relation)?;
        let of = fact.slices.iter();
        let of = of.filter(|(key, _)| slices.is_none_or(|slices| slices.contains(key)));
        halved(
            &of.map(|(key, slice)| (*key, slice.rows))
                .collect::<Vec<_>>(),
        )
    }

    /// Whether every one of these deliveries is of one of the slices.
    pub(super) fn are_of(&self, deliveries: &StringArray, slices: &Slices) -> bool {
        let own = |slice: Option<&Key>| slice.is_some_and(|key| slices.contains(key));
        self.of_slices(deliveries, own).iter().all(|own| *own)
    }

    /// The session in which a pass over these slices of a relation, or all of it, sees them alone.
    pub(crate) fn session_of(
        &self,
        resolver: &Arc<Resolver>,
        relation: &str,
        slices: Option<&Slices>,
    ) -> Result<Arc<Resolver>> {
        match (slices, self.facts.get(relation)) {
            (None, _) => Ok(Arc::clone(resolver)),
            (Some(slices), Some(fact)) => fact.only(resolver, slices),
            (Some(_), None) => Err(EngineError::internal("a pass over slices of nothing")),
        }
    }

    /// What can be told of an indicator's components when these are their rows and lie in these files.
    pub(crate) fn record(
        &self,
        compiled: &Compiled,
        components: &[RecordBatch],
        stored: &StoredSlice,
    ) -> Record {
        let mut digests = Digests::new();
        let mut marks = Marks::new();
        for (component, rows) in compiled.components.iter().zip(components) {
            let (Some(digest), Ok(row)) = (digest_of(component, &self.facts), &component.row)
            else {
                continue;
            };
            let Some(fact) = self.facts.get(&row.table) else {
                continue;
            };
            let known =
                |slice: Option<&Key>| slice.is_some_and(|key| fact.slices.contains_key(key));
            if !matches!(self.each_slice(rows, known), Ok(known) if known.iter().all(|known| *known))
            {
                continue;
            }
            digests.insert(component.name.clone(), digest);
            let slices = fact.slices.iter();
            let of_relation = slices.map(|(key, slice)| (word_of(*key), slice.mark.clone()));
            marks.insert(row.table.clone(), of_relation.collect());
        }
        if digests.is_empty() {
            return Record::default();
        }
        let files: BTreeSet<&str> = stored.identities().collect();
        Record {
            digests: serde_json::to_string(&digests).ok(),
            slices: serde_json::to_string(&marks).ok(),
            files: serde_json::to_string(&files).ok(),
        }
    }

    /// Asks of each cell's slice, which is `None` of a delivery that is not known; deliveries follow
    /// each other often.
    fn each_slice(
        &self,
        cells: &RecordBatch,
        ask: impl Fn(Option<&Key>) -> bool,
    ) -> Result<Vec<bool>> {
        let deliveries = cells.column_by_name("delivery_id");
        let deliveries =
            deliveries.ok_or_else(|| EngineError::internal("cells without delivery"))?;
        let deliveries = to_type(deliveries, &DataType::Utf8)?;
        Ok(self.of_slices(deliveries.as_string::<i32>(), ask))
    }

    fn of_slices(&self, deliveries: &StringArray, ask: impl Fn(Option<&Key>) -> bool) -> Vec<bool> {
        let mut last: Option<(Option<&str>, bool)> = None;
        let answers = deliveries.iter().map(|delivery| match last {
            Some((known, answer)) if known == delivery => answer,
            _ => {
                let answer = ask(delivery.and_then(|id| self.deliveries.get(id)));
                last = Some((delivery, answer));
                answer
            }
        });
        answers.collect()
    }

    /// Takes the cells of a batch that are kept.
    fn take(
        &self,
        batch: &RecordBatch,
        keeps: &BTreeMap<String, Keep>,
        columns: &[&str],
        cells: &mut BTreeMap<String, Vec<RecordBatch>>,
        memory: &MemoryReservation,
    ) -> Result<()> {
        let failed = |error| EngineError::internal_because("cells that are kept", error);
        let lacks = |name: &str| EngineError::internal(format!("stored cells lack `{name}`"));
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| lacks(name));
        let components = to_type(column("component")?, &DataType::Utf8)?;
        let components: &StringArray = components.as_string::<i32>();
        for (component, keep) in keeps {
            let own: Vec<bool> = components
                .iter()
                .map(|name| name == Some(component))
                .collect();
            if !own.contains(&true) {
                continue;
            }
            let is_known = self.each_slice(batch, |slice| slice.is_some())?;
            if own.iter().zip(is_known).any(|(own, known)| *own && !known) {
                return Err(EngineError::internal(
                    "a stored cell is of a delivery that the ledger does not know",
                ));
            }
            let stays = |slice: Option<&Key>| slice.is_some_and(|key| keep.kept.contains(key));
            let stays = self.each_slice(batch, stays)?;
            let stays = own.iter().zip(stays).map(|(own, stays)| *own && stays);
            let stays = BooleanArray::from(stays.collect::<Vec<_>>());
            if stays.true_count() == 0 {
                continue;
            }
            let kept = columns.iter().map(|name| {
                let rows = filter(column(name)?, &stays).map_err(failed)?;
                let rows = to_type(&rows, &plain_type(rows.data_type()))?;
                Ok((*name, rows, true))
            });
            let kept = kept.collect::<Result<Vec<_>>>()?;
            let kept = RecordBatch::try_from_iter_with_nullable(kept).map_err(failed)?;
            memory.try_grow(kept.get_array_memory_size())?;
            cells.entry(component.clone()).or_default().push(kept);
        }
        Ok(())
    }

    /// The batches that a component is: cells that are kept, and those of its pass. The sets of
    /// persons are in both, as they are stored.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when its pass gave way, or gave cells of other slices.
    pub(crate) fn joined(
        &self,
        (indicator, component): (&str, &str),
        kept: &mut KeptCells,
        scanned: Option<&PreparedCells>,
    ) -> Result<(Vec<RecordBatch>, usize)> {
        let lost = || EngineError::internal("a component lost what is kept of it");
        let keep = self.keep(indicator, component).ok_or_else(lost)?;
        let mut batches = kept.cells.remove(component).unwrap_or_default();
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        match scanned {
            None if keep.read.is_empty() => {}
            None => return Err(EngineError::internal("a pass over changed slices gave way")),
            Some(scanned) => {
                let own = |slice: Option<&Key>| slice.is_some_and(|key| keep.read.contains(key));
                if !self.each_slice(&scanned.rows, own)?.iter().all(|own| *own) {
                    return Err(EngineError::internal(
                        "a row is not of the slice that its delivery is of",
                    ));
                }
                batches.push(with_sets(scanned)?);
            }
        }
        are_of_one_list(&batches)?;
        Ok((batches, rows))
    }
}

/// Sets of a pass may be numbers where those of a query of its own are pseudonyms; within one of the
/// two they are all of one form.
fn are_of_one_list(batches: &[RecordBatch]) -> Result<()> {
    let mut lists = BTreeSet::new();
    for batch in batches {
        if let Some(persons) = batch.column_by_name("persons") {
            let persons = to_type(persons, &DataType::Binary)?;
            lists.extend(list_of_sets(persons.as_binary::<i32>())?);
        }
    }
    if lists.len() > 1 {
        return Err(EngineError::internal(
            "sets of persons that are kept are of another form than those of a pass",
        ));
    }
    Ok(())
}

/// Cells of a pass with their sets among the columns.
fn with_sets(cells: &PreparedCells) -> Result<RecordBatch> {
    let Some(sets) = &cells.sets else {
        return Ok(cells.rows.clone());
    };
    let states: ArrayRef = Arc::new(sets.states(0..u32::try_from(sets.len()).unwrap_or(u32::MAX))?);
    let schema = cells.rows.schema();
    let columns = schema.fields().iter().zip(cells.rows.columns());
    let columns = columns.map(|(field, column)| match field.name().as_str() {
        "persons" => Arc::clone(&states),
        _ => Arc::clone(column),
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect())
        .map_err(|error| EngineError::internal_because("sets of a component", error))
}

impl Engine {
    /// What can be kept of stale indicators, each with what is recorded of it. `cells` are the slices
    /// of `component.cell` as this session sees it; without them nothing is kept.
    pub(crate) async fn kept<'a>(
        &self,
        resolver: &Arc<Resolver>,
        facts: BTreeMap<String, Fact>,
        stale: impl IntoIterator<Item = (&'a str, &'a Compiled, Option<&'a Record>)>,
        cells: Option<&TableSlices>,
    ) -> Result<Kept> {
        let mut kept = Kept {
            facts,
            ..Kept::default()
        };
        if kept.facts.is_empty() {
            return Ok(kept);
        }
        kept.deliveries = self.slices_of_deliveries(resolver).await?;
        let Some(cells) = cells else {
            return Ok(kept);
        };
        kept.version = cells.version;
        for (id, compiled, record) in stale {
            let Some(recorded) = record.and_then(Record::parsed) else {
                continue;
            };
            let files = cells.slices.get(&vec![compiled.indicator_no]);
            let files = files.into_iter().flat_map(|files| files.identities());
            if !files.eq(recorded.files.iter().map(String::as_str)) {
                continue;
            }
            let mut keeps = BTreeMap::new();
            for component in &compiled.components {
                let digest = digest_of(component, &kept.facts);
                if digest.is_none() || digest.as_ref() != recorded.digests.get(&component.name) {
                    continue;
                }
                let table = component.row.as_ref().ok().map(|row| &row.table);
                let known = table.and_then(|table| {
                    let fact = kept.facts.get(table)?;
                    keep_of(&fact.slices, recorded.marks.get(table)?)
                });
                if let Some(keep) = known {
                    keeps.insert(component.name.clone(), keep);
                }
            }
            if !keeps.is_empty() {
                kept.keeps.insert(id.to_owned(), keeps);
            }
        }
        Ok(kept)
    }

    /// The slices of `component.cell` as a session sees it; `None` when they cannot be told.
    pub(crate) async fn cell_slices(&self, resolver: &Arc<Resolver>) -> Option<TableSlices> {
        let name = table("component", "cell").ok()?;
        let version = resolver.version(&name).await.ok()??;
        let slices = self.options.lake.slices(&name, Some(version)).await;
        slices.ok().flatten()
    }

    async fn slices_of_deliveries(&self, resolver: &Arc<Resolver>) -> Result<HashMap<String, Key>> {
        let sql = "SELECT delivery_id, CAST(county AS INT) AS county, CAST(period / 100 AS INT) AS year FROM meta.delivery";
        let mut found = HashMap::new();
        for batch in self.run(resolver, sql).await? {
            let batch = conform(&batch, &plain_schema(&batch.schema()))?;
            let [ids, counties, years] = batch.columns() else {
                continue;
            };
            let numbers = |column: &ArrayRef| column.as_primitive_opt::<Int32Type>().cloned();
            if let (Some(ids), Some(counties), Some(years)) = (
                ids.as_string_opt::<i32>(),
                numbers(counties),
                numbers(years),
            ) {
                let rows = ids.iter().zip(&counties).zip(&years);
                let rows = rows.filter_map(|((id, county), year)| Some((id?, (county?, year?))));
                found.extend(rows.map(|(id, key)| (id.to_owned(), key)));
            }
        }
        Ok(found)
    }

    /// Reads the cells of an indicator that are kept; `None` when nothing of it is.
    ///
    /// # Errors
    /// When they cannot be read, do not fit in memory, or one is of a delivery that the ledger does
    /// not know.
    pub(crate) async fn kept_cells(
        &self,
        kept: &Kept,
        (id, number): (&str, i32),
        breakdowns: &[String],
    ) -> Result<Option<KeptCells>> {
        let Some(keeps) = kept.keeps.get(id) else {
            return Ok(None);
        };
        let pool = &self.warehouse.template.runtime_env().memory_pool;
        let memory = MemoryConsumer::new("kept cells").register(pool);
        let mut cells: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
        let name = table("component", "cell")?;
        let columns = columns_of(breakdowns);
        let mut wanted = columns.clone();
        wanted.push("component");
        let slice = Slice::new(&[(INDICATOR_NO, number)]);
        // Planning a query for one file would cost more than its rows.
        let mut went = Ok(());
        let mut each = |batch: &RecordBatch| {
            if went.is_ok() {
                went = kept.take(batch, keeps, &columns, &mut cells, &memory);
            }
        };
        let lake = &self.options.lake;
        let read = lake.read_at(&name, kept.version, &slice, &wanted, &mut each);
        read.await.map_err(|error| {
            EngineError::lake(format!("the table `{name}` could not be read"), error)
        })?;
        went?;
        Ok(Some(KeptCells {
            cells,
            _memory: memory,
        }))
    }
}

/// The columns of a component, in the order in which a pass gives them.
fn columns_of(breakdowns: &[String]) -> Vec<&str> {
    let mut columns = vec!["area", "area_base", "period_start"];
    columns.extend(breakdowns.iter().map(String::as_str));
    columns.extend(["age", "delivery_id", "n", "persons", "hist", "x"]);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_with_another_mark_are_read_unless_they_hold_most_rows() {
        // Year, rows, mark as it is, mark as it was; which years are read, or that all are.
        let (a, b) = (Some("a"), Some("b"));
        type Case<'a> = (
            &'a [(i32, u64, &'a str, Option<&'a str>)],
            Option<&'a [i32]>,
        );
        let cases: [Case<'_>; 7] = [
            (&[(2_023, 9, "a", a), (2_024, 9, "b", b)], Some(&[])),
            (&[(2_023, 9, "a", a), (2_024, 9, "b", a)], Some(&[2_024])),
            (&[(2_023, 9, "a", a), (2_024, 9, "b", None)], Some(&[2_024])),
            (&[(2_023, 9, "a", a), (2_024, 10, "b", a)], None),
            (&[(2_023, 9, "a", None), (2_024, 9, "b", None)], None),
            (&[(2_023, 0, "a", a), (2_024, 0, "b", a)], Some(&[2_024])),
            (&[], Some(&[])),
        ];
        for (slices, wanted) in cases {
            let is = slices.iter().map(|(year, rows, mark, _)| {
                let mark = (*mark).to_owned();
                ((7, *year), Wanted { mark, rows: *rows })
            });
            let was = slices
                .iter()
                .filter_map(|(year, _, _, mark)| Some((word_of((7, *year)), (*mark)?.to_owned())));
            let keep = keep_of(&is.collect(), &was.collect());
            let read = keep.as_ref().map(|keep| {
                let read: Vec<i32> = keep.read.iter().map(|(_, year)| *year).collect();
                assert_eq!(keep.kept.len() + keep.read.len(), slices.len());
                read
            });
            assert_eq!(read.as_deref(), wanted, "{slices:?}");
        }
    }

    #[test]
    fn slices_are_halved_by_their_rows() {
        // Rows of each year; years of the first half, if there are two.
        let cases: [(&[u64], Option<usize>); 8] = [
            (&[], None),
            (&[5], None),
            (&[5, 5], Some(1)),
            (&[9, 1, 1], Some(1)),
            (&[1, 1, 9], Some(2)),
            (&[1, 1, 1, 1, 1], Some(2)),
            (&[0, 0], Some(1)),
            (&[0, 7], Some(1)),
        ];
        for (rows, first) in cases {
            let slices: Vec<(Key, u64)> = (2_020..)
                .zip(rows)
                .map(|(year, rows)| ((7, year), *rows))
                .collect();
            let halves = halved(&slices);
            let found = halves.as_ref().map(|[first, _]| first.len());
            assert_eq!(found, first, "{rows:?}");
            let all = halves.into_iter().flatten().flatten();
            assert!(first.is_none() || all.eq(slices.iter().map(|(key, _)| *key)));
        }
    }

    #[test]
    fn what_is_not_a_record_keeps_nothing() {
        let text = |text: &str| Some(text.to_owned());
        let record = |files: Option<String>| Record {
            digests: text(r#"{"numerator":"0a"}"#),
            slices: text(r#"{"conformed.visit":{"07.2024":"0b"}}"#),
            files,
        };
        assert!(record(text("[]")).parsed().is_some());
        for files in [None, text(""), text("{}"), text("[1]"), text("[")] {
            assert!(record(files.clone()).parsed().is_none(), "{files:?}");
        }
        assert!(Record::default().parsed().is_none());
    }
}
