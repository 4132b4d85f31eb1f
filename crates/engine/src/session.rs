//! One principal's way to the tables: prepare a statement, run it, list what is there.
//!
//! A session is cheap: make one for each request. It sees every table at the version of its first
//! use, so several statements of one session agree with each other; a new session sees what has
//! landed since. Dropping a result stream stops its query.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::CatalogProvider;
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::execute_stream;
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::resolve::resolve_table_references;
use futures::TryStreamExt;
use tietopohja_domain::Timestamp;
use tietopohja_policy::{INFORMATION_SCHEMA, Principal, sees_measurements, visible_schemas};
use tokio::time::timeout_at;

use crate::catalog::{OneCatalog, PrincipalCatalog, Resolver};
use crate::depth::refuse_deep;
use crate::error::{EngineError, Result};
use crate::keys::Keys;
use crate::memory::QueryMemory;
use crate::model::RelationName;
use crate::parts;
use crate::placeholder;
use crate::plain::{Deadline, Shown, guard, plain_schema, plain_type};
use crate::progress::QueryProgress;
use crate::release::{Release, Versions};
use crate::show::About;
use crate::statement::{self, StatementKind};

/// Deepest nesting of expressions in a statement of a client.
const RECURSION_LIMIT: usize = 64;

/// A principal's session.
pub struct Session {
    principal: Principal,
    /// Runs statements; each time with a moment of its own.
    context: SessionContext,
    /// Plans them. It is the state of the context, at hand without another copy.
    planning: SessionState,
    catalog: Arc<PrincipalCatalog>,
    timeout: Option<Duration>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// A statement that was parsed, checked and planned, and has not run.
#[derive(Debug, Clone)]
pub struct Prepared {
    sql: String,
    plan: LogicalPlan,
    kind: StatementKind,
    schema: SchemaRef,
    parameters: Vec<(String, DataType)>,
    /// The statement itself, when it must be planned anew with the types of its values.
    untyped: Option<Parsed>,
}

impl Prepared {
    /// The text as it was given.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// The columns of the result. A column whose type depends on an untyped parameter is `Null`
    /// until values are bound.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Name and type of each parameter: positional ones (`$1`, or `?` in order) first, then named
    /// ones (`$name`) in name order. A parameter whose type the statement does not tell is `Null`.
    pub fn parameters(&self) -> &[(String, DataType)] {
        &self.parameters
    }
}

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableKind {
    /// Rows at rest.
    Table,
    /// A query with a name.
    View,
    /// A description of the other tables.
    System,
}

impl TableKind {
    /// The word that catalogs of databases use.
    pub fn as_str(self) -> &'static str {
        match self {
            TableKind::Table => "TABLE",
            TableKind::View => "VIEW",
            TableKind::System => "SYSTEM TABLE",
        }
    }
}

/// A table that the principal can name.
#[derive(Debug, Clone)]
pub struct TableInfo {
    /// Its schema.
    pub schema: String,
    /// Its name in the schema.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// Its columns as a result would show them.
    pub columns: SchemaRef,
    /// What one row is, in words.
    pub comment: Option<String>,
    /// What a column is, in words, by its name.
    pub column_comments: BTreeMap<String, String>,
    /// The keys that the principal may know of.
    pub keys: Keys,
    /// The text of a view; none where it names what the principal may not.
    pub definition: Option<String>,
}

/// What a session is opened with.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Longest time that one statement may run, planning included. The engine's own limit holds too.
    pub timeout: Option<Duration>,
    /// The schema of names without one. Default: `published`.
    pub schema: Option<String>,
    /// The moment whose state of the tables is seen. Default: now.
    pub as_of: Option<Timestamp>,
    /// Versions of tables, those of an earlier session; they win over the moment.
    pub versions: Option<Arc<Versions>>,
}

impl Session {
    pub(crate) fn open(
        resolver: Arc<Resolver>,
        principal: Principal,
        timeout: Option<Duration>,
        schema: Option<&str>,
    ) -> Self {
        let catalog = Arc::new(PrincipalCatalog::new(
            Arc::clone(&resolver),
            principal.clone(),
        ));
        // A copy, because a builder would put every function into its place anew.
        let mut planning = resolver.warehouse().template.clone();
        planning.register_catalog_list(Arc::new(OneCatalog::new(Arc::clone(&catalog) as _)));
        if let Some(schema) = schema {
            let names = &mut planning.config_mut().options_mut().catalog;
            schema.clone_into(&mut names.default_schema);
        }
        Self {
            principal,
            context: context(planning.clone()),
            planning,
            catalog,
            timeout,
        }
    }

    /// Whether all tables that this session has used were seen in one state: none has changed since
    /// the first of them was looked at. If one has, open another session and plan again.
    ///
    /// # Errors
    /// [`EngineError::Lake`] when a table cannot be looked at.
    pub async fn sees_one_state(&self) -> Result<bool> {
        self.catalog.resolver().is_one_state().await
    }

    /// Whether every table that this session has used is still as it was seen.
    ///
    /// # Errors
    /// [`EngineError::Lake`] when a table cannot be looked at.
    pub async fn is_current(&self) -> Result<bool> {
        self.catalog.resolver().is_newest().await
    }

    /// Whether a statement that this session prepared gives the same rows whenever it runs over the same
    /// versions of its tables: it shows rows, asks for neither the moment nor chance, and reads nothing
    /// but what commits change. Rows without an order may come in another one.
    pub fn is_repeatable(&self, prepared: &Prepared) -> bool {
        prepared.kind == StatementKind::Rows
            && prepared.parameters.is_empty()
            && self.default_schema() != INFORMATION_SCHEMA
            && self.catalog.resolver().is_of_versions()
            && is_immutable(&prepared.plan)
    }

    /// In how many parts a prepared statement can be computed, of so many that are wanted. It gives the rows of
    /// all its parts, each once; 1 when it cannot be divided.
    pub fn parts(&self, prepared: &Prepared, wanted: usize) -> usize {
        match self.is_repeatable(prepared) {
            true => parts::parts(&prepared.plan, wanted),
            false => 1,
        }
    }

    /// A part of a statement, numbered from 0. It is the same in every session that sees the same versions of
    /// the tables. `None` when the statement has no such part.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the part cannot be planned.
    pub fn part(&self, prepared: &Prepared, part: usize, of: usize) -> Result<Option<Prepared>> {
        if !self.is_repeatable(prepared) {
            return Ok(None);
        }
        let plan = parts::part(&prepared.plan, part, of)?;
        Ok(plan.map(|plan| Prepared {
            plan,
            ..prepared.clone()
        }))
    }

    /// The tables that a statement names, as `schema.table`, in order; those that this session has found
    /// when it planned the statement.
    pub fn tables_named(&self, sql: &str) -> Vec<String> {
        if refuse_deep(sql).is_err() {
            return Vec::new();
        }
        let Ok(parsed) = statement::parse(sql, RECURSION_LIMIT) else {
            return Vec::new();
        };
        let Ok((tables, _)) = resolve_table_references(&parsed.tree, true) else {
            return Vec::new();
        };
        let default = &self.planning.config_options().catalog.default_schema;
        let names = tables.iter().map(|table| {
            let schema = table.schema().unwrap_or(default);
            RelationName::new(schema, table.table())
        });
        let found: BTreeSet<String> = names
            .filter(|name| self.catalog.resolver().has_seen(name))
            .map(|name| name.to_string())
            .collect();
        found.into_iter().collect()
    }

    /// The versions of the tables that this session has used.
    pub fn versions(&self) -> Versions {
        self.catalog.resolver().versions()
    }

    /// The state of the tables that this session sees, as its principal may know it.
    pub fn release(&self) -> Release {
        self.catalog.release()
    }

    /// Whether the principal can name a schema.
    pub fn has_schema(&self, schema: &str) -> bool {
        schema == INFORMATION_SCHEMA || visible_schemas(self.principal.role()).contains(&schema)
    }

    pub(crate) fn resolver(&self) -> &Arc<Resolver> {
        self.catalog.resolver()
    }

    /// The schema of names without one.
    pub(crate) fn default_schema(&self) -> String {
        let options = self.planning.config_options();
        options.catalog.default_schema.clone()
    }

    /// Longest time that one statement may run.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// In whose name this session runs.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Parses, checks and plans a statement, and does not run it.
    ///
    /// # Errors
    /// [`EngineError::UserSql`] when the text is not one allowed statement or names something that
    /// does not exist for the principal; [`EngineError::Denied`] for `EXPLAIN ANALYZE` by a role
    /// that may not see measurements.
    pub async fn prepare(&self, sql: &str) -> Result<Prepared> {
        refuse_deep(sql)?;
        let parsed = statement::parse(sql, RECURSION_LIMIT)?;
        if parsed.kind == StatementKind::MeasuredPlan && !sees_measurements(self.principal.role()) {
            return Err(EngineError::Denied {
                message: format!(
                    "`EXPLAIN ANALYZE` counts rows that a query leaves out, which the role {} may not \
                     see; use `EXPLAIN`",
                    self.principal.role()
                ),
            });
        }
        Box::pin(self.refuse_unknown(&parsed.about)).await?;
        let (plan, untyped) = match Box::pin(self.plan(parsed.tree)).await {
            Ok(plan) => (plan, None),
            // The planner's complaint stands, unless it only lacks the types of parameters.
            Err(error) => match Box::pin(self.plan_with_guesses(sql)).await {
                Some((plan, tree)) => (plan, Some(tree)),
                None => return Err(error),
            },
        };
        only_reads(&plan)?;
        let mut parameters = parameters(&plan)?;
        if untyped.is_some() {
            parameters
                .iter_mut()
                .for_each(|(_, data_type)| *data_type = DataType::Null);
        }
        let schema = self.result_schema(&plan, parsed.kind, parameters.is_empty())?;
        Ok(Prepared {
            sql: sql.to_owned(),
            plan,
            kind: parsed.kind,
            schema,
            parameters,
            untyped,
        })
    }

    /// A question about something that does not exist for the principal is answered as a query of it.
    async fn refuse_unknown(&self, about: &About) -> Result<()> {
        match about {
            About::Nothing => Ok(()),
            About::Table(name) => {
                let query = statement::parse(&format!("SELECT * FROM {name}"), RECURSION_LIMIT)?;
                self.plan(query.tree).await.map(drop)
            }
            About::Schema(name) => {
                let mut there = self.catalog.schema_names();
                there.push(INFORMATION_SCHEMA.to_owned());
                if there.contains(name) {
                    return Ok(());
                }
                Err(EngineError::UserSql {
                    message: format!("schema `{name}` not found; `SHOW SCHEMAS` lists them"),
                })
            }
        }
    }

    /// A plan with the first guess that fits, for a statement that cannot be planned without types.
    async fn plan_with_guesses(&self, sql: &str) -> Option<(LogicalPlan, Parsed)> {
        if !sql.contains(['?', '$']) {
            return None;
        }
        let tree = statement::parse(sql, RECURSION_LIMIT).ok()?.tree;
        let names = placeholder::names(&tree);
        let count = names.iter().filter_map(|name| position(name)).max()?;
        if count > MOST_PARAMETERS {
            return None;
        }
        for guess in placeholder::GUESSES {
            let typed = placeholder::with_types(&tree, &vec![guess; count])?;
            if let Ok(plan) = self.plan(typed).await {
                return Some((placeholder::inner(plan), tree));
            }
        }
        None
    }

    /// The same statement with values in place of its parameters, in their order; it has none left,
    /// and its columns are known exactly. Nothing runs.
    ///
    /// # Errors
    /// [`EngineError::UserSql`] for a wrong number or type of values.
    pub async fn bind(&self, prepared: &Prepared, values: Vec<ScalarValue>) -> Result<Prepared> {
        let plan = self.bound_plan(prepared, values).await?;
        let schema = self.result_schema(&plan, prepared.kind, true)?;
        let (sql, kind) = (prepared.sql.clone(), prepared.kind);
        Ok(Prepared {
            sql,
            plan,
            kind,
            schema,
            parameters: Vec::new(),
            untyped: None,
        })
    }

    async fn bound_plan(
        &self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
    ) -> Result<LogicalPlan> {
        let Some(tree) = &prepared.untyped else {
            return bind(prepared.plan.clone(), &prepared.parameters, values);
        };
        let types: Vec<DataType> = values.iter().map(ScalarValue::data_type).collect();
        let typed = placeholder::with_types(tree, &types).ok_or_else(|| EngineError::UserSql {
            message: "a value has a type that a parameter cannot have here; cast the parameter in \
                      the statement"
                .to_owned(),
        })?;
        let plan = placeholder::inner(Box::pin(self.plan(typed)).await?);
        only_reads(&plan)?;
        let parameters = parameters(&plan)?;
        bind(plan, &parameters, values)
    }

    /// The columns of the result. The planner's own answer is not final: a union has the types of
    /// its first part until the analyzer finds the common ones.
    fn result_schema(
        &self,
        plan: &LogicalPlan,
        kind: StatementKind,
        complete: bool,
    ) -> Result<SchemaRef> {
        if kind != StatementKind::Rows {
            return Ok(plain_schema(plan.schema().as_arrow()));
        }
        let state = &self.planning;
        let analyzed =
            state
                .analyzer()
                .execute_and_check(plan.clone(), state.config_options(), |_, _| {});
        match analyzed {
            Ok(analyzed) => Ok(plain_schema(analyzed.schema().as_arrow())),
            Err(error) if complete => Err(error.into()),
            // Some types cannot be found before the values are there.
            Err(_) => Ok(plain_schema(plan.schema().as_arrow())),
        }
    }

    pub(crate) async fn plan(&self, tree: Parsed) -> Result<LogicalPlan> {
        let state = &self.planning;
        match self.timeout.map(Deadline::after) {
            None => Ok(state.statement_to_plan(tree).await?),
            Some(deadline) => {
                match timeout_at(deadline.at(), state.statement_to_plan(tree)).await {
                    Ok(plan) => Ok(plan?),
                    Err(_) => Err(deadline.error()),
                }
            }
        }
    }

    /// Runs a prepared statement with values in the order of [`Prepared::parameters`].
    ///
    /// The stream's errors carry an [`EngineError`]; `EngineError::from` gives it back. Dropping the
    /// stream stops the query.
    ///
    /// # Errors
    /// [`EngineError::UserSql`] for a wrong number or type of values; [`EngineError::Resource`] when
    /// the query does not fit in memory from the start.
    pub async fn execute(
        &self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
    ) -> Result<SendableRecordBatchStream> {
        self.execute_within(prepared, values, None, None).await
    }

    /// The same within the memory of one query, while `progress` tells how far it has come.
    ///
    /// # Errors
    /// As [`Session::execute`].
    pub async fn execute_within(
        &self,
        prepared: &Prepared,
        values: Vec<ScalarValue>,
        memory: Option<&QueryMemory>,
        progress: Option<&QueryProgress>,
    ) -> Result<SendableRecordBatchStream> {
        let deadline = self.timeout.map(Deadline::after);
        let plan = self.bound_plan(prepared, values).await?;
        let shown = match prepared.kind {
            StatementKind::Rows => Shown::Rows,
            StatementKind::Plan | StatementKind::MeasuredPlan => Shown::Plans,
        };
        let started = Box::pin(self.start(plan, memory, progress));
        let stream = match deadline {
            None => started.await?,
            Some(deadline) => match timeout_at(deadline.at(), started).await {
                Ok(stream) => stream?,
                Err(_) => return Err(deadline.error()),
            },
        };
        Ok(guard(stream, shown, deadline))
    }

    pub(crate) async fn start(
        &self,
        plan: LogicalPlan,
        memory: Option<&QueryMemory>,
        progress: Option<&QueryProgress>,
    ) -> Result<SendableRecordBatchStream> {
        let frame = self.context.execute_logical_plan(plan).await?;
        let mut task = frame.task_ctx();
        if let Some(memory) = memory {
            task = task.with_runtime(Arc::clone(memory.runtime()));
        }
        let physical = frame.create_physical_plan().await?;
        if let Some(progress) = progress {
            progress.watch(&physical);
        }
        Ok(execute_stream(physical, Arc::new(task))?)
    }

    /// Prepares and runs a statement without parameters.
    ///
    /// # Errors
    /// As [`Session::prepare`] and [`Session::execute`].
    pub async fn query(&self, sql: &str) -> Result<SendableRecordBatchStream> {
        let prepared = self.prepare(sql).await?;
        self.execute(&prepared, Vec::new()).await
    }

    /// Runs a statement to its end and keeps its rows. For results that are known to be small.
    ///
    /// # Errors
    /// As [`Session::query`], and what goes wrong while running.
    pub async fn collect(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        Ok(self.query(sql).await?.try_collect().await?)
    }

    /// The tables this principal can name, in order of schema and name, those of
    /// `information_schema` among them. The list is a few seconds old at most. A relation whose file
    /// has a problem is left out; the engine's problems tell of it.
    ///
    /// # Errors
    /// [`EngineError::Lake`] when the lake cannot be listed.
    pub async fn tables(&self) -> Result<Vec<TableInfo>> {
        self.catalog.listed().await
    }
}

/// The one place where a session context is made.
#[expect(
    clippy::disallowed_methods,
    reason = "the factory that the ban sends everyone to"
)]
fn context(state: SessionState) -> SessionContext {
    SessionContext::new_with_state(state)
}

/// A finished plan may not change anything, whatever its text looked like.
pub(crate) fn only_reads(plan: &LogicalPlan) -> Result<()> {
    let reading = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    reading.verify_plan(plan).map_err(|_| EngineError::UserSql {
        message: "only queries are allowed here: use SELECT, EXPLAIN, SHOW or DESCRIBE".to_owned(),
    })
}

/// The parameters of a plan in the order in which values are given.
pub(crate) fn parameters(plan: &LogicalPlan) -> Result<Vec<(String, DataType)>> {
    let types = plan.get_parameter_types()?;
    let type_of = |name: &String| {
        let known = types.get(name).and_then(Option::as_ref);
        known.map_or(DataType::Null, plain_type)
    };
    let names: BTreeSet<String> = plan.get_parameter_names()?.into_iter().collect();
    let positions = names
        .iter()
        .filter_map(|name| position(name))
        .max()
        .unwrap_or(0);
    if positions > MOST_PARAMETERS {
        return Err(EngineError::UserSql {
            message: format!("a statement has at most {MOST_PARAMETERS} parameters"),
        });
    }
    let positional = (1..=positions).map(|at| format!("${at}"));
    let named = names
        .iter()
        .filter(|name| position(name).is_none())
        .cloned();
    Ok(positional
        .chain(named)
        .map(|name| (name.clone(), type_of(&name)))
        .collect())
}

/// More than any client sends, and little enough to list.
const MOST_PARAMETERS: usize = 10_000;

fn position(name: &str) -> Option<usize> {
    name.strip_prefix('$')?.parse().ok()
}

/// The plan with values in place of its parameters.
pub(crate) fn bind(
    plan: LogicalPlan,
    parameters: &[(String, DataType)],
    values: Vec<ScalarValue>,
) -> Result<LogicalPlan> {
    let expected = parameters.len();
    if values.len() != expected {
        return Err(EngineError::UserSql {
            message: format!(
                "the statement has {expected} parameters, and {} values were given",
                values.len()
            ),
        });
    }
    if expected == 0 {
        return Ok(plan);
    }
    let mut bound = Vec::with_capacity(expected);
    for ((name, data_type), value) in parameters.iter().zip(values) {
        let value = fit(name, value, data_type)?;
        bound.push((name.trim_start_matches('$').to_owned(), value));
    }
    Ok(plan.with_param_values(ParamValues::from(bound))?)
}

/// The value in the type that the statement expects, if nothing is lost on the way. A number that
/// would change (2.5 for a whole number) stays what it is, and the analyzer finds a common type:
/// `column = 2.5` must not be asked as `column = 2`.
pub(crate) fn fit(name: &str, value: ScalarValue, wanted: &DataType) -> Result<ScalarValue> {
    let own = value.data_type();
    if value.is_null() {
        return ScalarValue::try_new_null(wanted).or(Ok(value));
    }
    if *wanted == DataType::Null || own == *wanted {
        return Ok(value);
    }
    // Text has many spellings of one value, so that the way back would prove nothing.
    let text = matches!(
        own,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    match value.cast_to(wanted) {
        Ok(there) if text => Ok(there),
        Err(_) if text => Err(EngineError::UserSql {
            message: format!("the value of parameter `{name}` is not a {wanted}"),
        }),
        Ok(there) if there.cast_to(&own).is_ok_and(|back| back == value) => Ok(there),
        Ok(_) | Err(_) => Ok(value),
    }
}

/// Whether no expression of a plan depends on anything but its arguments, and no table on what there is.
fn is_immutable(plan: &LogicalPlan) -> bool {
    let depends = |expression: &Expr| {
        let volatility = match expression {
            Expr::ScalarFunction(call) => call.func.signature().volatility,
            Expr::AggregateFunction(call) => call.func.signature().volatility,
            _ => Volatility::Immutable,
        };
        Ok(volatility != Volatility::Immutable)
    };
    let mut immutable = true;
    let looked = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expression| {
            if expression.exists(depends)? {
                immutable = false;
                return Ok(TreeNodeRecursion::Stop);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        if let LogicalPlan::TableScan(scan) = node {
            immutable &= scan.table_name.schema() != Some(INFORMATION_SCHEMA);
            if let Some(inner) = scan.source.get_logical_plan() {
                immutable &= is_immutable(&inner);
            }
        }
        Ok(match immutable {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    });
    immutable && looked.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_becomes_the_expected_type_only_without_loss() {
        let text = |value: &str| ScalarValue::Utf8(Some(value.to_owned()));
        let cases = [
            (
                ScalarValue::Int32(Some(3)),
                DataType::Int64,
                ScalarValue::Int64(Some(3)),
            ),
            (
                ScalarValue::Float64(Some(3.0)),
                DataType::Int64,
                ScalarValue::Int64(Some(3)),
            ),
            (
                ScalarValue::Float64(Some(2.5)),
                DataType::Int64,
                ScalarValue::Float64(Some(2.5)),
            ),
            (
                ScalarValue::Int32(Some(300)),
                DataType::Int8,
                ScalarValue::Int32(Some(300)),
            ),
            (
                text("2024-02-29"),
                DataType::Date32,
                ScalarValue::Date32(Some(19_782)),
            ),
            (text("12"), DataType::Int64, ScalarValue::Int64(Some(12))),
            (
                ScalarValue::Int32(Some(3)),
                DataType::Null,
                ScalarValue::Int32(Some(3)),
            ),
            (ScalarValue::Null, DataType::Int64, ScalarValue::Int64(None)),
            (
                ScalarValue::Date32(Some(1)),
                DataType::Utf8,
                text("1970-01-02"),
            ),
        ];
        for (value, wanted, fitted) in cases {
            let label = format!("{value:?} as {wanted}");
            assert_eq!(fit("$1", value, &wanted).unwrap(), fitted, "{label}");
        }
        let refused = fit("$1", text("soon"), &DataType::Date32).unwrap_err();
        assert!(!refused.to_string().contains("soon"), "{refused}");
    }
}
