//! Landing a delivery: exactly once, whole or not at all.
//!
//! The order of effects is: data files (invisible), the pending receipt, rejected rows, data,
//! ledger row, and the pending receipt gone. The data commit is the moment that counts. Before it
//! nothing is seen; after it a crash leaves a pending receipt, from which the next landing of the
//! same delivery completes the ledger. The commit carries the delivery key and revision as an
//! application transaction, and file names carry revision and content, so that a lost answer is
//! resolved by looking. What may not live here: contracts, validation, persons.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake_core::DeltaTable;
use deltalake_core::kernel::Add;
use futures::TryStreamExt;
use object_store::{ObjectStoreExt, PutPayload};
use tietopohja_domain::ContentHash;

use crate::commit::{Attempt, CommitInfo, files_of, transaction_version};
use crate::parts::{EncodedPart, PartEncoder, PartOptions};
use crate::{Lake, LakeError, LedgerRow, Slice, TableName, failpoint};

/// Attempts against other writers before giving up.
const ATTEMPTS: usize = 8;

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
    /// The table as it was read when the revision was chosen: the first attempt to commit builds on
    /// it, so that whatever landed since is met as a conflict.
    read: DeltaTable,
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

    pub(crate) fn raw_table(&self) -> Result<TableName, LakeError> {
        self.delivery.raw_table()
    }

    pub(crate) fn slice(&self) -> Slice {
        self.delivery.slice()
    }

    fn file_prefix(&self) -> String {
        format!("part-r{:06}-{}-", self.revision, self.content.short())
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
        let table = self.existing(&raw).await?;
        let mut ledger = self.ledger_rows(delivery).await?;
        let current = self
            .landed_revision(delivery, &raw, &table, &ledger)
            .await?;
        if let Some(revision) = current
            && !ledger.iter().any(|row| row.revision == revision)
        {
            ledger.push(self.complete_ledger(delivery, &table, revision).await?);
        }
        let file_schema = self.file_schema(&raw, &table)?;
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
            read: table,
        })))
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
        let prefix = format!(
            "{}{:x}-{:x}-{:x}",
            ticket.file_prefix(),
            self.now_millis(),
            std::process::id(),
            next_writer()
        );
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
        self.put_pending(ticket, &row).await?;
        failpoint::reach("land.pending");
        if !rejects.is_empty() {
            self.land_rejects(ticket, rejects).await?;
        }
        failpoint::reach("land.rejects");
        let slices = [ticket.delivery.slice()];
        let info = CommitInfo {
            transaction: Some((ticket.delivery.app_id(), ticket.revision)),
            properties: vec![
                ("deliveryId".to_owned(), ticket.delivery_id().into()),
                ("contentHash".to_owned(), ticket.content.to_string().into()),
                ("accepted".to_owned(), row.accepted.into()),
                ("quarantined".to_owned(), row.quarantined.into()),
                (
                    "engineVersion".to_owned(),
                    row.engine_version.clone().into(),
                ),
            ],
        };
        row.table_version = -1;
        for attempt in 0..ATTEMPTS {
            let (table, present) = if attempt == 0 {
                (ticket.read.clone(), ticket.replaces)
            } else {
                let table = self.existing(&raw).await?;
                let present = transaction_version(&raw, &table, &ticket.delivery.app_id()).await?;
                (table, present)
            };
            match present {
                // A conflict or a lost answer: whose content is in place?
                Some(present) if present == ticket.revision => {
                    if !self.holds_content(ticket, &table)? {
                        return self.overtaken(ticket, present).await;
                    }
                    if !self.holds_files(ticket, staged, &table)? {
                        // Somebody else's files of the same content: theirs is the landing.
                        self.discard(ticket, staged).await;
                        let known = self
                            .ledger_rows(&ticket.delivery)
                            .await?
                            .into_iter()
                            .find(|known| known.revision == present);
                        return Ok(LandOutcome::AlreadyLanded(Box::new(known.unwrap_or(row))));
                    }
                    row.table_version = table.version().unwrap_or_default() as i64;
                    break;
                }
                Some(present) if present > ticket.revision || Some(present) != ticket.replaces => {
                    return self.overtaken(ticket, present).await;
                }
                _ => {}
            }
            match self
                .try_commit(&raw, &table, &staged.adds, &slices, &info)
                .await?
            {
                Attempt::Done(version) => {
                    row.table_version = version;
                    break;
                }
                Attempt::Unknown(error) => {
                    tracing::debug!(table = %raw, error = %error, "landing met another writer")
                }
            }
        }
        if row.table_version < 0 {
            return Err(LakeError::Busy { table: raw });
        }
        failpoint::reach("land.data");
        self.append_ledger(&ticket.delivery, &row).await?;
        failpoint::reach("land.ledger");
        self.drop_pending(ticket).await;
        Ok(LandOutcome::Landed(Box::new(row)))
    }

    /// The revision of a delivery that is in the raw table.
    ///
    /// The Delta log knows, but asking it means reading the log. A pending receipt is written before
    /// the data and goes away after the ledger row is there, so a delivery with neither files nor
    /// ledger row nor pending receipt has never landed.
    async fn landed_revision(
        &self,
        delivery: &Delivery,
        raw: &TableName,
        table: &DeltaTable,
        ledger: &[LedgerRow],
    ) -> Result<Option<i64>, LakeError> {
        let slices = [delivery.slice()];
        let untouched = ledger.is_empty()
            && files_of(Self::snapshot_of(raw, table)?, &slices)
                .next()
                .is_none()
            && self
                .pending_of(&format!("{}.", delivery.key()))
                .await?
                .is_empty();
        if untouched {
            Ok(None)
        } else {
            transaction_version(raw, table, &delivery.app_id()).await
        }
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
    async fn overtaken(&self, ticket: &Ticket, current: i64) -> Result<LandOutcome, LakeError> {
        self.drop_pending(ticket).await;
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
        for add in &staged.adds {
            let Ok(table) = ticket.delivery.raw_table() else {
                continue;
            };
            if let Ok(path) = self.object_path(&format!(
                "{}/{}/{}",
                table.schema(),
                table.table(),
                add.path
            )) && let Err(error) = self.store.delete(&path).await
            {
                tracing::warn!(error = %error, "an unused data file stays behind");
            }
        }
    }

    /// True when the slice's files are of this ticket's revision and content. An empty revision has
    /// no files; then the newest commit's own word is taken.
    fn holds_content(&self, ticket: &Ticket, table: &DeltaTable) -> Result<bool, LakeError> {
        let raw = ticket.delivery.raw_table()?;
        let slices = [ticket.delivery.slice()];
        let prefix = ticket.file_prefix();
        let names: Vec<bool> = files_of(Self::snapshot_of(&raw, table)?, &slices)
            .map(|file| {
                file.path()
                    .rsplit('/')
                    .next()
                    .is_some_and(|name| name.starts_with(&prefix))
            })
            .collect();
        Ok(!names.is_empty() && names.iter().all(|held| *held))
    }

    /// True when the slice's files are the very ones this landing stored.
    fn holds_files(
        &self,
        ticket: &Ticket,
        staged: &StagedRows,
        table: &DeltaTable,
    ) -> Result<bool, LakeError> {
        let raw = ticket.delivery.raw_table()?;
        let slices = [ticket.delivery.slice()];
        Ok(files_of(Self::snapshot_of(&raw, table)?, &slices)
            .all(|file| staged.adds.iter().any(|add| add.path == file.path())))
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

    fn pending_path(&self, ticket: &Ticket) -> Result<object_store::path::Path, LakeError> {
        self.object_path(&format!(
            "meta/_pending/{}.{}.json",
            ticket.delivery_id(),
            ticket.content.short()
        ))
    }

    async fn put_pending(&self, ticket: &Ticket, row: &LedgerRow) -> Result<(), LakeError> {
        let bytes =
            serde_json::to_vec(row).map_err(|error| LakeError::Internal(error.to_string()))?;
        self.store
            .put(&self.pending_path(ticket)?, PutPayload::from(bytes))
            .await
            .map_err(LakeError::storage("write a pending receipt"))?;
        Ok(())
    }

    async fn drop_pending(&self, ticket: &Ticket) {
        if let Ok(path) = self.pending_path(ticket)
            && let Err(error) = self.store.delete(&path).await
        {
            tracing::debug!(error = %error, "a pending receipt stays behind");
        }
    }

    /// The data of `revision` is in place and the ledger does not know: the process that landed it
    /// died in between. Its pending receipt becomes the ledger row.
    async fn complete_ledger(
        &self,
        delivery: &Delivery,
        table: &DeltaTable,
        revision: i64,
    ) -> Result<LedgerRow, LakeError> {
        let raw = delivery.raw_table()?;
        let slices = [delivery.slice()];
        let landed: Vec<String> = files_of(Self::snapshot_of(&raw, table)?, &slices)
            .map(|file| file.path().into_owned())
            .collect();
        let stem = format!("{}.", delivery.id(revision));
        for location in self.pending_of(&stem).await? {
            let Some(short) = location.filename().and_then(|name| {
                name.strip_prefix(&stem)?
                    .strip_suffix(".json")
                    .map(str::to_owned)
            }) else {
                continue;
            };
            let marker = format!("part-r{revision:06}-{short}-");
            if !landed.is_empty() && !landed.iter().all(|path| path.contains(&marker)) {
                continue;
            }
            let read = self
                .store
                .get(&location)
                .await
                .map_err(LakeError::storage("read a pending receipt"))?;
            let bytes = read
                .bytes()
                .await
                .map_err(LakeError::storage("read a pending receipt"))?;
            let mut row: LedgerRow = serde_json::from_slice(&bytes).map_err(|error| {
                LakeError::Internal(format!("a pending receipt cannot be read: {error}"))
            })?;
            row.table_version = table.version().unwrap_or_default() as i64;
            self.append_ledger(delivery, &row).await?;
            if let Err(error) = self.store.delete(&location).await {
                tracing::debug!(error = %error, "a pending receipt stays behind");
            }
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

/// Two landings of one process may begin in the same millisecond: their files must not share names.
fn next_writer() -> u64 {
    static WRITERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    WRITERS.fetch_add(1, Ordering::Relaxed)
}
