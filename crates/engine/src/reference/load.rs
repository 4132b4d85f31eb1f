//! Loading: files to tables, then tables to derived tables, each only when its content changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Float64Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use tietopohja_domain::{Date, Problem};
use tietopohja_indicators::{Bound, Catalogue, CatalogueInput, Limit, TableColumns};
use tietopohja_lake::{CommitInfo, Group, TableName};

use super::csv;
use super::digest::Digest;
use super::manifest::{CODE, FileTable, LIMIT, code_columns, code_schema, limit_schema};
use super::{ReferenceOutcome, ReferenceReport, ReferenceTable};
use crate::engine::Engine;
use crate::error::{EngineError, Result};
use crate::model::{Relation, RelationName, read_folder};
use crate::plain::{conform, plain_schema};
use crate::tables::{self, not_written, table};

/// What a table holds and where it comes from, as `meta.reference` keeps it.
#[derive(Debug, Clone, PartialEq)]
struct Holding {
    name: String,
    kind: &'static str,
    file: String,
    digest: String,
    rows: i64,
    comment: String,
    source: String,
    licence: String,
    attribution: String,
}

/// What a load has written so far, which readers see when it ends.
#[derive(Default)]
struct Writing {
    group: Option<Group>,
    written: BTreeMap<TableName, i64>,
}

/// A table that a file fills: what it will hold, and its rows when they must be written.
struct Loaded {
    holding: Holding,
    rows: Option<RecordBatch>,
    seconds: f64,
}

impl Engine {
    /// Loads the reference data of the warehouse into the schema `reference`.
    ///
    /// Running it again without changed files writes nothing.
    ///
    /// # Errors
    /// [`EngineError::Definitions`] with every problem of every file, found before anything is
    /// written; or a derived relation whose query fails or whose key repeats.
    pub async fn load_reference(self: &Arc<Self>) -> Result<ReferenceReport> {
        let started = Instant::now();
        let known = self.known_digests().await?;
        tracing::debug!("loaded reference data is known");
        let loaded = self.read_files(&known).await?;
        tracing::debug!("reference files are compared");
        let mut report = ReferenceReport::default();
        let mut holdings = Vec::new();
        let mut writing = Writing::default();
        for Loaded {
            mut holding,
            rows,
            seconds,
        } in loaded
        {
            let written = Instant::now();
            let outcome = match rows {
                None => {
                    holding.rows = known.get(&holding.name).map_or(0, |known| known.rows);
                    ReferenceOutcome::Unchanged
                }
                Some(rows) => {
                    holding.rows = i64::try_from(rows.num_rows()).unwrap_or(i64::MAX);
                    self.write_reference(&mut writing, &holding.name, vec![rows])
                        .await?;
                    ReferenceOutcome::Loaded
                }
            };
            let seconds = seconds + written.elapsed().as_secs_f64();
            report.tables.push(row_of(&holding, outcome, seconds));
            holdings.push(holding);
        }
        for (name, relation) in self.warehouse.models.materialised("reference") {
            let (holding, table) = self
                .materialise(&mut writing, name, relation, &holdings, &known)
                .await?;
            holdings.push(holding);
            report.tables.push(table);
        }
        if report.written() > 0 || holdings.len() != known.len() {
            self.remember(&holdings, &writing).await?;
        }
        report.tables.sort_by(|a, b| a.name.cmp(&b.name));
        report.seconds = started.elapsed().as_secs_f64();
        Ok(report)
    }

    /// The digest and rows of each table that was loaded before and is still there.
    async fn known_digests(self: &Arc<Self>) -> Result<BTreeMap<String, Known>> {
        let resolver = self.plain_resolver();
        let sql = "SELECT name, digest, rows FROM meta.reference";
        let mut known = BTreeMap::new();
        for batch in self.run(&resolver, sql).await? {
            let batch = conform(&batch, &plain_schema(&batch.schema()))?;
            let [names, digests, rows] = batch.columns() else {
                continue;
            };
            let (names, digests) = (names.as_string::<i32>(), digests.as_string::<i32>());
            let rows = rows.as_primitive::<Int64Type>();
            let all = names.iter().flatten();
            let all = all.filter_map(|name| table("reference", name).ok());
            self.options.lake.open_ahead(all).wait().await;
            for at in 0..batch.num_rows() {
                let name = names.value(at).to_owned();
                if resolver
                    .version(&table("reference", &name)?)
                    .await?
                    .is_some()
                {
                    let digest = digests.value(at).to_owned();
                    known.insert(
                        name,
                        Known {
                            digest,
                            rows: rows.value(at),
                        },
                    );
                }
            }
        }
        Ok(known)
    }

    /// Reads every file whose digest is new.
    async fn read_files(&self, known: &BTreeMap<String, Known>) -> Result<Vec<Loaded>> {
        let mut problems = Vec::new();
        let mut loaded = Vec::new();
        for (name, file_table) in self.manifest.tables() {
            match self.read_file(name, file_table, known) {
                Ok(table) => loaded.push(table),
                Err(found) => problems.extend(found),
            }
        }
        match self.read_codes(known) {
            Ok(table) => loaded.push(table),
            Err(found) => problems.extend(found),
        }
        match self.read_limits(known) {
            Ok(table) => loaded.push(table),
            Err(found) => problems.extend(found),
        }
        if problems.is_empty() {
            Ok(loaded)
        } else {
            problems.sort();
            Err(EngineError::Definitions { problems })
        }
    }

    fn read_file(
        &self,
        name: &str,
        from: &FileTable,
        known: &BTreeMap<String, Known>,
    ) -> Result<Loaded, Vec<Problem>> {
        let started = Instant::now();
        let file = format!("reference/{}", from.file);
        let text = std::fs::read_to_string(self.options.root.join(&file)).map_err(|error| {
            vec![
                Problem::new(&file, format!("cannot be read: {}", error.kind())).help(format!(
                    "it fills `reference.{name}`; check `file` in reference/tables.toml"
                )),
            ]
        })?;
        let mut digest = Digest::new();
        digest
            .text(&text)
            .text(&from.separator.to_string())
            .text(&from.key.join(","));
        for column in &from.columns {
            digest
                .text(&column.name)
                .text(&column.from)
                .text(&column.data_type.to_string());
        }
        let holding = Holding {
            name: name.to_owned(),
            kind: "file",
            file: file.clone(),
            digest: digest.finish(),
            rows: 0,
            comment: from.comment.clone(),
            source: from.source.clone(),
            licence: from.licence.clone(),
            attribution: from.attribution.clone(),
        };
        let rows = match is_known(known, &holding) {
            true => None,
            false => Some(csv::read(
                &file,
                &text,
                from.separator,
                &from.columns,
                &from.key,
            )?),
        };
        Ok(Loaded {
            holding,
            rows,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// `definitions/codes/*.csv`, all in one table.
    fn read_codes(&self, known: &BTreeMap<String, Known>) -> Result<Loaded, Vec<Problem>> {
        let started = Instant::now();
        let files =
            read_folder(&self.options.root, "definitions/codes", "csv").map_err(problems_of)?;
        let mut digest = Digest::new();
        for (list, text) in &files {
            digest.text(list).text(text);
        }
        let holding = Holding {
            name: CODE.to_owned(),
            kind: "definitions",
            file: "definitions/codes".to_owned(),
            digest: digest.finish(),
            rows: 0,
            comment: "one row per code list, code and validity".to_owned(),
            source: "Code lists of this warehouse; definitions/codes names the source of each"
                .to_owned(),
            licence: String::new(),
            attribution: String::new(),
        };
        if is_known(known, &holding) {
            return Ok(Loaded {
                holding,
                rows: None,
                seconds: started.elapsed().as_secs_f64(),
            });
        }
        let mut problems = Vec::new();
        let mut batches = Vec::new();
        for (list, text) in &files {
            let file = format!("definitions/codes/{list}.csv");
            // A code may come again with another validity, and an open beginning is empty: what
            // tells codes apart is checked where contracts read the lists.
            match csv::read(&file, text, ',', &code_columns(), &[]) {
                Ok(batch) => batches.push(with_list(list, &batch)),
                Err(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let rows = concat_batches(&code_schema(), &batches)
            .map_err(|error| vec![Problem::new("definitions/codes", error.to_string())])?;
        Ok(Loaded {
            holding,
            rows: Some(rows),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// `definitions/limits/*.toml`.
    fn read_limits(&self, known: &BTreeMap<String, Known>) -> Result<Loaded, Vec<Problem>> {
        let started = Instant::now();
        let files = definition_files(self, "definitions/limits").map_err(problems_of)?;
        let mut digest = Digest::new();
        for (file, text) in &files {
            digest.text(file).text(text);
        }
        let holding = Holding {
            name: LIMIT.to_owned(),
            kind: "definitions",
            file: "definitions/limits".to_owned(),
            digest: digest.finish(),
            rows: 0,
            comment: "one row per statutory limit, condition and validity".to_owned(),
            source: "Acts named in the column `basis`".to_owned(),
            licence: String::new(),
            attribution: String::new(),
        };
        if is_known(known, &holding) {
            return Ok(Loaded {
                holding,
                rows: None,
                seconds: started.elapsed().as_secs_f64(),
            });
        }
        let catalogue = Catalogue::load(&CatalogueInput {
            definitions: &[],
            limits: &files,
            code_lists: &[],
            contracts: &[],
            disclosure_profiles: &[],
            tables: &NoTables,
        })?;
        let rows = limit_rows(catalogue.limits())
            .map_err(|error| vec![Problem::new("definitions/limits", error.to_string())])?;
        Ok(Loaded {
            holding,
            rows: Some(rows),
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Computes a derived relation, unless it and everything it reads are as before.
    async fn materialise(
        self: &Arc<Self>,
        writing: &mut Writing,
        name: &RelationName,
        relation: &Relation,
        holdings: &[Holding],
        known: &BTreeMap<String, Known>,
    ) -> Result<(Holding, ReferenceTable)> {
        let started = Instant::now();
        if let Some(problem) = &relation.problem {
            return Err(EngineError::Definitions {
                problems: vec![problem.clone()],
            });
        }
        let models = &self.warehouse.models;
        let mut digest = Digest::new();
        digest.text(&relation.sql);
        for (read, text) in models.texts(&relation.reads) {
            digest.text(&read.to_string()).text(text);
        }
        for source in models.sources(&relation.reads) {
            let held = holdings
                .iter()
                .find(|held| source.schema == "reference" && held.name == source.name);
            digest
                .text(&source.to_string())
                .text(held.map_or("", |held| held.digest.as_str()));
        }
        let mut holding = Holding {
            name: name.name.clone(),
            kind: "query",
            file: relation.file.clone(),
            digest: digest.finish(),
            rows: 0,
            comment: relation.grain.clone().unwrap_or_default(),
            source: "Computed from other reference tables".to_owned(),
            licence: String::new(),
            attribution: String::new(),
        };
        let outcome = if is_known(known, &holding) {
            holding.rows = known.get(&holding.name).map_or(0, |known| known.rows);
            ReferenceOutcome::Unchanged
        } else {
            let batches = self.compute(writing, relation).await?;
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            holding.rows = i64::try_from(rows).unwrap_or(i64::MAX);
            self.write_reference(writing, &holding.name, batches)
                .await?;
            ReferenceOutcome::Computed
        };
        let table = row_of(&holding, outcome, started.elapsed().as_secs_f64());
        Ok((holding, table))
    }

    /// The rows of a derived relation in the order of its key, which must tell them apart.
    async fn compute(
        self: &Arc<Self>,
        writing: &Writing,
        relation: &Relation,
    ) -> Result<Vec<RecordBatch>> {
        let of_file = |error: EngineError| match error {
            EngineError::UserSql { message } => EngineError::Definitions {
                problems: vec![Problem::new(relation.file.clone(), message)],
            },
            other => other,
        };
        let resolver = self.plain_resolver();
        for (name, version) in &writing.written {
            resolver.pin(name.clone(), *version);
        }
        let order = relation.key.join(", ");
        let sql = match relation.key.is_empty() {
            true => relation.sql.clone(),
            false => format!(
                "SELECT * FROM (\n{}\n) AS derived ORDER BY {order}",
                relation.sql
            ),
        };
        let batches = self.run(&resolver, &sql).await.map_err(of_file)?;
        let batches = batches
            .iter()
            .map(|batch| conform(batch, &plain_schema(&batch.schema())))
            .collect::<Result<Vec<_>>>()?;
        if repeats(&batches, &relation.key)? {
            let problem = Problem::new(
                relation.file.clone(),
                format!("the key ({order}) does not tell rows apart"),
            )
            .help("correct the `-- key:` line or the query");
            return Err(EngineError::Definitions {
                problems: vec![problem],
            });
        }
        Ok(batches)
    }

    /// Writes a table; readers see it when `meta.reference` is written too.
    async fn write_reference(
        &self,
        writing: &mut Writing,
        name: &str,
        batches: Vec<RecordBatch>,
    ) -> Result<()> {
        let name = table("reference", name)?;
        let schema = match batches.first() {
            Some(batch) => batch.schema(),
            None => match self.warehouse.reference.get(name.table()) {
                Some((schema, _)) => Arc::clone(schema),
                // Nothing came out and nothing is known of the columns: the relation stays a view.
                None => return Ok(()),
            },
        };
        let group = match &writing.group {
            Some(group) => group,
            None => {
                let last = table("meta", "reference")?;
                let group = self.group(&last, tables::reference_schema()).await?;
                writing.group.insert(group)
            }
        };
        let version = self.overwrite(&name, schema, batches, group.info()).await?;
        writing.written.insert(name, version);
        Ok(())
    }

    /// Commits that are seen together once the table `last` is committed to.
    pub(crate) async fn group(&self, last: &TableName, schema: SchemaRef) -> Result<Group> {
        let failed = |error| not_written(last, error);
        let lake = &self.options.lake;
        lake.ensure_table(last, schema, &[]).await.map_err(failed)?;
        lake.group(last).await.map_err(failed)
    }

    /// Makes the rows of a small table be exactly these.
    pub(crate) async fn overwrite(
        &self,
        name: &TableName,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        info: CommitInfo,
    ) -> Result<i64> {
        let failed = |error| not_written(name, error);
        let lake = &self.options.lake;
        lake.ensure_table(name, schema, &[]).await.map_err(failed)?;
        let version = lake.overwrite(name, batches, info).await.map_err(failed)?;
        lake.maintain(name).await.map_err(failed)?;
        Ok(version)
    }

    /// Writes `meta.reference`.
    async fn remember(&self, holdings: &[Holding], writing: &Writing) -> Result<()> {
        let mut holdings = holdings.to_vec();
        holdings.sort_by(|a, b| a.name.cmp(&b.name));
        let text = |of: fn(&Holding) -> &str| {
            Arc::new(
                holdings
                    .iter()
                    .map(|held| Some(of(held)))
                    .collect::<StringArray>(),
            ) as ArrayRef
        };
        let now = self.now().as_microsecond();
        let moments =
            TimestampMicrosecondArray::from(vec![now; holdings.len()]).with_timezone("UTC");
        let version = StringArray::from(vec![self.options.engine_version.as_str(); holdings.len()]);
        let rows: Int64Array = holdings.iter().map(|held| Some(held.rows)).collect();
        let schema = tables::reference_schema();
        let columns: Vec<ArrayRef> = vec![
            text(|held| &held.name),
            text(|held| held.kind),
            text(|held| &held.file),
            text(|held| &held.digest),
            Arc::new(rows),
            text(|held| &held.comment),
            text(|held| &held.source),
            text(|held| &held.licence),
            text(|held| &held.attribution),
            Arc::new(moments),
            Arc::new(version),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
            .map_err(|error| EngineError::internal_because("rows of `meta.reference`", error))?;
        let info = writing.group.as_ref().map(Group::info).unwrap_or_default();
        self.overwrite(&table("meta", "reference")?, schema, vec![batch], info)
            .await?;
        Ok(())
    }
}

/// What `meta.reference` remembers of a table.
struct Known {
    digest: String,
    rows: i64,
}

fn is_known(known: &BTreeMap<String, Known>, holding: &Holding) -> bool {
    known
        .get(&holding.name)
        .is_some_and(|known| known.digest == holding.digest)
}

fn row_of(holding: &Holding, outcome: ReferenceOutcome, seconds: f64) -> ReferenceTable {
    let rows = u64::try_from(holding.rows).unwrap_or(0);
    ReferenceTable {
        name: holding.name.clone(),
        outcome,
        rows,
        seconds,
    }
}

fn problems_of(error: EngineError) -> Vec<Problem> {
    match error {
        EngineError::Definitions { problems } => problems,
        other => vec![Problem::new("definitions", other.to_string())],
    }
}

/// Files of a folder of definitions with their path and text.
pub(crate) fn definition_files(engine: &Engine, folder: &str) -> Result<Vec<(String, String)>> {
    let files = read_folder(&engine.options.root, folder, "toml")?;
    Ok(files
        .into_iter()
        .map(|(stem, text)| (format!("{folder}/{stem}.toml"), text))
        .collect())
}

fn with_list(list: &str, batch: &RecordBatch) -> RecordBatch {
    let name: ArrayRef = Arc::new(StringArray::from(vec![list; batch.num_rows()]));
    let columns = std::iter::once(name)
        .chain(batch.columns().iter().cloned())
        .collect();
    // The schema is the one the columns were read by, so this cannot fail; an empty list if it did.
    RecordBatch::try_new(code_schema(), columns)
        .unwrap_or_else(|_| RecordBatch::new_empty(code_schema()))
}

fn limit_rows(limits: &[Limit]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let day = |date: Option<Date>| date.and_then(csv::day_number);
    let text = |values: Vec<Option<String>>| Arc::new(StringArray::from(values)) as ArrayRef;
    let column = |of: fn(&Limit) -> Option<String>| text(limits.iter().map(of).collect());
    let number = |bound: Bound| -> Float64Array {
        let of_bound = |limit: &Limit| {
            limit
                .value()
                .filter(|_| limit.bound() == bound)?
                .parse::<f64>()
                .ok()
        };
        limits.iter().map(of_bound).collect()
    };
    let from: Date32Array = limits.iter().map(|limit| day(limit.valid_from())).collect();
    let to: Date32Array = limits.iter().map(|limit| day(limit.valid_to())).collect();
    let confirmed: BooleanArray = limits.iter().map(|limit| Some(limit.confirmed())).collect();
    RecordBatch::try_new(
        limit_schema(),
        vec![
            column(|limit| Some(limit.id().to_owned())),
            column(Limit::condition),
            column(|limit| Some(limit.unit().to_string())),
            Arc::new(number(Bound::Max)),
            Arc::new(number(Bound::Min)),
            Arc::new(from),
            Arc::new(to),
            column(|limit| Some(limit.basis().to_owned())),
            Arc::new(confirmed),
            column(|limit| Some(limit.title_fi().to_owned())),
        ],
    )
}

/// Do two neighbouring rows have the same key? The rows are in the order of the key.
fn repeats(batches: &[RecordBatch], key: &[String]) -> Result<bool> {
    let failed = |error| EngineError::internal_because("comparing keys", error);
    if key.is_empty() {
        return Ok(false);
    }
    let mut last: Option<arrow::row::OwnedRow> = None;
    let mut converter: Option<RowConverter> = None;
    for batch in batches {
        let columns: Vec<ArrayRef> = key
            .iter()
            .filter_map(|name| batch.column_by_name(name).cloned())
            .collect();
        let converter = match &mut converter {
            Some(converter) => converter,
            none => {
                let fields = columns
                    .iter()
                    .map(|column| SortField::new(column.data_type().clone()))
                    .collect();
                none.insert(RowConverter::new(fields).map_err(failed)?)
            }
        };
        let rows = converter.convert_columns(&columns).map_err(failed)?;
        for row in rows.iter() {
            if last.as_ref().is_some_and(|last| last.row() == row) {
                return Ok(true);
            }
            last = Some(row.owned());
        }
    }
    Ok(false)
}

struct NoTables;

impl TableColumns for NoTables {
    fn columns(&self, _table: &str) -> Option<Vec<(String, String)>> {
        None
    }

    fn tables(&self) -> Vec<String> {
        Vec::new()
    }
}
