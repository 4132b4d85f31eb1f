//! Statements and uploads that change a user's own tables.
//!
//! Each runs once, when it is asked for: in `DoPut`, or in the call that would make a ticket for the
//! rows of a query. It waits at the gate, runs in a task of its own that ends with its call, and leaves
//! a record, as queries do. What may be changed, and how, is the engine's business.

use std::future::Future;
use std::sync::Arc;

use arrow::datatypes::Schema;
use arrow_flight::FlightData;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use tietopohja_engine::{
    CATALOG, EngineError, Ingest, PreparedChange, QueryMemory, Session, WhenAbsent, WhenPresent,
};
use tietopohja_policy::WORKSPACE;
use tonic::{Status, Streaming};

use super::{Door, STATE_TRIES, Visitor, check_transaction, check_width, shorten};
use crate::flight::incoming::Incoming;
use crate::flight::parameters::Parameters;
use crate::journal::Statement;

impl Door {
    /// Plans a change, in one state of all tables that it reads. Nothing runs.
    pub(super) async fn plan_change(
        &self,
        visitor: &Visitor,
        sql: &str,
    ) -> Result<(Session, PreparedChange), Status> {
        let planned = async {
            for _ in 1..STATE_TRIES {
                let (session, change) = self.plan_change_once(visitor, sql).await?;
                let one_state = Box::pin(session.sees_one_state()).await;
                if one_state.map_err(|error| self.engine_error(&error))? {
                    return Ok((session, change));
                }
            }
            self.plan_change_once(visitor, sql).await
        };
        self.recorded(visitor, sql, planned.await)
    }

    async fn plan_change_once(
        &self,
        visitor: &Visitor,
        sql: &str,
    ) -> Result<(Session, PreparedChange), Status> {
        let session = self.session(visitor, None).await?;
        let change = Box::pin(session.prepare_change(sql)).await;
        let change = change.map_err(|error| self.engine_error(&error))?;
        Ok((session, change))
    }

    /// The parameters of a planned change, as a client is told them.
    pub(super) fn change_parameters(change: &PreparedChange) -> Schema {
        super::fields_of(change.parameters())
    }

    /// Runs a change with its values, and says how many rows it changed.
    pub(super) async fn write(
        &self,
        visitor: &Visitor,
        sql: &str,
        parameters: Option<Parameters>,
    ) -> Result<u64, Status> {
        let (session, change) = self.plan_change(visitor, sql).await?;
        let wanted = change.parameters().len();
        let rows = match parameters.filter(|parameters| parameters.width() > 0) {
            Some(parameters) => check_width(&parameters, wanted).and_then(|()| parameters.rows()),
            None if wanted == 0 => Ok(vec![Vec::new()]),
            None => Err(Status::invalid_argument(format!(
                "the statement has {wanted} parameters and no values; bind values before running it"
            ))),
        };
        let rows = self.recorded(visitor, sql, rows)?;
        let statement = self.enter(visitor, sql);
        statement.planned(change.tables().to_vec(), session.release().name);
        let most_bytes = self.workspace_bytes;
        let counts = change.counts_rows();
        let work = move |memory: QueryMemory| async move {
            let applied = session.apply(&change, rows, Some(&memory), most_bytes);
            Box::pin(applied).await.map_err(Failed::Engine)
        };
        let changed = self.run_change(visitor, statement, work).await?;
        Ok(if counts { changed } else { 0 })
    }

    /// The same with values as they travel inside handles.
    pub(super) async fn write_bound(
        &self,
        visitor: &Visitor,
        sql: &str,
        parameters: Option<&Bytes>,
    ) -> Result<u64, Status> {
        let parameters = parameters
            .map(|bytes| Parameters::from_bytes(bytes))
            .transpose()
            .map_err(|_| Status::invalid_argument("the bound values cannot be read"))?;
        self.write(visitor, sql, parameters).await
    }

    /// Takes an upload into a table, and says how many rows it has.
    pub(super) async fn ingest(
        &self,
        visitor: &Visitor,
        command: CommandStatementIngest,
        first: FlightData,
        rest: Streaming<FlightData>,
    ) -> Result<u64, Status> {
        // An upload leaves the record of the statement that it stands for.
        let table = command.table.replace('"', "\"\"");
        let sql = format!("INSERT INTO {WORKSPACE}.\"{table}\" SELECT * FROM upload");
        let session = self.recorded(visitor, &sql, self.session(visitor, None).await)?;
        let may = session.refuse_without_workspace();
        self.recorded(
            visitor,
            &sql,
            may.map_err(|error| self.engine_error(&error)),
        )?;
        let when = self.recorded(visitor, &sql, asked(&command))?;
        let head = (!first.data_header.is_empty()).then_some(Ok(first));
        let mut batches = Incoming::new(stream::iter(head).chain(rest));
        let most_bytes = self.workspace_bytes;
        let statement = self.enter(visitor, &sql);
        let tables = vec![format!("{WORKSPACE}.{}", command.table)];
        statement.planned(tables, session.release().name);
        let limit = session.timeout();
        let work = move |_memory| async move {
            let uploaded = Box::pin(async {
                let mut next = batches.next().await?;
                let schema = batches.schema().map(Arc::clone).ok_or_else(|| {
                    Status::invalid_argument("the upload has no schema, and so no columns")
                })?;
                let begun = session.ingest(&command.table, &schema, when, most_bytes);
                let begun = Box::pin(begun).await;
                let mut ingest = begun.map_err(Failed::Engine)?;
                while let Some(batch) = next {
                    if let Err(error) = ingest.write(&batch).await {
                        ingest.discard().await;
                        return Err(Failed::Engine(error));
                    }
                    next = match batches.next().await {
                        Ok(next) => next,
                        Err(error) => {
                            ingest.discard().await;
                            return Err(error.into());
                        }
                    };
                }
                Ingest::finish(ingest).await.map_err(Failed::Engine)
            });
            match limit {
                None => uploaded.await,
                Some(limit) => match tokio::time::timeout(limit, uploaded).await {
                    Ok(uploaded) => uploaded,
                    Err(_elapsed) => Err(Failed::Engine(EngineError::Timeout {
                        seconds: limit.as_secs().max(1),
                    })),
                },
            }
        };
        self.run_change(visitor, statement, work).await
    }

    /// Runs a change when it is its turn. It stops when the call ends before it.
    async fn run_change<W, F>(
        &self,
        visitor: &Visitor,
        statement: Statement,
        work: W,
    ) -> Result<u64, Status>
    where
        W: FnOnce(QueryMemory) -> F + Send,
        F: Future<Output = Result<u64, Failed>> + Send + 'static,
    {
        let permit = match self.gate.enter(visitor.principal.name()).await {
            Ok(permit) => permit,
            Err(turned) => {
                let status = Status::from(turned);
                statement.failed(status.code());
                return Err(status);
            }
        };
        let limits = self.limits.of(visitor.principal.role());
        let memory = limits.memory.unwrap_or(self.engine.memory_bytes() / 2);
        let memory = self.engine.query_memory(memory);
        statement.start().started(memory.clone());
        let task = tokio::spawn(work(memory));
        let guard = self.running.enter(self.ids.next(), task.abort_handle());
        let changed = match task.await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(Failed::Engine(error))) => Err(self.engine_error(&error)),
            Ok(Err(Failed::Told(status))) => Err(*status),
            Err(_) => Err(match guard.stopped() {
                Some(stop) => stop.status(),
                None => self.teller.internal("the statement stopped unexpectedly"),
            }),
        };
        drop(permit);
        // Whatever happened, the lists of this user's tables are made anew.
        let name = visitor.principal.name();
        let lists = self.tables.lock();
        let mut lists = lists.unwrap_or_else(std::sync::PoisonError::into_inner);
        lists.retain(|principal, _| principal.name() != name);
        drop(lists);
        // And so are plans: one may read a table that is no more.
        let plans = self.plans.lock();
        let mut plans = plans.unwrap_or_else(std::sync::PoisonError::into_inner);
        plans.retain(|(_, _, planned)| planned.session.principal().name() != name);
        drop(plans);
        match changed {
            Ok(rows) => {
                statement.sent(rows, 0);
                statement.done();
                Ok(rows)
            }
            Err(status) => {
                statement.failed(status.code());
                Err(status)
            }
        }
    }
}

/// Why a change was not made.
enum Failed {
    Engine(EngineError),
    Told(Box<Status>),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Failed::Told(Box::new(status))
    }
}

/// What an upload is to do, if it may.
fn asked(command: &CommandStatementIngest) -> Result<(WhenAbsent, WhenPresent), Status> {
    check_transaction(command.transaction_id.as_ref())?;
    if command.temporary {
        return Err(Status::invalid_argument(
            "tables are not temporary: upload into `workspace`, and drop the table afterwards",
        ));
    }
    let catalog = command.catalog.as_deref().unwrap_or_default();
    if !catalog.is_empty() && catalog != CATALOG {
        return Err(Status::invalid_argument(format!(
            "there is no catalog `{}` to upload into; leave it out, or name `{CATALOG}`",
            shorten(catalog)
        )));
    }
    let schema = command.schema.as_deref().unwrap_or_default();
    if !schema.is_empty() && schema != WORKSPACE {
        return Err(Status::invalid_argument(format!(
            "rows are uploaded into the schema `{WORKSPACE}` only, and not into `{}`",
            shorten(schema)
        )));
    }
    let unsaid = || {
        Status::invalid_argument(
            "the upload does not say what to do when the table is there, or is not",
        )
    };
    let options = command.table_definition_options.ok_or_else(unsaid)?;
    let absent = match options.if_not_exist() {
        TableNotExistOption::Create => WhenAbsent::Create,
        TableNotExistOption::Fail => WhenAbsent::Fail,
        TableNotExistOption::Unspecified => return Err(unsaid()),
    };
    let present = match options.if_exists() {
        TableExistsOption::Fail => WhenPresent::Fail,
        TableExistsOption::Append => WhenPresent::Append,
        TableExistsOption::Replace => WhenPresent::Replace,
        TableExistsOption::Unspecified => return Err(unsaid()),
    };
    Ok((absent, present))
}
