//! The indicator catalogue of the warehouse, checked against the tables as they are.
//!
//! Reading files and asking the catalog for columns happens here; what a definition means belongs
//! to the indicators crate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::Schema;
use futures::future::BoxFuture;
use tietopohja_domain::Problem;
use tietopohja_indicators::{Catalogue, CatalogueInput, TableColumns};
use tokio::task::JoinSet;

use crate::catalog::held;
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::keys;
use crate::model::{RelationName, read_folder};
use crate::plain::plain_schema;
use crate::reference::definition_files;

/// The schemas whose tables a definition may read.
const READABLE: [&str; 2] = ["conformed", "reference"];

impl Engine {
    /// The indicators of the warehouse. Read and checked once, at the first call.
    ///
    /// # Errors
    /// [`EngineError::Definitions`] with every problem of every definition, and of every relation of
    /// `sql/` that a definition could read.
    pub async fn catalogue(self: &Arc<Self>) -> Result<Arc<Catalogue>> {
        let loaded = self
            .catalogue
            .get_or_try_init(|| Box::pin(self.load_catalogue()))
            .await?;
        Ok(Arc::clone(loaded))
    }

    async fn load_catalogue(self: &Arc<Self>) -> Result<Arc<Catalogue>> {
        let definitions = definition_files(self, "definitions/indicators")?;
        let limits = definition_files(self, "definitions/limits")?;
        let stems = |folder: &str, extension: &str| -> Result<Vec<String>> {
            let files = read_folder(&self.options.root, folder, extension)?;
            Ok(files.into_iter().map(|(stem, _)| stem).collect())
        };
        let (tables, broken) = self.readable_tables().await?;
        let profiles = self.profiles()?;
        let contracts: Vec<String> = self.warehouse.raw.keys().cloned().collect();
        let input = CatalogueInput {
            definitions: &definitions,
            limits: &limits,
            code_lists: &stems("definitions/codes", "csv")?,
            contracts: &contracts,
            disclosure_profiles: &profiles.names(),
            tables: &tables,
        };
        match Catalogue::load(&input) {
            Ok(catalogue) => {
                held(&self.warehouse.breakdowns).clone_from(&catalogue.breakdowns().to_vec());
                Ok(Arc::new(catalogue))
            }
            Err(mut problems) => {
                // A definition that reads a broken relation is told what is broken.
                problems.extend(broken);
                problems.sort();
                problems.dedup();
                Err(EngineError::Definitions { problems })
            }
        }
    }

    /// The columns of every table that a definition may read, and what is wrong with the others.
    async fn readable_tables(self: &Arc<Self>) -> Result<(Columns, Vec<Problem>)> {
        let names = READABLE.iter().flat_map(|schema| {
            let names = self.warehouse.static_names(schema).into_iter();
            names.map(|name| RelationName::new(*schema, name))
        });
        let names: Arc<[RelationName]> = names.collect();
        let resolver = self.plain_resolver();
        // Planning a relation is the work of one core. Whoever is free takes the next of them.
        let next = Arc::new(AtomicUsize::new(0));
        let mut lanes = JoinSet::new();
        for _ in 0..self.options.target_partitions.max(1) {
            let (names, next, resolver) =
                (Arc::clone(&names), Arc::clone(&next), Arc::clone(&resolver));
            let lane: BoxFuture<'static, Vec<_>> = Box::pin(async move {
                let mut found = Vec::new();
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let table = resolver.table(&name.schema, &name.name).await;
                    let columns = table.map(|found| {
                        let table = found?;
                        Some(columns_of(&plain_schema(&table.schema())))
                    });
                    found.push((name.to_string(), columns));
                }
                found
            });
            lanes.spawn(lane);
        }
        let mut columns = BTreeMap::new();
        let mut broken = Vec::new();
        while let Some(ended) = lanes.join_next().await {
            let died = |error| EngineError::internal_because("planning of a relation died", error);
            for (name, found) in ended.map_err(died)? {
                match found {
                    Ok(Some(found)) => {
                        columns.insert(name, found);
                    }
                    Ok(None) => {}
                    Err(EngineError::Definitions { problems }) => broken.extend(problems),
                    Err(other) => return Err(other),
                }
            }
        }
        Ok((Columns(columns), broken))
    }

    /// Everything wrong with the warehouse's files that can be found without data: texts of `sql/`,
    /// relations that cannot be planned, keys that do not fit, definitions, and SQL checks of
    /// contracts.
    pub async fn check_definitions(self: &Arc<Self>) -> Vec<Problem> {
        let mut problems = self.problems();
        let resolver = self.plain_resolver();
        let relations: Vec<_> = self
            .warehouse
            .models
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        for name in relations {
            match resolver.table(&name.schema, &name.name).await {
                Ok(_) => {}
                Err(EngineError::Definitions { problems: found }) => problems.extend(found),
                Err(other) => problems.push(Problem::new(name.to_string(), other.to_string())),
            }
        }
        if let Err(EngineError::Definitions { problems: found }) = self.catalogue().await {
            problems.extend(found);
        }
        let (_, wrong_keys) = keys::resolve(&resolver.described().await);
        problems.extend(wrong_keys);
        for contract in &self.options.contracts {
            problems.extend(Box::pin(self.sql_check_problems(contract)).await);
        }
        problems.sort();
        problems.dedup();
        problems
    }
}

/// Names and types.
fn columns_of(schema: &Schema) -> Vec<(String, String)> {
    let fields = schema.fields().iter();
    let columns = fields.map(|field| (field.name().clone(), field.data_type().to_string()));
    columns.collect()
}

struct Columns(BTreeMap<String, Vec<(String, String)>>);

impl TableColumns for Columns {
    fn columns(&self, table: &str) -> Option<Vec<(String, String)>> {
        self.0.get(table).cloned()
    }

    fn tables(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}
