//! What scans have found of components, until the indicators that they are of are computed.
//!
//! Cells that are held in memory are charged to the memory of all queries until the last indicator that
//! needs them is done, and take a quarter of it at most, so that the next scan and what is computed of
//! them have room. Cells that do not fit, and all cells of a scan in parts ([`parts`](super::parts)),
//! are written to a temporary file, one for a scan, which counts among what queries spill and is gone
//! with the last of its readers. A component has its own place there, and components that share sets of
//! persons share theirs, so that each is read back by itself. Cells of different parts have nothing in
//! common: those of one are read behind those of the other.
//!
//! What may not live here: how cells are found (`scan.rs`), what is computed of them (`run.rs`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Take, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::spill_file::SpillFile;
use tietopohja_kernels::MemberNumbers;
use tokio::task::spawn_blocking;

use crate::error::{EngineError, Result};

/// The indicator and the component.
pub(super) type ComponentKey = (String, String);

/// What scans have found, by component.
pub(crate) type Prepared = BTreeMap<ComponentKey, Found>;

/// Sets that are written at a time.
const SETS_AT_A_TIME: usize = 4_096;

/// The cells of a component.
#[derive(Debug, Clone)]
pub(crate) struct PreparedCells {
    /// Their rows; `persons` is null where the sets are beside.
    pub(crate) rows: RecordBatch,
    /// The set of each row, ready to be counted.
    pub(crate) sets: Option<Arc<MemberNumbers>>,
}

/// What a scan has found of a component.
#[derive(Clone)]
pub(crate) enum Found {
    /// Cells in memory, and the memory, which components of a grouping share.
    Held(PreparedCells, Arc<MemoryReservation>),
    /// Cells on disk, those of each part of the scan.
    Written(Vec<Written>),
}

/// Cells of one part of a scan on disk.
#[derive(Clone)]
pub(crate) struct Written {
    rows: Stretch,
    sets: Option<Stretch>,
}

/// Batches of one schema in a temporary file.
#[derive(Clone)]
struct Stretch {
    file: Arc<dyn SpillFile>,
    start: u64,
    bytes: u64,
}

/// Where a scan leaves what it finds.
pub(super) struct Finds {
    runtime: Arc<RuntimeEnv>,
    /// Made when something is to be written; several groupings are finished at a time.
    file: Mutex<Option<Arc<dyn SpillFile>>>,
}

impl Finds {
    /// Memory and disk are those of this runtime.
    pub(super) fn new(runtime: &Arc<RuntimeEnv>) -> Self {
        Self {
            runtime: Arc::clone(runtime),
            file: Mutex::default(),
        }
    }

    /// Bytes that were written.
    pub(super) fn written(&self) -> u64 {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.as_ref().and_then(|file| file.size()).unwrap_or(0)
    }

    /// Puts the cells of a grouping's components aside: in memory if they may be and fit.
    ///
    /// # Errors
    /// When they can neither be held nor be written.
    pub(super) fn put(
        &self,
        cells: Vec<(ComponentKey, PreparedCells)>,
        may_be_held: bool,
    ) -> Result<Vec<(ComponentKey, Found)>> {
        let mut sets: Vec<(&Arc<MemberNumbers>, Option<Stretch>)> = Vec::new();
        for own in cells.iter().filter_map(|(_, cells)| cells.sets.as_ref()) {
            if !sets.iter().any(|(known, _)| Arc::ptr_eq(known, own)) {
                sets.push((own, None));
            }
        }
        if may_be_held {
            let rows = cells.iter().map(|(_, cells)| &cells.rows);
            let rows: usize = rows.map(get_record_batch_memory_size).sum();
            let bytes = rows + sets.iter().map(|(sets, _)| sets.size()).sum::<usize>();
            let memory = memory_for_found(&self.runtime.memory_pool);
            if memory.try_grow(bytes).is_ok() {
                let memory = Arc::new(memory);
                let held = |cells| Found::Held(cells, Arc::clone(&memory));
                let cells = cells.into_iter();
                return Ok(cells.map(|(key, cells)| (key, held(cells))).collect());
            }
        }
        for (sets, written) in &mut sets {
            *written = Some(self.write(&schema_of_sets(), batches_of_sets(sets))?);
        }
        let written = cells.iter().map(|(key, cells)| {
            let rows = self.write(&cells.rows.schema(), [Ok(cells.rows.clone())])?;
            let own = cells.sets.as_ref().and_then(|own| {
                let known = sets.iter().find(|(known, _)| Arc::ptr_eq(known, own));
                known.and_then(|(_, written)| written.clone())
            });
            Ok((
                key.clone(),
                Found::Written(vec![Written { rows, sets: own }]),
            ))
        });
        written.collect()
    }

    /// Writes batches behind what is written.
    fn write(
        &self,
        schema: &SchemaRef,
        batches: impl IntoIterator<Item = Result<RecordBatch>>,
    ) -> Result<Stretch> {
        // Held until all is written: nobody else writes in between.
        let mut known = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &mut *known {
            Some(file) => Arc::clone(file),
            empty => {
                let disk = &self.runtime.disk_manager;
                let made = disk.create_tmp_file("what a scan has found");
                Arc::clone(empty.insert(made.map_err(not_written)?))
            }
        };
        let end = || file.size().ok_or_else(no_place);
        let start = end()?;
        let mut out = BufWriter::new(file.open_writer().map_err(not_written)?);
        let mut writer = StreamWriter::try_new(&mut out, schema).map_err(not_written)?;
        for batch in batches {
            writer.write(&batch?).map_err(not_written)?;
        }
        writer.finish().map_err(not_written)?;
        drop(writer);
        out.flush().map_err(not_written)?;
        let bytes = end()?.saturating_sub(start);
        Ok(Stretch { file, start, bytes })
    }
}

impl Found {
    /// With what the next part of the scan has found of the component.
    pub(super) fn append(&mut self, next: Self) -> Result<()> {
        match (self, next) {
            (Found::Written(parts), Found::Written(next)) => {
                parts.extend(next);
                Ok(())
            }
            _ => Err(EngineError::internal("a part of a scan is held in memory")),
        }
    }

    /// The cells, with the memory that they stand in.
    ///
    /// # Errors
    /// [`EngineError::Resource`] when they do not fit in memory, [`EngineError::Lake`] when they cannot
    /// be read.
    pub(crate) async fn read(
        &self,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<(PreparedCells, Arc<MemoryReservation>)> {
        let parts = match self {
            Found::Held(cells, memory) => return Ok((cells.clone(), Arc::clone(memory))),
            Found::Written(parts) => parts.clone(),
        };
        let memory = memory_for_found(pool);
        let read = spawn_blocking(move || -> Result<_> {
            Ok((read_back(&parts, &memory)?, Arc::new(memory)))
        });
        read.await
            .map_err(|error| EngineError::internal_because("reading cells back died", error))?
    }
}

impl Stretch {
    fn open(&self) -> Result<StreamReader<BufReader<Take<File>>>> {
        let path = self.file.path().ok_or_else(no_place)?;
        let mut file = File::open(path).map_err(not_read)?;
        file.seek(SeekFrom::Start(self.start)).map_err(not_read)?;
        StreamReader::try_new_buffered(file.take(self.bytes), None).map_err(not_read)
    }

    /// The batches; an error among them ends the reading.
    fn batches(&self) -> impl Iterator<Item = Result<RecordBatch>> + use<> {
        let (reader, failed) = match self.open() {
            Ok(reader) => (Some(reader), None),
            Err(error) => (None, Some(Err(error))),
        };
        let batches = reader.into_iter().flatten();
        let batches = batches.map(|batch| batch.map_err(not_read));
        failed.into_iter().chain(batches)
    }
}

/// The cells of all parts, charged as they are read.
fn read_back(parts: &[Written], memory: &MemoryReservation) -> Result<PreparedCells> {
    let bytes = parts.iter().map(|part| part.rows.bytes).sum::<u64>();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    memory.try_grow(bytes)?;
    let joining = memory.new_empty();
    joining.try_grow(if parts.len() > 1 { bytes } else { 0 })?;
    let rows = parts.iter().flat_map(|part| part.rows.batches());
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let schema = rows.first().map(RecordBatch::schema);
    let schema = schema.ok_or_else(|| EngineError::internal("a component was not written"))?;
    let rows = concat_batches(&schema, &rows).map_err(not_read)?;
    drop(joining);
    let sets: Option<Vec<&Stretch>> = parts.iter().map(|part| part.sets.as_ref()).collect();
    let sets = match sets {
        None => None,
        Some(sets) => Some(Arc::new(sets_of(&sets, memory)?)),
    };
    Ok(PreparedCells { rows, sets })
}

/// The sets of all parts. Those of one batch are there in both forms while they are taken apart.
fn sets_of(parts: &[&Stretch], memory: &MemoryReservation) -> Result<MemberNumbers> {
    let reading = memory.new_empty();
    let states = |batch: RecordBatch| -> Result<BinaryArray> {
        let states = batch.columns().first();
        let states = states.and_then(|states| states.as_binary_opt::<i32>());
        let states = states.ok_or_else(|| EngineError::internal("sets have no column"))?;
        reading.try_resize(states.get_buffer_memory_size())?;
        memory.try_grow(MemberNumbers::heap_bytes(states))?;
        Ok(states.clone())
    };
    let batches = parts.iter().flat_map(|part| part.batches());
    let sets = batches.map(|batch| batch.and_then(states).map_err(DataFusionError::from));
    Ok(MemberNumbers::of_parts(sets)?)
}

/// The sets as they are stored, some at a time.
fn batches_of_sets(sets: &MemberNumbers) -> impl Iterator<Item = Result<RecordBatch>> {
    let number = |set: usize| u32::try_from(set).unwrap_or(u32::MAX);
    let starts = (0..sets.len()).step_by(SETS_AT_A_TIME);
    starts.map(move |start| {
        let end = sets.len().min(start + SETS_AT_A_TIME);
        let states: ArrayRef = Arc::new(sets.states_in(number(start)..number(end))?);
        RecordBatch::try_new(schema_of_sets(), vec![states])
            .map_err(|error| EngineError::internal_because("sets of a component", error))
    })
}

fn schema_of_sets() -> SchemaRef {
    let sets = Field::new("persons", DataType::Binary, true);
    Arc::new(Schema::new(vec![sets]))
}

fn memory_for_found(pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
    MemoryConsumer::new("what scans have found").register(pool)
}

fn no_place() -> EngineError {
    EngineError::internal("a temporary file has no place on disk")
}

/// Not a want of memory: a smaller part would find no more room on disk.
fn not_written(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    let message = "what a scan has found does not fit in memory and could not be written to a \
                   temporary file; raise the memory limit, or give more room on disk";
    EngineError::lake(message, error)
}

fn not_read(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::lake("what a scan has found could not be read back", error)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;

    /// More than are written at a time.
    const CELLS: usize = 2 * SETS_AT_A_TIME + 5;

    fn runtime(memory: usize, disk: u64) -> Arc<RuntimeEnv> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
            .with_max_temp_directory_size(disk);
        Arc::new(runtime.build().unwrap())
    }

    fn key(component: &str) -> ComponentKey {
        ("test".to_owned(), component.to_owned())
    }

    /// Two components with the same sets, and one without; cells from `first` on.
    fn cells(first: usize) -> Vec<(ComponentKey, PreparedCells)> {
        let numbers = first..first + CELLS;
        let sets = numbers.clone().map(|cell| {
            let members = (0..cell % 4).map(|member| (cell * 3 + member) as u128);
            members.flat_map(u128::to_be_bytes).collect::<Vec<u8>>()
        });
        let sets = BinaryArray::from_iter_values(sets);
        let sets = Arc::new(MemberNumbers::of(&sets).unwrap());
        let areas = numbers
            .clone()
            .map(|cell| Some(format!("{:02}", cell % 20)));
        let areas: ArrayRef = Arc::new(areas.collect::<StringArray>());
        let counts: ArrayRef = Arc::new(numbers.map(|cell| cell as i64).collect::<Int64Array>());
        let columns = [("area", areas, true), ("n", counts, true)];
        let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let of = |component, sets| {
            let rows = rows.clone();
            (key(component), PreparedCells { rows, sets })
        };
        vec![
            of("numerator", Some(Arc::clone(&sets))),
            of("denominator", Some(sets)),
            of("sum", None),
        ]
    }

    fn states(cells: &PreparedCells) -> Option<BinaryArray> {
        let sets = cells.sets.as_ref()?;
        Some(sets.states(0..sets.len() as u32).unwrap())
    }

    async fn read(found: &Found, runtime: &RuntimeEnv) -> PreparedCells {
        let (cells, memory) = found.read(&runtime.memory_pool).await.unwrap();
        assert!(memory.size() > 0);
        cells
    }

    #[tokio::test]
    async fn what_fits_is_held_and_charged_until_nobody_needs_it() {
        let runtime = runtime(1 << 30, 1 << 30);
        let finds = Finds::new(&runtime);
        let found: Prepared = finds.put(cells(0), true).unwrap().into_iter().collect();
        let held = runtime.memory_pool.reserved();
        assert!(held > CELLS * 8, "{held}");
        assert_eq!(finds.written(), 0);
        for (component, wanted) in cells(0) {
            let cells = read(&found[&component], &runtime).await;
            assert_eq!(cells.rows, wanted.rows);
            assert_eq!(states(&cells), states(&wanted));
        }
        assert_eq!(runtime.memory_pool.reserved(), held);
        drop(found);
        assert_eq!(runtime.memory_pool.reserved(), 0);
    }

    #[tokio::test]
    async fn what_does_not_fit_and_what_parts_find_is_read_back_from_disk() {
        for (memory, may_be_held) in [(1 << 10, true), (1 << 30, false)] {
            let small = runtime(memory, 1 << 30);
            let finds = Finds::new(&small);
            let mut found: Prepared = finds
                .put(cells(0), may_be_held)
                .unwrap()
                .into_iter()
                .collect();
            let once = finds.written();
            for (component, next) in finds.put(cells(CELLS), may_be_held).unwrap() {
                found.get_mut(&component).unwrap().append(next).unwrap();
            }
            assert!(once > 0 && finds.written() > once);
            assert_eq!(small.memory_pool.reserved(), 0);
            let reader = runtime(1 << 30, 0);
            for ((component, first), (_, second)) in cells(0).into_iter().zip(cells(CELLS)) {
                let cells = read(&found[&component], &reader).await;
                let rows = concat_batches(&first.rows.schema(), [&first.rows, &second.rows]);
                assert_eq!(cells.rows, rows.unwrap());
                let wanted = states(&first).zip(states(&second));
                let wanted = wanted.map(|(first, second)| {
                    let both = arrow::compute::concat(&[&first, &second]).unwrap();
                    both.as_binary::<i32>().clone()
                });
                assert_eq!(states(&cells), wanted);
            }
            assert_eq!(reader.memory_pool.reserved(), 0);
            let refused = found[&key("sum")]
                .read(&runtime(1 << 10, 0).memory_pool)
                .await;
            assert!(matches!(refused, Err(EngineError::Resource { .. })));
            drop((found, finds));
            assert_eq!(small.disk_manager.used_disk_space(), 0);
            assert_eq!(small.disk_manager.spilling_progress().active_files_count, 0);
        }
    }

    #[test]
    fn without_room_on_disk_it_is_told() {
        let runtime = runtime(1 << 10, 1 << 10);
        let failed = Finds::new(&runtime).put(cells(0), true).err().unwrap();
        assert!(failed.to_string().contains("temporary file"), "{failed}");
        assert_eq!(runtime.memory_pool.reserved(), 0);
        assert_eq!(runtime.disk_manager.used_disk_space(), 0);
    }
}
