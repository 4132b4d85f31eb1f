//! Landing a delivery: exactly once, whole or not at all.
//!
//! The order of effects is: data files (invisible), the pending receipt, rejected rows, data,
//! ledger row, and the pending receipt gone. The data commit is the moment that counts. Before it
//! nothing is seen; after it a crash leaves a pending receipt, from which the next landing of the
//! same delivery completes the ledger. The commit carries the delivery key and revision as an
//! application transaction, and says whose landing it is, so that a lost answer is resolved by
//! looking. A landing that was checked against other deliveries of the table is committed only onto
//! a version all of whose deliveries were looked at. What may not live here: contracts, validation,
//! persons.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake_core::kernel::{Action, Add};
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutPayload};
use tietopohja_domain::ContentHash;

use crate::commit::{CommitInfo, Tries, unique_name};
use crate::parts::{EncodedPart, PartEncoder, PartOptions};
use crate::state::{TableFile, TableState, actions_of};
use crate::{Lake, LakeError, LedgerRow, Slice, TableName, failpoint};

/// What a sender re-sends as a whole: contract, organiser and period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Contract, and raw table.
    pub contract: String,
    /// Organiser number; 0 for national files.
    pub county: i32,
    /// Organiser code: `01` to `21`, `90`, `FI`.
    pub county_code: String,
    /// `yyyymm`, or `yyyy00`.
    pub period: i32,
}

impl Delivery {
    pub(crate) fn slice(&self) -> Slice {
        Slice::new(&[("county", self.county), ("period", self.period)])
    }

    /// The stable id of this key in the Delta log.
    pub(crate) fn app_id(&self) -> String {
        format!("{}/{}/{}", self.contract, self.county_code, self.period)
    }

    fn key(&self) -> String {
        format!("{}.{}.{}", self.contract, self.county_code, self.period)
    }

    /// The id of one revision of this delivery.
    pub fn id(&self, revision: i64) -> String {
        format!("{}.r{revision}", self.key())
    }

    fn raw_table(&self) -> Result<TableName, LakeError> {
        TableName::new("raw", &self.contract)
    }

    fn reject_table(&self) -> Result<TableName, LakeError> {
        TableName::new("reject", &self.contract)
    }
}

/// What the lake says to a delivery that wants to land.
#[derive(Debug)]
pub enum Landing {
    /// These very bytes are the delivery's present revision.
    AlreadyLanded(Box<LedgerRow>),
    /// A newer revision than the one wanted is in place.
    Older {
        /// The revision in place.
        current: i64,
    },
    /// Go on: write rows, then [`Lake::finish_landing`].
    Go(Box<Ticket>),
}

/// Leave to land one revision of one delivery.
#[derive(Debug, Clone)]
pub struct Ticket {
    delivery: Delivery,
    revision: i64,
    replaces: Option<i64>,
    content: ContentHash,
    wanted: Option<i64>,
    file_schema: SchemaRef,
    /// The version of the table at which the revision was chosen: what this delivery's revision is
    /// later, its commits since then tell.
    read_at: i64,
    /// The table as it was when the last of its other deliveries were looked at.
    looked_at: Option<Arc<TableState>>,
}

impl Ticket {
    /// The revision this landing becomes.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The revision it takes the place of.
    pub fn replaces(&self) -> Option<i64> {
        self.replaces
    }

    /// The id that every row and the ledger carry.
    pub fn delivery_id(&self) -> String {
        self.delivery.id(self.revision)
    }

    /// The columns rows are stored with: `delivery_id`, `row_no`, then the contract's.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file_schema
    }

    /// Files of the organiser's other deliveries that were not looked at.
    fn others<'a>(&'a self, state: &'a TableState) -> impl Iterator<Item = &'a Arc<TableFile>> {
        let organiser = Slice::new(&[("county", self.delivery.county)]);
        state
            .files_between(&organiser, Some(&self.delivery.slice()))
            .filter(|file| {
                !self
                    .looked_at
                    .as_ref()
                    .is_some_and(|looked_at| looked_at.has_file(file.path()))
            })
    }

    /// True when the table has deliveries that this one should have been checked against.
    fn is_behind(&self, state: &TableState) -> bool {
        self.looked_at
            .as_ref()
            .is_some_and(|looked_at| looked_at.version() != state.version())
            && self.others(state).next().is_some()
    }

    pub(crate) fn raw_table(&self) -> Result<TableName, LakeError> {
        self.delivery.raw_table()
    }

    pub(crate) fn slice(&self) -> Slice {
        self.delivery.slice()
    }

    fn file_prefix(&self) -> String {
        format!(
            "{}{}-",
            revision_prefix(self.revision),
            self.content.short()
        )
    }

    /// Rejects of different contents lie apart, so that a race cannot mix them.
    fn attempt(&self) -> i32 {
        let bytes = self.content.as_bytes();
        i32::from_be_bytes([bytes[0] & 0x7f, bytes[1], bytes[2], bytes[3]])
    }
}

/// How a landing ended.
#[derive(Debug)]
pub enum LandOutcome {
    /// The delivery is in the lake, and this is its ledger row.
    Landed(Box<LedgerRow>),
    /// Another process landed the same bytes first.
    AlreadyLanded(Box<LedgerRow>),
    /// Another process landed other bytes meanwhile: begin again with a new ticket.
    Overtaken {
        /// The revision in place now.
        current: i64,
    },
    /// Other deliveries of the table landed since [`Lake::read_others`]: nothing was changed. Look
    /// at them too, and finish again.
    OthersLanded,
}

/// Properties of a data commit that tell whose it is.
const CONTENT_HASH: &str = "contentHash";
const LANDING: &str = "landing";

/// Who made a commit of a delivery's revision.
enum Lander {
    /// This very landing; the version of its commit.
    This(i64),
    /// Another landing of the same bytes; the version of its commit.
    SameContent(i64),
    Other,
}

/// Rows that are stored and not yet visible.
#[derive(Debug, Default)]
pub struct StagedRows {
    adds: Vec<Add>,
    /// Number of rows stored.
    pub rows: u64,
}

impl StagedRows {
    pub(crate) fn adds(&self) -> &[Add] {
        &self.adds
    }
}

/// Takes batches and stores them as Parquet on encoder threads. Memory is bounded: `write` waits
/// when the encoders are behind.
pub struct LandingWriter {
    encoders: Vec<SyncSender<RecordBatch>>,
    threads: Vec<JoinHandle<Result<u64, LakeError>>>,
    storing: tokio::task::JoinHandle<Result<Vec<Add>, LakeError>>,
    next: AtomicUsize,
}

impl LandingWriter {
    /// Hands a batch to the next encoder. Blocks; call it from a thread that may.
    pub fn write(&self, batch: RecordBatch) -> Result<(), LakeError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.encoders.len().max(1);
        match self.encoders.get(turn) {
            Some(encoder) if encoder.send(batch).is_ok() => Ok(()),
            // The encoder ended early; its error comes out of `finish`.
            _ => Err(LakeError::Internal("an encoder stopped".to_owned())),
        }
    }

    /// Waits until every row is stored.
    pub async fn finish(self) -> Result<StagedRows, LakeError> {
        drop(self.encoders);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|_| Err(LakeError::Internal("an encoder died".to_owned())))
                })
                .sum::<Result<u64, _>>()
        })
        .await
        .map_err(|error| LakeError::Internal(error.to_string()))?;
        let adds = self
            .storing
            .await
            .map_err(|error| LakeError::Internal(error.to_string()))??;
        Ok(StagedRows {
            adds,
            rows: joined?,
        })
    }
}

impl Lake {
    /// Asks to land a delivery. Completes an earlier landing of the same key that was cut off after
    /// its data commit. `schema` holds the contract's columns, without `county`, `period`,
    /// `delivery_id` and `row_no`. Needs no lock: others may land at the same time.
    pub async fn begin_landing(
        &self,
        delivery: &Delivery,
        schema: &Schema,
        content: ContentHash,
        wanted: Option<i64>,
    ) -> Result<Landing, LakeError> {
        let raw = delivery.raw_table()?;
        self.ensure_table(&raw, raw_schema(schema), &["county", "period"])
            .await?;
        self.ensure_table(
            &LedgerRow::table()?,
            LedgerRow::schema(),
            &["county", "period"],
        )
        .await?;
        let state = self.existing(&raw).await?;
        let mut ledger = self.ledger_rows(delivery).await?;
        let current = self
            .landed_revision(delivery, &raw, &state, &ledger)
            .await?;
        if let Some(revision) = current
            && !ledger.iter().any(|row| row.revision == revision)
        {
            ledger.push(self.complete_ledger(delivery, &state, revision).await?);
        }
        let file_schema = Self::file_schema(&state)?;
        let revision = match (current, wanted) {
            (None, None) => 1,
            (None, Some(wanted)) => wanted,
            (Some(current), wanted) => {
                let present = ledger.into_iter().find(|row| row.revision == current);
                match (present, wanted) {
                    (Some(row), _) if row.content_hash == content.to_string() => {
                        return Ok(Landing::AlreadyLanded(Box::new(row)));
                    }
                    (_, None) => current + 1,
                    (_, Some(wanted)) if wanted > current => wanted,
                    (_, Some(wanted)) if wanted == current => {
                        return Err(LakeError::RevisionTaken {
                            delivery: delivery.key(),
                            revision: wanted,
                        });
                    }
                    (_, Some(_)) => return Ok(Landing::Older { current }),
                }
            }
        };
        Ok(Landing::Go(Box::new(Ticket {
            delivery: delivery.clone(),
            revision,
            replaces: current,
            content,
            wanted,
            file_schema,
            read_at: state.version(),
            looked_at: None,
        })))
    }

    /// Reads the named columns of the table's other deliveries of the same organiser that this
    /// ticket has not looked at yet, and makes the landing depend on it: when more of them land
    /// before it does, it ends as [`LandOutcome::OthersLanded`].
    pub async fn read_others(
        &self,
        ticket: &mut Ticket,
        columns: &[&str],
        each: &mut (dyn FnMut(&RecordBatch) + Send),
    ) -> Result<(), LakeError> {
        let raw = ticket.delivery.raw_table()?;
        let state = self.existing(&raw).await?;
        let files: Vec<_> = ticket.others(&state).cloned().collect();
        self.read_files(&raw, &files, Some(columns), each).await?;
        ticket.looked_at = Some(state);
        Ok(())
    }

    /// Starts storing rows for a ticket on `encoders` threads.
    pub fn landing_writer(
        self: &Arc<Self>,
        ticket: &Ticket,
        encoders: usize,
        options: PartOptions,
    ) -> Result<LandingWriter, LakeError> {
        let (parts, mut stored) = tokio::sync::mpsc::channel::<EncodedPart>(1);
        let mut senders = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..encoders.max(1) {
            let (sender, batches) = sync_channel(2);
            let schema = Arc::clone(&ticket.file_schema);
            let parts = parts.clone();
            let thread = std::thread::Builder::new()
                .name("parquet".to_owned())
                .spawn(move || encode(&batches, PartEncoder::new(schema, options), &parts))
                .map_err(|error| {
                    LakeError::Internal(format!("cannot start an encoder: {error}"))
                })?;
            senders.push(sender);
            threads.push(thread);
        }
        drop(parts);
        let lake = Arc::clone(self);
        let (table, slice) = (ticket.delivery.raw_table()?, ticket.delivery.slice());
        let prefix = format!("{}{}", ticket.file_prefix(), unique_name(self.now_millis()));
        let storing = tokio::spawn(async move {
            let mut adds = Vec::new();
            while let Some(part) = stored.recv().await {
                let name = format!("{prefix}-{:03}.parquet", adds.len());
                adds.push(lake.store_part(&table, &slice, &name, part).await?);
            }
            Ok(adds)
        });
        Ok(LandingWriter {
            encoders: senders,
            threads,
            storing,
            next: AtomicUsize::new(0),
        })
    }

    /// Makes stored rows, their rejects and their ledger row visible, in the order of the protocol.
    /// `rejects` has the columns `row_no`, `rule`, `field`, `message`.
    pub async fn finish_landing(
        &self,
        ticket: &Ticket,
        staged: &StagedRows,
        rejects: Vec<RecordBatch>,
        mut row: LedgerRow,
    ) -> Result<LandOutcome, LakeError> {
        failpoint::reach("land.staged");
        let raw = ticket.delivery.raw_table()?;
        let landing = unique_name(self.now_millis());
        self.put_pending(ticket, &landing, &row).await?;
        failpoint::reach("land.pending");
        if !rejects.is_empty() {
            self.land_rejects(ticket, rejects).await?;
        }
        failpoint::reach("land.rejects");
        let slices = [ticket.delivery.slice()];
        let application = ticket.delivery.app_id();
        let info = CommitInfo {
            transaction: Some((application.clone(), ticket.revision)),
            properties: vec![
                ("deliveryId".to_owned(), ticket.delivery_id().into()),
                (CONTENT_HASH.to_owned(), ticket.content.to_string().into()),
                (LANDING.to_owned(), landing.clone().into()),
                ("accepted".to_owned(), row.accepted.into()),
                ("quarantined".to_owned(), row.quarantined.into()),
                (
                    "engineVersion".to_owned(),
                    row.engine_version.clone().into(),
                ),
            ],
        };
        let turn = self.turn(&raw).await;
        let mut tries = Tries::default();
        row.table_version = loop {
            let state = if tries.is_first() {
                self.last_seen(&raw).await?
            } else {
                self.existing(&raw).await?
            };
            let present = self
                .transaction_since(&raw, &state, &application, ticket.read_at, ticket.replaces)
                .await?;
            // A conflict or a lost answer: whose content is in place?
            if let Some(present) = present
                && Some(present) != ticket.replaces
            {
                match self.lander(&raw, ticket, &landing).await? {
                    Lander::This(version) => break version,
                    Lander::SameContent(version) if present == ticket.revision => {
                        self.discard(ticket, staged).await;
                        self.drop_pending(ticket, &landing).await;
                        row.table_version = version;
                        let known = self
                            .ledger_rows(&ticket.delivery)
                            .await?
                            .into_iter()
                            .find(|known| known.revision == present);
                        return Ok(LandOutcome::AlreadyLanded(Box::new(known.unwrap_or(row))));
                    }
                    Lander::SameContent(_) | Lander::Other => {
                        return self.overtaken(ticket, &landing, present).await;
                    }
                }
            }
            if ticket.is_behind(&state) {
                self.drop_pending(ticket, &landing).await;
                return Ok(LandOutcome::OthersLanded);
            }
            tries.are_enough(&raw)?;
            let attempt = self
                .try_commit(&raw, &state, &staged.adds, &slices, &info)
                .await?;
            if let Some(version) = tries.add(&raw, attempt) {
                break version;
            }
        };
        drop(turn);
        failpoint::reach("land.data");
        self.append_ledger(&ticket.delivery, &row).await?;
        failpoint::reach("land.ledger");
        self.drop_pending(ticket, &landing).await;
        Ok(LandOutcome::Landed(Box::new(row)))
    }

    /// Looks in the commits since the ticket was given for the one that made its revision.
    async fn lander(
        &self,
        raw: &TableName,
        ticket: &Ticket,
        landing: &str,
    ) -> Result<Lander, LakeError> {
        let application = ticket.delivery.app_id();
        let mut version = ticket.read_at + 1;
        while let Some(text) = self.commit_text(raw, version).await? {
            let actions = actions_of(&text).unwrap_or_default();
            let is_it = actions.iter().any(|action| {
                matches!(action, Action::Txn(made)
                    if made.app_id == application && made.version == ticket.revision)
            });
            if is_it {
                let says = |property: &str, value: &str| {
                    actions.iter().any(|action| {
                        matches!(action, Action::CommitInfo(said)
                            if said.info.get(property).and_then(|said| said.as_str()) == Some(value))
                    })
                };
                return Ok(if says(LANDING, landing) {
                    Lander::This(version)
                } else if says(CONTENT_HASH, &ticket.content.to_string()) {
                    Lander::SameContent(version)
                } else {
                    Lander::Other
                });
            }
            version += 1;
        }
        Ok(Lander::Other)
    }

    /// The revision of a delivery that is in the raw table.
    ///
    /// The Delta log knows, but asking it means reading the log. So what else tells is asked first.
    /// Files carry their revision in their names, and each commit of a delivery replaces all of its
    /// files. A pending receipt is written before the data and goes away after the ledger row is
    /// there, so a delivery with neither files nor ledger row nor pending receipt has never landed.
    async fn landed_revision(
        &self,
        delivery: &Delivery,
        raw: &TableName,
        state: &TableState,
        ledger: &[LedgerRow],
    ) -> Result<Option<i64>, LakeError> {
        let mut files = state.files_of(&[delivery.slice()]).peekable();
        let newest = ledger.last().map(|row| row.revision);
        if files.peek().is_some() {
            let named =
                newest.is_some() && files.all(|file| revision_of_file(file.file_name()) == newest);
            if named {
                return Ok(newest);
            }
        } else if newest.is_none()
            && self
                .pending_of(&format!("{}.", delivery.key()))
                .await?
                .is_empty()
        {
            return Ok(None);
        }
        self.transaction_version(raw, state, &delivery.app_id())
            .await
    }

    /// Pending receipts whose name begins with `stem`.
    async fn pending_of(&self, stem: &str) -> Result<Vec<object_store::path::Path>, LakeError> {
        let folder = self.object_path("meta/_pending")?;
        let found: Vec<_> = self
            .store
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(LakeError::storage("list pending receipts"))?;
        Ok(found
            .into_iter()
            .map(|object| object.location)
            .filter(|path| path.filename().is_some_and(|name| name.starts_with(stem)))
            .collect())
    }

    /// Another process landed first. If it was the same content, that is as good as ours.
    async fn overtaken(
        &self,
        ticket: &Ticket,
        landing: &str,
        current: i64,
    ) -> Result<LandOutcome, LakeError> {
        self.drop_pending(ticket, landing).await;
        if ticket.wanted == Some(current) {
            return Err(LakeError::RevisionTaken {
                delivery: ticket.delivery.key(),
                revision: current,
            });
        }
        Ok(LandOutcome::Overtaken { current })
    }

    /// Deletes stored rows of a landing that will not be finished. Failures only leave orphans.
    pub async fn discard(&self, ticket: &Ticket, staged: &StagedRows) {
        if let Ok(table) = ticket.delivery.raw_table() {
            self.take_away(&table, &staged.adds).await;
        }
    }

    async fn land_rejects(
        &self,
        ticket: &Ticket,
        rejects: Vec<RecordBatch>,
    ) -> Result<(), LakeError> {
        let name = ticket.delivery.reject_table()?;
        let rows: Vec<RecordBatch> = rejects
            .iter()
            .map(|batch| {
                let count = batch.num_rows();
                let mut columns: Vec<arrow::array::ArrayRef> = vec![
                    Arc::new(arrow::array::StringArray::from(vec![
                        ticket.delivery_id();
                        count
                    ])),
                    Arc::new(arrow::array::StringArray::from(vec![
                        ticket
                            .content
                            .to_string();
                        count
                    ])),
                    Arc::new(arrow::array::StringArray::from(vec![
                        ticket
                            .delivery
                            .contract
                            .clone();
                        count
                    ])),
                ];
                columns.extend(batch.columns().iter().cloned());
                let mut fields = vec![
                    Field::new("delivery_id", DataType::Utf8, true),
                    Field::new("content_hash", DataType::Utf8, true),
                    Field::new("contract", DataType::Utf8, true),
                ];
                fields.extend(
                    batch
                        .schema()
                        .fields()
                        .iter()
                        .map(|field| field.as_ref().clone()),
                );
                RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
                    .map_err(|error| LakeError::Internal(error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        self.ensure_table(&name, reject_schema(), &["county", "period", "attempt"])
            .await?;
        let slice = Slice::new(&[
            ("county", ticket.delivery.county),
            ("period", ticket.delivery.period),
            ("attempt", ticket.attempt()),
        ]);
        self.replace_slices(
            &name,
            vec![crate::SliceRows {
                slice,
                batches: rows,
            }],
            CommitInfo::default(),
        )
        .await?;
        Ok(())
    }

    /// Each landing has a pending receipt of its own: one that gives up takes away only that.
    fn pending_path(
        &self,
        ticket: &Ticket,
        landing: &str,
    ) -> Result<object_store::path::Path, LakeError> {
        self.object_path(&format!(
            "meta/_pending/{}.{}.{landing}.json",
            ticket.delivery_id(),
            ticket.content.short()
        ))
    }

    async fn put_pending(
        &self,
        ticket: &Ticket,
        landing: &str,
        row: &LedgerRow,
    ) -> Result<(), LakeError> {
        let bytes =
            serde_json::to_vec(row).map_err(|error| LakeError::Internal(error.to_string()))?;
        self.store
            .put(
                &self.pending_path(ticket, landing)?,
                PutPayload::from(bytes),
            )
            .await
            .map_err(LakeError::storage("write a pending receipt"))?;
        Ok(())
    }

    async fn drop_pending(&self, ticket: &Ticket, landing: &str) {
        if let Ok(path) = self.pending_path(ticket, landing)
            && let Err(error) = self.store.delete(&path).await
        {
            tracing::debug!(error = %error, "a pending receipt stays behind");
        }
    }

    /// The data of `revision` is in place and the ledger does not know: the process that landed it
    /// died in between, or is about to write it. Its pending receipt becomes the ledger row.
    async fn complete_ledger(
        &self,
        delivery: &Delivery,
        state: &TableState,
        revision: i64,
    ) -> Result<LedgerRow, LakeError> {
        let landed: Vec<&str> = state
            .files_of(&[delivery.slice()])
            .map(|file| file.file_name())
            .collect();
        let stem = format!("{}.", delivery.id(revision));
        for location in self.pending_of(&stem).await? {
            let Some(short) = location
                .filename()
                .and_then(|name| Some(name.strip_prefix(&stem)?.split_once('.')?.0.to_owned()))
            else {
                continue;
            };
            let marker = format!("{}{short}-", revision_prefix(revision));
            if !landed.is_empty() && !landed.iter().all(|name| name.starts_with(&marker)) {
                continue;
            }
            let bytes = match self.store.get(&location).await {
                Ok(read) => read.bytes().await,
                Err(error) => Err(error),
            };
            let bytes = match bytes {
                // Whoever landed it lives, and was quicker.
                Err(object_store::Error::NotFound { .. }) => continue,
                bytes => bytes.map_err(LakeError::storage("read a pending receipt"))?,
            };
            let mut row: LedgerRow = serde_json::from_slice(&bytes).map_err(|error| {
                LakeError::Internal(format!("a pending receipt cannot be read: {error}"))
            })?;
            row.table_version = state.version();
            self.append_ledger(delivery, &row).await?;
            if let Err(error) = self.store.delete(&location).await {
                tracing::debug!(error = %error, "a pending receipt stays behind");
            }
            return Ok(row);
        }
        // A receipt goes after its row is in the ledger: look there once more.
        let ledger = self.ledger_rows(delivery).await?;
        if let Some(row) = ledger.into_iter().find(|row| row.revision == revision) {
            return Ok(row);
        }
        Err(LakeError::Internal(format!(
            "delivery `{}` is in the raw table but neither in the ledger nor among pending receipts",
            delivery.id(revision)
        )))
    }
}

fn encode(
    batches: &Receiver<RecordBatch>,
    mut encoder: PartEncoder,
    parts: &tokio::sync::mpsc::Sender<EncodedPart>,
) -> Result<u64, LakeError> {
    let gone = || LakeError::Internal("storing data files stopped".to_owned());
    let mut rows = 0;
    for batch in batches {
        rows += batch.num_rows() as u64;
        if let Some(part) = encoder.write(&batch)? {
            parts.blocking_send(part).map_err(|_| gone())?;
        }
    }
    if let Some(part) = encoder.finish()? {
        parts.blocking_send(part).map_err(|_| gone())?;
    }
    Ok(rows)
}

/// A raw table's columns: partition columns and provenance, then the contract's.
pub(crate) fn raw_schema(contract: &Schema) -> SchemaRef {
    let mut fields = vec![
        Field::new("county", DataType::Int32, true),
        Field::new("period", DataType::Int32, true),
        Field::new("delivery_id", DataType::Utf8, true),
        Field::new("row_no", DataType::Int64, true),
    ];
    fields.extend(contract.fields().iter().map(|field| field.as_ref().clone()));
    Arc::new(Schema::new(fields))
}

fn reject_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("county", DataType::Int32, true),
        Field::new("period", DataType::Int32, true),
        Field::new("attempt", DataType::Int32, true),
        Field::new("delivery_id", DataType::Utf8, true),
        Field::new("content_hash", DataType::Utf8, true),
        Field::new("contract", DataType::Utf8, true),
        Field::new("row_no", DataType::Int64, true),
        Field::new("rule", DataType::Utf8, true),
        Field::new("field", DataType::Utf8, true),
        Field::new("message", DataType::Utf8, true),
    ]))
}

/// How the file names of a revision begin.
fn revision_prefix(revision: i64) -> String {
    format!("part-r{revision:06}-")
}

/// The revision that a file's name carries.
fn revision_of_file(name: &str) -> Option<i64> {
    let (revision, _) = name.strip_prefix("part-r")?.split_once('-')?;
    revision.parse().ok()
}
