//! The calls of the Flight SQL protocol.
//!
//! This is the `FlightService` itself, not the library's `FlightSqlService` with its ready-made
//! dispatch: that one answers `GetSchema`, `PollFlightInfo` and `ListFlights` with "unimplemented",
//! has no place for `is_update`, and sends session and cancel actions to a fallback. Here one
//! function resolves a command to its schema and ticket, and `GetFlightInfo`, `GetSchema`,
//! `PollFlightInfo` and `DoGet` all ask it, so that they cannot disagree.
//!
//! Every call finds its caller first. A panic anywhere below becomes an internal error of that call.

mod workspace;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::metadata::{
    GetCatalogsBuilder, SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfoData,
};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, Any, Command, CommandPreparedStatementQuery,
    DoPutPreparedStatementResult, DoPutUpdateResult, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, BasicAuth, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus,
    Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, RenewFlightEndpointRequest, Result as ActionResult,
    SchemaResult, Ticket,
};
use bytes::Bytes;
use datafusion_common::ScalarValue;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use prost::Message;
use tietopohja_domain::Clock;
use tietopohja_engine::{
    Engine, EngineError, Prepared, QueryProgress, Release, Session, SessionCommand, SessionOptions,
    TableInfo, Versions,
};
use tietopohja_policy::{Principal, has_workspace};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Response, Status, Streaming};

use super::answers::{Answer, Answers, Question, Recording};
use super::cookie::{self, Cookie};
use super::message::{
    CloseSessionResult, CloseStatus, PreparedStatementResult, SetSessionOptionsRequest,
    SetSessionOptionsResult, StatementPayload, TicketPayload,
};
use super::parameters::Parameters;
use super::running::{Running, Stop};
use super::session::{self, NotSet, Sessions, Settings};
use super::started::{self, Asker, Standing, Started};
use super::stream::{self as rows, FlightStream, Outgoing, Watched, schema_bytes};
use super::ticket::{Bindings, read_command, read_handle, read_ticket, write_handle, write_ticket};
use super::together::{Leave, Together};
use super::wire::{Profile, Wire};
use super::{RoleLimits, ServeError, ServeOptions, catalogue, peer, sql_info, sql_type};
use crate::auth::{
    Admission, AuthError, Authenticator, Caller, Credentials, Holder, Ids, SessionId,
};
use crate::gate::Gate;
use crate::http::{Figures, Observed};
use crate::identity::{Gate as UserGate, Provider};
use crate::journal::{Asked, Journal, Statement};
use crate::live::{Queries, Sessions as LiveSessions};
use crate::seal::Sealer;
use crate::status::Teller;
use crate::trace::TraceParent;

/// How often a statement is planned anew because a table changed meanwhile.
const STATE_TRIES: usize = 4;

/// Plans that wait for their tickets to be redeemed, and how long they may.
const MOST_PLANS: usize = 64;
const PLAN_AGE: Duration = Duration::from_secs(30);

/// The longest name of a client that is kept.
const MOST_CLIENT_NAME: usize = 200;

/// How long a list of tables answers metadata requests before it is made anew.
const CATALOGUE_AGE: Duration = Duration::from_secs(2);

/// How long a client that began a handshake may take to say who it is.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);

/// The Flight SQL service of one engine.
pub(crate) struct Door {
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    auth: Authenticator,
    sealer: Sealer,
    ids: Ids,
    ticket_seconds: i64,
    sessions: Sessions,
    session_idle: i64,
    bindings: Bindings,
    running: Running,
    started: Started,
    gate: Gate,
    together: Together,
    limits: RoleLimits,
    /// Most bytes of one user's own tables.
    workspace_bytes: Option<u64>,
    journal: Arc<Journal>,
    closing: AtomicBool,
    /// Whether the metrics are only for those who sign in.
    metrics_guarded: bool,
    teller: Arc<Teller>,
    sql_info: SqlInfoData,
    type_info: XdbcTypeInfoData,
    tables: Mutex<HashMap<Principal, (Instant, Arc<Vec<TableInfo>>)>>,
    /// Plans of statements whose tickets were not redeemed yet, oldest first. A ticket needs none of
    /// them: whoever finds no plan makes it anew.
    plans: Mutex<VecDeque<(Bytes, Instant, Arc<Planned>)>>,
    answers: Arc<Answers<Planned, Told>>,
}

/// Who is calling, and how.
struct Visitor {
    principal: Principal,
    session: Option<SessionId>,
    /// What the calling program says that it is.
    client: Option<String>,
    /// Where the call stands in somebody's trace.
    trace: Option<TraceParent>,
    settings: Settings,
}

/// What a text asks for.
enum Said {
    /// Rows.
    Query(String),
    /// A change of the session.
    Change(SessionCommand),
    /// A change of the user's own tables.
    Write,
}

/// Why a command is resolved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To tell its schema: nothing may happen.
    Look,
    /// To give a ticket for its rows: what changes something happens now, once, and the ticket only
    /// tells so.
    Take,
}

/// A statement ready to run, and what its rows look like outside.
struct Planned {
    session: Arc<Session>,
    /// One for each row of parameters; exactly one for a statement without parameters.
    runs: Vec<Prepared>,
    told: Arc<Told>,
    /// Whether it gives the same rows at the same versions.
    repeatable: bool,
}

/// What is told of a result besides its rows.
struct Told {
    wire: Wire,
    /// The versions of its tables.
    versions: Bytes,
    release: Release,
    /// The tables that the statement names.
    tables: Vec<String>,
}

/// Where the rows of a statement come from.
enum Source {
    /// They were computed for the same question, over the same versions.
    Kept(Arc<Answer<Told>>),
    /// They are computed.
    Computed(Arc<Planned>),
}

impl Planned {
    fn of(session: Session, runs: Vec<Prepared>, wire: Wire, sql: &str) -> Self {
        let told = Told {
            wire,
            versions: session.versions().to_bytes().into(),
            release: session.release(),
            tables: session.tables_named(sql),
        };
        Self {
            told: Arc::new(told),
            repeatable: runs.iter().all(|run| session.is_repeatable(run)),
            session: Arc::new(session),
            runs,
        }
    }
}

impl Source {
    fn told(&self) -> &Told {
        match self {
            Source::Kept(answer) => &answer.told,
            Source::Computed(planned) => &planned.told,
        }
    }
}

/// A part of a result, to be computed away from the others.
struct Part {
    number: u32,
    of: u32,
    /// What is the same for all parts of the result.
    statement: Bytes,
}

impl Part {
    /// What a ticket is for; none for the whole result.
    fn of(ticket: &TicketPayload) -> Option<Self> {
        (ticket.parts > 0).then(|| Self {
            number: ticket.part,
            of: ticket.parts,
            statement: ticket.statement.clone(),
        })
    }

    /// The part of a statement.
    fn cut(&self, session: &Session, whole: &Prepared) -> Result<Option<Prepared>, EngineError> {
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        session.part(whole, number(self.number), number(self.of))
    }
}

/// A statement that runs.
struct Run {
    outgoing: Outgoing,
    progress: started::Progress,
    schema: SchemaRef,
    app_metadata: Bytes,
}

/// A command that was understood: the schema of its rows, and the tickets for them.
struct Resolved {
    schema: SchemaRef,
    /// For the whole result, or for its parts in order.
    tickets: Vec<Ticket>,
    /// Seconds since 1970; none for a ticket that stays good.
    expires: Option<i64>,
    /// What is said of the whole result.
    app_metadata: Bytes,
}

impl Door {
    /// The door to an engine.
    pub(crate) fn new(
        engine: Arc<Engine>,
        options: &ServeOptions,
        everyone: Principal,
    ) -> Result<Self, ServeError> {
        let key = &options.ticket_key;
        let started = options.clock.now().as_nanosecond();
        let ids = |purpose| Ids::new(key, purpose, started);
        let sealer = Sealer::new(*key);
        let now = options.clock.now().as_second();
        let gate = options.users.as_ref();
        let gate = gate
            .map(|file| UserGate::open(file, key, now))
            .transpose()?;
        let provider = options.oidc.as_ref();
        let provider = provider
            .map(|oidc| Provider::open(oidc, key, ids("provider"), now))
            .transpose()?;
        let admission = if gate.is_none() && provider.is_none() {
            Admission::Anyone(everyone)
        } else {
            Admission::Users {
                gate: gate.map(Box::new),
                provider: provider.map(Box::new),
                bearer_seconds: i64::try_from(options.bearer_lifetime.as_secs())
                    .unwrap_or(i64::MAX),
            }
        };
        let journal = Journal::new(Arc::clone(&options.clock), options.audit.clone());
        let journal = Arc::new(journal);
        engine.show_live("query", Arc::new(Queries(Arc::clone(&journal))));
        engine.show_live("session", Arc::new(LiveSessions(Arc::clone(&journal))));
        Ok(Self {
            gate: Gate::new(options.gate),
            together: Together::default(),
            limits: options.limits.clone(),
            workspace_bytes: options.workspace_bytes,
            journal,
            engine,
            clock: Arc::clone(&options.clock),
            auth: Authenticator::new(admission, sealer.clone(), ids("session")),
            sealer,
            ids: ids("query"),
            ticket_seconds: i64::try_from(options.ticket_lifetime.as_secs()).unwrap_or(i64::MAX),
            sessions: Sessions::default(),
            session_idle: i64::try_from(options.session_idle.as_secs()).unwrap_or(i64::MAX),
            bindings: Bindings::default(),
            running: Running::default(),
            started: Started::new(options.poll_idle, options.gate.running),
            closing: AtomicBool::new(false),
            metrics_guarded: options.http.is_some_and(|http| !http.ip().is_loopback()),
            teller: Arc::new(Teller::new(ids("error"))),
            sql_info: sql_info::sql_info(
                options.users.is_some() || has_workspace(options.anonymous_role),
            )?,
            type_info: sql_type::type_info()?,
            tables: Mutex::default(),
            plans: Mutex::default(),
            answers: Arc::new(Answers::of_bytes(options.result_cache_bytes)),
        })
    }

    /// The queries that run now.
    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// Asks the identity provider, if there is one, before the first caller comes.
    pub(crate) fn warm(&self) {
        self.auth.warm(self.now());
    }

    /// From now on every new call is turned away.
    pub(crate) fn refuse_new(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.started.drain();
    }

    /// Runs a call: not when the server is closing, and with a panic turned into an error.
    async fn call<T>(
        &self,
        work: impl Future<Output = Result<Response<T>, Status>> + Send,
    ) -> Result<Response<T>, Status> {
        if self.closing.load(Ordering::Relaxed) {
            return Err(Stop::Drained.status());
        }
        match AssertUnwindSafe(cookie::during(work)).catch_unwind().await {
            Ok(result) => result,
            Err(_panic) => Err(self.teller.internal("the request failed unexpectedly")),
        }
    }

    /// Whether the headers of a call prove who is calling.
    ///
    /// # Errors
    /// [`tonic::Code::Unauthenticated`] and its like when they do not.
    pub(super) async fn knows(&self, metadata: &MetadataMap) -> Result<(), Status> {
        if !self.auth.has_users() {
            return Ok(());
        }
        self.caller(metadata).await.map(|_known| ())
    }

    async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let token = binary_token(metadata);
        let credentials = credentials(metadata, token.as_deref());
        let peer = peer::of(metadata);
        let caller = self.auth.identify(credentials, peer, self.now()).await?;
        Ok(caller)
    }

    /// Who is calling, with the settings that hold for the call.
    async fn visitor(&self, metadata: &MetadataMap) -> Result<Visitor, Status> {
        let caller = self.caller(metadata).await?;
        let cookie = Cookie::of(metadata, &caller.principal, &self.sealer);
        // The bearer names the session; only without one does the cookie.
        let cookie = cookie.filter(|cookie| {
            let of_bearer = caller.session.as_ref();
            of_bearer.is_none_or(|session| *session == cookie.session)
        });
        let of_cookie = cookie.as_ref().map(|cookie| cookie.session.clone());
        let session = caller.session.or(of_cookie);
        let settings = match &session {
            None => {
                // A client that keeps cookies has a session from its second call on.
                let new = Cookie::new(SessionId::of(self.ids.next()));
                cookie::set(&new, &caller.principal, &self.sealer);
                Settings::default()
            }
            Some(session) => self
                .sessions
                .settings(session, self.now(), self.session_idle, cookie.as_ref())
                .ok_or_else(|| {
                    cookie::forget();
                    Status::unauthenticated(
                        "the session was closed, or was idle for too long; sign in again",
                    )
                })?,
        };
        Ok(Visitor {
            principal: caller.principal,
            session,
            client: client_name(metadata),
            trace: TraceParent::of(metadata),
            settings: settings.with_headers(metadata)?,
        })
    }

    /// Enters a statement into the journal.
    fn enter(&self, visitor: &Visitor, sql: &str) -> Statement {
        self.journal.enter(Asked {
            principal: visitor.principal.clone(),
            session: visitor.session.as_ref().map(SessionId::name),
            client: visitor.client.clone(),
            trace: visitor.trace,
            sql: sql.to_owned(),
        })
    }

    /// A statement that is refused before it runs leaves a record too.
    fn recorded<T>(
        &self,
        visitor: &Visitor,
        sql: &str,
        planned: Result<T, Status>,
    ) -> Result<T, Status> {
        planned.inspect_err(|status| self.enter(visitor, sql).failed(status.code()))
    }

    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }

    fn engine_error(&self, error: &EngineError) -> Status {
        self.teller.engine(error)
    }

    fn library_error(&self, error: &FlightError) -> Status {
        tracing::debug!(%error, "the Flight SQL library refused an answer");
        self.teller.internal("the answer could not be written")
    }

    /// The tables the caller may name. Tools ask many questions at once when they connect: they are
    /// all answered from one list.
    async fn tables(&self, visitor: &Visitor) -> Result<Arc<Vec<TableInfo>>, Status> {
        let kept = || self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, tables)) = kept().get(&visitor.principal)
            && made.elapsed() < CATALOGUE_AGE
        {
            return Ok(Arc::clone(tables));
        }
        let session = Box::pin(self.engine.session(&visitor.principal)).await;
        let session = session.map_err(|error| self.engine_error(&error))?;
        let listed = Box::pin(session.tables())
            .await
            .map_err(|error| self.engine_error(&error))?;
        let tables = Arc::new(listed);
        let mut kept = kept();
        kept.retain(|_, (made, _)| made.elapsed() < CATALOGUE_AGE);
        kept.insert(
            visitor.principal.clone(),
            (Instant::now(), Arc::clone(&tables)),
        );
        Ok(tables)
    }

    async fn session(
        &self,
        visitor: &Visitor,
        versions: Option<Arc<Versions>>,
    ) -> Result<Session, Status> {
        let settings = &visitor.settings;
        let limit = self.limits.of(visitor.principal.role()).timeout;
        let options = SessionOptions {
            timeout: limit.into_iter().chain(settings.timeout).min(),
            schema: settings.schema.clone(),
            as_of: settings.as_of.as_ref().map(|(_, moment)| *moment),
            versions,
        };
        let session = Box::pin(self.engine.session_with(&visitor.principal, &options)).await;
        let session = session.map_err(|error| self.engine_error(&error))?;
        match &settings.schema {
            Some(schema) if !session.has_schema(schema) => Err(Status::not_found(format!(
                "there is no schema `{}`, in which names are to be looked up here; set another with \
                 `SET tietopohja.schema = 'published'`",
                shorten(schema)
            ))),
            _ => Ok(session),
        }
    }

    /// Parses and plans a statement; nothing runs.
    async fn prepare(
        &self,
        visitor: &Visitor,
        sql: &str,
        versions: Option<Arc<Versions>>,
    ) -> Result<(Session, Prepared), Status> {
        let session = self.session(visitor, versions).await?;
        let prepared = Box::pin(session.prepare(sql)).await;
        let prepared = prepared.map_err(|error| self.engine_error(&error))?;
        Ok((session, prepared))
    }

    /// Plans a statement with its bound values, in one state of all tables: the given one, or the
    /// present. Nothing runs.
    async fn plan(
        &self,
        visitor: &Visitor,
        sql: &str,
        parameters: Option<&Bytes>,
        versions: Option<Arc<Versions>>,
    ) -> Result<Planned, Status> {
        for _ in 1..STATE_TRIES {
            let planned = self.plan_once(visitor, sql, parameters, versions.clone());
            let planned = planned.await?;
            let one_state = Box::pin(planned.session.sees_one_state()).await;
            if one_state.map_err(|error| self.engine_error(&error))? {
                return Ok(planned);
            }
        }
        // Tables that change all the time are seen as the last look found them.
        self.plan_once(visitor, sql, parameters, versions).await
    }

    /// Plans a statement in the present state of its tables, or takes a plan of that state that is
    /// there. Nothing runs.
    async fn plan_now(
        &self,
        visitor: &Visitor,
        sql: &str,
        parameters: Option<&Bytes>,
    ) -> Result<Arc<Planned>, Status> {
        let planned = self.plan(visitor, sql, parameters, None);
        if visitor.settings.as_of.is_some() {
            return Ok(Arc::new(planned.await?));
        }
        let question = self.question(visitor, sql, parameters);
        if let Some(planned) = self.answers.plan(&question) {
            let current = Box::pin(planned.session.is_current()).await;
            if current.map_err(|error| self.engine_error(&error))? {
                return Ok(planned);
            }
        }
        let planned = Arc::new(planned.await?);
        if planned.repeatable {
            self.answers.keep_plan(question, Arc::clone(&planned));
        }
        Ok(planned)
    }

    /// What the answer to a statement depends on.
    fn question(&self, visitor: &Visitor, sql: &str, parameters: Option<&Bytes>) -> Question {
        Question {
            principal: visitor.principal.clone(),
            sql: sql.to_owned(),
            parameters: parameters.cloned(),
            schema: visitor.settings.schema.clone(),
            timeout: visitor.settings.timeout,
            profile: visitor.settings.profile,
        }
    }

    async fn plan_once(
        &self,
        visitor: &Visitor,
        sql: &str,
        parameters: Option<&Bytes>,
        versions: Option<Arc<Versions>>,
    ) -> Result<Planned, Status> {
        let (session, prepared) = self.prepare(visitor, sql, versions).await?;
        let wanted = prepared.parameters().len();
        let profile = visitor.settings.profile;
        let Some(parameters) = parameters else {
            return if wanted == 0 {
                let wire = Wire::of(prepared.schema(), profile);
                Ok(Planned::of(session, vec![prepared], wire, sql))
            } else {
                Err(Status::invalid_argument(format!(
                    "the statement has {wanted} parameters and no values; bind values before \
                     running it"
                )))
            };
        };
        let parameters = Parameters::from_bytes(parameters)
            .map_err(|_| Status::invalid_argument("the bound values cannot be read"))?;
        check_width(&parameters, wanted)?;
        let mut runs = Vec::new();
        for values in parameters.rows()? {
            runs.push(self.bind(&session, &prepared, values).await?);
        }
        let wire = Wire::of(runs.first().unwrap_or(&prepared).schema(), profile);
        if runs
            .iter()
            .any(|run| Wire::of(run.schema(), profile) != wire)
        {
            return Err(Status::invalid_argument(
                "the rows of parameters give results of different types; bind each parameter with \
                 one type",
            ));
        }
        Ok(Planned::of(session, runs, wire, sql))
    }

    async fn bind(
        &self,
        session: &Session,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
    ) -> Result<Prepared, Status> {
        let bound = Box::pin(session.bind(prepared, values)).await;
        bound.map_err(|error| self.engine_error(&error))
    }

    /// What a text asks for: rows, or a change of the session. A question about a setting becomes a
    /// query.
    fn said(&self, visitor: &Visitor, sql: &str) -> Result<Said, Status> {
        let command = tietopohja_engine::session_command(sql);
        let command = command.map_err(|error| self.engine_error(&error));
        let Some(command) = self.recorded(visitor, sql, command)? else {
            let schema = visitor.settings.schema.as_deref();
            return Ok(match tietopohja_engine::is_change(sql, schema) {
                true => Said::Write,
                false => Said::Query(sql.to_owned()),
            });
        };
        let SessionCommand::Show { name } = command else {
            return Ok(Said::Change(command));
        };
        let value = visitor.settings.get(&name).ok_or(NotSet::Name);
        let value = value.map_err(|error| unknown_setting(&name, error));
        let value = self.recorded(visitor, sql, value)?.replace('\'', "''");
        Ok(Said::Query(format!(
            "SELECT 'tietopohja.{name}' AS name, '{value}' AS value"
        )))
    }

    /// Changes the session as a statement asks.
    fn change(&self, visitor: &Visitor, sql: &str, command: SessionCommand) -> Result<(), Status> {
        let changed = match command {
            SessionCommand::Show { .. } => Ok(()),
            SessionCommand::Set { name, value } => self.set(visitor, &name, Some(&value)),
            SessionCommand::Reset { name } => self.set(visitor, &name, None),
        };
        self.recorded(visitor, sql, changed)?;
        self.enter(visitor, sql).done();
        Ok(())
    }

    fn set(&self, visitor: &Visitor, name: &str, value: Option<&str>) -> Result<(), Status> {
        let Some(session) = &visitor.session else {
            return Err(Status::failed_precondition(format!(
                "there is no session that could keep the setting; sign in first, keep the cookie that \
                 this answer sets, or send the header `tietopohja-{}` with each call",
                shorten(name).replace('_', "-")
            )));
        };
        let (changed, cookie) = self
            .sessions
            .change(session, self.now(), |settings| settings.set(name, value));
        cookie::set(&cookie, &visitor.principal, &self.sealer);
        changed.map_err(|error| unknown_setting(name, error))
    }

    /// A ticket for a statement.
    async fn resolve_statement(
        &self,
        visitor: &Visitor,
        sql: String,
        parameters: Option<Bytes>,
        purpose: Purpose,
    ) -> Result<Resolved, Status> {
        let sql = match self.said(visitor, &sql)? {
            Said::Query(sql) => sql,
            Said::Change(command) => {
                if purpose == Purpose::Take {
                    self.change(visitor, &sql, command)?;
                }
                return Ok(self.resolved_change(visitor));
            }
            Said::Write => {
                if purpose == Purpose::Take {
                    self.write_bound(visitor, &sql, parameters.as_ref()).await?;
                } else {
                    self.plan_change(visitor, &sql).await?;
                }
                return Ok(self.resolved_change(visitor));
            }
        };
        let planned = Box::pin(self.plan_now(visitor, &sql, parameters.as_ref())).await;
        let planned = self.recorded(visitor, &sql, planned)?;
        let expires = self.now().saturating_add(self.ticket_seconds);
        let whole = TicketPayload {
            holder: Some(Holder::of(&visitor.principal)),
            sql,
            parameters,
            expires,
            schema: visitor.settings.schema.clone(),
            profile: visitor.settings.profile.words(),
            statement: self.ids.next(),
            ..TicketPayload::default()
        };
        let parts = self.parts(visitor, &planned);
        let tickets = (0..parts.max(1)).map(|part| {
            let query_id = self.ids.next();
            let payload = TicketPayload {
                // Which tables stand behind a view is not the holder's to know.
                versions: self.sealer.veil(&query_id, &planned.told.versions).into(),
                query_id,
                part,
                parts,
                ..whole.clone()
            };
            let ticket = write_ticket(&self.sealer, &payload);
            if purpose == Purpose::Take {
                self.keep_plan(payload.query_id, Arc::clone(&planned));
            }
            ticket
        });
        let resolved = Resolved {
            schema: Arc::clone(planned.told.wire.schema()),
            tickets: tickets.collect(),
            expires: Some(expires),
            app_metadata: release_json(&planned.told.release),
        };
        Ok(resolved)
    }

    /// In how many parts a result is given; 0 for all of it at once. A limit of rows or bytes holds for a
    /// result, and its parts do not know of each other.
    fn parts(&self, visitor: &Visitor, planned: &Planned) -> u32 {
        let limits = self.limits.of(visitor.principal.role());
        let wanted = visitor.settings.endpoints.unwrap_or(1);
        match planned.runs.as_slice() {
            [run] if wanted > 1 && limits.rows.is_none() && limits.bytes.is_none() => {
                let parts = planned.session.parts(run, wanted);
                u32::try_from(parts).ok().filter(|parts| *parts > 1)
            }
            _ => None,
        }
        .unwrap_or(0)
    }

    /// Keeps the plan of a ticket for its first redemption, which mostly follows at once.
    fn keep_plan(&self, query: Bytes, planned: Arc<Planned>) {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|(_, made, _)| made.elapsed() < PLAN_AGE);
        if plans.len() == MOST_PLANS {
            plans.pop_front();
        }
        plans.push_back((query, Instant::now(), planned));
    }

    /// The plan of a ticket, for once.
    fn take_plan(&self, query: &Bytes) -> Option<Arc<Planned>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let place = plans.iter().position(|(of, _, _)| of == query)?;
        let (_, made, planned) = plans.remove(place)?;
        (made.elapsed() < PLAN_AGE).then_some(planned)
    }

    /// What stands for a statement that changed something: no columns, and a ticket for no rows.
    fn resolved_change(&self, visitor: &Visitor) -> Resolved {
        let expires = self.now().saturating_add(self.ticket_seconds);
        let payload = TicketPayload {
            holder: Some(Holder::of(&visitor.principal)),
            expires,
            query_id: self.ids.next(),
            done: true,
            ..TicketPayload::default()
        };
        Resolved {
            schema: Arc::new(Schema::empty()),
            tickets: vec![write_ticket(&self.sealer, &payload)],
            expires: Some(expires),
            app_metadata: Bytes::new(),
        }
    }

    /// The rows of a statement that changed something: none.
    fn no_rows(&self) -> Result<FlightStream, Status> {
        rows::ready(&Arc::new(Schema::empty()), Vec::new())
            .map_err(|error| self.library_error(&error.into()))
    }

    fn read_statement(&self, visitor: &Visitor, handle: &[u8]) -> Result<StatementPayload, Status> {
        let mut statement = read_handle(&self.sealer, handle, &visitor.principal)?;
        if statement.parameters.is_none() {
            statement.parameters = self.bindings.get(&statement.statement_id);
        }
        Ok(statement)
    }

    /// The schema and the ticket of a command.
    async fn resolve(
        &self,
        visitor: &Visitor,
        command: Command,
        purpose: Purpose,
    ) -> Result<Resolved, Status> {
        let schema = match &command {
            Command::CommandStatementQuery(query) => {
                check_transaction(query.transaction_id.as_ref())?;
                return self
                    .resolve_statement(visitor, query.query.clone(), None, purpose)
                    .await;
            }
            Command::CommandPreparedStatementQuery(query) => {
                let statement = self.read_statement(visitor, &query.prepared_statement_handle)?;
                return self
                    .resolve_statement(visitor, statement.sql, statement.parameters, purpose)
                    .await;
            }
            Command::CommandGetCatalogs(_) => GetCatalogsBuilder::new().schema(),
            Command::CommandGetDbSchemas(command) => command.clone().into_builder().schema(),
            Command::CommandGetTables(command) => catalogue::tables_schema(command),
            Command::CommandGetTableTypes(command) => (*command).into_builder().schema(),
            Command::CommandGetPrimaryKeys(_) => Arc::clone(&catalogue::PRIMARY_KEYS),
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => Arc::clone(&catalogue::FOREIGN_KEYS),
            Command::CommandGetSqlInfo(_) => Arc::new(SqlInfoDataBuilder::schema().clone()),
            Command::CommandGetXdbcTypeInfo(_) => self.type_info.schema(),
            other => return Err(not_a_query(other)),
        };
        let ticket = Ticket {
            ticket: command.into_any().encode_to_vec().into(),
        };
        Ok(Resolved {
            schema,
            tickets: vec![ticket],
            expires: None,
            app_metadata: Bytes::new(),
        })
    }

    /// The rows of a command about the catalogue.
    async fn describe(&self, visitor: &Visitor, command: Command) -> Result<FlightStream, Status> {
        let resolved = self.resolve(visitor, command.clone(), Purpose::Look);
        let schema = resolved.await?.schema;
        let one = |batch: Result<RecordBatch, FlightError>| batch.map(|batch| vec![batch]);
        let word = visitor.settings.table_type;
        let batches = match command {
            Command::CommandGetCatalogs(command) => one(catalogue::catalogs(command)),
            Command::CommandGetDbSchemas(command) => {
                one(catalogue::schemas(&command, &self.tables(visitor).await?))
            }
            Command::CommandGetTables(command) => {
                catalogue::tables(&command, &self.tables(visitor).await?, word)
            }
            Command::CommandGetTableTypes(command) => one(catalogue::table_types(command, word)),
            Command::CommandGetSqlInfo(command) => one(self.sql_info.record_batch(command.info)),
            Command::CommandGetXdbcTypeInfo(command) => {
                one(self.type_info.record_batch(command.data_type))
            }
            Command::CommandGetPrimaryKeys(command) => one(catalogue::primary_keys(
                &command,
                &self.tables(visitor).await?,
            )),
            Command::CommandGetExportedKeys(command) => one(catalogue::exported_keys(
                &command,
                &self.tables(visitor).await?,
            )),
            Command::CommandGetImportedKeys(command) => one(catalogue::imported_keys(
                &command,
                &self.tables(visitor).await?,
            )),
            Command::CommandGetCrossReference(command) => one(catalogue::cross_reference(
                &command,
                &self.tables(visitor).await?,
            )),
            other => return Err(not_a_query(&other)),
        };
        batches
            .and_then(|batches| Ok(rows::ready(&schema, batches)?))
            .map_err(|error| self.library_error(&error))
    }

    /// Where the rows of a statement come from: an answer that is there, the plan that its ticket was
    /// made with, or a new plan.
    async fn source(
        &self,
        visitor: &Visitor,
        question: &Question,
        query_id: &Bytes,
        versions: Option<Arc<Versions>>,
        is_part: bool,
    ) -> Result<Source, Status> {
        let (sql, parameters) = (&question.sql, question.parameters.as_ref());
        let waiting = self.take_plan(query_id);
        let Some(versions) = versions else {
            let planned = Box::pin(self.plan_now(visitor, sql, parameters)).await?;
            let kept = self.answers.result(question, &planned.told.versions);
            return Ok(kept.map_or(Source::Computed(planned), Source::Kept));
        };
        // A ticket says which versions it is of: an answer that is there needs no plan.
        if !is_part && let Some(kept) = self.answers.result(question, &versions.to_bytes().into()) {
            return Ok(Source::Kept(kept));
        }
        if let Some(planned) = waiting {
            return Ok(Source::Computed(planned));
        }
        let planned = Box::pin(self.plan(visitor, sql, parameters, Some(versions))).await;
        planned.map(|planned| Source::Computed(Arc::new(planned)))
    }

    /// Runs a statement.
    async fn run(
        &self,
        visitor: &Visitor,
        sql: &str,
        parameters: Option<&Bytes>,
        query_id: Bytes,
        versions: Option<Arc<Versions>>,
        part: Option<Part>,
    ) -> Result<Run, Status> {
        if self.running.is_cancelled(&query_id) {
            return Err(Stop::Cancelled.status());
        }
        let question = self.question(visitor, sql, parameters);
        let is_part = part.is_some();
        let source = self.source(visitor, &question, &query_id, versions, is_part);
        let source = source.await;
        let source = self.recorded(visitor, sql, source)?;
        let told = source.told();
        let statement = self.enter(visitor, sql);
        statement.planned(told.tables.clone(), told.release.name.clone());
        let limits = self.limits.of(visitor.principal.role());
        let memory = limits.memory.unwrap_or(self.engine.memory_bytes() / 2);
        let memory = self.engine.query_memory(memory);
        let teller = Arc::clone(&self.teller);
        let tell = move |error: EngineError| teller.engine(&error);
        let (gate, principal) = (self.gate.clone(), visitor.principal.name().to_owned());
        let together = self.together.clone();
        let start = statement.start();
        let wire = told.wire.clone();
        let (schema, app_metadata) = (Arc::clone(wire.schema()), release_json(&told.release));
        let watched = Watched {
            statement,
            limits,
            app_metadata: app_metadata.clone(),
        };
        let planned = match source {
            Source::Computed(planned) => planned,
            Source::Kept(answer) => {
                // Nothing is computed, so that there is nothing to wait for.
                start.started(memory);
                let batches = answer.batches.clone().into_iter().map(Ok);
                let outgoing = rows::running(
                    wire,
                    stream::iter(batches),
                    query_id,
                    watched,
                    &self.running,
                    Arc::clone(&self.teller),
                );
                return Ok(Run {
                    outgoing,
                    progress: Box::new(|| 1.0),
                    schema,
                    app_metadata,
                });
            }
        };
        let recording = (planned.repeatable && !is_part).then(|| {
            let told = Arc::clone(&planned.told);
            let versions = told.versions.clone();
            self.answers.record(question, versions, told)
        });
        let (progress, runs) = (QueryProgress::default(), planned.runs.len());
        let watching = progress.clone();
        let batches = stream::once(async move {
            let leave = match &part {
                None => Leave::alone(gate.enter(&principal).await?),
                Some(Part {
                    number, statement, ..
                }) => {
                    let entered = together.enter(&gate, &principal, statement, *number);
                    entered.await?
                }
            };
            start.started(memory.clone());
            let session = Arc::clone(&planned.session);
            let mut runs = planned.runs.clone();
            if let Some(part) = &part {
                for run in &mut runs {
                    let cut = part.cut(&session, run).map_err(&tell)?;
                    *run = cut.ok_or_else(|| {
                        Status::not_found(
                            "the result has no such part any more; run the query again",
                        )
                    })?;
                }
            }
            let batches = stream::iter(runs).then(move |run| {
                let (session, tell, memory) = (Arc::clone(&session), tell.clone(), memory.clone());
                let watching = watching.clone();
                async move {
                    let (memory, watching) = (Some(&memory), Some(&watching));
                    let executing = session.execute_within(&run, Vec::new(), memory, watching);
                    let batches = Box::pin(executing).await.map_err(&tell)?;
                    Ok::<_, Status>(batches.map_err(move |error| tell(EngineError::from(error))))
                }
            });
            // The leave ends with the last batch.
            Ok::<_, Status>(batches.try_flatten().inspect(move |_| {
                let _held = &leave;
            }))
        });
        let outgoing = rows::running(
            wire,
            recorded(batches.try_flatten(), recording),
            query_id,
            watched,
            &self.running,
            Arc::clone(&self.teller),
        );
        Ok(Run {
            outgoing,
            progress: Box::new(move || progress.share(runs)),
            schema,
            app_metadata,
        })
    }

    /// The payload of a ticket that can still be redeemed.
    fn good_ticket(
        &self,
        visitor: &Visitor,
        ticket: &TicketStatementQuery,
    ) -> Result<TicketPayload, Status> {
        let payload = read_ticket(&self.sealer, ticket, &visitor.principal)?;
        if payload.expires < self.now() {
            return Err(Status::not_found(
                "the ticket has expired; run the query again",
            ));
        }
        Ok(payload)
    }

    /// Runs the statement of a ticket, in the state of the tables and the form that the ticket says.
    async fn run_ticket(&self, visitor: &Visitor, payload: &TicketPayload) -> Result<Run, Status> {
        let visitor = Visitor {
            principal: visitor.principal.clone(),
            session: visitor.session.clone(),
            client: visitor.client.clone(),
            trace: visitor.trace,
            settings: Settings {
                schema: payload.schema.clone(),
                profile: Profile::of_words(&payload.profile),
                ..visitor.settings.clone()
            },
        };
        let versions = self.sealer.veil(&payload.query_id, &payload.versions);
        let versions = Versions::from_bytes(&versions).ok_or_else(|| {
            Status::invalid_argument("the ticket is of another version of the server")
        })?;
        let (sql, parameters) = (&payload.sql, payload.parameters.as_ref());
        let (query, versions) = (payload.query_id.clone(), Some(Arc::new(versions)));
        let part = Part::of(payload);
        self.run(&visitor, sql, parameters, query, versions, part)
            .await
    }

    async fn redeem(&self, visitor: &Visitor, command: Command) -> Result<FlightStream, Status> {
        match command {
            Command::TicketStatementQuery(ticket) => {
                let payload = self.good_ticket(visitor, &ticket)?;
                if payload.done {
                    return self.no_rows();
                }
                if self.running.is_cancelled(&payload.query_id) {
                    return Err(Stop::Cancelled.status());
                }
                // Whoever polled has started it.
                let outgoing = match self.started.take(&payload.query_id) {
                    Some(outgoing) => outgoing,
                    None => self.run_ticket(visitor, &payload).await?.outgoing,
                };
                Ok(outgoing.stream())
            }
            Command::CommandPreparedStatementQuery(query) => {
                let statement = self.read_statement(visitor, &query.prepared_statement_handle)?;
                let parameters = statement.parameters.as_ref();
                match self.said(visitor, &statement.sql)? {
                    Said::Change(command) => {
                        self.change(visitor, &statement.sql, command)?;
                        self.no_rows()
                    }
                    Said::Write => {
                        self.write_bound(visitor, &statement.sql, parameters)
                            .await?;
                        self.no_rows()
                    }
                    Said::Query(sql) => {
                        let query = self.ids.next();
                        let run = self.run(visitor, &sql, parameters, query, None, None);
                        Ok(run.await?.outgoing.stream())
                    }
                }
            }
            other => self.describe(visitor, other).await,
        }
    }

    async fn flight_info(
        &self,
        metadata: &MetadataMap,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo, Status> {
        let visitor = self.visitor(metadata).await?;
        let command = read_command(&descriptor.cmd)?;
        let resolved = self.resolve(&visitor, command, Purpose::Take).await?;
        self.info_of(descriptor, resolved)
    }

    fn info_of(
        &self,
        descriptor: FlightDescriptor,
        resolved: Resolved,
    ) -> Result<FlightInfo, Status> {
        let tickets = resolved.tickets.into_iter();
        let endpoints = tickets.map(|ticket| endpoint(ticket, resolved.expires));
        Ok(FlightInfo {
            schema: self.schema_bytes(&resolved.schema)?,
            flight_descriptor: Some(descriptor),
            // No location: the client comes back on the connection it has.
            endpoint: endpoints.collect(),
            total_records: -1,
            total_bytes: -1,
            // Rows that have an order are those of one endpoint.
            ordered: true,
            app_metadata: resolved.app_metadata,
        })
    }

    /// How far a query is. The first call starts it; later ones name it by its ticket, which is the
    /// token that they are given.
    async fn poll(
        &self,
        metadata: &MetadataMap,
        descriptor: FlightDescriptor,
    ) -> Result<PollInfo, Status> {
        let visitor = self.visitor(metadata).await?;
        let token = match read_command(&descriptor.cmd)? {
            Command::TicketStatementQuery(token) => token,
            command => {
                let resolved = self.resolve(&visitor, command, Purpose::Take).await?;
                let token = match resolved.tickets.as_slice() {
                    [one] => read_command(&one.ticket)?,
                    // Rows that come in parts are there when they are fetched.
                    _ => return Ok(complete(self.info_of(descriptor, resolved)?)),
                };
                match token {
                    Command::TicketStatementQuery(token) => token,
                    // An answer about the catalogue is complete when it begins.
                    _ => return Ok(complete(self.info_of(descriptor, resolved)?)),
                }
            }
        };
        let mut payload = self.good_ticket(&visitor, &token)?;
        if payload.done {
            let resolved = self.resolved_change(&visitor);
            return Ok(complete(self.info_of(descriptor, resolved)?));
        }
        let asker = self.ask(&visitor, &payload).await?;
        let standing = asker.news(started::longest_wait(metadata)).await;
        payload.expires = self.now().saturating_add(self.ticket_seconds);
        let token = write_ticket(&self.sealer, &payload);
        let resolved = Resolved {
            schema: Arc::clone(asker.schema()),
            tickets: vec![token.clone()],
            expires: Some(payload.expires),
            app_metadata: asker.app_metadata().clone(),
        };
        match standing {
            Standing::Ready => {
                let info = self.info_of(descriptor, resolved)?;
                asker.answered();
                Ok(complete(info))
            }
            Standing::Working(progress) => {
                let token = FlightDescriptor::new_cmd(token.ticket);
                // No rows can be fetched yet; the token names the query, so that it can be cancelled.
                let mut info = self.info_of(token.clone(), resolved)?;
                info.endpoint.clear();
                let mut polled = PollInfo {
                    info: Some(info),
                    flight_descriptor: Some(token),
                    progress: Some(progress),
                    expiration_time: None,
                };
                let idle = i64::try_from(self.started.patience().as_secs()).unwrap_or(i64::MAX);
                polled.expiration_time.get_or_insert_default().seconds =
                    self.now().saturating_add(idle);
                asker.answered();
                Ok(polled)
            }
            Standing::Failed(status) => {
                self.started.remove(&payload.query_id);
                Err(status)
            }
            Standing::Lost => {
                self.started.remove(&payload.query_id);
                Err(self.teller.internal("the query stopped unexpectedly"))
            }
        }
    }

    /// The started query of a ticket; it is started when it is not there.
    async fn ask(&self, visitor: &Visitor, payload: &TicketPayload) -> Result<Asker, Status> {
        let query = &payload.query_id;
        if self.running.is_cancelled(query) {
            return Err(Stop::Cancelled.status());
        }
        if let Some(asker) = self.started.ask(query) {
            return Ok(asker);
        }
        let run = Box::pin(self.run_ticket(visitor, payload)).await?;
        let asker = self.started.enter(
            query.clone(),
            started::Start {
                outgoing: run.outgoing,
                progress: run.progress,
                session: visitor.session.clone(),
                schema: run.schema,
                app_metadata: run.app_metadata,
            },
        );
        // It may have been stopped on the way.
        if self.closing.load(Ordering::Relaxed) {
            self.started.drain();
        }
        if self.running.is_cancelled(query) {
            self.running.cancel(query);
        }
        Ok(asker)
    }

    fn schema_bytes(&self, schema: &Schema) -> Result<Bytes, Status> {
        schema_bytes(schema).map_err(|error| self.library_error(&error.into()))
    }

    async fn create_statement(
        &self,
        visitor: &Visitor,
        request: ActionCreatePreparedStatementRequest,
    ) -> Result<PreparedStatementResult, Status> {
        check_transaction(request.transaction_id.as_ref())?;
        let (schema, parameters) = match self.said(visitor, &request.query)? {
            Said::Change(_) => (None, Schema::empty()),
            Said::Write => {
                let (_, change) = self.plan_change(visitor, &request.query).await?;
                (None, Self::change_parameters(&change))
            }
            Said::Query(sql) => {
                let planned = self.prepare(visitor, &sql, None).await;
                let (_, prepared) = self.recorded(visitor, &sql, planned)?;
                let wire = Wire::of(prepared.schema(), visitor.settings.profile);
                (Some(wire), parameter_schema(&prepared))
            }
        };
        let payload = StatementPayload {
            holder: Some(Holder::of(&visitor.principal)),
            sql: request.query,
            parameters: None,
            parameter_count: u32::try_from(parameters.fields().len()).unwrap_or(u32::MAX),
            statement_id: self.ids.next(),
        };
        Ok(PreparedStatementResult {
            prepared_statement_handle: write_handle(&self.sealer, &payload),
            dataset_schema: match &schema {
                Some(wire) => self.schema_bytes(wire.schema())?,
                None => self.schema_bytes(&Schema::empty())?,
            },
            parameter_schema: self.schema_bytes(&parameters)?,
            is_update: Some(schema.is_none()),
        })
    }

    async fn bind_statement(
        &self,
        visitor: &Visitor,
        query: CommandPreparedStatementQuery,
        first: FlightData,
        rest: Streaming<FlightData>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let handle = query.prepared_statement_handle;
        let mut statement = read_handle(&self.sealer, &handle, &visitor.principal)?;
        let Some(parameters) = Parameters::receive(first, rest).await? else {
            return Ok(DoPutPreparedStatementResult {
                prepared_statement_handle: Some(handle),
            });
        };
        check_width(
            &parameters,
            usize::try_from(statement.parameter_count).unwrap_or(usize::MAX),
        )?;
        // Values that cannot be bound are refused now, not when the query runs.
        parameters.rows()?;
        let bytes = parameters.to_bytes()?;
        self.bindings.keep(&statement.statement_id, bytes.clone());
        statement.parameters = Some(bytes);
        let handle = write_handle(&self.sealer, &statement);
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(handle),
        })
    }

    /// Text sent as an update: it changes the session or a table, or the engine says why it changes
    /// nothing, or it is a query and belongs elsewhere.
    async fn update(
        &self,
        visitor: &Visitor,
        sql: &str,
        parameters: Option<Parameters>,
    ) -> Result<Bytes, Status> {
        let query = match self.said(visitor, sql)? {
            Said::Change(command) => {
                self.change(visitor, sql, command)?;
                return Ok(update_result(0));
            }
            Said::Write => {
                let changed = self.write(visitor, sql, parameters).await?;
                return Ok(update_result(changed));
            }
            Said::Query(query) => query,
        };
        let prepared = self.prepare(visitor, &query, None).await;
        self.recorded(visitor, sql, prepared)?;
        Err(Status::invalid_argument(
            "the statement returns rows and changes nothing; send it as a query",
        ))
    }

    async fn put(
        &self,
        metadata: &MetadataMap,
        mut messages: Streaming<FlightData>,
    ) -> Result<Bytes, Status> {
        let visitor = self.visitor(metadata).await?;
        let first = messages.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("the upload has no messages"))?;
        let descriptor = first.flight_descriptor.clone().ok_or_else(|| {
            Status::invalid_argument("the first message of an upload must say what it is for")
        })?;
        match read_command(&descriptor.cmd)? {
            Command::CommandPreparedStatementQuery(query) => {
                let result = self
                    .bind_statement(&visitor, query, first, messages)
                    .await?;
                Ok(result.encode_to_vec().into())
            }
            Command::CommandStatementUpdate(update) => {
                check_transaction(update.transaction_id.as_ref())?;
                self.update(&visitor, &update.query, None).await
            }
            Command::CommandPreparedStatementUpdate(update) => {
                let statement = self.read_statement(&visitor, &update.prepared_statement_handle)?;
                let bound = match Parameters::receive_many(first, messages).await? {
                    None => statement
                        .parameters
                        .map(|bytes| Parameters::from_bytes(&bytes)),
                    Some(parameters) => Some(Ok(parameters)),
                };
                let bound = bound
                    .transpose()
                    .map_err(|_| Status::invalid_argument("the bound values cannot be read"))?;
                self.update(&visitor, &statement.sql, bound).await
            }
            Command::CommandStatementIngest(command) => {
                let rows = self.ingest(&visitor, command, first, messages).await?;
                Ok(update_result(rows))
            }
            other => Err(not_a_query(&other)),
        }
    }

    /// The query that a Flight info is about, for cancelling.
    fn queries(&self, visitor: &Visitor, info: &FlightInfo) -> Result<Vec<Bytes>, Status> {
        let tickets = info
            .endpoint
            .iter()
            .filter_map(|endpoint| endpoint.ticket.as_ref());
        let mut queries = Vec::new();
        // What is told of a query that has no rows yet names it by its token.
        let token = info.flight_descriptor.as_ref().map(|token| &token.cmd);
        if let Some(Ok(Command::TicketStatementQuery(token))) = token.map(|cmd| read_command(cmd)) {
            queries.push(read_ticket(&self.sealer, &token, &visitor.principal)?.query_id);
        }
        for ticket in tickets {
            if let Command::TicketStatementQuery(ticket) = read_command(&ticket.ticket)? {
                queries.push(read_ticket(&self.sealer, &ticket, &visitor.principal)?.query_id);
            }
        }
        Ok(queries)
    }

    fn cancel(&self, visitor: &Visitor, info: Option<&FlightInfo>) -> Result<CancelStatus, Status> {
        let info = info.ok_or_else(|| Status::invalid_argument("no query to cancel was named"))?;
        let queries = self.queries(visitor, info)?;
        if queries.is_empty() {
            // An answer about the catalogue is complete when it begins.
            return Ok(CancelStatus::NotCancellable);
        }
        for query in &queries {
            self.running.cancel(query);
            self.started.remove(query);
        }
        Ok(CancelStatus::Cancelled)
    }

    fn renew(
        &self,
        visitor: &Visitor,
        request: RenewFlightEndpointRequest,
    ) -> Result<FlightEndpoint, Status> {
        let ticket = request.endpoint.and_then(|endpoint| endpoint.ticket);
        let ticket = ticket.ok_or_else(|| Status::invalid_argument("no endpoint was named"))?;
        let Command::TicketStatementQuery(inside) = read_command(&ticket.ticket)? else {
            return Ok(endpoint(ticket, None));
        };
        let mut payload = self.good_ticket(visitor, &inside)?;
        payload.expires = self.now().saturating_add(self.ticket_seconds);
        Ok(endpoint(
            write_ticket(&self.sealer, &payload),
            Some(payload.expires),
        ))
    }

    fn set_options(
        &self,
        visitor: &Visitor,
        request: SetSessionOptionsRequest,
    ) -> SetSessionOptionsResult {
        if let Some(session) = &visitor.session {
            let (result, cookie) = self.sessions.change(session, self.now(), |settings| {
                session::set_options(request, settings)
            });
            cookie::set(&cookie, &visitor.principal, &self.sealer);
            return result;
        }
        // Drivers set options to what they are when they connect; that needs no session.
        let mut changed = visitor.settings.clone();
        let result = session::set_options(request.clone(), &mut changed);
        if changed == visitor.settings {
            result
        } else {
            session::none_set(request)
        }
    }

    async fn act(&self, metadata: &MetadataMap, action: Action) -> Result<Option<Bytes>, Status> {
        let visitor = self.visitor(metadata).await?;
        let body = action.body;
        let answer = match action.r#type.as_str() {
            "CreatePreparedStatement" => {
                let request: ActionCreatePreparedStatementRequest = unpack(&body)?;
                let result = self.create_statement(&visitor, request).await?;
                let type_url = PreparedStatementResult::TYPE_URL.to_owned();
                Any {
                    type_url,
                    value: result.encode_to_vec().into(),
                }
                .encode_to_vec()
            }
            "ClosePreparedStatement" => {
                let request: ActionClosePreparedStatementRequest = unpack(&body)?;
                let handle = request.prepared_statement_handle;
                let statement = read_handle(&self.sealer, &handle, &visitor.principal)?;
                self.bindings.forget(&statement.statement_id);
                return Ok(None);
            }
            "CancelFlightInfo" => {
                let request: CancelFlightInfoRequest = decode(&body)?;
                let status = self.cancel(&visitor, request.info.as_ref())?;
                CancelFlightInfoResult {
                    status: status.into(),
                }
                .encode_to_vec()
            }
            "CancelQuery" => {
                let request: ActionCancelQueryRequest = unpack(&body)?;
                let info: FlightInfo = decode(&request.info)?;
                let status = self.cancel(&visitor, Some(&info))?;
                // The two enumerations have the same numbers.
                ActionCancelQueryResult {
                    result: status.into(),
                }
                .as_any()
                .encode_to_vec()
            }
            "RenewFlightEndpoint" => self.renew(&visitor, decode(&body)?)?.encode_to_vec(),
            "SetSessionOptions" => {
                let request: SetSessionOptionsRequest = decode(&body)?;
                self.set_options(&visitor, request).encode_to_vec()
            }
            "GetSessionOptions" => session::options(&visitor.settings).encode_to_vec(),
            "CloseSession" => {
                if let Some(session) = &visitor.session {
                    self.started.close(session);
                    self.sessions.close(session);
                    self.journal.end_session(&session.name());
                    cookie::forget();
                }
                CloseSessionResult {
                    status: CloseStatus::Closed.into(),
                }
                .encode_to_vec()
            }
            "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
                return Err(Status::unimplemented(
                    "there are no transactions: each statement sees one state of the tables, and one that \
                     changes a table changes it whole or not at all",
                ));
            }
            "CreatePreparedSubstraitPlan" => return Err(no_substrait()),
            _ => {
                return Err(Status::unimplemented(
                    "the action is not known here; `ListActions` names those that are",
                ));
            }
        };
        Ok(Some(answer.into()))
    }
}

impl Observed for Door {
    fn is_ready(&self) -> bool {
        !self.closing.load(Ordering::Relaxed)
    }

    fn admits<'a>(&'a self, authorization: Option<&'a str>) -> BoxFuture<'a, bool> {
        let credentials = authorization.map_or(Credentials::None, authorized);
        async move {
            !self.metrics_guarded
                || self
                    .auth
                    .identify(credentials, None, self.now())
                    .await
                    .is_ok()
        }
        .boxed()
    }

    fn figures(&self) -> Figures {
        let (running, waiting) = self.gate.counts();
        Figures {
            totals: self.journal.totals(),
            running,
            waiting,
            sessions: self.journal.session_count(),
            memory_bytes: self.engine.memory_used(),
            memory_limit_bytes: self.engine.memory_bytes(),
            reused: self.answers.reused(),
        }
    }
}

/// The actions, with what they take and give.
const ACTIONS: [(&str, &str); 8] = [
    (
        "CreatePreparedStatement",
        "Plans a statement for later. ActionCreatePreparedStatementRequest in, \
         ActionCreatePreparedStatementResult out",
    ),
    (
        "ClosePreparedStatement",
        "Forgets a prepared statement. ActionClosePreparedStatementRequest in, nothing out",
    ),
    (
        "CancelFlightInfo",
        "Stops a query. CancelFlightInfoRequest in, CancelFlightInfoResult out",
    ),
    (
        "CancelQuery",
        "Stops a query, the older way. ActionCancelQueryRequest in, ActionCancelQueryResult out",
    ),
    (
        "RenewFlightEndpoint",
        "Gives a ticket more time. RenewFlightEndpointRequest in, FlightEndpoint out",
    ),
    (
        "SetSessionOptions",
        "Sets options of the session. SetSessionOptionsRequest in, SetSessionOptionsResult out",
    ),
    (
        "GetSessionOptions",
        "Reads the options of the session. GetSessionOptionsRequest in, GetSessionOptionsResult out",
    ),
    (
        "CloseSession",
        "Ends the session. CloseSessionRequest in, CloseSessionResult out",
    ),
];

#[tonic::async_trait]
impl FlightService for Door {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = FlightStream;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = FlightStream;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        self.call(async {
            let (metadata, _, messages) = request.into_parts();
            let token = binary_token(&metadata);
            let mut credentials = credentials(&metadata, token.as_deref());
            let payload: BasicAuth;
            if self.auth.has_users() {
                match credentials {
                    // A bearer whose session was closed renews nothing.
                    Credentials::Bearer(_) => drop(self.visitor(&metadata).await?),
                    Credentials::None => {
                        payload = first_message(messages, self.auth.missing()).await?;
                        credentials = Credentials::Password(&payload.username, &payload.password);
                    }
                    Credentials::Basic(_) | Credentials::Password(..) => {}
                }
            }
            let peer = peer::of(&metadata);
            let (caller, bearer) = self.auth.sign_in(credentials, peer, self.now()).await?;
            tracing::info!(principal = %caller.principal, "signed in");
            if let Some(session) = caller.session {
                // For clients that go on with the token that they signed in with.
                let new = Cookie::new(session);
                cookie::set(&new, &caller.principal, &self.sealer);
            }
            let header = AsciiMetadataValue::try_from(format!("Bearer {bearer}"))
                .map_err(|_| self.teller.internal("the bearer could not be written"))?;
            let payload = HandshakeResponse {
                protocol_version: 0,
                payload: bearer.into(),
            };
            let mut response = Response::new(stream::iter([Ok(payload)]).boxed());
            response.metadata_mut().insert("authorization", header);
            Ok(response)
        })
        .await
    }

    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.call(async {
            self.visitor(request.metadata()).await?;
            // Flights are made by asking for them; none wait to be found.
            Ok(Response::new(stream::empty().boxed()))
        })
        .await
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let (metadata, _, descriptor) = request.into_parts();
        self.call(async {
            Ok(Response::new(
                self.flight_info(&metadata, descriptor).await?,
            ))
        })
        .await
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let (metadata, _, descriptor) = request.into_parts();
        self.call(async {
            let polled = Box::pin(self.poll(&metadata, descriptor)).await?;
            Ok(Response::new(polled))
        })
        .await
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let (metadata, _, descriptor) = request.into_parts();
        self.call(async {
            let visitor = self.visitor(&metadata).await?;
            let resolved = self
                .resolve(&visitor, read_command(&descriptor.cmd)?, Purpose::Look)
                .await?;
            Ok(Response::new(SchemaResult {
                schema: self.schema_bytes(&resolved.schema)?,
            }))
        })
        .await
    }

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let (metadata, _, ticket) = request.into_parts();
        self.call(async {
            let visitor = self.visitor(&metadata).await?;
            let command = read_command(&ticket.ticket)?;
            Ok(Response::new(self.redeem(&visitor, command).await?))
        })
        .await
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let (metadata, _, messages) = request.into_parts();
        self.call(async {
            let app_metadata = self.put(&metadata, messages).await?;
            Ok(Response::new(
                stream::iter([Ok(PutResult { app_metadata })]).boxed(),
            ))
        })
        .await
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let (metadata, _, action) = request.into_parts();
        self.call(async {
            let body = self.act(&metadata, action).await?;
            let results = body.map(|body| Ok(ActionResult { body }));
            Ok(Response::new(stream::iter(results).boxed()))
        })
        .await
    }

    async fn list_actions(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        self.call(async {
            self.visitor(request.metadata()).await?;
            let actions = ACTIONS.map(|(name, description)| {
                Ok(ActionType {
                    r#type: name.to_owned(),
                    description: description.to_owned(),
                })
            });
            Ok(Response::new(stream::iter(actions).boxed()))
        })
        .await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        let (metadata, _, _messages) = request.into_parts();
        self.call(async {
            self.visitor(&metadata).await?;
            Err(Status::unimplemented(
                "rows are not exchanged here; send a query",
            ))
        })
        .await
    }
}

/// The same batches, taken down on their way.
fn recorded<S>(
    batches: S,
    recording: Option<Recording<Planned, Told>>,
) -> impl stream::Stream<Item = Result<RecordBatch, Status>>
where
    S: stream::Stream<Item = Result<RecordBatch, Status>> + Send + 'static,
{
    stream::unfold(
        (Box::pin(batches), recording),
        |(mut batches, mut recording)| async move {
            let next = batches.next().await;
            match (&next, &mut recording) {
                (Some(Ok(batch)), Some(taken)) => taken.add(batch),
                (Some(Err(_)), _) => recording = None,
                _ => {}
            }
            match next {
                Some(next) => Some((next, (batches, recording))),
                None => {
                    if let Some(recording) = recording {
                        recording.whole();
                    }
                    None
                }
            }
        },
    )
}

/// What a request says about its sender: the usual header first, then the older one.
fn credentials<'a>(metadata: &'a MetadataMap, older: Option<&'a str>) -> Credentials<'a> {
    let header = metadata
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    match header.map_or(Credentials::None, authorized) {
        Credentials::None => older.map_or(Credentials::None, Credentials::Bearer),
        shown => shown,
    }
}

/// What the header `Authorization` shows.
fn authorized(header: &str) -> Credentials<'_> {
    match header.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => {
            Credentials::Bearer(rest.trim())
        }
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("basic") => {
            Credentials::Basic(rest.trim())
        }
        _ => Credentials::None,
    }
}

/// The name and password in the first message of a handshake.
async fn first_message(
    mut messages: Streaming<HandshakeRequest>,
    missing: AuthError,
) -> Result<BasicAuth, Status> {
    let missing = || Status::from(missing);
    let first = tokio::time::timeout(HANDSHAKE_WAIT, messages.message()).await;
    let first = first.map_err(|_| missing())??.ok_or_else(missing)?;
    let payload = BasicAuth::decode(first.payload).map_err(|_| missing())?;
    if payload.username.is_empty() && payload.password.is_empty() {
        return Err(missing());
    }
    Ok(payload)
}

/// The header in which clients without `Authorization` return what the handshake gave them.
fn binary_token(metadata: &MetadataMap) -> Option<String> {
    let bytes = metadata.get_bin("auth-token-bin")?.to_bytes().ok()?;
    String::from_utf8(bytes.to_vec()).ok()
}

/// What the calling program says that it is, as far as it can be shown.
fn client_name(metadata: &MetadataMap) -> Option<String> {
    let name = metadata.get("user-agent")?.to_str().ok()?;
    Some(name.chars().take(MOST_CLIENT_NAME).collect())
}

/// The state of the tables as clients read it: a JSON object of the release and its tables.
fn release_json(release: &Release) -> Bytes {
    serde_json::json!({ "release": release.name, "tables": release.tables })
        .to_string()
        .into()
}

/// What is told of a query whose rows can be fetched.
fn complete(info: FlightInfo) -> PollInfo {
    PollInfo {
        info: Some(info),
        flight_descriptor: None,
        progress: Some(1.0),
        expiration_time: None,
    }
}

fn endpoint(ticket: Ticket, expires: Option<i64>) -> FlightEndpoint {
    let mut endpoint = FlightEndpoint {
        ticket: Some(ticket),
        ..FlightEndpoint::default()
    };
    if let Some(seconds) = expires {
        endpoint.expiration_time.get_or_insert_default().seconds = seconds;
    }
    endpoint
}

/// The answer to an update.
fn update_result(rows: u64) -> Bytes {
    let record_count = i64::try_from(rows).unwrap_or(i64::MAX);
    DoPutUpdateResult { record_count }.encode_to_vec().into()
}

/// The parameters of a statement, in order.
fn parameter_schema(prepared: &Prepared) -> Schema {
    fields_of(prepared.parameters())
}

fn fields_of(parameters: &[(String, DataType)]) -> Schema {
    let fields = parameters.iter().map(|(name, data_type)| {
        // A type that is not known before values come is the protocol's null type.
        Field::new(name, data_type.clone(), true)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

fn unknown_setting(name: &str, error: NotSet) -> Status {
    session::not_set(
        &format!("the setting `tietopohja.{}`", shorten(name)),
        error,
    )
}

/// As much of a name as a message needs.
fn shorten(name: &str) -> String {
    name.chars().take(64).collect()
}

fn check_transaction(id: Option<&Bytes>) -> Result<(), Status> {
    match id {
        Some(id) if !id.is_empty() => Err(Status::invalid_argument(
            "there is no such transaction: transactions do not exist",
        )),
        _ => Ok(()),
    }
}

fn check_width(parameters: &Parameters, wanted: usize) -> Result<(), Status> {
    let given = parameters.width();
    if given == wanted {
        Ok(())
    } else {
        Err(Status::invalid_argument(format!(
            "the statement has {wanted} parameters, and {given} values were bound"
        )))
    }
}

fn not_a_query(command: &Command) -> Status {
    match command {
        Command::CommandStatementSubstraitPlan(_) => no_substrait(),
        Command::Unknown(_) => {
            Status::invalid_argument("the bytes are not a Flight SQL command or ticket")
        }
        other => {
            let name = other.type_url().rsplit('.').next().unwrap_or_default();
            Status::invalid_argument(format!("`{name}` cannot be asked for here"))
        }
    }
}

fn no_substrait() -> Status {
    Status::unimplemented("Substrait plans are not accepted; send SQL")
}

fn unpack<M: ProstMessageExt>(body: &Bytes) -> Result<M, Status> {
    let unreadable = || Status::invalid_argument("the body of the action cannot be read");
    let any = Any::decode(body.as_ref()).map_err(|_| unreadable())?;
    any.unpack().ok().flatten().ok_or_else(unreadable)
}

fn decode<M: Message + Default>(body: &Bytes) -> Result<M, Status> {
    M::decode(body.as_ref())
        .map_err(|_| Status::invalid_argument("the body of the action cannot be read"))
}
