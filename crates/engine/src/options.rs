//! What the engine is given. Plain data and the two components it needs; only the command line
//! reads files and environment to fill it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use tietopohja_contract::Contract;
use tietopohja_domain::Clock;
use tietopohja_lake::Lake;

/// Settings of one engine.
#[derive(Clone)]
pub struct EngineOptions {
    /// The warehouse folder: holds `sql/`, `definitions/` and `reference/`.
    pub root: PathBuf,
    /// The tables at rest.
    pub lake: Arc<Lake>,
    /// Where the present moment comes from.
    pub clock: Arc<dyn Clock>,
    /// Bytes of working memory for all queries together. Default 1 GiB, at least 16 MiB.
    pub memory_bytes: usize,
    /// Folder for sorted runs and aggregates that do not fit in memory. Default: the system's
    /// temporary folder.
    pub spill_dir: Option<PathBuf>,
    /// Most bytes of spilled data at a time. Default 20 GiB.
    pub spill_bytes: u64,
    /// Parts that a query is split into. Results do not depend on it. Default: one per core.
    pub target_partitions: usize,
    /// Longest time that one statement may run, planning included. Default: no limit.
    pub statement_timeout: Option<Duration>,
    /// For each contract its name and the accepted columns. A contract with nothing landed yet is
    /// an empty raw table of these columns.
    pub raw_schemas: Vec<(String, SchemaRef)>,
    /// The contracts themselves: their SQL checks are looked at with the other definitions, and
    /// their terms of delivery say what is late.
    pub contracts: Vec<Arc<Contract>>,
    /// What `meta.run` records as the version of the program.
    pub engine_version: String,
}

impl EngineOptions {
    /// Options with the defaults named at each field.
    pub fn new(root: impl Into<PathBuf>, lake: Arc<Lake>, clock: Arc<dyn Clock>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            root: root.into(),
            lake,
            clock,
            memory_bytes: 1 << 30,
            spill_dir: None,
            spill_bytes: 20 << 30,
            target_partitions: cores,
            statement_timeout: None,
            raw_schemas: Vec::new(),
            contracts: Vec::new(),
            engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The same with contracts, and the raw tables that they describe.
    #[must_use]
    pub fn contracts(mut self, contracts: Vec<Arc<Contract>>) -> Self {
        self.raw_schemas = contracts
            .iter()
            .map(|contract| (contract.name().to_owned(), contract.arrow_schema()))
            .collect();
        self.contracts = contracts;
        self
    }

    /// The same with raw tables that no contract describes.
    #[must_use]
    pub fn raw_schemas(mut self, schemas: Vec<(String, SchemaRef)>) -> Self {
        self.raw_schemas = schemas;
        self
    }

    /// The same with another memory limit.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// The same with another number of partitions.
    #[must_use]
    pub fn target_partitions(mut self, partitions: usize) -> Self {
        self.target_partitions = partitions;
        self
    }
}
