//! Landing a file: exactly once, whole or not at all.
//!
//! The order: which delivery it is, what its bytes are, whether they are in the lake already; then
//! one pass that checks and stores rows nobody sees yet; then the contract's verdict on the whole,
//! its SQL checks included; then the lake's commit of rejects, data and ledger row. Whatever stops before the commit leaves
//! the lake as it was. How rows are read and checked is in `source` and `pipeline`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tietopohja_contract::{
    Action, CodeLists, Contract, DeliveryContext, FileFinding, HeaderMap, IdentityCodes, KeyScope,
    Mode, PropertyType, Pseudonymise, Reject, Totals, Validator,
};
use tietopohja_domain::{
    Clock, ContentHash, County, Date, DeliveryPeriod, Problem, Timestamp, finnish_day,
};
use tietopohja_lake::{
    Delivery, Lake, LakeError, LandOutcome, Landing, LandingWriter, LedgerRow, PartOptions, Slice,
    StagedRows, TableName, Ticket,
};
use tokio::task::JoinHandle;

use crate::control::ControlTotals;
use crate::delivery_name::{Agreed, NamedDelivery, settle};
use crate::duplicates::{Duplicate, First, KeySet};
use crate::error::{FaultAt, LandError, RequestError};
use crate::keyring::KeyRing;
use crate::limits::LandLimits;
use crate::pipeline::{
    self, DeliveryColumns, Pass, Passed, REJECT_LIMIT, RejectLog, Repeated, Stop,
};
use crate::progress::Progress;
use crate::receipt::{ControlSum, Finding, Outcome, Receipt, RejectedRow, RuleCount, decimal_text};
use crate::row_set::{NoNumbers, RowSetChecks};
use crate::source::{self, Agreement, FileMark, Source};

/// Landings of one delivery that others may overtake before this one gives up.
const ATTEMPTS: usize = 5;

/// One file to land, and how.
#[derive(Debug, Clone)]
pub struct LandRequest {
    /// The contract.
    pub contract: Arc<Contract>,
    /// The code lists the contract names.
    pub lists: Arc<CodeLists>,
    /// The file.
    pub file: PathBuf,
    /// The organiser; `None`: as the file's name says.
    pub county: Option<County>,
    /// The period; `None`: as the file's name says.
    pub period: Option<DeliveryPeriod>,
    /// The sender's revision number; `None`: the next one.
    pub revision: Option<i64>,
    /// Do everything but the commit.
    pub dry_run: bool,
    /// Land although the contract holds the delivery: a person has approved it.
    pub approve_held: bool,
    /// Stated totals; `None`: those of `<file>.control.json`, when it is there.
    pub control: Option<ControlTotals>,
    /// Which identity codes are received.
    pub identity_codes: IdentityCodes,
}

impl LandRequest {
    /// A request that leaves everything to the file's name and the contract.
    pub fn new(contract: Arc<Contract>, lists: Arc<CodeLists>, file: impl Into<PathBuf>) -> Self {
        Self {
            contract,
            lists,
            file: file.into(),
            county: None,
            period: None,
            revision: None,
            dry_run: false,
            approve_held: false,
            control: None,
            identity_codes: IdentityCodes::default(),
        }
    }

    /// The file's name as receipts and messages show it.
    fn file_name(&self) -> String {
        let name = self.file.file_name().map_or_else(
            || self.file.to_string_lossy(),
            |name| name.to_string_lossy(),
        );
        source::mask_identity_codes(&name)
    }

    fn delivery(&self, today: Date) -> Result<(County, DeliveryPeriod, Delivery), RequestError> {
        let mode = self.contract.mode();
        let agreed = Agreed {
            monthly: mode == Mode::Events,
            national: mode == Mode::Document,
        };
        let asked = NamedDelivery {
            county: self.county,
            period: self.period,
        };
        let (county, period) = settle(
            &self.file_name(),
            self.contract.name(),
            agreed,
            asked,
            today.year(),
        )?;
        let delivery = Delivery {
            contract: self.contract.name().to_owned(),
            county: county.number(),
            county_code: county.code(),
            period: period.number(),
        };
        Ok((county, period, delivery))
    }
}

/// What landings need besides their files.
#[derive(Clone, Copy)]
pub struct Intake<'a> {
    /// Where rows go.
    pub lake: &'a Arc<Lake>,
    /// The pseudonym key.
    pub keys: &'a KeyRing,
    /// The present moment.
    pub clock: &'a dyn Clock,
    /// Who answers the SQL checks of contracts. Without anybody a contract that has some cannot be
    /// landed.
    pub checks: Option<&'a dyn RowSetChecks>,
}

/// Lands one file.
///
/// `Ok` is a receipt of what is now true: landed, replaced, already there, held, or what a dry run
/// would have done. Everything else is an error, and the lake is as it was. Needs a tokio runtime;
/// reading and checking run on threads of their own.
pub async fn land(
    intake: Intake<'_>,
    request: LandRequest,
    limits: &LandLimits,
    progress: &dyn Progress,
) -> Result<Receipt, LandError> {
    let Intake {
        lake,
        keys,
        clock,
        checks,
    } = intake;
    let started = clock.now();
    let file = request.file_name();
    let today = finnish_day(started);
    let (county, period, delivery) = request.delivery(today)?;
    let control = match &request.control {
        Some(control) => Some(control.clone()),
        None => ControlTotals::beside(&request.file)?,
    };
    let asks = !request.contract.sql_checks().is_empty();
    if asks && checks.is_none() {
        return Err(LandError::Internal {
            file,
            message: "the contract has SQL checks and nobody was given to run them".to_owned(),
        });
    }
    let path = request.file.clone();
    let marked = tokio::task::spawn_blocking(move || FileMark::of_path(&path)).await;
    let mark = joined(marked, &file)?.map_err(|at| at.named(&file))?;
    let path = request.file.clone();
    let hashing = Mutex::new(Some(tokio::task::spawn_blocking(move || {
        source::hash_file(&path)
    })));
    let context = DeliveryContext {
        county,
        period,
        today,
        identity_codes: request.identity_codes,
    };
    // A dry run stores rows only to ask about them, and never in the lake.
    let scratch = (asks && request.dry_run)
        .then(|| Scratch::beside(lake, &file))
        .transpose()?;
    let landing = FileLanding {
        lake,
        stage: scratch.as_ref().map_or(lake, |scratch| &scratch.lake),
        checks,
        clock,
        started,
        file,
        request: &request,
        delivery,
        period,
        control,
        key_version: keys.version(),
        hashing,
        content: OnceLock::new(),
        mark,
        limits,
        progress,
    };
    // The ledger answers for a file that is there already before the file is opened. It may lack
    // the row of a landing that was cut off, which the lake then adds: so the lake is asked too.
    let known = lake
        .ledger_rows(&landing.delivery)
        .await
        .map_err(|error| landing.lake_error(error))?;
    if let Some(row) = known.last() {
        let same = row.content_hash == landing.content().await?.to_string();
        if same && request.dry_run {
            return Ok(landing.already(row));
        }
        if same && let Begun::Already(receipt) = landing.begin(row.revision).await? {
            return Ok(*receipt);
        }
    }
    let domains =
        request
            .contract
            .properties()
            .iter()
            .filter_map(|property| match property.kind() {
                PropertyType::Hetu { domain } => Some(domain.as_ref()),
                _ => None,
            });
    let pseudonyms: Arc<dyn Pseudonymise> = Arc::new(keys.prepare(domains));
    let validator = Arc::new(Validator::new(
        Arc::clone(&request.contract),
        Arc::clone(&request.lists),
        context,
        pseudonyms,
    ));
    landing
        .run(&validator, known.last().map(|row| row.revision))
        .await
}

/// Lands several files, at most `at_once` of them at the same time; the results are in the order of
/// the requests. Two files of the same delivery are refused, since their order would be chance.
pub async fn land_many(
    intake: Intake<'_>,
    requests: Vec<LandRequest>,
    at_once: usize,
    limits: &LandLimits,
    progress: &dyn Progress,
) -> Vec<Result<Receipt, LandError>> {
    let today = finnish_day(intake.clock.now());
    let mut seen: BTreeMap<(String, i32, i32), String> = BTreeMap::new();
    let mut checked = Vec::new();
    for request in requests {
        let twice = request.delivery(today).ok().and_then(|(_, _, delivery)| {
            let first = seen.insert(
                (delivery.contract.clone(), delivery.county, delivery.period),
                request.file_name(),
            )?;
            Some(RequestError::SameDeliveryTwice {
                file: request.file_name(),
                first,
                delivery: delivery_text(&delivery),
            })
        });
        checked.push((request, twice));
    }
    futures::stream::iter(checked)
        .map(|(request, twice)| async move {
            match twice {
                Some(error) => Err(LandError::Request(error)),
                None => land(intake, request, limits, progress).await,
            }
        })
        .buffered(at_once.max(1))
        .collect()
        .await
}

/// A lake in a folder that goes away, with all that is in it, however the landing ends.
struct Scratch {
    lake: Arc<Lake>,
    _folder: tempfile::TempDir,
}

impl Scratch {
    /// The folder is a temporary one of this user, which nobody else can read.
    fn beside(lake: &Lake, file: &str) -> Result<Scratch, LandError> {
        let folder = tempfile::tempdir().map_err(|error| LandError::Internal {
            file: file.to_owned(),
            message: format!("a temporary folder cannot be made: {}", error.kind()),
        })?;
        let lake = lake
            .scratch(folder.path())
            .map_err(|error| LandError::Lake {
                file: file.to_owned(),
                source: Box::new(error),
            })?;
        Ok(Scratch {
            lake: Arc::new(lake),
            _folder: folder,
        })
    }
}

/// One landing under way.
struct FileLanding<'a> {
    lake: &'a Arc<Lake>,
    /// Where rows are stored before anybody sees them: the lake, except for a dry run.
    stage: &'a Arc<Lake>,
    checks: Option<&'a dyn RowSetChecks>,
    clock: &'a dyn Clock,
    started: Timestamp,
    file: String,
    request: &'a LandRequest,
    delivery: Delivery,
    period: DeliveryPeriod,
    control: Option<ControlTotals>,
    key_version: i32,
    /// The task that hashes the file, until somebody waits for it.
    hashing: Mutex<Option<JoinHandle<Result<ContentHash, FaultAt>>>>,
    content: OnceLock<ContentHash>,
    mark: FileMark,
    limits: &'a LandLimits,
    progress: &'a dyn Progress,
}

/// What the lake said to a landing.
enum Begun {
    Already(Box<Receipt>),
    Go(Box<Ticket>),
}

/// A file whose header fits the contract.
struct Opened {
    source: Source,
    header: HeaderMap,
    findings: Vec<FileFinding>,
    /// Bytes of the file read so far.
    read: Arc<AtomicU64>,
}

/// Where a pass stores the rows it accepts.
enum Leave {
    /// Nowhere: a dry run that asks nothing about them.
    Dry,
    /// Where the lake will say while the first blocks are read. A file that was never landed need
    /// not wait for its hash.
    Ask,
    /// Where the lake said.
    Given(Box<Ticket>),
}

/// What the threads of a pass need to store rows.
struct Start {
    delivery_id: String,
    writer: LandingWriter,
}

/// The end of a pass, or of all passes over the file.
enum Ended<T> {
    /// The file was read to its end; rows are stored when there is a ticket.
    Read(T, Option<Box<Ticket>>),
    /// The lake holds the file's content.
    Already(Box<Receipt>),
}

/// Everything known after the passes over the file.
struct Judged {
    totals: Totals,
    rejects: RejectLog,
    findings: Vec<FileFinding>,
    staged: Option<StagedRows>,
    /// The delivery's keys, where those of later deliveries of the table may be looked for.
    keys: Option<KeySet>,
}

/// What a receipt says of the lake, besides the counts.
struct Place {
    delivery_id: String,
    replaces: Option<i64>,
}

impl FileLanding<'_> {
    /// `current` is the revision in the ledger.
    async fn run(
        &self,
        validator: &Arc<Validator>,
        current: Option<i64>,
    ) -> Result<Receipt, LandError> {
        let next = self
            .request
            .revision
            .unwrap_or(current.unwrap_or_default() + 1);
        // The header is judged before the lake is asked for anything.
        let mut opened = Some(self.open(validator, next).await?);
        if self.request.dry_run {
            return self.run_dry(validator, current, next, &mut opened).await;
        }
        for attempt in 0..ATTEMPTS {
            let leave = match (attempt, current) {
                (0, None) => Leave::Ask,
                _ => match self.begin(next).await? {
                    Begun::Already(receipt) => return Ok(*receipt),
                    Begun::Go(ticket) => Leave::Given(ticket),
                },
            };
            match self.judge(validator, leave, next, &mut opened).await? {
                Ended::Already(receipt) => return Ok(*receipt),
                Ended::Read(_, None) => return Err(self.internal("rows were read and not stored")),
                Ended::Read(judged, Some(mut ticket)) => {
                    if let Some(receipt) = self.commit(&mut ticket, judged).await? {
                        return Ok(receipt);
                    }
                }
            }
            // Another landing of this delivery came first, and the rows carry a revision that is
            // taken; or one of another delivery did, with keys of this one. Everything again.
        }
        let table = TableName::new("raw", &self.delivery.contract)
            .map_err(|error| self.lake_error(error))?;
        Err(self.lake_error(LakeError::Busy { table }))
    }

    async fn run_dry(
        &self,
        validator: &Arc<Validator>,
        current: Option<i64>,
        next: i64,
        opened: &mut Option<Opened>,
    ) -> Result<Receipt, LandError> {
        if let (Some(wanted), Some(current)) = (self.request.revision, current)
            && wanted <= current
        {
            return Err(self.older(wanted, current));
        }
        let leave = if self.request.contract.sql_checks().is_empty() {
            Leave::Dry
        } else {
            Leave::Ask
        };
        let judged = match self.judge(validator, leave, next, opened).await? {
            Ended::Read(judged, _) => judged,
            Ended::Already(receipt) => return Ok(*receipt),
        };
        let delivery_id = self.delivery.id(next);
        if let Some(stopped) = self.stopped(&judged, &delivery_id) {
            return stopped;
        }
        let outcome = if current.is_some() {
            Outcome::WouldReplace
        } else {
            Outcome::WouldLand
        };
        let place = Place {
            delivery_id,
            replaces: current,
        };
        Ok(self.receipt(
            outcome,
            place,
            &judged.totals,
            judged.rejects.listed(),
            &judged.findings,
        ))
    }

    /// The file's hash, once it is computed.
    async fn content(&self) -> Result<ContentHash, LandError> {
        let hashing = self
            .hashing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(hashing) = hashing {
            let content = joined(hashing.await, &self.file)?.map_err(|at| at.named(&self.file))?;
            let _ = self.content.set(content);
        }
        self.content
            .get()
            .copied()
            .ok_or_else(|| self.internal("the file was not hashed"))
    }

    /// Asks the lake for leave to land.
    async fn begin(&self, wanted: i64) -> Result<Begun, LandError> {
        let schema = self.request.contract.arrow_schema();
        let content = self.content().await?;
        // The scratch of a dry run knows no earlier revision.
        let revision = if self.request.dry_run {
            Some(wanted)
        } else {
            self.request.revision
        };
        let begun = self
            .stage
            .begin_landing(&self.delivery, &schema, content, revision)
            .await;
        match begun.map_err(|error| self.lake_error(error))? {
            Landing::AlreadyLanded(row) => Ok(Begun::Already(Box::new(self.already(&row)))),
            Landing::Older { current } => Err(self.older(wanted, current)),
            Landing::Go(ticket) => Ok(Begun::Go(ticket)),
        }
    }

    /// Opens the file and fits its header to the contract.
    async fn open(&self, validator: &Arc<Validator>, revision: i64) -> Result<Opened, LandError> {
        let read = Arc::new(AtomicU64::new(0));
        let agreement = Agreement::of(&self.request.contract);
        let (path, limits, counter) = (
            self.request.file.clone(),
            self.limits.clone(),
            Arc::clone(&read),
        );
        let opened = tokio::task::spawn_blocking(move || {
            source::open_file(&path, &agreement, &limits, &counter)
        });
        let source = joined(opened.await, &self.file)?.map_err(|at| at.named(&self.file))?;
        match validator.map_header(&source.header) {
            Ok(header) => {
                let findings = header.warnings().to_vec();
                Ok(Opened {
                    source,
                    header,
                    findings,
                    read,
                })
            }
            Err(findings) => {
                self.content().await?;
                let place = Place {
                    delivery_id: self.delivery.id(revision),
                    replaces: None,
                };
                Err(LandError::Refused(Box::new(self.receipt(
                    Outcome::Refused,
                    place,
                    &Totals::default(),
                    &[],
                    &findings,
                ))))
            }
        }
    }

    /// Reads the file once, or twice when repeated keys were found too late to set them apart.
    async fn judge(
        &self,
        validator: &Arc<Validator>,
        mut leave: Leave,
        revision: i64,
        opened: &mut Option<Opened>,
    ) -> Result<Ended<Judged>, LandError> {
        let apart = self.request.contract.uniqueness().action == Action::Quarantine;
        let mut known: Arc<BTreeMap<i64, First>> = Arc::default();
        loop {
            let file = match opened.take() {
                Some(file) => file,
                None => self.open(validator, revision).await?,
            };
            let mut findings = file.findings.clone();
            let ((mut passed, staged), mut ticket) =
                match self.pass(validator, leave, revision, &known, file).await? {
                    Ended::Already(receipt) => return Ok(Ended::Already(receipt)),
                    Ended::Read(passed, ticket) => (passed, ticket),
                };
            let keeps_keys = passed.keys.is_in_memory()
                && self.request.contract.uniqueness().scope == KeyScope::Table;
            if known.is_empty() {
                let late = self
                    .late_duplicates(&mut passed, ticket.as_deref_mut())
                    .await?;
                if apart && !late.is_empty() {
                    self.discard(ticket.as_deref(), staged.as_ref()).await;
                    known = Arc::new(late);
                    leave = ticket.map_or(Leave::Dry, Leave::Given);
                    continue;
                }
                for (row, first) in late {
                    passed.repeated.add(Duplicate { row, first });
                }
            }
            let Passed {
                totals,
                rejects,
                repeated,
                keys,
            } = passed;
            self.content().await?;
            let (path, mark) = (self.request.file.clone(), self.mark.clone());
            let unchanged = tokio::task::spawn_blocking(move || mark.check(&path)).await;
            let sound = match joined(unchanged, &self.file)?.map_err(|at| at.named(&self.file)) {
                Ok(()) => self.balance(&totals, staged.as_ref()),
                Err(changed) => Err(changed.into()),
            };
            if let Err(error) = sound {
                self.discard(ticket.as_deref(), staged.as_ref()).await;
                return Err(error);
            }
            findings.extend(self.verdict(&totals, &rejects, &repeated));
            match self
                .sql_findings(ticket.as_deref(), staged.as_ref(), totals.accepted)
                .await
            {
                Ok(found) => findings.extend(found),
                Err(error) => {
                    self.discard(ticket.as_deref(), staged.as_ref()).await;
                    return Err(error);
                }
            }
            return Ok(Ended::Read(
                Judged {
                    totals,
                    rejects,
                    findings,
                    staged,
                    keys: keeps_keys.then_some(keys),
                },
                ticket,
            ));
        }
    }

    /// One pass over the file; accepted rows are stored, unseen, unless it is a dry run.
    async fn pass(
        &self,
        validator: &Arc<Validator>,
        leave: Leave,
        revision: i64,
        known: &Arc<BTreeMap<i64, First>>,
        file: Opened,
    ) -> Result<Ended<(Passed, Option<StagedRows>)>, LandError> {
        let Opened {
            source,
            header,
            findings: _,
            read,
        } = file;
        let cancelled = Arc::new(AtomicBool::new(false));
        let stops_when_dropped = CancelOnDrop(Arc::clone(&cancelled));
        let (ticks, mut heard) = tokio::sync::mpsc::unbounded_channel::<()>();
        let (give, given) = std::sync::mpsc::channel::<Start>();
        let stores = !matches!(leave, Leave::Dry);
        let job = {
            let (validator, known, limits) = (
                Arc::clone(validator),
                Arc::clone(known),
                self.limits.clone(),
            );
            let contract = Arc::clone(&self.request.contract);
            tokio::task::spawn_blocking(move || {
                let amounts: Vec<String> = contract
                    .amount_columns()
                    .map(|property| property.name().to_owned())
                    .collect();
                let pass = Pass {
                    validator: &validator,
                    header: &header,
                    uniqueness: contract.uniqueness(),
                    limits: &limits,
                    amounts: &amounts,
                    known: &known,
                    cancelled: &cancelled,
                };
                let mut storing: Option<(LandingWriter, DeliveryColumns)> = None;
                let mut sink = |batch, row_no| {
                    if !stores {
                        return true;
                    }
                    if storing.is_none() {
                        // The first rows wait here for the lake's word.
                        storing = given
                            .recv()
                            .ok()
                            .map(|start| (start.writer, DeliveryColumns::new(&start.delivery_id)));
                    }
                    match &mut storing {
                        Some((writer, columns)) => columns
                            .put_before(batch, row_no)
                            .is_ok_and(|batch| writer.write(batch).is_ok()),
                        None => false,
                    }
                };
                let mut tick = || {
                    // Nobody may be listening any more.
                    let _ = ticks.send(());
                };
                let outcome = pipeline::run(source, &pass, &mut sink, &mut tick);
                // A file without accepted rows still has a writer to be finished.
                let writer = storing
                    .map(|(writer, _)| writer)
                    .or_else(|| given.recv().ok().map(|start| start.writer));
                (outcome, writer)
            })
        };
        let began = match leave {
            Leave::Dry => Ok(None),
            Leave::Given(ticket) => Ok(Some(ticket)),
            Leave::Ask => match self.begin(revision).await {
                Ok(Begun::Go(ticket)) => Ok(Some(ticket)),
                Ok(Begun::Already(receipt)) => Err(Ok(Ended::Already(receipt))),
                Err(error) => Err(Err(error)),
            },
        };
        let ticket = match began {
            Ok(ticket) => ticket,
            Err(end) => {
                drop((give, stops_when_dropped));
                // Whatever the threads still found no longer matters.
                let _ = joined(job.await, &self.file)?;
                return end;
            }
        };
        if let Some(ticket) = &ticket {
            let options = PartOptions {
                text_statistics: false,
                ..PartOptions::default()
            };
            let writer = self
                .stage
                .landing_writer(ticket, self.limits.encoders, options)
                .map_err(|error| self.lake_error(error))?;
            // The threads may have ended with a fault of the file already.
            let _ = give.send(Start {
                delivery_id: ticket.delivery_id(),
                writer,
            });
        }
        drop(give);
        while heard.recv().await.is_some() {
            self.progress.bytes(
                &self.file,
                read.load(Ordering::Relaxed).min(self.mark.bytes),
                self.mark.bytes,
            );
        }
        let (outcome, writer) = joined(job.await, &self.file)?;
        let staged = match writer {
            Some(writer) => Some(writer.finish().await),
            None => None,
        };
        match (outcome, staged) {
            (Ok(passed), None) => Ok(Ended::Read((passed, None), ticket)),
            (Ok(passed), Some(Ok(staged))) => Ok(Ended::Read((passed, Some(staged)), ticket)),
            (Ok(_) | Err(Stop::Sink), Some(Err(error))) => Err(self.lake_error(error)),
            (Err(stop), staged) => {
                self.discard(ticket.as_deref(), staged.and_then(Result::ok).as_ref())
                    .await;
                Err(self.stop_error(stop))
            }
        }
    }

    /// Repeated keys that one pass cannot see as it goes: spilled ones, and those of other
    /// deliveries in the table.
    async fn late_duplicates(
        &self,
        passed: &mut Passed,
        ticket: Option<&mut Ticket>,
    ) -> Result<BTreeMap<i64, First>, LandError> {
        let mut late: BTreeMap<i64, First> = BTreeMap::new();
        if self.request.contract.uniqueness().scope == KeyScope::Table && passed.totals.accepted > 0
        {
            late = self.keys_of_others(&mut passed.keys, ticket).await?;
        }
        if passed.keys.is_in_memory() {
            return Ok(late);
        }
        let keys = std::mem::replace(&mut passed.keys, KeySet::new(0));
        let finished = tokio::task::spawn_blocking(move || keys.finish()).await;
        let spilled = joined(finished, &self.file)?.map_err(|error| self.spill_error(&error))?;
        for duplicate in spilled {
            late.entry(duplicate.row).or_insert(duplicate.first);
        }
        Ok(late)
    }

    /// Looks for keys in the table's other deliveries; with a ticket, in those that it has not
    /// looked at yet.
    async fn keys_of_others(
        &self,
        keys: &mut KeySet,
        ticket: Option<&mut Ticket>,
    ) -> Result<BTreeMap<i64, First>, LandError> {
        let columns = self.request.contract.key_columns();
        let columns: Vec<&str> = columns.iter().map(AsRef::as_ref).collect();
        let mut late: BTreeMap<i64, First> = BTreeMap::new();
        let mut spilled = Ok(());
        let mut each = |batch: &arrow::array::RecordBatch| {
            let stored = self.request.contract.stored_keys(batch);
            match keys.probe_table(&stored) {
                Ok(found) => late.extend(
                    found
                        .into_iter()
                        .map(|duplicate| (duplicate.row, duplicate.first)),
                ),
                Err(error) => spilled = Err(error),
            }
        };
        // A key belongs to the source systems of one organiser: others number theirs alike.
        let scanned = match ticket {
            Some(ticket) => self.lake.read_others(ticket, &columns, &mut each).await,
            None => {
                let table = TableName::new("raw", self.request.contract.name())
                    .map_err(|error| self.lake_error(error))?;
                let organiser = Slice::new(&[("county", self.delivery.county)]);
                let own = Slice::new(&[
                    ("county", self.delivery.county),
                    ("period", self.delivery.period),
                ]);
                self.lake
                    .read(&table, &organiser, Some(&own), Some(&columns), &mut each)
                    .await
            }
        };
        scanned.map_err(|error| self.lake_error(error))?;
        spilled.map_err(|error| self.spill_error(&error))?;
        Ok(late)
    }

    /// What the whole delivery comes to.
    fn verdict(
        &self,
        totals: &Totals,
        rejects: &RejectLog,
        repeated: &Repeated,
    ) -> Vec<FileFinding> {
        let contract = &self.request.contract;
        let mut findings = contract.conclude(totals);
        let key = contract
            .key()
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(", ");
        findings.extend(repeated.finding(&key, contract.uniqueness().action));
        if let Some(control) = &self.control {
            findings.extend(control.compare(contract, totals));
        }
        if rejects.overflow {
            findings.push(FileFinding {
                rule: Arc::from(REJECT_LIMIT),
                action: Action::Reject,
                field: None,
                message: format!(
                    "more than {} reasons of rejected rows",
                    self.limits.max_rejects
                ),
                help: Some(
                    "mend the most frequent rule at the source and send the file again".to_owned(),
                ),
            });
        }
        findings
    }

    /// What the contract's SQL checks find in the stored rows.
    async fn sql_findings(
        &self,
        ticket: Option<&Ticket>,
        staged: Option<&StagedRows>,
        accepted: u64,
    ) -> Result<Vec<FileFinding>, LandError> {
        let contract = &self.request.contract;
        if contract.sql_checks().is_empty() {
            return Ok(Vec::new());
        }
        let (Some(checks), Some(ticket), Some(staged)) = (self.checks, ticket, staged) else {
            return Err(self.internal("no rows were stored that the SQL checks could look at"));
        };
        let rows = self
            .stage
            .staged_table(ticket, staged, &contract.arrow_schema())
            .map_err(|error| self.lake_error(error))?;
        let numbers = match checks.numbers(contract, &rows).await {
            Ok(numbers) if numbers.len() == contract.sql_checks().len() => numbers,
            Ok(_) => return Err(self.internal("not every SQL check was answered")),
            Err(NoNumbers::Contract(problems)) => return Err(self.contract_error(problems)),
            Err(NoNumbers::Failed(source)) => {
                return Err(LandError::Checks {
                    file: self.file.clone(),
                    source,
                });
            }
        };
        contract
            .conclude_sql(&numbers, accepted)
            .map_err(|problems| self.contract_error(problems))
    }

    fn contract_error(&self, problems: Vec<Problem>) -> LandError {
        LandError::Contract {
            file: self.file.clone(),
            problems,
        }
    }

    /// Received = accepted + quarantined, and every accepted row is stored: always, or a bug.
    fn balance(&self, totals: &Totals, staged: Option<&StagedRows>) -> Result<(), LandError> {
        let stored = staged.map_or(totals.accepted, |staged| staged.rows);
        if totals.received == totals.accepted + totals.quarantined && stored == totals.accepted {
            return Ok(());
        }
        Err(self.internal(&format!(
            "the counts do not agree: {} received, {} accepted, {} quarantined, {stored} stored",
            totals.received, totals.accepted, totals.quarantined
        )))
    }

    /// The receipt of a delivery that its findings stop.
    fn stopped(&self, judged: &Judged, delivery_id: &str) -> Option<Result<Receipt, LandError>> {
        let has = |action: Action| {
            judged
                .findings
                .iter()
                .any(|finding| finding.action == action)
        };
        let outcome = match (
            has(Action::Reject),
            has(Action::Hold) && !self.request.approve_held,
        ) {
            (true, _) => Outcome::Refused,
            (false, true) => Outcome::Held,
            (false, false) => return None,
        };
        let place = Place {
            delivery_id: delivery_id.to_owned(),
            replaces: None,
        };
        let receipt = self.receipt(
            outcome,
            place,
            &judged.totals,
            judged.rejects.listed(),
            &judged.findings,
        );
        Some(if outcome == Outcome::Held {
            Ok(receipt)
        } else {
            Err(LandError::Refused(Box::new(receipt)))
        })
    }

    /// Commits, unless the findings stop the delivery. `None`: overtaken, begin again.
    async fn commit(
        &self,
        ticket: &mut Ticket,
        judged: Judged,
    ) -> Result<Option<Receipt>, LandError> {
        if let Some(stopped) = self.stopped(&judged, &ticket.delivery_id()) {
            self.discard(Some(ticket), judged.staged.as_ref()).await;
            return stopped.map(Some);
        }
        let Judged {
            totals,
            rejects,
            findings,
            staged,
            mut keys,
        } = judged;
        let staged = staged.unwrap_or_default();
        let outcome = if ticket.replaces().is_some() {
            Outcome::Replaced
        } else {
            Outcome::Landed
        };
        let place = Place {
            delivery_id: ticket.delivery_id(),
            replaces: ticket.replaces(),
        };
        let mut receipt = self.receipt(outcome, place, &totals, rejects.listed(), &findings);
        self.progress.committing(&self.file);
        let row = self.ledger_row(ticket, &receipt);
        let rejects = rejects.into_batches();
        loop {
            let landed = self
                .lake
                .finish_landing(ticket, &staged, rejects.clone(), row.clone())
                .await;
            match landed.map_err(|error| self.lake_error(error))? {
                LandOutcome::Landed(row) => {
                    receipt.table_version = Some(row.table_version);
                    receipt.seconds = self.seconds();
                    return Ok(Some(receipt));
                }
                LandOutcome::AlreadyLanded(row) => return Ok(Some(self.already(&row))),
                LandOutcome::OthersLanded => {
                    let apart = match &mut keys {
                        Some(keys) => self.keys_of_others(keys, Some(ticket)).await?.is_empty(),
                        None => false,
                    };
                    if !apart {
                        self.discard(Some(ticket), Some(&staged)).await;
                        return Ok(None);
                    }
                }
                LandOutcome::Overtaken { .. } => {
                    self.discard(Some(ticket), Some(&staged)).await;
                    return Ok(None);
                }
            }
        }
    }

    fn receipt(
        &self,
        outcome: Outcome,
        place: Place,
        totals: &Totals,
        listed: &[Reject],
        findings: &[FileFinding],
    ) -> Receipt {
        let contract = &self.request.contract;
        let Place {
            delivery_id,
            replaces,
        } = place;
        let rules = totals
            .rejects
            .iter()
            .map(|((rule, field), rows)| RuleCount {
                rule: rule.to_string(),
                field: field.to_string(),
                rows: *rows,
            });
        let control_sums = contract.amount_columns().filter_map(|property| {
            let PropertyType::Decimal { scale, .. } = property.kind() else {
                return None;
            };
            let sum = |sums: &BTreeMap<String, i128>| {
                decimal_text(
                    sums.get(property.name()).copied().unwrap_or_default(),
                    *scale,
                )
            };
            let stated = self
                .control
                .as_ref()
                .and_then(|control| control.stated(property.name(), property.header(), *scale));
            Some(ControlSum {
                column: property.name().to_owned(),
                received: sum(&totals.sums_received),
                accepted: sum(&totals.sums),
                stated: stated
                    .and_then(Result::ok)
                    .map(|units| decimal_text(units, *scale)),
            })
        });
        Receipt {
            file: self.file.clone(),
            contract: contract.name().to_owned(),
            contract_version: contract.version().to_owned(),
            delivery_id,
            county: self.delivery.county_code.clone(),
            period: self.period.to_string(),
            outcome,
            received: totals.received,
            accepted: totals.accepted,
            quarantined: totals.quarantined,
            rules: rules.collect(),
            findings: findings.iter().map(Finding::from).collect(),
            control_sums: control_sums.collect(),
            rejected_rows: listed.iter().map(RejectedRow::from).collect(),
            bytes: self.mark.bytes,
            content_hash: self
                .content
                .get()
                .map(ToString::to_string)
                .unwrap_or_default(),
            key_version: self.key_version,
            replaces,
            table_version: None,
            seconds: self.seconds(),
        }
    }

    /// The receipt of what the lake holds already.
    fn already(&self, row: &LedgerRow) -> Receipt {
        let kept: LedgerFindings = serde_json::from_str(&row.findings).unwrap_or_default();
        let count = |rows: i64| u64::try_from(rows).unwrap_or_default();
        Receipt {
            file: self.file.clone(),
            contract: row.contract.clone(),
            contract_version: row.contract_version.clone(),
            delivery_id: row.delivery_id.clone(),
            county: row.county_code.clone(),
            period: self.period.to_string(),
            outcome: Outcome::AlreadyLanded,
            received: count(row.received),
            accepted: count(row.accepted),
            quarantined: count(row.quarantined),
            rules: kept.rules,
            findings: kept.findings,
            control_sums: serde_json::from_str(&row.control_sums).unwrap_or_default(),
            rejected_rows: Vec::new(),
            bytes: count(row.file_bytes),
            content_hash: row.content_hash.clone(),
            key_version: row.key_version,
            replaces: None,
            table_version: Some(row.table_version),
            seconds: self.seconds(),
        }
    }

    fn ledger_row(&self, ticket: &Ticket, receipt: &Receipt) -> LedgerRow {
        let kept = LedgerFindings {
            rules: receipt.rules.clone(),
            findings: receipt.findings.clone(),
        };
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        LedgerRow {
            delivery_id: ticket.delivery_id(),
            contract: receipt.contract.clone(),
            contract_version: receipt.contract_version.clone(),
            county_code: self.delivery.county_code.clone(),
            county: self.delivery.county,
            period: self.delivery.period,
            covers_from: days_from_epoch(self.period.first_day()),
            covers_to: days_from_epoch(self.period.last_day()),
            revision: ticket.revision(),
            content_hash: receipt.content_hash.clone(),
            file_name: self.file.clone(),
            file_bytes: number(receipt.bytes),
            received: number(receipt.received),
            accepted: number(receipt.accepted),
            quarantined: number(receipt.quarantined),
            control_sums: serde_json::to_string(&receipt.control_sums).unwrap_or_default(),
            key_version: receipt.key_version,
            status: "accepted".to_owned(),
            // The lake writes the version that its commit makes.
            table_version: -1,
            landed_at: self.clock.now().as_microsecond(),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
            findings: serde_json::to_string(&kept).unwrap_or_default(),
        }
    }

    async fn discard(&self, ticket: Option<&Ticket>, staged: Option<&StagedRows>) {
        if let (Some(ticket), Some(staged)) = (ticket, staged) {
            self.stage.discard(ticket, staged).await;
        }
    }

    fn seconds(&self) -> f64 {
        self.clock.now().duration_since(self.started).as_secs_f64()
    }

    fn older(&self, wanted: i64, current: i64) -> LandError {
        LandError::OlderRevision {
            file: self.file.clone(),
            delivery: delivery_text(&self.delivery),
            wanted,
            current,
        }
    }

    fn stop_error(&self, stop: Stop) -> LandError {
        match stop {
            Stop::Source(at) => LandError::Source(at.named(&self.file)),
            Stop::Cancelled => LandError::Cancelled {
                file: self.file.clone(),
            },
            Stop::Spill(error) => self.spill_error(&error),
            Stop::Sink => self.internal("the lake's writer stopped without a reason"),
            Stop::Internal(message) => self.internal(&message),
        }
    }

    fn spill_error(&self, error: &std::io::Error) -> LandError {
        self.internal(&format!(
            "temporary files for the keys cannot be used: {}",
            error.kind()
        ))
    }

    fn internal(&self, message: &str) -> LandError {
        LandError::Internal {
            file: self.file.clone(),
            message: message.to_owned(),
        }
    }

    fn lake_error(&self, source: LakeError) -> LandError {
        LandError::Lake {
            file: self.file.clone(),
            source: Box::new(source),
        }
    }
}

/// The findings that the ledger keeps for good.
#[derive(Debug, Default, Serialize, Deserialize)]
struct LedgerFindings {
    rules: Vec<RuleCount>,
    findings: Vec<Finding>,
}

/// Tells the threads of a pass to stop when its future is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn days_from_epoch(day: Date) -> i32 {
    let days = day.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24;
    i32::try_from(days).unwrap_or_default()
}

fn delivery_text(delivery: &Delivery) -> String {
    let period = DeliveryPeriod::from_number(delivery.period)
        .map_or_else(|| delivery.period.to_string(), |period| period.to_string());
    format!(
        "{} of {} for {period}",
        delivery.contract, delivery.county_code
    )
}

fn joined<T>(outcome: Result<T, tokio::task::JoinError>, file: &str) -> Result<T, LandError> {
    outcome.map_err(|error| LandError::Internal {
        file: file.to_owned(),
        message: if error.is_cancelled() {
            "the runtime is shutting down".to_owned()
        } else {
            "a thread of the landing died".to_owned()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(days_from_epoch(Date::constant(1970, 1, 1)), 0);
        assert_eq!(days_from_epoch(Date::constant(2024, 1, 1)), 19_723);
    }
}
