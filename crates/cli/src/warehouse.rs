//! A warehouse folder: its settings, lake, contracts, key and engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tietopohja_contract::{CodeLists, Contract};
use tietopohja_domain::{Clock, Problem, did_you_mean, render_problems};
use tietopohja_engine::{Engine, EngineOptions};
use tietopohja_ingest::KeyRing;
use tietopohja_lake::Lake;

use crate::clock::SystemClock;
use crate::failure::{Failure, chain};
use crate::settings::{self, Settings};

/// An opened warehouse.
pub(crate) struct Warehouse {
    pub(crate) folder: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) lake: Arc<Lake>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lists: Arc<CodeLists>,
    pub(crate) contracts: BTreeMap<String, Arc<Contract>>,
}

impl Warehouse {
    /// Opens a folder that `init` made.
    pub(crate) fn open(folder: &Path) -> Result<Warehouse, Failure> {
        if !folder.join("definitions").is_dir() || !folder.join("sql").is_dir() {
            return Err(Failure::usage(format!(
                "`{}` is not a warehouse: run `tietopohja init DIR` to make one, then name it with `-C DIR` or the environment variable TIETOPOHJA_DIR",
                folder.display()
            )));
        }
        let settings = settings::read(folder)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let lake = Arc::new(Lake::open(&folder.join("lake"), Arc::clone(&clock))?);
        let (lists, contracts) = read_contracts(folder)?;
        tracing::debug!("contracts are read");
        Ok(Warehouse {
            folder: folder.to_owned(),
            settings,
            lake,
            clock,
            lists: Arc::new(lists),
            contracts,
        })
    }

    /// The contract of a name.
    pub(crate) fn contract(&self, name: &str) -> Result<Arc<Contract>, Failure> {
        self.contracts.get(name).cloned().ok_or_else(|| {
            let close = did_you_mean(name, self.contracts.keys().map(String::as_str))
                .map(|close| format!("did you mean `{close}`? "))
                .unwrap_or_default();
            let all: Vec<&str> = self.contracts.keys().map(String::as_str).collect();
            Failure::usage(format!(
                "there is no contract `{name}`; {close}known contracts: {}",
                all.join(", ")
            ))
        })
    }

    /// The pseudonym key.
    pub(crate) fn keys(&self) -> Result<KeyRing, Failure> {
        KeyRing::open(&self.folder.join(KEY)).map_err(|error| Failure::usage(chain(&error)))
    }

    /// The engine over this warehouse.
    pub(crate) async fn engine(&self) -> Result<Arc<Engine>, Failure> {
        let mut options = EngineOptions::new(
            &self.folder,
            Arc::clone(&self.lake),
            Arc::clone(&self.clock),
        )
        .contracts(self.contracts.values().cloned().collect())
        .memory_bytes(self.settings.engine.memory_mib << 20);
        if self.settings.engine.partitions > 0 {
            options = options.target_partitions(self.settings.engine.partitions);
        }
        Ok(Box::pin(Engine::open(options)).await?)
    }
}

/// The pseudonym key's place in a warehouse: outside the lake.
pub(crate) const KEY: &str = "keys/pseudonym.key";

fn read_contracts(folder: &Path) -> Result<(CodeLists, BTreeMap<String, Arc<Contract>>), Failure> {
    let mut problems: Vec<Problem> = Vec::new();
    let lists = read_folder(folder, "definitions/codes", ".csv")?
        .into_iter()
        .map(|(path, text)| {
            (
                path.rsplit('/')
                    .next()
                    .unwrap_or(&path)
                    .trim_end_matches(".csv")
                    .to_owned(),
                text,
            )
        })
        .collect();
    let lists = CodeLists::parse(lists)
        .map_err(|problems| Failure::expected(render_problems(&problems)))?;
    let mut contracts = BTreeMap::new();
    for (path, text) in read_folder(folder, "definitions/contracts", ".odcs.yaml")? {
        match Contract::parse(&path, &text, &lists) {
            Ok(contract) => {
                contracts.insert(contract.name().to_owned(), Arc::new(contract));
            }
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        Ok((lists, contracts))
    } else {
        Err(Failure::expected(render_problems(&problems)))
    }
}

/// The files of a folder with an ending: name relative to the warehouse, and text, in name order.
fn read_folder(root: &Path, folder: &str, ending: &str) -> Result<Vec<(String, String)>, Failure> {
    let problem = |name: &str, error: std::io::Error| {
        Failure::expected(format!("cannot read `{name}`: {error}"))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root.join(folder)).map_err(|error| problem(folder, error))? {
        let entry = entry.map_err(|error| problem(folder, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(ending) {
            let text =
                std::fs::read_to_string(entry.path()).map_err(|error| problem(&name, error))?;
            files.push((format!("{folder}/{name}"), text));
        }
    }
    files.sort();
    Ok(files)
}
