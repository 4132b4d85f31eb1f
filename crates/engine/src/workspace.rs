//! Statements that change a principal's own tables, and uploads into them.
//!
//! A change is one statement with one target, a table of the schema `workspace`. What it reads is
//! planned by the principal's own session, so that it sees what a query would see and no more; what it
//! writes goes into the folder of the principal's name, and into no other. Rows are stored as they come
//! and become visible in one commit at the end, or not at all. The statements that are known are those
//! of [`Kind`]; to add one, add a variant, plan it in [`Session::prepare_change`] and run it in
//! [`Session::apply`]. What a workspace is at rest belongs to the lake, who has one to policy.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::kernels::length::length;
use arrow::compute::{cast, filter_record_batch, max, not};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, TableReference};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{
    DdlStatement, Expr, LogicalPlan, LogicalPlanBuilder, Projection, Values, WriteOp, lit, when,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    FromTable, Ident, ObjectName, ObjectType, Statement as Sql, TableFactor, TableObject,
    TableWithJoins,
};
use futures::TryStreamExt;
use tietopohja_lake::{
    Lake, LakeError, TableChange, TableName, WORKSPACES, Workspace, WorkspaceCommit,
    WorkspaceFiles, WorkspaceTable, WorkspaceWriter, workspace_batch, workspace_schema,
};
use tietopohja_policy::{Principal, WORKSPACE, has_workspace};
use tokio::time::timeout_at;

use crate::depth::refuse_deep;
use crate::error::{EngineError, Result};
use crate::keys::Keys;
use crate::memory::QueryMemory;
use crate::model::RelationName;
use crate::plain::Deadline;
use crate::session::{self, Session, TableInfo, TableKind, only_reads};
use crate::statement;
use crate::{CATALOG, DEFAULT_SCHEMA};

/// Deepest nesting of expressions, as in queries.
const RECURSION_LIMIT: usize = 64;

/// The column that tells which rows a change is about. No column of a user can have the name.
const HIT: &str = "\u{1}hit";

/// Rows of values that are planned together.
const ROWS_TOGETHER: usize = 1_000;

/// Bytes that an upload may unpack at a time.
const UNPACKED_BYTES: usize = 32 << 20;

/// Most columns of a table.
const MOST_COLUMNS: usize = 2_000;

/// Whether a text is one statement that changes a table of `workspace`. `schema` is where names without
/// a schema are looked up; default: `published`.
pub fn is_change(sql: &str, schema: Option<&str>) -> bool {
    const VERBS: [&str; 6] = ["CREATE", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "DROP"];
    let first: String = without_comments(sql)
        .chars()
        .take_while(char::is_ascii_alphabetic)
        .take(8)
        .collect();
    if !VERBS.iter().any(|verb| verb.eq_ignore_ascii_case(&first)) || refuse_deep(sql).is_err() {
        return false;
    }
    let Ok(tree) = statement::one(sql, RECURSION_LIMIT) else {
        return false;
    };
    let target = target(&tree).map(|name| resolved(name, schema.unwrap_or(DEFAULT_SCHEMA)));
    matches!(target, Some(Some((schema, _))) if schema == WORKSPACE)
}

/// The text from its first word on.
fn without_comments(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    loop {
        let after = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map(|(_, after)| after)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map(|(_, after)| after)
        } else {
            return rest;
        };
        rest = after.unwrap_or_default().trim_start();
    }
}

/// The table that a statement changes.
fn target(tree: &Parsed) -> Option<&ObjectName> {
    let Parsed::Statement(sql) = tree else {
        return None;
    };
    match sql.as_ref() {
        Sql::CreateTable(create) => Some(&create.name),
        Sql::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => Some(name),
            _ => None,
        },
        Sql::Update(update) => table_of(&update.table),
        Sql::Delete(delete) => match &delete.from {
            FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables) => {
                table_of(tables.first()?)
            }
        },
        Sql::Truncate(truncate) => Some(&truncate.table_names.first()?.name),
        Sql::Drop {
            object_type: ObjectType::Table,
            names,
            ..
        } => names.first(),
        _ => None,
    }
}

fn table_of(table: &TableWithJoins) -> Option<&ObjectName> {
    match &table.relation {
        TableFactor::Table { name, .. } => Some(name),
        _ => None,
    }
}

/// Schema and table of a name; `None` for a name of another catalog.
fn resolved(name: &ObjectName, default: &str) -> Option<(String, String)> {
    let parts: Vec<String> = name
        .0
        .iter()
        .map(|part| part.as_ident().map(plain_ident))
        .collect::<Option<_>>()?;
    match parts.as_slice() {
        [table] => Some((default.to_owned(), table.clone())),
        [schema, table] => Some((schema.clone(), table.clone())),
        [catalog, schema, table] if catalog == CATALOG => Some((schema.clone(), table.clone())),
        _ => None,
    }
}

/// A name as the planner reads it: small letters, unless it is quoted.
fn plain_ident(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// The folder of a principal's tables. Names of people are in no path.
pub(crate) fn place(principal: &Principal) -> Result<TableName> {
    let digest = blake3::derive_key("tietopohja workspace", principal.name().as_bytes());
    let digest = blake3::Hash::from_bytes(digest).to_hex();
    let letters: String = digest.chars().take(40).collect();
    TableName::new(WORKSPACES, &format!("w{letters}"))
        .map_err(|error| EngineError::internal_because("the name of a workspace", error))
}

/// The tables of a workspace as lists show them.
pub(crate) fn listed(workspace: &Workspace) -> Vec<TableInfo> {
    let tables = workspace.tables().map(|(name, table)| TableInfo {
        schema: WORKSPACE.to_owned(),
        name: name.to_owned(),
        kind: TableKind::Table,
        columns: table.columns,
        comment: Some("your own table".to_owned()),
        column_comments: BTreeMap::new(),
        keys: Keys::default(),
        definition: None,
    });
    tables.collect()
}

/// A statement that changes a table, parsed, checked and planned. It has not run.
#[derive(Debug, Clone)]
pub struct PreparedChange {
    sql: String,
    table: String,
    tables: Vec<String>,
    kind: Kind,
    parameters: Vec<(String, DataType)>,
}

#[derive(Debug, Clone)]
enum Kind {
    Create {
        input: LogicalPlan,
        replace: bool,
        unless_there: bool,
    },
    Insert {
        input: LogicalPlan,
    },
    /// All rows with their new values, and which of them were meant.
    Update {
        input: LogicalPlan,
    },
    /// All rows, and which of them are meant.
    Delete {
        input: LogicalPlan,
    },
    Truncate,
    Drop {
        if_there: bool,
    },
}

impl Kind {
    fn input(&self) -> Option<&LogicalPlan> {
        match self {
            Kind::Create { input, .. }
            | Kind::Insert { input }
            | Kind::Update { input }
            | Kind::Delete { input } => Some(input),
            Kind::Truncate | Kind::Drop { .. } => None,
        }
    }
}

impl PreparedChange {
    /// Name and type of each parameter, as those of [`crate::Prepared`].
    pub fn parameters(&self) -> &[(String, DataType)] {
        &self.parameters
    }

    /// The tables that the statement names, as `schema.table`, in order.
    pub fn tables(&self) -> &[String] {
        &self.tables
    }

    /// Whether the rows that it changes are its result. Making and dropping a table changes none.
    pub fn counts_rows(&self) -> bool {
        !matches!(self.kind, Kind::Create { .. } | Kind::Drop { .. })
    }
}

/// What an upload does when the table is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAbsent {
    /// It makes the table.
    Create,
    /// It is refused.
    Fail,
}

/// What an upload does when the table is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenPresent {
    /// It is refused.
    Fail,
    /// It adds rows.
    Append,
    /// It takes the place of the table.
    Replace,
}

/// An upload: rows are stored as they come, and visible once it is finished. Dropped, it never was.
pub struct Ingest {
    lake: Arc<Lake>,
    place: TableName,
    owner: String,
    table: String,
    change: TableChange,
    most_bytes: Option<u64>,
    columns: SchemaRef,
    writer: WorkspaceWriter,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest")
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

impl Ingest {
    /// Stores rows.
    ///
    /// # Errors
    /// [`EngineError::UserSql`] for a value that does not fit, [`EngineError::Resource`] when the room
    /// is used up. Then nothing but [`Ingest::discard`] is of use.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = rows_at_a_time(batch);
        for first in (0..batch.num_rows()).step_by(rows) {
            let part = batch.slice(first, rows.min(batch.num_rows() - first));
            let part = workspace_batch(&part, &self.columns).map_err(told)?;
            self.writer.write(&part).await.map_err(told)?;
        }
        Ok(())
    }

    /// Makes the rows visible, and says how many they are.
    ///
    /// # Errors
    /// As [`Session::apply`].
    pub async fn finish(self) -> Result<u64> {
        let files = self.writer.finish().await.map_err(told)?;
        let rows = files.rows();
        let commit = WorkspaceCommit {
            place: self.place,
            owner: self.owner,
            table: self.table,
            change: self.change,
            files,
            most_bytes: self.most_bytes,
        };
        self.lake.change_workspace(commit).await.map_err(told)?;
        Ok(rows)
    }

    /// Takes away what was stored.
    pub async fn discard(self) {
        self.writer.discard().await;
    }
}

impl Session {
    /// Parses, checks and plans a statement that changes a table of `workspace`. Nothing runs.
    ///
    /// # Errors
    /// [`EngineError::Denied`] for a role without a workspace; otherwise as [`Session::prepare`].
    pub async fn prepare_change(&self, sql: &str) -> Result<PreparedChange> {
        refuse_deep(sql)?;
        self.refuse_without_workspace()?;
        let mut tree = statement::one(sql, RECURSION_LIMIT)?;
        statement::number_placeholders(&mut tree);
        let default = self.default_schema();
        let table = match target(&tree).and_then(|name| resolved(name, &default)) {
            Some((schema, table)) if schema == WORKSPACE => table,
            _ => {
                return Err(refused(
                    "only tables of the schema `workspace` can be changed",
                ));
            }
        };
        check_table(&table)?;
        let names = resolve_table_references(&tree, true)
            .map(|(names, _)| names)
            .unwrap_or_default();
        let kind = match dropped(&tree)? {
            Some(kind) => kind,
            None => kind_of(Box::pin(self.plan(tree)).await?)?,
        };
        let parameters = match kind.input() {
            None => Vec::new(),
            Some(input) => {
                only_reads(input)?;
                session::parameters(input)?
            }
        };
        Ok(PreparedChange {
            sql: sql.to_owned(),
            tables: self.seen(&names, &default, &table),
            table,
            kind,
            parameters,
        })
    }

    /// Runs a change, once for each row of values, and makes the outcome visible in one commit. Says how
    /// many rows it changed; for a table that was made, how many it has.
    ///
    /// # Errors
    /// What goes wrong while running; [`EngineError::Resource`] when the tables would take more than
    /// `most_bytes`. Then nothing is changed.
    pub async fn apply(
        &self,
        change: &PreparedChange,
        rows: Vec<Vec<ScalarValue>>,
        memory: Option<&QueryMemory>,
        most_bytes: Option<u64>,
    ) -> Result<u64> {
        let work = Box::pin(self.apply_now(change, rows, memory, most_bytes));
        match self.timeout().map(Deadline::after) {
            None => work.await,
            Some(deadline) => match timeout_at(deadline.at(), work).await {
                Ok(changed) => changed,
                Err(_) => Err(deadline.error()),
            },
        }
    }

    /// Begins an upload into a table of `workspace`. `schema` is that of its rows.
    ///
    /// # Errors
    /// [`EngineError::Denied`] for a role without a workspace; [`EngineError::UserSql`] and
    /// [`EngineError::NotFound`] when the table is or is not there, or has other columns.
    pub async fn ingest(
        &self,
        table: &str,
        schema: &Schema,
        when: (WhenAbsent, WhenPresent),
        most_bytes: Option<u64>,
    ) -> Result<Ingest> {
        self.refuse_without_workspace()?;
        check_table(table)?;
        let place = place(self.principal())?;
        let workspace = self.resolver().workspace(&place).await?;
        let given = workspace_schema(schema).map_err(told)?;
        check_columns(&given)?;
        let existing = workspace.table(table);
        let room = room(&workspace, most_bytes, None);
        let make = |replace: bool| TableChange::Create {
            columns: Arc::clone(&given),
            replace,
        };
        let (change, columns, room) = match (existing, when) {
            (None, (WhenAbsent::Fail, _)) => return Err(not_there(table)),
            (None, (WhenAbsent::Create, _)) => (make(false), Arc::clone(&given), room),
            (Some(_), (_, WhenPresent::Fail)) => {
                return Err(told(LakeError::WorkspaceTableThere(table.to_owned())));
            }
            (Some(existing), (_, WhenPresent::Append)) => {
                fit_columns(&given, &existing.columns)?;
                let change = TableChange::Append { id: existing.id };
                (change, existing.columns, room)
            }
            (Some(existing), (_, WhenPresent::Replace)) => {
                let room = self::room(&workspace, most_bytes, Some(&existing));
                (make(true), Arc::clone(&given), room)
            }
        };
        let lake = Arc::clone(&self.resolver().warehouse().lake);
        let writer = lake
            .workspace_writer(&place, Arc::clone(&columns), room)
            .map_err(told)?;
        Ok(Ingest {
            lake,
            place,
            owner: self.principal().name().to_owned(),
            table: table.to_owned(),
            change,
            most_bytes,
            columns,
            writer,
        })
    }

    /// Refuses a principal that has no workspace.
    ///
    /// # Errors
    /// [`EngineError::Denied`], and that is all.
    pub fn refuse_without_workspace(&self) -> Result<()> {
        let role = self.principal().role();
        if has_workspace(role) {
            return Ok(());
        }
        Err(EngineError::Denied {
            message: format!(
                "the role {role} has no workspace to make tables in; ask for the role analyst"
            ),
        })
    }

    /// The tables that a statement names and that are there for the principal.
    fn seen(&self, names: &[TableReference], default: &str, target: &str) -> Vec<String> {
        let names = names.iter().map(|name| {
            let schema = name.schema().unwrap_or(default);
            RelationName::new(schema, name.table())
        });
        let mut seen: BTreeSet<String> = names
            .filter(|name| self.resolver().has_seen(name))
            .map(|name| name.to_string())
            .collect();
        seen.insert(RelationName::new(WORKSPACE, target).to_string());
        seen.into_iter().collect()
    }

    async fn apply_now(
        &self,
        change: &PreparedChange,
        rows: Vec<Vec<ScalarValue>>,
        memory: Option<&QueryMemory>,
        most_bytes: Option<u64>,
    ) -> Result<u64> {
        let place = place(self.principal())?;
        let workspace = self.resolver().workspace(&place).await?;
        let work = Work {
            session: self,
            change,
            lake: &self.resolver().warehouse().lake,
            place,
            existing: workspace.table(&change.table),
            workspace,
            memory,
            most_bytes,
        };
        work.run(rows).await
    }
}

/// A change that runs.
struct Work<'a> {
    session: &'a Session,
    change: &'a PreparedChange,
    lake: &'a Arc<Lake>,
    place: TableName,
    workspace: Workspace,
    existing: Option<WorkspaceTable>,
    memory: Option<&'a QueryMemory>,
    most_bytes: Option<u64>,
}

/// What becomes of the rows of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    All,
    /// All; those that were meant are counted.
    Marked,
    /// Those that were not meant; the others are counted.
    Unmarked,
}

impl Work<'_> {
    async fn run(self, rows: Vec<Vec<ScalarValue>>) -> Result<u64> {
        let table = &self.change.table;
        let existing = || self.existing.clone().ok_or_else(|| not_there(table));
        match &self.change.kind {
            Kind::Create {
                input,
                replace,
                unless_there,
            } => {
                if self.existing.is_some() && *unless_there {
                    return Ok(0);
                }
                if self.existing.is_some() && !replace {
                    return Err(told(LakeError::WorkspaceTableThere(table.clone())));
                }
                let values = one_row(rows)?;
                let plan = session::bind(input.clone(), &self.change.parameters, values)?;
                let stream = Box::pin(self.session.start(plan, self.memory, None)).await?;
                let columns = workspace_schema(&stream.schema()).map_err(told)?;
                check_columns(&columns)?;
                let room = room(&self.workspace, self.most_bytes, self.existing.as_ref());
                let (files, rows) = self.store(vec![stream], &columns, room, Keep::All).await?;
                let replace = *replace;
                self.commit(TableChange::Create { columns, replace }, files)
                    .await?;
                Ok(rows)
            }
            Kind::Insert { input } => {
                let existing = existing()?;
                let plans = insertions(input, &self.change.parameters, rows)?;
                if plans.is_empty() {
                    return Ok(0);
                }
                let room = room(&self.workspace, self.most_bytes, None);
                let mut writer = self.writer(&existing.columns, room)?;
                let mut added = 0;
                for plan in plans {
                    let stored = self.insert(plan, &mut writer, &existing.columns).await;
                    match stored {
                        Ok(rows) => added += rows,
                        Err(error) => {
                            writer.discard().await;
                            return Err(error);
                        }
                    }
                }
                let files = writer.finish().await.map_err(told)?;
                self.commit(TableChange::Append { id: existing.id }, files)
                    .await?;
                Ok(added)
            }
            Kind::Update { .. } => self.rewrite(existing()?, rows, Keep::Marked).await,
            Kind::Delete { .. } => self.rewrite(existing()?, rows, Keep::Unmarked).await,
            Kind::Truncate => {
                let existing = existing()?;
                let change = TableChange::Rewrite {
                    id: existing.id,
                    changed: existing.changed,
                };
                self.commit(change, self.lake.no_rows()).await?;
                Ok(existing.rows)
            }
            Kind::Drop { if_there } => match &self.existing {
                None if *if_there => Ok(0),
                None => Err(not_there(table)),
                Some(existing) => {
                    let change = TableChange::Drop { id: existing.id };
                    self.commit(change, self.lake.no_rows()).await?;
                    Ok(0)
                }
            },
        }
    }

    async fn insert(
        &self,
        plan: LogicalPlan,
        writer: &mut WorkspaceWriter,
        columns: &SchemaRef,
    ) -> Result<u64> {
        let stream = Box::pin(self.session.start(plan, self.memory, None)).await?;
        fill(stream, writer, columns, Keep::All).await
    }

    /// Replaces all rows, once for each row of values: each time those that the time before left.
    async fn rewrite(
        &self,
        existing: WorkspaceTable,
        rows: Vec<Vec<ScalarValue>>,
        keep: Keep,
    ) -> Result<u64> {
        let Some(first) = self.change.kind.input() else {
            return Ok(0);
        };
        let room = room(&self.workspace, self.most_bytes, Some(&existing));
        let mut stored: Option<WorkspaceFiles> = None;
        let mut changed = 0;
        for values in rows {
            let plan = match &stored {
                None => first.clone(),
                Some(_) => self.planned_anew().await?,
            };
            let plan = session::bind(plan, &self.change.parameters, values)?;
            let stream = Box::pin(self.session.start(plan, self.memory, None)).await?;
            let (files, hits) = self
                .store(vec![stream], &existing.columns, room, keep)
                .await?;
            if hits == 0 {
                files.discard().await;
                continue;
            }
            changed += hits;
            let left = self
                .lake
                .uncommitted_rows(&self.place, &existing.columns, &files);
            let name = RelationName::new(WORKSPACE, &self.change.table);
            self.session
                .resolver()
                .put_instead(name, left.map_err(told)?);
            if let Some(before) = stored.replace(files) {
                before.discard().await;
            }
        }
        if let Some(files) = stored {
            let change = TableChange::Rewrite {
                id: existing.id,
                changed: existing.changed,
            };
            self.commit(change, files).await?;
        }
        Ok(changed)
    }

    async fn planned_anew(&self) -> Result<LogicalPlan> {
        let anew = Box::pin(self.session.prepare_change(&self.change.sql)).await?;
        let input = anew.kind.input().cloned();
        input.ok_or_else(|| EngineError::internal("a change has become another"))
    }

    fn writer(&self, columns: &SchemaRef, room: Option<u64>) -> Result<WorkspaceWriter> {
        self.lake
            .workspace_writer(&self.place, Arc::clone(columns), room)
            .map_err(told)
    }

    async fn store(
        &self,
        streams: Vec<SendableRecordBatchStream>,
        columns: &SchemaRef,
        room: Option<u64>,
        keep: Keep,
    ) -> Result<(WorkspaceFiles, u64)> {
        let mut writer = self.writer(columns, room)?;
        let mut counted = 0;
        for stream in streams {
            match fill(stream, &mut writer, columns, keep).await {
                Ok(rows) => counted += rows,
                Err(error) => {
                    writer.discard().await;
                    return Err(error);
                }
            }
        }
        Ok((writer.finish().await.map_err(told)?, counted))
    }

    async fn commit(&self, change: TableChange, files: WorkspaceFiles) -> Result<()> {
        let commit = WorkspaceCommit {
            place: self.place.clone(),
            owner: self.session.principal().name().to_owned(),
            table: self.change.table.clone(),
            change,
            files,
            most_bytes: self.most_bytes,
        };
        self.lake.change_workspace(commit).await.map_err(told)?;
        Ok(())
    }
}

/// How many rows of a batch may be unpacked at a time. Encodings name one value many times, and each
/// becomes a copy.
fn rows_at_a_time(batch: &RecordBatch) -> usize {
    let longest: usize = batch.columns().iter().map(longest_copy).sum();
    (UNPACKED_BYTES / longest.max(1)).clamp(1, batch.num_rows().max(1))
}

/// Bytes of the longest value that unpacking a column copies; 0 for a column that is not packed.
fn longest_copy(column: &ArrayRef) -> usize {
    let widest = |values: &ArrayRef| {
        let lengths = length(values).and_then(|lengths| cast(&lengths, &DataType::Int64));
        match lengths {
            Ok(lengths) => max(lengths.as_primitive::<Int64Type>())
                .and_then(|most| usize::try_from(most).ok())
                .unwrap_or_default(),
            // Of another type: no value is longer than all of them together.
            Err(_) => values.get_buffer_memory_size(),
        }
    };
    match column.data_type() {
        DataType::Dictionary(_, _) => column
            .as_any_dictionary_opt()
            .map_or(0, |coded| widest(coded.values())),
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => widest(column.as_run::<Int16Type>().values()),
            DataType::Int32 => widest(column.as_run::<Int32Type>().values()),
            _ => widest(column.as_run::<Int64Type>().values()),
        },
        DataType::Utf8View | DataType::BinaryView => widest(column),
        _ => 0,
    }
}

/// Stores the rows of a stream, and counts those that count.
async fn fill(
    mut stream: SendableRecordBatchStream,
    writer: &mut WorkspaceWriter,
    columns: &SchemaRef,
    keep: Keep,
) -> Result<u64> {
    let mut counted = 0;
    while let Some(batch) = stream.try_next().await? {
        let (batch, count) = kept(batch, keep)?;
        counted += u64::try_from(count).unwrap_or(u64::MAX);
        let batch = workspace_batch(&batch, columns).map_err(told)?;
        writer.write(&batch).await.map_err(told)?;
    }
    Ok(counted)
}

fn kept(batch: RecordBatch, keep: Keep) -> Result<(RecordBatch, usize)> {
    if keep == Keep::All {
        let rows = batch.num_rows();
        return Ok((batch, rows));
    }
    let hits = batch
        .column_by_name(HIT)
        .and_then(|column| column.as_boolean_opt())
        .cloned()
        .ok_or_else(|| EngineError::internal("the rows of a change are not marked"))?;
    let count = hits.true_count();
    if keep == Keep::Marked {
        return Ok((batch, count));
    }
    let others = not(&hits).map_err(EngineError::from_arrow)?;
    let batch = filter_record_batch(&batch, &others).map_err(EngineError::from_arrow)?;
    Ok((batch, count))
}

/// Bytes that new files may have. `replaced` is a table that goes.
fn room(
    workspace: &Workspace,
    most_bytes: Option<u64>,
    replaced: Option<&WorkspaceTable>,
) -> Option<u64> {
    let most = most_bytes?;
    let own = replaced.map_or(0, |table| table.bytes);
    let others = workspace.bytes().saturating_sub(own);
    // A rewrite may always be as large as what it replaces.
    Some(most.saturating_sub(others).max(own))
}

fn one_row(rows: Vec<Vec<ScalarValue>>) -> Result<Vec<ScalarValue>> {
    let mut rows = rows.into_iter();
    match (rows.next(), rows.next()) {
        (Some(values), None) => Ok(values),
        _ => Err(refused(
            "a table is made once: bind one row of values, or make it first and insert the rows",
        )),
    }
}

/// The kinds of change that need no planning.
fn dropped(tree: &Parsed) -> Result<Option<Kind>> {
    let Parsed::Statement(sql) = tree else {
        return Ok(None);
    };
    match sql.as_ref() {
        Sql::Truncate(truncate) => {
            let plain = truncate.table_names.len() == 1
                && truncate.partitions.is_none()
                && truncate.on_cluster.is_none()
                && !truncate.if_exists;
            match plain {
                true => Ok(Some(Kind::Truncate)),
                false => Err(refused(
                    "write `TRUNCATE TABLE workspace.name`, one table at a time",
                )),
            }
        }
        Sql::Drop {
            object_type: ObjectType::Table,
            if_exists,
            names,
            temporary: false,
            ..
        } => match names.len() {
            1 => Ok(Some(Kind::Drop {
                if_there: *if_exists,
            })),
            _ => Err(refused("drop one table at a time")),
        },
        Sql::Delete(delete) if delete.using.is_some() || !delete.tables.is_empty() => Err(refused(
            "a deletion names one table: put the others into its WHERE",
        )),
        _ => Ok(None),
    }
}

/// What a planned statement does.
fn kind_of(plan: LogicalPlan) -> Result<Kind> {
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
            if create.temporary {
                return Err(refused(
                    "tables are not temporary: make it in `workspace`, and drop it afterwards",
                ));
            }
            let input = Arc::unwrap_or_clone(create.input);
            let empty = matches!(&input, LogicalPlan::EmptyRelation(none) if !none.produce_one_row);
            let not_null = empty
                && input
                    .schema()
                    .fields()
                    .iter()
                    .any(|field| !field.is_nullable());
            if create.constraints.iter().next().is_some()
                || !create.column_defaults.is_empty()
                || not_null
            {
                return Err(refused(
                    "keys, NOT NULL, checks and defaults are not kept: leave them out of CREATE TABLE",
                ));
            }
            Ok(Kind::Create {
                input,
                replace: create.or_replace,
                unless_there: create.if_not_exists,
            })
        }
        LogicalPlan::Dml(dml) => {
            let input = Arc::unwrap_or_clone(dml.input);
            match dml.op {
                WriteOp::Insert(InsertOp::Append) => Ok(Kind::Insert { input }),
                WriteOp::Delete => match meant(input)? {
                    (_, None) => Ok(Kind::Truncate),
                    (rows, Some(_)) => Ok(Kind::Delete { input: rows }),
                },
                WriteOp::Update => updated(input),
                _ => Err(refused(
                    "this statement is not known here: use CREATE TABLE, INSERT, UPDATE, DELETE, \
                     TRUNCATE or DROP TABLE",
                )),
            }
        }
        _ => Err(refused(
            "this statement is not known here: use CREATE TABLE, INSERT, UPDATE, DELETE, TRUNCATE or \
             DROP TABLE",
        )),
    }
}

/// All rows of the table with the mark of those that a filter takes; and the filter, if there is one.
fn meant(source: LogicalPlan) -> Result<(LogicalPlan, Option<Expr>)> {
    let (rows, filter) = match source {
        LogicalPlan::Filter(filter) => (Arc::unwrap_or_clone(filter.input), Some(filter.predicate)),
        other => (other, None),
    };
    let one_table = match &rows {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(alias) => matches!(*alias.input, LogicalPlan::TableScan(_)),
        _ => false,
    };
    if !one_table {
        return Err(refused(
            "UPDATE and DELETE are about one table, without FROM, joins or LIMIT; for more use CREATE \
             OR REPLACE TABLE … AS SELECT",
        ));
    }
    if let Some(filter) = &filter {
        refuse_subqueries(filter)?;
    }
    let columns = rows.schema().columns().into_iter().map(Expr::Column);
    let mark = filter.clone().unwrap_or_else(|| lit(true));
    let marked = columns.chain([mark.is_true().alias(HIT)]);
    let marked = LogicalPlanBuilder::from(rows)
        .project(marked.collect::<Vec<_>>())?
        .build()?;
    Ok((marked, filter))
}

fn refuse_subqueries(expr: &Expr) -> Result<()> {
    let has = expr.exists(|part| {
        Ok(matches!(
            part,
            Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
        ))
    })?;
    if has {
        return Err(refused(
            "UPDATE and DELETE take no SELECT inside; use CREATE OR REPLACE TABLE … AS SELECT",
        ));
    }
    Ok(())
}

/// The plan of an update with all rows, those that are not meant as they are.
fn updated(plan: LogicalPlan) -> Result<Kind> {
    let LogicalPlan::Projection(Projection {
        expr,
        input,
        schema,
        ..
    }) = plan
    else {
        return Err(EngineError::internal("an update has no values"));
    };
    let (rows, _) = meant(Arc::unwrap_or_clone(input))?;
    let hit = || Expr::Column(Column::new_unqualified(HIT));
    let mut values = Vec::with_capacity(schema.fields().len() + 1);
    for (new, field) in expr.into_iter().zip(schema.fields()) {
        refuse_subqueries(&new)?;
        let name = field.name();
        let old = rows
            .schema()
            .columns()
            .into_iter()
            .find(|column| column.name == *name)
            .map(Expr::Column)
            .ok_or_else(|| EngineError::internal("an update has an unknown column"))?;
        let new = new.unalias();
        let value = match new == old {
            true => old,
            false => when(hit(), new).otherwise(old)?,
        };
        values.push(value.alias(name));
    }
    values.push(hit());
    let input = LogicalPlanBuilder::from(rows).project(values)?.build()?;
    Ok(Kind::Update { input })
}

/// The plans that insert all rows of values.
fn insertions(
    plan: &LogicalPlan,
    parameters: &[(String, DataType)],
    rows: Vec<Vec<ScalarValue>>,
) -> Result<Vec<LogicalPlan>> {
    for values in &rows {
        exact(parameters, values)?;
    }
    if rows.len() > 1 && takes_many(plan)? {
        let together = rows.chunks(ROWS_TOGETHER);
        return together
            .map(|rows| together_in(plan, parameters, rows))
            .collect();
    }
    rows.into_iter()
        .map(|values| session::bind(plan.clone(), parameters, values))
        .collect()
}

/// A value that is stored must be the value that was given.
fn exact(parameters: &[(String, DataType)], values: &[ScalarValue]) -> Result<()> {
    for ((name, wanted), value) in parameters.iter().zip(values) {
        let fitted = session::fit(name, value.clone(), wanted)?;
        if *wanted != DataType::Null && fitted.data_type() != *wanted {
            return Err(refused(format!(
                "the value of parameter `{name}` does not fit the type {wanted} of its column"
            )));
        }
    }
    Ok(())
}

/// Whether a plan is `VALUES` whose cells are parameters or values, so that more rows can be put there.
fn takes_many(plan: &LogicalPlan) -> Result<bool> {
    let mut found = 0;
    let mut plain = true;
    let bare = plan.clone().transform_up(|node| {
        Ok(match node {
            LogicalPlan::Values(values) => {
                found += 1;
                let mut cells = values.values.iter().flatten();
                plain &= cells.all(|cell| match cell {
                    Expr::Placeholder(_) | Expr::Literal(..) => true,
                    Expr::Cast(cast) => {
                        matches!(*cast.expr, Expr::Placeholder(_) | Expr::Literal(..))
                    }
                    _ => false,
                });
                Transformed::yes(LogicalPlan::Values(Values {
                    schema: values.schema,
                    values: Vec::new(),
                }))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(found == 1 && plain && bare.data.get_parameter_names()?.is_empty())
}

/// The plan with the `VALUES` of all rows.
fn together_in(
    plan: &LogicalPlan,
    parameters: &[(String, DataType)],
    rows: &[Vec<ScalarValue>],
) -> Result<LogicalPlan> {
    let mut problem = None;
    let bound = plan.clone().transform_up(|node| {
        let LogicalPlan::Values(values) = node else {
            return Ok(Transformed::no(node));
        };
        match cells(&values, parameters, rows) {
            Ok(cells) => Ok(Transformed::yes(LogicalPlan::Values(Values {
                schema: values.schema,
                values: cells,
            }))),
            Err(error) => {
                problem = Some(error);
                Ok(Transformed::no(LogicalPlan::Values(values)))
            }
        }
    })?;
    match problem {
        Some(error) => Err(error),
        None => Ok(bound.data),
    }
}

fn cells(
    values: &Values,
    parameters: &[(String, DataType)],
    rows: &[Vec<ScalarValue>],
) -> Result<Vec<Vec<Expr>>> {
    let mut all = Vec::with_capacity(rows.len() * values.values.len());
    for row in rows {
        let value_of = |parameter: &Placeholder, wanted: &DataType| -> Result<Expr> {
            let given = parameters
                .iter()
                .zip(row)
                .find(|((name, _), _)| *name == parameter.id)
                .map(|((_, data_type), value)| {
                    session::fit(&parameter.id, value.clone(), data_type)
                });
            let given =
                given.ok_or_else(|| EngineError::internal("a parameter has no value"))??;
            let given = given.cast_to(wanted).map_err(|_| {
                refused(format!(
                    "the value of parameter `{}` is not a {wanted}",
                    parameter.id
                ))
            })?;
            Ok(lit(given))
        };
        for template in &values.values {
            let mut cells = Vec::with_capacity(template.len());
            for (cell, field) in template.iter().zip(values.schema.fields()) {
                cells.push(match cell {
                    Expr::Placeholder(parameter) => value_of(parameter, field.data_type())?,
                    Expr::Cast(cast) => match cast.expr.as_ref() {
                        Expr::Placeholder(parameter) => value_of(parameter, field.data_type())?,
                        _ => cell.clone(),
                    },
                    _ => cell.clone(),
                });
            }
            all.push(cells);
        }
    }
    Ok(all)
}

/// Whether uploaded columns can be added to those of a table.
fn fit_columns(given: &Schema, wanted: &Schema) -> Result<()> {
    for field in given.fields() {
        let name = field.name();
        let Some((_, there)) = wanted.column_with_name(name) else {
            return Err(refused(format!(
                "the table has no column `{name}`; upload the columns that it has"
            )));
        };
        if !becomes(field.data_type(), there.data_type()) {
            return Err(refused(format!(
                "the column `{name}` is {} in the upload and {} in the table; cast it first",
                field.data_type(),
                there.data_type()
            )));
        }
    }
    Ok(())
}

/// Whether a type becomes another without loss, or with an error for the value that would lose.
fn becomes(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (from, to) if from == to => true,
        (from, to) if from.is_integer() => {
            to.is_integer() || matches!(to, DataType::Float64 | DataType::Decimal128(..))
        }
        (DataType::Float32, DataType::Float64) => true,
        (DataType::Decimal128(_, from), DataType::Decimal128(_, to)) => from <= to,
        (DataType::Timestamp(from, zone), DataType::Timestamp(to, other)) => {
            from <= to && zone == other
        }
        _ => false,
    }
}

fn check_table(name: &str) -> Result<()> {
    let mut letters = name.chars();
    let first = letters
        .next()
        .is_some_and(|letter| letter.is_alphabetic() || letter == '_');
    let rest = letters.all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-' | ' '));
    if first && rest && name.chars().count() <= 63 {
        return Ok(());
    }
    Err(refused(
        "the name of a table has 1 to 63 letters, digits, `_`, `-` or spaces, and begins with a letter \
         or `_`",
    ))
}

fn check_columns(columns: &Schema) -> Result<()> {
    let mut names = HashSet::new();
    for field in columns.fields() {
        let name = field.name();
        let length = name.chars().count();
        if length == 0 || length > 128 || name.chars().any(|c| c.is_control() || c == '"') {
            return Err(refused(
                "the name of a column has 1 to 128 letters, none of them `\"` or a control sign; give \
                 it a name with AS",
            ));
        }
        if !names.insert(name) {
            return Err(refused(format!(
                "two columns have the name `{name}`; give one of them another with AS"
            )));
        }
    }
    match columns.fields().len() {
        0 => Err(refused("a table has at least one column")),
        many if many > MOST_COLUMNS => Err(refused(format!(
            "a table has at most {MOST_COLUMNS} columns"
        ))),
        _ => Ok(()),
    }
}

fn not_there(table: &str) -> EngineError {
    EngineError::NotFound {
        message: format!(
            "there is no table `{WORKSPACE}.{table}`; `SHOW TABLES` lists those that there are"
        ),
    }
}

/// What the lake says, for the one whose tables they are.
pub(crate) fn told(error: LakeError) -> EngineError {
    match error {
        LakeError::WorkspaceTableThere(table) => refused(format!(
            "the table `{WORKSPACE}.{table}` exists already; use CREATE OR REPLACE TABLE, or replace it"
        )),
        LakeError::WorkspaceTableGone(table) => EngineError::NotFound {
            message: format!(
                "the table `{WORKSPACE}.{table}` was dropped or replaced meanwhile; run the statement \
                 again"
            ),
        },
        LakeError::WorkspaceFull => EngineError::Resource {
            message:
                "your tables would take more room than they may; drop some, or ask for more room"
                    .to_owned(),
        },
        LakeError::WorkspaceTables(most) => EngineError::Resource {
            message: format!("you have {most} tables, which is as many as may be; drop some"),
        },
        LakeError::WorkspaceColumn { column, reason } => {
            refused(format!("the column `{column}` {reason}"))
        }
        error @ LakeError::Busy { .. } => EngineError::lake(
            "another statement changed the table meanwhile, and nothing was done; run it again",
            error,
        ),
        error => EngineError::lake("your tables could not be changed", error),
    }
}

fn refused(message: impl Into<String>) -> EngineError {
    EngineError::UserSql {
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use arrow::array::{DictionaryArray, Int64Array, RunArray, StringArray, StringViewArray};
    use tietopohja_policy::Role;

    use super::*;

    #[test]
    fn an_upload_that_names_a_long_value_many_times_is_unpacked_in_parts() {
        let value = "x".repeat(1 << 20);
        let rows = 100;
        let coded: DictionaryArray<Int32Type> = repeat_n(Some(value.as_str()), rows).collect();
        let runs = RunArray::<Int32Type>::try_new(
            &vec![i32::try_from(rows).unwrap()].into(),
            &StringArray::from(vec![value.as_str()]),
        );
        let view = StringViewArray::from_iter_values(repeat_n(value.as_str(), rows));
        let plain = Int64Array::from(vec![1; rows]);
        let none: DictionaryArray<Int32Type> = repeat_n(None::<&str>, rows).collect();
        for (column, wanted) in [
            (Arc::new(coded) as ArrayRef, 32),
            (Arc::new(runs.unwrap()), 32),
            (Arc::new(view), 32),
            (Arc::new(plain), rows),
            (Arc::new(none), rows),
        ] {
            let kind = column.data_type().clone();
            let batch = RecordBatch::try_from_iter([("c", column)]).unwrap();
            assert_eq!(rows_at_a_time(&batch), wanted, "{kind}");
            assert_eq!(rows_at_a_time(&batch.slice(0, 0)), 1, "{kind}: no rows");
        }
    }

    #[test]
    fn what_changes_a_table_of_the_workspace_is_told_by_its_text() {
        for (sql, schema, wanted) in [
            ("CREATE TABLE workspace.t (a INT)", None, true),
            (
                "create or replace table WORKSPACE.t as select 1 as a",
                None,
                true,
            ),
            (
                "-- why\n/* and how */ INSERT INTO workspace.t VALUES (1)",
                None,
                true,
            ),
            ("INSERT INTO tietopohja.workspace.t VALUES (?)", None, true),
            ("UPDATE workspace.t SET a = 1", None, true),
            ("DELETE FROM workspace.t", None, true),
            ("TRUNCATE TABLE workspace.t", None, true),
            ("DROP TABLE IF EXISTS workspace.\"A b\"", None, true),
            ("INSERT INTO t VALUES (1)", Some("workspace"), true),
            ("INSERT INTO t VALUES (1)", None, false),
            (
                "INSERT INTO published.t VALUES (1)",
                Some("workspace"),
                false,
            ),
            ("INSERT INTO \"Workspace\".t VALUES (1)", None, false),
            ("INSERT INTO other.workspace.t VALUES (1)", None, false),
            ("CREATE VIEW workspace.t AS SELECT 1", None, false),
            ("DROP VIEW workspace.t", None, false),
            ("SELECT * FROM workspace.t", None, false),
            (
                "INSERT INTO workspace.t VALUES (1); DROP TABLE workspace.t",
                None,
                false,
            ),
            ("INSERT INTO", None, false),
            ("", None, false),
        ] {
            assert_eq!(is_change(sql, schema), wanted, "{sql}");
        }
    }

    #[test]
    fn names_are_letters_of_a_safe_set() {
        for name in ["t", "_x", "Käynnit 2026", "a-b"] {
            assert!(check_table(name).is_ok(), "{name}");
        }
        let long = "a".repeat(64);
        for name in [
            "",
            "1a",
            "a/b",
            "../a",
            "a.b",
            "a\"b",
            "a\nb",
            long.as_str(),
        ] {
            assert!(check_table(name).is_err(), "{name}");
        }
    }

    #[test]
    fn each_name_has_its_own_place_whatever_the_role() {
        let place_of = |name: &str, role| place(&Principal::new(name, role).unwrap()).unwrap();
        let aino = place_of("aino", Role::Analyst);
        assert_eq!(aino, place_of("aino", Role::Admin));
        for other in ["Aino", "aino.", "aino@hva.fi", "Väinö"] {
            assert_ne!(aino, place_of(other, Role::Analyst), "{other}");
        }
    }
}
