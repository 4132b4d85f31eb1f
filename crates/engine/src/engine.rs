//! The engine: opened once for a warehouse, asked for sessions.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::config::SessionConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;
use tietopohja_contract::PropertyType;
use tietopohja_domain::Problem;
use tietopohja_indicators::Catalogue;
use tietopohja_policy::Principal;
use tokio::sync::OnceCell;

use crate::CATALOG;
use crate::DEFAULT_SCHEMA;
use crate::catalog::{Resolver, StateOf, Warehouse, held};
use crate::copied::BoundedCopies;
use crate::error::{EngineError, Result};
use crate::keys::Declared;
use crate::listing::Listing;
use crate::live::{LiveRows, LiveTable};
use crate::lookups::Lookups;
use crate::memory::QueryMemory;
use crate::model::{Models, RECURSION_LIMIT, RelationName};
use crate::nested_loops::LeftSidesAnew;
use crate::options::EngineOptions;
use crate::reference::Manifest;
use crate::session::{Session, SessionOptions};
use crate::sized::guarded;
use crate::statement;
use crate::tables;
use crate::windows::PossibleWindows;
use crate::yielding::YieldAfterMultiplying;

/// Least memory that lets a query start: some buffers are taken before the first row.
const LEAST_MEMORY: usize = 16 << 20;

/// The months for which a contract's data has been accepted, whole months only.
const DELIVERED_MONTH: &str = "\
-- grain: one row per contract, county and month with an accepted delivery that covers the month
-- key: contract, county_code, month_start
SELECT DISTINCT contract, county_code, month_start
FROM (
    SELECT
        contract,
        county_code,
        covers_to,
        CAST(unnest(generate_series(CAST(date_trunc('month', covers_from) AS DATE), covers_to, INTERVAL '1 month')) AS DATE) AS month_start,
        covers_from
    FROM meta.delivery
    WHERE status = 'accepted'
) AS covered
WHERE month_start >= covers_from AND month_start + INTERVAL '1 month' <= covers_to + INTERVAL '1 day'
";

/// Plans and runs everything for one warehouse.
pub struct Engine {
    pub(crate) options: EngineOptions,
    pub(crate) warehouse: Arc<Warehouse>,
    pub(crate) manifest: Manifest,
    pub(crate) catalogue: OnceCell<Arc<Catalogue>>,
    /// Whether the tables of values are known to have been made.
    values_exist: AtomicBool,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("root", &self.options.root)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens a warehouse: reads `sql/` and `reference/tables.toml`. Relations are planned when they
    /// are first asked for, so a file with a problem does not keep the engine from opening; see
    /// [`Engine::problems`].
    ///
    /// # Errors
    /// [`EngineError::Definitions`] for files that cannot be read and for problems of
    /// `reference/tables.toml`; [`EngineError::Resource`] for limits that cannot be kept.
    pub async fn open(options: EngineOptions) -> Result<Arc<Engine>> {
        let mut models = Models::read(&options.root)?;
        models.add_built_in(
            RelationName::new("meta", "delivered_month"),
            DELIVERED_MONTH,
        );
        let manifest = Manifest::read(&options.root)?;
        tracing::debug!("relations are read");
        let raw: BTreeMap<String, _> = options
            .raw_schemas
            .iter()
            .map(|(name, contract)| (name.clone(), tables::raw_schema(contract)))
            .collect();
        let warehouse = Warehouse {
            lake: Arc::clone(&options.lake),
            models,
            raw,
            reference: manifest.empty_tables(),
            declared: declared(&options, &manifest),
            listing: Listing::default(),
            template: template(&options)?,
            breakdowns: Mutex::default(),
            opened: Mutex::default(),
            live: Mutex::default(),
            codes: Mutex::default(),
        };
        tracing::debug!("functions are registered");
        Ok(Arc::new(Engine {
            options,
            warehouse: Arc::new(warehouse),
            manifest,
            catalogue: OnceCell::new(),
            values_exist: AtomicBool::new(false),
        }))
    }

    /// A session for a principal: the only door to the tables.
    ///
    /// # Errors
    /// [`EngineError::Lake`] when the lake cannot be reached.
    pub async fn session(self: &Arc<Self>, principal: &Principal) -> Result<Session> {
        self.session_with(principal, &SessionOptions::default())
            .await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`Engine::session`].
    pub async fn session_with(
        self: &Arc<Self>,
        principal: &Principal,
        options: &SessionOptions,
    ) -> Result<Session> {
        let state = match (&options.versions, options.as_of) {
            (Some(versions), _) => StateOf::Given(Arc::clone(versions)),
            (None, Some(moment)) => StateOf::Moment(moment.as_millisecond()),
            (None, None) => StateOf::Now,
        };
        let resolver = self.resolver(state).await?;
        let limits = [self.options.statement_timeout, options.timeout];
        Ok(Session::open(
            resolver,
            principal.clone(),
            limits.into_iter().flatten().min(),
            options.schema.as_deref(),
        ))
    }

    /// Shows a table of the present moment as `meta.<name>`, in place of one with that name.
    pub fn show_live(&self, name: &str, rows: Arc<dyn LiveRows>) {
        let table = Arc::new(LiveTable { rows });
        held(&self.warehouse.live).insert(name.to_owned(), table);
    }

    /// Memory for one query: at most `limit` bytes of what all queries have.
    pub fn query_memory(&self, limit: usize) -> QueryMemory {
        let runtime = self.warehouse.template.runtime_env();
        QueryMemory::of(runtime, limit.max(LEAST_MEMORY))
    }

    /// Bytes that queries may use together.
    pub fn memory_bytes(&self) -> usize {
        self.options.memory_bytes.max(LEAST_MEMORY)
    }

    /// Bytes that queries use now.
    pub fn memory_used(&self) -> usize {
        self.warehouse.template.runtime_env().memory_pool.reserved()
    }

    /// A new view of the lake, in which every schema can be named.
    async fn resolver(self: &Arc<Self>, state: StateOf) -> Result<Arc<Resolver>> {
        let resolver = Resolver::of_state(Arc::clone(&self.warehouse), state);
        if self.values_exist.load(Ordering::Relaxed) {
            return Ok(resolver);
        }
        let values = tables::table("published", "indicator_value")?;
        let version = self.options.lake.version(&values).await;
        if version
            .map_err(|error| EngineError::lake("the lake cannot be read", error))?
            .is_some()
        {
            self.values_exist.store(true, Ordering::Relaxed);
        } else if let Err(error) = self.catalogue().await {
            // An empty table of values should have the breakdown columns. A catalogue with problems
            // is told of elsewhere and keeps nobody from reading.
            tracing::debug!(%error, "the breakdown columns are not known");
        }
        Ok(resolver)
    }

    /// The same, for steps that do not look at values before the first calculation.
    pub(crate) fn plain_resolver(&self) -> Arc<Resolver> {
        Resolver::new(Arc::clone(&self.warehouse))
    }

    /// Runs a query of the engine's own, in which every schema can be named, to its end.
    pub(crate) async fn run(
        &self,
        resolver: &Arc<Resolver>,
        sql: &str,
    ) -> Result<Vec<RecordBatch>> {
        let stream = self.stream(resolver, sql).await?;
        Ok(stream.try_collect().await?)
    }

    /// The same as a stream.
    pub(crate) async fn stream(
        &self,
        resolver: &Arc<Resolver>,
        sql: &str,
    ) -> Result<SendableRecordBatchStream> {
        let parsed = statement::parse(sql, RECURSION_LIMIT)?;
        let mut state = resolver.inner_state();
        state.mark_start_execution();
        let plan = state.statement_to_plan(parsed.tree).await?;
        let physical = state.create_physical_plan(&plan).await?;
        Ok(execute_stream(physical, state.task_ctx())?)
    }

    /// The problems of the files of `sql/`, in file order: texts that cannot be read and loops.
    pub fn problems(&self) -> Vec<Problem> {
        self.warehouse.models.problems()
    }

    /// The number of partitions that queries are split into.
    pub fn target_partitions(&self) -> usize {
        self.options.target_partitions.max(1)
    }

    pub(crate) fn now(&self) -> tietopohja_domain::Timestamp {
        self.options.clock.now()
    }
}

/// What files other than those of `sql/` say of tables: the reference manifest and the contracts.
fn declared(options: &EngineOptions, manifest: &Manifest) -> BTreeMap<RelationName, Declared> {
    let reference = manifest
        .declared()
        .into_iter()
        .map(|(name, declared)| (RelationName::new("reference", name), declared));
    let raw = options.contracts.iter().map(|contract| {
        let properties = contract.properties().iter();
        let comments = properties.flat_map(|property| {
            let description = property.description_en();
            let name = property.name();
            match (property.kind(), property.unit()) {
                // What landing makes of an identity code.
                (PropertyType::Hetu { .. }, _) => {
                    let base = name.strip_suffix("_id").unwrap_or(name);
                    vec![
                        (
                            format!("{base}_pid"),
                            format!("{description} As a pseudonym."),
                        ),
                        (format!("{base}_birth_date"), "Day of birth.".to_owned()),
                        (
                            format!("{base}_sex"),
                            "Sex in the identity code.".to_owned(),
                        ),
                    ]
                }
                (_, None) => vec![(name.to_owned(), description.to_owned())],
                (_, Some(unit)) => {
                    vec![(name.to_owned(), format!("{description} Unit: {unit}."))]
                }
            }
        });
        let declared = Declared {
            comments: comments.collect(),
            ..Declared::default()
        };
        (RelationName::new("raw", contract.name()), declared)
    });
    reference.chain(raw).collect()
}

/// Functions, rules and limits, without any table.
fn template(options: &EngineOptions) -> Result<SessionState> {
    let config = SessionConfig::new()
        .with_target_partitions(options.target_partitions.max(1))
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_sort_spill_reservation_bytes(sort_reservation(options))
        // The engine's own `information_schema`, over what the principal sees, stands in for it.
        .with_information_schema(false);
    let mut state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime(options)?)
        .with_default_features()
        .with_table_factories(Default::default())
        .with_optimizer_rule(Arc::new(Lookups))
        .with_optimizer_rule(Arc::new(BoundedCopies))
        .with_physical_optimizer_rule(Arc::new(PossibleWindows))
        .with_physical_optimizer_rule(Arc::new(LeftSidesAnew))
        .with_physical_optimizer_rule(Arc::new(YieldAfterMultiplying))
        .build();
    register(&mut state)?;
    Ok(state)
}

fn register(state: &mut SessionState) -> Result<()> {
    use datafusion::execution::FunctionRegistry;
    let multiplying: Vec<ScalarUDF> = state
        .scalar_functions()
        .values()
        .filter_map(guarded)
        .collect();
    for function in multiplying {
        state.register_udf(Arc::new(function))?;
    }
    for function in tietopohja_kernels::scalar_functions() {
        state.register_udf(Arc::new(function))?;
    }
    for function in tietopohja_kernels::aggregate_functions() {
        state.register_udaf(Arc::new(function))?;
    }
    Ok(())
}

/// What each sort keeps back for merging what it spilled: the engine's default of 10 MiB, less where
/// all sorts of one query would keep back the whole memory.
fn sort_reservation(options: &EngineOptions) -> usize {
    let share = options.memory_bytes.max(LEAST_MEMORY) / (16 * options.target_partitions.max(1));
    share.clamp(128 << 10, 10 << 20)
}

/// Memory and spill space that all queries share.
fn runtime(options: &EngineOptions) -> Result<Arc<RuntimeEnv>> {
    let mode = match &options.spill_dir {
        None => DiskManagerMode::OsTmpDirectory,
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(|error| EngineError::Resource {
                message: format!("the spill folder cannot be made: {}", error.kind()),
            })?;
            DiskManagerMode::Directories(vec![folder.clone()])
        }
    };
    let disk = DiskManagerBuilder::default()
        .with_mode(mode)
        .with_max_temp_directory_size(options.spill_bytes);
    let pool = FairSpillPool::new(options.memory_bytes.max(LEAST_MEMORY));
    let tracked = TrackConsumersPool::new(pool, NonZeroUsize::MIN.saturating_add(4));
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk)
        .with_memory_pool(Arc::new(tracked))
        .build()?;
    Ok(Arc::new(runtime))
}
