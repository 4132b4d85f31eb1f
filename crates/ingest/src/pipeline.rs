//! One pass over a source: records cut, checked and pseudonymised in several threads, and handed
//! on in the order of the file.
//!
//! A reader thread cuts blocks; block `i` goes to worker `i mod n` and comes back from it, so the
//! order of the file needs no sorting and the result does not depend on timing. Queues are bounded,
//! so memory does not grow with the file. The calling thread puts the blocks together: it finds
//! repeated keys, counts, and hands batches to its `sink`. Nothing here knows the lake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Decimal128Type, Field, Schema, SchemaRef};
use tietopohja_contract::{
    Action, Checked, FileFinding, HeaderMap, Reject, Totals, Uniqueness, Validator, rules,
};

use crate::duplicates::{Duplicate, First, KeySet};
use crate::error::FaultAt;
use crate::limits::LandLimits;
use crate::source::{Malformed, Reader, Source, Split, Splitter, Work};

/// Rule id of a record with another number of cells than the header.
pub(crate) const ROW_WIDTH: &str = "row_width";
/// Rule id of a record with text after a closing quote.
pub(crate) const ROW_QUOTE: &str = "row_quote";
/// Rule id of a delivery with more rejected rows than are kept.
pub(crate) const REJECT_LIMIT: &str = "reject_limit";

/// What one pass needs besides the source.
pub(crate) struct Pass<'a> {
    pub(crate) validator: &'a Validator,
    pub(crate) header: &'a HeaderMap,
    pub(crate) uniqueness: &'a Uniqueness,
    pub(crate) limits: &'a LandLimits,
    /// Amount columns that are summed, by name.
    pub(crate) amounts: &'a [String],
    /// Repeated keys that an earlier pass found after their rows had gone on, by row.
    pub(crate) known: &'a BTreeMap<i64, First>,
    pub(crate) cancelled: &'a AtomicBool,
}

/// What one pass found.
pub(crate) struct Passed {
    pub(crate) totals: Totals,
    pub(crate) rejects: RejectLog,
    /// Rows that repeat a key, found so far.
    pub(crate) repeated: Repeated,
    /// The keys, for a look at the table and for those that were spilled.
    pub(crate) keys: KeySet,
}

/// Why a pass stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    Source(FaultAt),
    /// The sink failed; it knows why.
    Sink,
    Cancelled,
    Spill(std::io::Error),
    Internal(String),
}

impl From<FaultAt> for Stop {
    fn from(at: FaultAt) -> Self {
        Stop::Source(at)
    }
}

/// Rows that repeat a key.
#[derive(Debug, Default, Clone)]
pub(crate) struct Repeated {
    pub(crate) rows: u64,
    pub(crate) in_table: u64,
    pub(crate) first: Option<Duplicate>,
}

impl Repeated {
    pub(crate) fn add(&mut self, duplicate: Duplicate) {
        self.rows += 1;
        self.in_table += u64::from(duplicate.first == First::Table);
        if self.first.is_none_or(|first| duplicate.row < first.row) {
            self.first = Some(duplicate);
        }
    }

    /// The finding for a contract that does not set repeated rows apart.
    pub(crate) fn finding(&self, key: &str, action: Action) -> Option<FileFinding> {
        let first = self.first?;
        if action == Action::Quarantine {
            return None;
        }
        let rows = match self.rows {
            1 => "1 row repeats".to_owned(),
            rows => format!("{rows} rows repeat"),
        };
        let help = match (self.in_table, action) {
            (0, Action::Reject) => "ask the sender to send each key once",
            (_, Action::Reject) => {
                "ask the sender which delivery is right, and land a correction of the other first"
            }
            _ => "ask the sender whether these rows are meant twice",
        };
        Some(FileFinding {
            rule: Arc::from(rules::DUPLICATE_KEY),
            action,
            field: None,
            message: format!(
                "{rows} the key ({key}) of another row; row {} has {}",
                first.row,
                key_of(first.first)
            ),
            help: Some(help.to_owned()),
        })
    }
}

fn key_of(first: First) -> String {
    match first {
        First::Row(row) => format!("the key of row {row}"),
        First::Table => "a key that another delivery in the lake has".to_owned(),
    }
}

/// Takes accepted rows and their row numbers, and says whether to go on.
pub(crate) type Sink<'a> = dyn FnMut(RecordBatch, Vec<i64>) -> bool + 'a;

/// Reads the whole source. `sink` takes accepted rows in their order, `tick` hears of every block.
pub(crate) fn run(
    source: Source,
    pass: &Pass<'_>,
    sink: &mut Sink<'_>,
    tick: &mut dyn FnMut(),
) -> Result<Passed, Stop> {
    let Source {
        header: _,
        reader,
        splitter,
    } = source;
    let workers = pass.limits.workers.clamp(1, 64);
    let depth = pass.limits.blocks_per_worker.clamp(1, 64);
    let (spare_out, spare_in) = channel::<Vec<u8>>();
    let splitter = &splitter;
    thread::scope(|scope| {
        let (mut to_workers, mut from_workers, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..workers {
            let (work_out, work_in) = sync_channel::<Task>(depth);
            let (done_out, done_in) = sync_channel::<Outcome>(depth);
            let spares = spare_out.clone();
            threads.push(scope.spawn(move || work(&work_in, &done_out, &spares, splitter, pass)));
            to_workers.push(work_out);
            from_workers.push(done_in);
        }
        drop(spare_out);
        threads.push(scope.spawn(move || read(reader, &to_workers, &spare_in, pass)));
        let outcome = gather(&from_workers, pass, sink, tick);
        // Threads that are still at work end when nobody listens.
        drop(from_workers);
        let died = threads
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .filter(Result::is_err)
            .count();
        if died > 0 && !matches!(outcome, Err(Stop::Source(_))) {
            return Err(Stop::Internal("a thread of the landing died".to_owned()));
        }
        outcome
    })
}

enum Task {
    Work(Work),
    Fault(FaultAt),
}

type Outcome = Result<Done, FaultAt>;

/// A checked block.
struct Done {
    checked: Checked,
    malformed: Vec<(i64, Malformed)>,
    columns: usize,
}

fn read(reader: Reader, workers: &[SyncSender<Task>], spares: &Receiver<Vec<u8>>, pass: &Pass<'_>) {
    let mut turns = (0..workers.len()).cycle();
    let mut send = |task: Task| {
        turns
            .next()
            .and_then(|turn| workers.get(turn))
            .is_some_and(|worker| worker.send(task).is_ok())
    };
    let outcome = reader.run(&mut || spares.try_recv().unwrap_or_default(), &mut |work| {
        !pass.cancelled.load(Ordering::Relaxed) && send(Task::Work(work))
    });
    if let Err(fault) = outcome {
        send(Task::Fault(fault));
    }
}

fn work(
    tasks: &Receiver<Task>,
    done: &SyncSender<Outcome>,
    spares: &Sender<Vec<u8>>,
    splitter: &Splitter,
    pass: &Pass<'_>,
) {
    let mut cells = Vec::new();
    while let Ok(task) = tasks.recv() {
        let outcome = match task {
            Task::Fault(fault) => Err(fault),
            Task::Work(work) => splitter
                .split(work, std::mem::take(&mut cells))
                .map(|split| {
                    let Split {
                        block,
                        malformed,
                        records: _,
                    } = split;
                    let checked = pass.validator.check(pass.header, &block);
                    let columns = block.columns;
                    cells = block.cells;
                    // The reader may have gone; then nobody needs the buffer.
                    let _ = spares.send(block.text);
                    Done {
                        checked,
                        malformed,
                        columns,
                    }
                }),
        };
        if done.send(outcome).is_err() {
            return;
        }
    }
}

/// Puts the blocks together in their order.
fn gather(
    workers: &[Receiver<Outcome>],
    pass: &Pass<'_>,
    sink: &mut Sink<'_>,
    tick: &mut dyn FnMut(),
) -> Result<Passed, Stop> {
    let mut passed = Passed {
        totals: Totals::default(),
        rejects: RejectLog::new(pass.limits),
        repeated: Repeated::default(),
        keys: KeySet::new(pass.limits.max_keys_in_memory),
    };
    for worker in workers.iter().cycle() {
        if pass.cancelled.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled);
        }
        // Blocks come in turn, so the first worker without one says that there are no more.
        let Ok(outcome) = worker.recv() else { break };
        let (batch, row_no) = put(outcome?, &mut passed, pass)?;
        if batch.num_rows() > 0 && !sink(batch, row_no) {
            return Err(Stop::Sink);
        }
        tick();
    }
    if pass.cancelled.load(Ordering::Relaxed) {
        return Err(Stop::Cancelled);
    }
    Ok(passed)
}

/// Counts a block and gives its accepted rows.
fn put(done: Done, passed: &mut Passed, pass: &Pass<'_>) -> Result<(RecordBatch, Vec<i64>), Stop> {
    let Done {
        mut checked,
        malformed,
        columns: width,
    } = done;
    let mut found = passed
        .keys
        .add(&checked.keys, &checked.row_no)
        .map_err(Stop::Spill)?;
    if !pass.known.is_empty() {
        add_known(&checked.row_no, pass.known, &mut found);
    }
    for duplicate in &found {
        passed.repeated.add(*duplicate);
    }
    if pass.uniqueness.action == Action::Quarantine && !found.is_empty() {
        set_apart(&mut checked, &found, pass).map_err(|error| Stop::Internal(error.to_string()))?;
    }
    passed.totals.add(&checked);
    let broken: Vec<Reject> = malformed
        .iter()
        .map(|(row, what)| malformed_reject(*row, *what, width))
        .collect();
    for reject in &broken {
        passed.totals.received += 1;
        passed.totals.quarantined += 1;
        passed.totals.count_reject(&reject.rule, &reject.field, 1);
    }
    let Checked {
        batch,
        row_no,
        mut rejects,
        ..
    } = checked;
    rejects.extend(broken);
    rejects.sort_by_key(|reject| reject.row_no);
    passed.rejects.add(rejects);
    Ok((batch, row_no))
}

/// Adds the duplicates known from an earlier pass to those found in this block.
fn add_known(rows: &[i64], known: &BTreeMap<i64, First>, found: &mut Vec<Duplicate>) {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return;
    };
    for (row, origin) in known.range(*first..=*last) {
        if !found.iter().any(|duplicate| duplicate.row == *row) {
            found.push(Duplicate {
                row: *row,
                first: *origin,
            });
        }
    }
    found.sort_unstable();
}

/// Takes repeated rows out of the accepted ones, with their amounts.
fn set_apart(
    checked: &mut Checked,
    found: &[Duplicate],
    pass: &Pass<'_>,
) -> Result<(), arrow::error::ArrowError> {
    let is_repeated = |row: &i64| {
        found
            .binary_search_by_key(row, |duplicate| duplicate.row)
            .is_ok()
    };
    let keep: Vec<bool> = checked.row_no.iter().map(|row| !is_repeated(row)).collect();
    for name in pass.amounts {
        let Some(column) = checked.batch.column_by_name(name) else {
            continue;
        };
        let Some(amounts) = column.as_primitive_opt::<Decimal128Type>() else {
            continue;
        };
        let removed = amounts
            .iter()
            .zip(&keep)
            .filter(|(_, keep)| !**keep)
            .filter_map(|(amount, _)| amount)
            .sum::<i128>();
        if let Some((_, sum)) = checked.sums.iter_mut().find(|(column, _)| column == name) {
            *sum -= removed;
        }
    }
    checked.batch = filter_record_batch(&checked.batch, &BooleanArray::from(keep.clone()))?;
    let mut kept = keep.iter();
    checked
        .row_no
        .retain(|_| kept.next().copied().unwrap_or(true));
    checked.rejected_rows += found.len() as u64;
    let (rule, field): (Arc<str>, Arc<str>) = (Arc::from(rules::DUPLICATE_KEY), Arc::from(""));
    checked.rejects.extend(found.iter().map(|duplicate| Reject {
        row_no: duplicate.row,
        rule: Arc::clone(&rule),
        field: Arc::clone(&field),
        message: format!("has {}", key_of(duplicate.first)),
    }));
    Ok(())
}

fn malformed_reject(row: i64, what: Malformed, width: usize) -> Reject {
    let (rule, message) = match what {
        Malformed::Width { found } => (
            ROW_WIDTH,
            format!("has {found} cells where the header has {width}"),
        ),
        Malformed::Quote => (
            ROW_QUOTE,
            "has text between a closing quote and the next separator".to_owned(),
        ),
    };
    Reject {
        row_no: row,
        rule: Arc::from(rule),
        field: Arc::from(""),
        message,
    }
}

/// The columns every row of a delivery has, before the contract's.
pub(crate) struct DeliveryColumns {
    id: String,
    /// The id repeated, as long as the longest block so far; blocks take slices of it.
    repeated: StringArray,
    schema: Option<SchemaRef>,
}

impl DeliveryColumns {
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            repeated: StringArray::from(Vec::<String>::new()),
            schema: None,
        }
    }

    pub(crate) fn put_before(
        &mut self,
        batch: RecordBatch,
        row_no: Vec<i64>,
    ) -> Result<RecordBatch, arrow::error::ArrowError> {
        let rows = batch.num_rows();
        if self.repeated.len() < rows {
            self.repeated =
                StringArray::from_iter_values(std::iter::repeat_n(self.id.as_str(), rows));
        }
        let schema = self.schema.get_or_insert_with(|| {
            let own = [
                Field::new("delivery_id", DataType::Utf8, true),
                Field::new("row_no", DataType::Int64, true),
            ];
            let fields = own
                .into_iter()
                .map(Arc::new)
                .chain(batch.schema_ref().fields().iter().cloned());
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        });
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.repeated.slice(0, rows)),
            Arc::new(Int64Array::from(row_no)),
        ];
        columns.extend(batch.columns().iter().cloned());
        RecordBatch::try_new(Arc::clone(schema), columns)
    }
}

/// Rejects kept for the reject table and the receipt, up to a limit.
pub(crate) struct RejectLog {
    rejects: Vec<Reject>,
    full: Vec<RecordBatch>,
    kept: usize,
    limit: usize,
    listed: Vec<Reject>,
    list: usize,
    pub(crate) overflow: bool,
}

/// Rejects put into a batch at a time.
const REJECT_BATCH: usize = 16_384;

impl RejectLog {
    fn new(limits: &LandLimits) -> Self {
        Self {
            rejects: Vec::new(),
            full: Vec::new(),
            kept: 0,
            limit: limits.max_rejects,
            listed: Vec::new(),
            list: limits.listed_rejects,
            overflow: false,
        }
    }

    fn add(&mut self, rejects: Vec<Reject>) {
        self.overflow |= self.kept + rejects.len() > self.limit;
        let missing = self.list.saturating_sub(self.listed.len());
        self.listed.extend(rejects.iter().take(missing).cloned());
        if self.overflow {
            return;
        }
        self.kept += rejects.len();
        self.rejects.extend(rejects);
        if self.rejects.len() >= REJECT_BATCH {
            self.pack();
        }
    }

    /// The first rejects, in row order.
    pub(crate) fn listed(&self) -> &[Reject] {
        &self.listed
    }

    /// All rejects as rows of the reject table: `row_no`, `rule`, `field`, `message`.
    pub(crate) fn into_batches(mut self) -> Vec<RecordBatch> {
        self.pack();
        self.full
    }

    // Columns take a third of the memory of the rows.
    fn pack(&mut self) {
        let rejects = std::mem::take(&mut self.rejects);
        if rejects.is_empty() {
            return;
        }
        let columns: [(&str, ArrayRef); 4] = [
            (
                "row_no",
                Arc::new(Int64Array::from_iter_values(
                    rejects.iter().map(|reject| reject.row_no),
                )),
            ),
            (
                "rule",
                Arc::new(StringArray::from_iter_values(
                    rejects.iter().map(|reject| &reject.rule),
                )),
            ),
            (
                "field",
                Arc::new(StringArray::from_iter_values(
                    rejects.iter().map(|reject| &reject.field),
                )),
            ),
            (
                "message",
                Arc::new(StringArray::from_iter_values(
                    rejects.iter().map(|reject| &reject.message),
                )),
            ),
        ];
        // Four columns of one length always make a batch.
        if let Ok(batch) = RecordBatch::try_from_iter_with_nullable(
            columns
                .into_iter()
                .map(|(name, column)| (name, column, true)),
        ) {
            self.full.push(batch);
        }
    }
}
