//! What a name means, and for whom.
//!
//! A [`Resolver`] turns `schema.name` into something that can be scanned: a table of the lake at
//! the version the session saw first, a relation of `sql/` planned on demand, or an empty table
//! with the right columns where nothing has landed yet. It knows every schema. What a principal can
//! name is another matter: a [`PrincipalCatalog`] shows only what policy allows, and everything else
//! does not exist. A view may read what its reader may not name, because the view is planned by the
//! resolver's own session and handed out as a finished plan.
//!
//! What there is to name is listed in `listing.rs`, once for everybody, and cut for each principal;
//! `information_schema` is made of that list, so it cannot tell more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::view::ViewTable;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col, lit};
use datafusion::optimizer::Analyzer;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::physical_plan::collect;
use datafusion::prelude::Expr;
use futures::future::try_join_all;
use tietopohja_domain::Problem;
use tietopohja_lake::{Lake, LakeError, TableName, WORKSPACES, Workspace};
use tietopohja_policy::{
    INFORMATION_SCHEMA, Principal, WORKSPACE, decide, has_workspace, hidden_columns, own_rows_by,
    visible_schemas,
};

use crate::CATALOG;
use crate::calc::FactFiles;
use crate::codes::CodeTable;
use crate::error::{EngineError, Result};
use crate::information_schema::{self, InformationSchema};
use crate::keys::{Declared, Described};
use crate::listing::{self, Listing};
use crate::live::{LIVE_SCHEMA, LiveTable};
use crate::model::{Models, RECURSION_LIMIT, RelationName};
use crate::plain::plain_schema;
use crate::release::{Release, Versions};
use crate::session::TableInfo;
use crate::statement;
use crate::tables::{self, INDICATOR_NO};
use crate::workspace;

/// The relation of code lists.
const CODES: (&str, &str) = ("reference", "code");

/// What does not change between sessions of one engine.
pub(crate) struct Warehouse {
    pub(crate) lake: Arc<Lake>,
    pub(crate) models: Models,
    /// Raw tables by contract, before anything has landed.
    pub(crate) raw: BTreeMap<String, SchemaRef>,
    /// Reference tables that a file fills, before they are loaded, with what one row is.
    pub(crate) reference: BTreeMap<String, (SchemaRef, String)>,
    /// Keys and columns of tables as `reference/tables.toml` and the contracts describe them.
    pub(crate) declared: BTreeMap<RelationName, Declared>,
    /// What there is to name, as it was found not long ago.
    pub(crate) listing: Listing,
    /// Planning and running without any catalog: functions, limits, rules.
    pub(crate) template: SessionState,
    /// The breakdown columns of components and values; known once the definitions are read.
    pub(crate) breakdowns: Mutex<Vec<String>>,
    /// Opened tables by name, the newest version only.
    pub(crate) opened: Mutex<HashMap<TableName, (i64, Arc<dyn TableProvider>)>>,
    /// Tables of the present moment, by name.
    pub(crate) live: Mutex<BTreeMap<String, Arc<LiveTable>>>,
    /// The code lists in memory, the newest version only.
    pub(crate) codes: Mutex<Option<(i64, Arc<CodeTable>)>>,
}

impl Warehouse {
    pub(crate) fn breakdowns(&self) -> Vec<String> {
        held(&self.breakdowns).clone()
    }

    /// Names that exist whatever the lake holds.
    pub(crate) fn static_names(&self, schema: &str) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = self
            .models
            .iter()
            .filter(|(name, _)| name.schema == schema)
            .map(|(name, _)| name.name.clone())
            .collect();
        match schema {
            "raw" | "reject" => names.extend(self.raw.keys().cloned()),
            "reference" => names.extend(self.reference.keys().cloned()),
            _ => {}
        }
        if schema == LIVE_SCHEMA {
            names.extend(held(&self.live).keys().cloned());
        }
        let known = tables::KNOWN_TABLES
            .iter()
            .filter(|(of, _, _)| *of == schema);
        names.extend(known.map(|(_, name, _)| (*name).to_owned()));
        names
    }

    /// A table of the present moment.
    pub(crate) fn live(&self, schema: &str, name: &str) -> Option<Arc<LiveTable>> {
        (schema == LIVE_SCHEMA).then(|| held(&self.live).get(name).cloned())?
    }

    /// What a relation with these columns says about its keys and columns.
    pub(crate) fn declared(&self, name: &RelationName, columns: &Schema) -> Declared {
        let of_engine = || tables::declared(&name.schema, &name.name, columns);
        if let Some(model) = self.models.get(name) {
            return model.declared.clone();
        }
        match self.declared.get(name) {
            None => of_engine(),
            Some(declared) => {
                let mut declared = declared.clone();
                if name.schema == "raw" {
                    // Landing puts its columns before those of the contract.
                    for (column, comment) in of_engine().comments {
                        declared.comments.entry(column).or_insert(comment);
                    }
                }
                declared
            }
        }
    }

    /// What one row of a table is, in words.
    pub(crate) fn comment(&self, schema: &str, name: &str) -> Option<String> {
        if let Some(live) = self.live(schema, name) {
            return Some(live.rows.comment().to_owned());
        }
        if let Some(grain) = self
            .models
            .get(&RelationName::new(schema, name))
            .and_then(|model| model.grain.clone())
        {
            return Some(grain);
        }
        if schema == "reference"
            && let Some((_, comment)) = self.reference.get(name)
        {
            return Some(comment.clone());
        }
        match schema {
            "raw" => Some(format!("one row per accepted row of `{name}` deliveries")),
            "reject" => Some(format!(
                "one row per quarantined row of `{name}` deliveries"
            )),
            _ => tables::KNOWN_TABLES
                .iter()
                .find(|(of, known, _)| *of == schema && *known == name)
                .map(|(_, _, comment)| (*comment).to_owned()),
        }
    }
}

/// A lock whose holder cannot have left it half-changed.
pub(crate) fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which state of the tables a session sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum StateOf {
    /// The newest of each table at its first use.
    #[default]
    Now,
    /// That of a moment, in milliseconds since 1970.
    Moment(i64),
    /// Given versions; the newest of a table of which nothing is said.
    Given(Arc<Versions>),
}

/// Names to tables, for one session: each table at the version of its first use.
pub(crate) struct Resolver {
    warehouse: Arc<Warehouse>,
    pinned: Arc<Mutex<HashMap<TableName, Option<i64>>>>,
    /// Where versions come from.
    state: StateOf,
    planned: Mutex<HashMap<RelationName, Arc<dyn TableProvider>>>,
    /// Tables of this session that stand in for those of the lake.
    instead: Mutex<HashMap<RelationName, Arc<dyn TableProvider>>>,
    /// Relations as calculation reads them, for steps that ask for that.
    coded: Mutex<HashMap<RelationName, CodedRelation>>,
}

/// A relation as calculation reads it, with the numbers of persons: a table, and where it has some, the
/// files of that table.
#[derive(Debug, Clone)]
struct CodedRelation {
    table: Arc<dyn TableProvider>,
    files: Option<FactFiles>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    pub(crate) fn new(warehouse: Arc<Warehouse>) -> Arc<Self> {
        Self::of_state(warehouse, StateOf::Now)
    }

    /// A session that sees a state of the tables.
    pub(crate) fn of_state(warehouse: Arc<Warehouse>, state: StateOf) -> Arc<Self> {
        Arc::new(Self {
            warehouse,
            state,
            pinned: Arc::default(),
            planned: Mutex::default(),
            instead: Mutex::default(),
            coded: Mutex::default(),
        })
    }

    /// A session that sees what this one sees, at the same versions. What is put into the one from
    /// now on does not reach the other.
    pub(crate) fn fork(&self) -> Arc<Self> {
        Arc::new(Self {
            warehouse: Arc::clone(&self.warehouse),
            pinned: Arc::clone(&self.pinned),
            state: self.state.clone(),
            planned: Mutex::new(held(&self.planned).clone()),
            instead: Mutex::new(held(&self.instead).clone()),
            coded: Mutex::new(held(&self.coded).clone()),
        })
    }

    /// A resolver that sees every table at the version at which this one does, and nothing put in
    /// the place of one.
    pub(crate) fn afresh(&self) -> Arc<Self> {
        let afresh = Self::of_state(Arc::clone(&self.warehouse), self.state.clone());
        held(&afresh.pinned).clone_from(&held(&self.pinned));
        afresh
    }

    pub(crate) fn warehouse(&self) -> &Arc<Warehouse> {
        &self.warehouse
    }

    /// Puts a table in the place of a table of the lake, for this session only.
    pub(crate) fn put_instead(&self, name: RelationName, table: Arc<dyn TableProvider>) {
        held(&self.instead).insert(name, table);
    }

    /// Makes the stored form of a relation known. Its rows are those of the relation.
    pub(crate) fn put_coded(
        &self,
        name: RelationName,
        table: Arc<dyn TableProvider>,
        files: Option<FactFiles>,
    ) {
        held(&self.coded).insert(name, CodedRelation { table, files });
    }

    /// A relation with the numbers of its persons, when it is stored and what is stored is up to date in
    /// this session.
    pub(crate) fn coded(&self, name: &RelationName) -> Option<Arc<dyn TableProvider>> {
        Some(Arc::clone(&held(&self.coded).get(name)?.table))
    }

    /// The files of a relation's stored form, which hold the same rows.
    pub(crate) fn coded_files(&self, name: &RelationName) -> Option<FactFiles> {
        held(&self.coded).get(name)?.files.clone()
    }

    /// Lets this session see a table at a version, whatever it saw before.
    pub(crate) fn pin(&self, name: TableName, version: i64) {
        held(&self.pinned).insert(name, Some(version));
    }

    /// The version at which this session sees a table; `None` when it does not exist.
    pub(crate) async fn version(&self, name: &TableName) -> Result<Option<i64>> {
        if let Some(pinned) = held(&self.pinned).get(name) {
            return Ok(*pinned);
        }
        let found = match &self.state {
            StateOf::Now => self.newest(name).await,
            // A workspace has no past that could be asked for.
            StateOf::Moment(_) if name.schema() == WORKSPACES => self.newest(name).await,
            StateOf::Moment(millis) => self.warehouse.lake.settled_at(name, *millis).await,
            StateOf::Given(versions) => match versions.get(name) {
                Some(version) => Ok(version),
                None => self.newest(name).await,
            },
        };
        let found = found.map_err(|error| {
            EngineError::lake(format!("the table `{name}` could not be opened"), error)
        })?;
        // Two plans may ask at once: the first answer stays.
        Ok(*held(&self.pinned).entry(name.clone()).or_insert(found))
    }

    async fn newest(&self, name: &TableName) -> Result<Option<i64>, LakeError> {
        let lake = &self.warehouse.lake;
        match name.schema() {
            WORKSPACES => Ok(lake.workspace(name).await?.version()),
            _ => lake.settled(name).await,
        }
    }

    /// The workspace in a folder, at the version at which this session sees it.
    pub(crate) async fn workspace(&self, place: &TableName) -> Result<Workspace> {
        let version = self.version(place).await?;
        let found = self.warehouse.lake.workspace_at(place, version).await;
        found
            .map_err(workspace::told)?
            .ok_or_else(|| EngineError::NotFound {
                message: "your tables have changed since, and their earlier state is not kept any \
                          more; run the query again"
                    .to_owned(),
            })
    }

    /// A table of a workspace.
    async fn workspace_table(
        &self,
        place: &TableName,
        name: &str,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let key = RelationName::new(WORKSPACE, name);
        for known in [&self.instead, &self.planned] {
            if let Some(table) = held(known).get(&key) {
                return Ok(Some(Arc::clone(table)));
            }
        }
        let workspace = self.workspace(place).await?;
        let lake = &self.warehouse.lake;
        if let Some(seen) = workspace.table(name)
            && matches!(self.state, StateOf::Given(_))
        {
            // A ticket gives no rows of a table that its owner has taken away since.
            let newest = lake.workspace(place).await.map_err(workspace::told)?;
            if newest.table(name).is_none_or(|now| now.id != seen.id) {
                return Err(workspace::told(LakeError::WorkspaceTableGone(
                    name.to_owned(),
                )));
            }
        }
        let rows = lake.workspace_rows(place, &workspace, name);
        let rows = rows.map_err(workspace::told)?;
        if let Some(table) = &rows {
            held(&self.planned).insert(key, Arc::clone(table));
        }
        Ok(rows)
    }

    /// Whether there was a moment at which every table had the version that this session sees: none
    /// has changed since the first of them was looked at. Sessions of a chosen state see that.
    pub(crate) async fn is_one_state(&self) -> Result<bool> {
        if self.state != StateOf::Now {
            return Ok(true);
        }
        if held(&self.pinned).len() < 2 {
            return Ok(true);
        }
        self.is_newest().await
    }

    /// Whether every table that this session has used is still at the version that it saw.
    pub(crate) async fn is_newest(&self) -> Result<bool> {
        let pinned = held(&self.pinned).clone();
        // Each look may be a request to a store: they go out together.
        let looks = pinned.into_iter().map(|(name, version)| async move {
            let newest = self.newest(&name).await;
            newest.map(|newest| newest == version).map_err(|error| {
                EngineError::lake(format!("the table `{name}` could not be opened"), error)
            })
        });
        let same = try_join_all(looks).await?;
        Ok(same.into_iter().all(|same| same))
    }

    /// Whether all names that were looked up mean something that only a commit can change: neither
    /// the present moment nor what somebody makes and drops.
    pub(crate) fn is_of_versions(&self) -> bool {
        let changing = [LIVE_SCHEMA, WORKSPACE];
        held(&self.instead).is_empty()
            && held(&self.planned)
                .keys()
                .all(|name| !changing.contains(&name.schema.as_str()))
    }

    /// Whether a name has been looked up, and means something.
    pub(crate) fn has_seen(&self, name: &RelationName) -> bool {
        held(&self.planned).contains_key(name)
    }

    /// The state that this session sees, of the tables that it has used.
    pub(crate) fn versions(&self) -> Versions {
        let pinned = held(&self.pinned);
        Versions::of(pinned.iter().map(|(name, version)| (name, *version)))
    }

    /// Every table with its version that this session has used.
    pub(crate) fn used_versions(&self) -> BTreeMap<String, i64> {
        held(&self.pinned)
            .iter()
            .filter_map(|(name, version)| version.map(|version| (name.to_string(), version)))
            .collect()
    }

    /// A table of the lake itself, without the view that users see over it.
    pub(crate) async fn stored(&self, name: &TableName) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(version) = self.version(name).await? else {
            return Ok(None);
        };
        if let Some((opened, table)) = held(&self.warehouse.opened).get(name)
            && *opened == version
        {
            return Ok(Some(Arc::clone(table)));
        }
        let table = self
            .warehouse
            .lake
            .provider(name, Some(version))
            .await
            .map_err(|error| {
                EngineError::lake(format!("the table `{name}` could not be opened"), error)
            })?;
        let mut opened = held(&self.warehouse.opened);
        match opened.get(name) {
            Some((newer, _)) if *newer > version => {}
            _ => {
                opened.insert(name.clone(), (version, Arc::clone(&table)));
            }
        }
        Ok(Some(table))
    }

    /// What a name means; `None` when it means nothing.
    ///
    /// # Errors
    /// The relation's file has a problem, or the lake cannot be read.
    pub(crate) async fn table(
        self: &Arc<Self>,
        schema: &str,
        name: &str,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let key = RelationName::new(schema, name);
        if let Some(table) = held(&self.instead).get(&key) {
            return Ok(Some(Arc::clone(table)));
        }
        if let Some(table) = held(&self.planned).get(&key) {
            return Ok(Some(Arc::clone(table)));
        }
        let Some(table) = Box::pin(self.look_up(&key)).await? else {
            return Ok(None);
        };
        held(&self.planned).insert(key, Arc::clone(&table));
        Ok(Some(table))
    }

    async fn look_up(
        self: &Arc<Self>,
        key: &RelationName,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        if let Some(live) = self.warehouse.live(&key.schema, &key.name) {
            return Ok(Some(live));
        }
        let model = self.warehouse.models.get(key);
        // Only a relation that is stored on purpose may hide its own text.
        if model.is_none_or(|model| model.materialise)
            && let Ok(name) = TableName::new(&key.schema, &key.name)
            && let Some(stored) = self.stored(&name).await?
        {
            if (key.schema.as_str(), key.name.as_str()) == CODES
                && let Some(version) = self.version(&name).await?
            {
                return Ok(Some(self.codes(version, stored).await?));
            }
            return self.facade(key, stored).map(Some);
        }
        if let Some(model) = model {
            if let Some(problem) = &model.problem {
                return Err(EngineError::Definitions {
                    problems: vec![problem.clone()],
                });
            }
            let plan = self
                .plan_relation(&model.sql)
                .await
                .map_err(|error| match error {
                    EngineError::UserSql { message } => EngineError::Definitions {
                        problems: vec![Problem::new(model.file.clone(), message)],
                    },
                    other => other,
                })?;
            return Ok(Some(Arc::new(ViewTable::new(
                plan,
                Some(model.sql.clone()),
            ))));
        }
        match self.empty_schema(key) {
            Some(columns) => self
                .facade(key, Arc::new(EmptyTable::new(columns)))
                .map(Some),
            None => Ok(None),
        }
    }

    /// The code lists, decoded once for each version.
    async fn codes(
        self: &Arc<Self>,
        version: i64,
        stored: Arc<dyn TableProvider>,
    ) -> Result<Arc<CodeTable>> {
        if let Some((known, codes)) = held(&self.warehouse.codes).as_ref()
            && *known == version
        {
            return Ok(Arc::clone(codes));
        }
        let schema = stored.schema();
        let state = self.inner_state();
        let scan = stored.scan(&state, None, &[], None).await?;
        let rows = collect(scan, state.task_ctx()).await?;
        let codes = Arc::new(CodeTable::new(schema, rows)?);
        let mut kept = held(&self.warehouse.codes);
        if kept.as_ref().is_none_or(|(known, _)| *known < version) {
            *kept = Some((version, Arc::clone(&codes)));
        }
        Ok(codes)
    }

    /// The columns of a table that is known but not made yet.
    fn empty_schema(&self, key: &RelationName) -> Option<SchemaRef> {
        let warehouse = &self.warehouse;
        match key.schema.as_str() {
            "raw" => warehouse.raw.get(&key.name).cloned(),
            "reject" => warehouse
                .raw
                .get(&key.name)
                .map(|_| tables::reject_schema()),
            "reference" => warehouse
                .reference
                .get(&key.name)
                .map(|(columns, _)| Arc::clone(columns)),
            schema => tables::known_schema(schema, &key.name, &warehouse.breakdowns()),
        }
    }

    /// Values are seen without their partition number.
    fn facade(
        &self,
        key: &RelationName,
        table: Arc<dyn TableProvider>,
    ) -> Result<Arc<dyn TableProvider>> {
        match (key.schema.as_str(), key.name.as_str()) {
            ("result" | "published", "indicator_value") => {
                without_columns(key, table, &[INDICATOR_NO])
            }
            _ => Ok(table),
        }
    }

    /// Plans a query in which every schema can be named.
    pub(crate) async fn plan_relation(self: &Arc<Self>, sql: &str) -> Result<LogicalPlan> {
        let parsed = statement::parse(sql, RECURSION_LIMIT)?;
        let state = self.inner_state();
        let plan = state.statement_to_plan(parsed.tree).await?;
        let coercion = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]);
        Ok(coercion.execute_and_check(plan, state.config_options(), |_, _| {})?)
    }

    /// A session state that sees everything; it never leaves this crate.
    pub(crate) fn inner_state(self: &Arc<Self>) -> SessionState {
        self.state(false)
    }

    /// The same with relations in their stored form, with the numbers of persons, where there is one.
    /// Only what the statement itself names: what a view reads has none.
    pub(crate) fn coded_state(self: &Arc<Self>) -> SessionState {
        self.state(true)
    }

    fn state(self: &Arc<Self>, coded: bool) -> SessionState {
        let catalogs = Arc::new(OneCatalog {
            catalog: Arc::new(WholeCatalog {
                resolver: Arc::clone(self),
                coded,
            }),
        });
        let mut state = self.warehouse.template.clone();
        state.register_catalog_list(catalogs);
        state
    }

    /// Every relation that can be used, with its columns and what it says of them. The others are
    /// told of elsewhere.
    pub(crate) async fn described(self: &Arc<Self>) -> BTreeMap<RelationName, Described> {
        let mut described = BTreeMap::new();
        for schema in tietopohja_policy::SCHEMAS {
            for name in self.warehouse.static_names(schema) {
                let name = RelationName::new(schema, name);
                if let Ok(Some(table)) = self.table(schema, &name.name).await {
                    let columns = plain_schema(&table.schema());
                    let declared = self.warehouse.declared(&name, &columns);
                    described.insert(name, Described { columns, declared });
                }
            }
        }
        described
    }

    /// Every table of a schema, those of the lake that nothing else knows included.
    pub(crate) async fn listed(
        &self,
        schemas: &[&str],
    ) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut names: BTreeMap<String, BTreeSet<String>> = schemas
            .iter()
            .map(|schema| ((*schema).to_owned(), self.warehouse.static_names(schema)))
            .collect();
        let stored = self.warehouse.lake.tables().await;
        let stored =
            stored.map_err(|error| EngineError::lake("the lake could not be listed", error))?;
        for name in stored {
            if let Some(of_schema) = names.get_mut(name.schema()) {
                of_schema.insert(name.table().to_owned());
            }
        }
        Ok(names)
    }
}

/// The table without some columns.
fn without_columns(
    key: &RelationName,
    table: Arc<dyn TableProvider>,
    hidden: &[&str],
) -> Result<Arc<dyn TableProvider>> {
    let columns: Vec<Expr> = table
        .schema()
        .fields()
        .iter()
        .filter(|field| !hidden.contains(&field.name().as_str()))
        .map(|field| Expr::Column(datafusion::common::Column::from_name(field.name())))
        .collect();
    let plan = LogicalPlanBuilder::scan(key.to_string(), provider_as_source(table), None)?
        .project(columns)?
        .build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}

/// The resolver as a catalog: for planning the relations of `sql/` and the engine's own steps.
#[derive(Debug)]
struct WholeCatalog {
    resolver: Arc<Resolver>,
    coded: bool,
}

impl CatalogProvider for WholeCatalog {
    fn schema_names(&self) -> Vec<String> {
        tietopohja_policy::SCHEMAS
            .iter()
            .map(|schema| (*schema).to_owned())
            .collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        tietopohja_policy::SCHEMAS.contains(&name).then(|| {
            Arc::new(WholeSchema {
                resolver: Arc::clone(&self.resolver),
                schema: name.to_owned(),
                coded: self.coded,
            }) as _
        })
    }
}

#[derive(Debug)]
struct WholeSchema {
    resolver: Arc<Resolver>,
    schema: String,
    coded: bool,
}

#[async_trait]
impl SchemaProvider for WholeSchema {
    fn table_names(&self) -> Vec<String> {
        self.resolver
            .warehouse
            .static_names(&self.schema)
            .into_iter()
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if self.coded
            && let Some(table) = self.resolver.coded(&RelationName::new(&self.schema, name))
        {
            return Ok(Some(table));
        }
        Ok(self.resolver.table(&self.schema, name).await?)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.resolver
            .warehouse
            .static_names(&self.schema)
            .contains(name)
    }
}

/// A list of one catalog that nothing can be added to.
#[derive(Debug)]
pub(crate) struct OneCatalog {
    catalog: Arc<dyn CatalogProvider>,
}

impl OneCatalog {
    pub(crate) fn new(catalog: Arc<dyn CatalogProvider>) -> Self {
        Self { catalog }
    }
}

impl CatalogProviderList for OneCatalog {
    fn register_catalog(
        &self,
        _name: String,
        _catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::clone(&self.catalog))
    }
}

/// What one principal can name.
#[derive(Debug)]
pub(crate) struct PrincipalCatalog {
    resolver: Arc<Resolver>,
    principal: Principal,
}

impl PrincipalCatalog {
    pub(crate) fn new(resolver: Arc<Resolver>, principal: Principal) -> Self {
        Self {
            resolver,
            principal,
        }
    }

    fn visible(&self, schema: &str) -> VisibleSchema {
        VisibleSchema {
            resolver: Arc::clone(&self.resolver),
            principal: self.principal.clone(),
            schema: schema.to_owned(),
        }
    }

    /// The state that this principal's session sees, as far as the principal may know it.
    pub(crate) fn release(&self) -> Release {
        let used = held(&self.resolver.pinned);
        let tables = used.iter().filter_map(|(name, version)| {
            // The folder of a workspace is the principal's own, and its name says nothing to anyone.
            let shown = match name.schema() {
                WORKSPACES => WORKSPACE.to_owned(),
                _ => name.to_string(),
            };
            let allowed = decide(&self.principal, name.schema(), name.table()).is_allowed();
            allowed.then_some((shown, (*version)?))
        });
        let tables = tables.collect();
        drop(used);
        Release {
            name: self.resolver.versions().name(),
            tables,
        }
    }

    pub(crate) fn resolver(&self) -> &Arc<Resolver> {
        &self.resolver
    }

    /// The tables that the principal can name, in order of schema and name, those of
    /// `information_schema` among them.
    pub(crate) async fn listed(&self) -> Result<Vec<TableInfo>> {
        let all = self
            .resolver
            .warehouse
            .listing
            .tables(&self.resolver)
            .await?;
        let mut tables = listing::visible(&all, &self.principal);
        tables.extend(information_schema::tables().await?);
        if has_workspace(self.principal.role()) {
            let place = workspace::place(&self.principal)?;
            tables.extend(workspace::listed(&self.resolver.workspace(&place).await?));
        }
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(tables)
    }
}

impl CatalogProvider for PrincipalCatalog {
    fn schema_names(&self) -> Vec<String> {
        visible_schemas(self.principal.role())
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        // The standard writes its names in capitals, and tools quote them so.
        if name.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
            let catalog = PrincipalCatalog::new(Arc::clone(&self.resolver), self.principal.clone());
            return Some(Arc::new(InformationSchema::new(Arc::new(catalog))));
        }
        if !visible_schemas(self.principal.role()).contains(&name) {
            return None;
        }
        if name == WORKSPACE {
            return Some(Arc::new(WorkspaceSchema {
                resolver: Arc::clone(&self.resolver),
                principal: self.principal.clone(),
            }));
        }
        Some(Arc::new(self.visible(name)))
    }
}

/// A schema as one principal sees it.
#[derive(Debug)]
struct VisibleSchema {
    resolver: Arc<Resolver>,
    principal: Principal,
    schema: String,
}

impl VisibleSchema {
    async fn resolve(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        if !decide(&self.principal, &self.schema, name).is_allowed() {
            return Ok(None);
        }
        let Some(table) = self.resolver.table(&self.schema, name).await? else {
            return Ok(None);
        };
        if let Some(owner) = own_rows_by(self.principal.role(), &self.schema, name) {
            let own = col(owner).eq(lit(self.principal.name()));
            let name = RelationName::new(&self.schema, name).to_string();
            let plan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?
                .filter(own)?
                .build()?;
            return Ok(Some(Arc::new(ViewTable::new(plan, None))));
        }
        let hidden = hidden_columns(self.principal.role(), &self.schema, name);
        if hidden.is_empty() {
            return Ok(Some(table));
        }
        without_columns(&RelationName::new(&self.schema, name), table, hidden).map(Some)
    }
}

#[async_trait]
impl SchemaProvider for VisibleSchema {
    fn table_names(&self) -> Vec<String> {
        let names = self.resolver.warehouse.static_names(&self.schema);
        names
            .into_iter()
            .filter(|name| self.table_exist(name))
            .collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.resolve(name).await?)
    }

    fn table_exist(&self, name: &str) -> bool {
        decide(&self.principal, &self.schema, name).is_allowed()
            && self
                .resolver
                .warehouse
                .static_names(&self.schema)
                .contains(name)
    }
}

/// The tables that a principal made.
#[derive(Debug)]
struct WorkspaceSchema {
    resolver: Arc<Resolver>,
    principal: Principal,
}

#[async_trait]
impl SchemaProvider for WorkspaceSchema {
    /// Lists are made by [`PrincipalCatalog::listed`], which may ask the lake.
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let place = workspace::place(&self.principal)?;
        Ok(Box::pin(self.resolver.workspace_table(&place, name)).await?)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.resolver.has_seen(&RelationName::new(WORKSPACE, name))
    }
}

/// The tables of one schema, opened.
#[derive(Debug, Clone)]
pub(crate) struct ListedSchema {
    pub(crate) schema: String,
    pub(crate) tables: BTreeMap<String, Arc<dyn TableProvider>>,
}

/// Tables that are already open, as a catalog.
#[derive(Debug)]
pub(crate) struct ListedCatalog {
    pub(crate) schemas: Vec<ListedSchema>,
}

impl CatalogProvider for ListedCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas
            .iter()
            .map(|listed| listed.schema.clone())
            .collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let listed = self.schemas.iter().find(|listed| listed.schema == name)?;
        Some(Arc::new(listed.clone()))
    }
}

#[async_trait]
impl SchemaProvider for ListedSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.tables.get(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }
}
