//! The list of everything that can be named, made once for everybody and cut for each principal.
//!
//! Tools ask for tables, columns and keys many times when they connect, and whoever draws a chart
//! asks again. The list is therefore kept: for [`FRESH`] as it is, and up to [`OLDEST`] while a
//! newer one is being made. What a principal may not name is cut out in [`visible`], and a key whose
//! other end is cut out goes with it. Rows are never read here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::TableType;
use tietopohja_policy::{Principal, SCHEMAS, decide, hidden_columns};

use crate::catalog::{Resolver, held};
use crate::error::Result;
use crate::keys::{self, Described};
use crate::model::{RECURSION_LIMIT, RelationName};
use crate::plain::plain_schema;
use crate::session::{TableInfo, TableKind};
use crate::statement;

/// How long a list is as good as new.
const FRESH: Duration = Duration::from_secs(2);
/// How old a list may be while a new one is being made.
const OLDEST: Duration = Duration::from_secs(10);

/// The list as it was last made.
#[derive(Default)]
pub(crate) struct Listing {
    kept: Mutex<Option<(Instant, Arc<Vec<Listed>>)>>,
    /// Held by the one who makes a list, so that the others wait for it.
    turn: tokio::sync::Mutex<()>,
    /// Someone makes a list while the old one is in use.
    renewing: AtomicBool,
}

/// A table, and what its text names.
pub(crate) struct Listed {
    info: TableInfo,
    reads: BTreeSet<RelationName>,
}

impl Listing {
    /// Every table of every schema, in order of schema and name.
    ///
    /// # Errors
    /// The lake cannot be listed.
    pub(crate) async fn tables(&self, resolver: &Arc<Resolver>) -> Result<Arc<Vec<Listed>>> {
        if let Some((age, tables)) = self.kept() {
            if age >= FRESH && !self.renewing.swap(true, Ordering::AcqRel) {
                let warehouse = Arc::clone(resolver.warehouse());
                tokio::spawn(async move {
                    let anew = Resolver::new(Arc::clone(&warehouse));
                    let renewed = Box::pin(warehouse.listing.renew(&anew)).await;
                    warehouse.listing.renewing.store(false, Ordering::Release);
                    if let Err(error) = renewed {
                        tracing::warn!(%error, "the list of tables could not be renewed");
                    }
                });
            }
            return Ok(tables);
        }
        let _turn = self.turn.lock().await;
        match self.kept() {
            Some((_, tables)) => Ok(tables),
            None => {
                let anew = Resolver::new(Arc::clone(resolver.warehouse()));
                Box::pin(self.renew(&anew)).await
            }
        }
    }

    /// The kept list with its age, unless it is too old.
    fn kept(&self) -> Option<(Duration, Arc<Vec<Listed>>)> {
        let kept = held(&self.kept);
        let (made, tables) = kept.as_ref()?;
        let age = made.elapsed();
        (age < OLDEST).then(|| (age, Arc::clone(tables)))
    }

    async fn renew(&self, resolver: &Arc<Resolver>) -> Result<Arc<Vec<Listed>>> {
        let started = Instant::now();
        let tables = Arc::new(list(resolver).await?);
        *held(&self.kept) = Some((started, Arc::clone(&tables)));
        Ok(tables)
    }
}

/// A relation that cannot be planned is left out: one broken file must not hide the others.
async fn list(resolver: &Arc<Resolver>) -> Result<Vec<Listed>> {
    let warehouse = resolver.warehouse();
    let mut tables = Vec::new();
    let mut described = BTreeMap::new();
    for (schema, names) in resolver.listed(&SCHEMAS).await? {
        for name in names {
            let table = match resolver.table(&schema, &name).await {
                Ok(Some(table)) => table,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(schema, table = name, %error, "a relation cannot be used");
                    continue;
                }
            };
            let relation = RelationName::new(&schema, &name);
            let columns = plain_schema(&table.schema());
            let declared = warehouse.declared(&relation, &columns);
            let model = warehouse.models.get(&relation);
            tables.push(Listed {
                info: TableInfo {
                    kind: match model {
                        Some(_) => kind_of(table.as_ref()),
                        // A table of the lake whose partition number is hidden is still a table.
                        None => TableKind::Table,
                    },
                    columns: Arc::clone(&columns),
                    comment: warehouse.comment(&schema, &name),
                    column_comments: declared.comments.clone(),
                    keys: keys::Keys::default(),
                    definition: table.get_table_definition().and_then(plain_text),
                    schema: schema.clone(),
                    name,
                },
                reads: model.map(|model| model.reads.clone()).unwrap_or_default(),
            });
            described.insert(relation, Described { columns, declared });
        }
    }
    let (mut keys, _) = keys::resolve(&described);
    for Listed { info, .. } in &mut tables {
        let name = RelationName::new(&info.schema, &info.name);
        info.keys = keys.remove(&name).unwrap_or_default();
    }
    Ok(tables)
}

/// The query of a view without its comments, which may name what the reader of the view may not.
fn plain_text(sql: &str) -> Option<String> {
    let parsed = statement::parse(sql, RECURSION_LIMIT).ok()?;
    Some(parsed.tree.to_string())
}

fn kind_of(table: &dyn TableProvider) -> TableKind {
    match table.table_type() {
        TableType::Base | TableType::Temporary => TableKind::Table,
        TableType::View => TableKind::View,
    }
}

/// What of the list exists for a principal.
pub(crate) fn visible(all: &[Listed], principal: &Principal) -> Vec<TableInfo> {
    let sees = |schema: &str, name: &str| decide(principal, schema, name).is_allowed();
    let hides = |schema: &str, name: &str, column: &String| {
        hidden_columns(principal.role(), schema, name).contains(&column.as_str())
    };
    let mut tables = Vec::new();
    for Listed { info, reads } in all {
        if !sees(&info.schema, &info.name) {
            continue;
        }
        let mut info = info.clone();
        if !reads.iter().all(|read| sees(&read.schema, &read.name)) {
            info.definition = None;
        }
        let TableInfo { schema, name, .. } = &info;
        let mut keys = info.keys.clone();
        keys.own = keys
            .own
            .filter(|key| !key.columns.iter().any(|column| hides(schema, name, column)));
        keys.foreign.retain(|key| {
            let other = &key.key_columns;
            sees(&key.schema, &key.table)
                && !key.columns.iter().any(|column| hides(schema, name, column))
                && !other
                    .iter()
                    .any(|column| hides(&key.schema, &key.table, column))
        });
        if !hidden_columns(principal.role(), schema, name).is_empty() {
            let fields = info.columns.fields().iter();
            let shown = fields.filter(|field| !hides(schema, name, field.name()));
            info.columns = Arc::new(Schema::new(shown.cloned().collect::<Vec<_>>()));
        }
        info.keys = keys;
        tables.push(info);
    }
    tables
}
