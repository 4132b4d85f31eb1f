//! The relations of `sql/`: one file, one relation, read once when the engine opens.
//!
//! A file is `sql/<folder>/<name>.sql`; folder and name are the relation's schema and name. The
//! first lines are comments that say the grain and the key, and may say more:
//!
//! ```text
//! -- grain: one row per care spell and month
//! -- key: county_code, spell_no, month_start
//! -- references: county_code, spell_no -> conformed.care_spell(county_code, spell_no)
//! -- column care_days: days of care in the month
//! ```
//!
//! Here the text is read, its header and the relations it names are found, and loops are refused;
//! planning is the catalog's work. A file that cannot be read makes its own relation unusable and
//! no other; a header line that cannot be read is told of and keeps nobody from reading rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use datafusion::common::TableReference;
use datafusion::sql::resolve::resolve_table_references;
use tietopohja_domain::Problem;

use crate::DEFAULT_SCHEMA;
use crate::error::{EngineError, Result};
use crate::keys::{Declared, Place, REFERENCE_FORM, is_name, parse_key, parse_reference};
use crate::statement;

/// Deepest nesting of expressions in a file of `sql/`.
pub(crate) const RECURSION_LIMIT: usize = 128;

/// The folders of `sql/` that hold relations. Checks are queries, not relations.
const FOLDERS: [&str; 4] = ["staging", "conformed", "reference", "meta"];

/// A relation by schema and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RelationName {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl RelationName {
    pub(crate) fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
        }
    }

    fn of(reference: &TableReference) -> Self {
        Self::new(
            reference.schema().unwrap_or(DEFAULT_SCHEMA),
            reference.table(),
        )
    }
}

impl std::fmt::Display for RelationName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// One file of `sql/`.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    /// The file as the user knows it.
    pub(crate) file: String,
    /// The text.
    pub(crate) sql: String,
    /// What one row is.
    pub(crate) grain: Option<String>,
    /// The columns that tell rows apart.
    pub(crate) key: Vec<String>,
    /// Computed when reference data is loaded, and stored.
    pub(crate) materialise: bool,
    /// Kept in coded form beside the lake's raw tables, in the order of these columns; none when it
    /// is a view only.
    pub(crate) stored: Vec<String>,
    /// The relations that the text names.
    pub(crate) reads: BTreeSet<RelationName>,
    /// Keys and columns as the header describes them.
    pub(crate) declared: Declared,
    /// Header lines that cannot be read. The relation can be used without them.
    pub(crate) unread: Vec<Problem>,
    /// Why the relation cannot be used.
    pub(crate) problem: Option<Problem>,
}

/// Every relation of `sql/`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Models {
    relations: BTreeMap<RelationName, Relation>,
}

impl Models {
    /// Reads the files of a warehouse.
    ///
    /// # Errors
    /// A folder or file that cannot be read at all. A file with faulty text is kept, with its
    /// problem.
    pub(crate) fn read(root: &Path) -> Result<Models> {
        let mut relations = BTreeMap::new();
        for folder in FOLDERS {
            for (name, sql) in read_folder(root, &format!("sql/{folder}"), "sql")? {
                let file = format!("sql/{folder}/{name}.sql");
                relations.insert(RelationName::new(folder, name), Relation::parse(file, sql));
            }
        }
        let mut models = Models { relations };
        models.refuse_loops();
        models.refuse_unstorable();
        Ok(models)
    }

    pub(crate) fn get(&self, name: &RelationName) -> Option<&Relation> {
        self.relations.get(name)
    }

    /// All relations in name order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&RelationName, &Relation)> {
        self.relations.iter()
    }

    /// Adds a relation that is part of the engine, unless a file defines it.
    pub(crate) fn add_built_in(&mut self, name: RelationName, sql: &str) {
        let file = format!("built-in {name}");
        self.relations
            .entry(name)
            .or_insert_with(|| Relation::parse(file, sql.to_owned()));
    }

    /// What is wrong in the files, in file order.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.relations
            .values()
            .flat_map(|relation| relation.problem.iter().chain(&relation.unread).cloned())
            .collect()
    }

    /// The relations that are not files of `sql/` and that these texts read, at any depth.
    pub(crate) fn sources<'a>(
        &'a self,
        reads: impl IntoIterator<Item = &'a RelationName>,
    ) -> BTreeSet<RelationName> {
        self.closure(reads)
            .into_iter()
            .filter(|name| self.get(name).is_none_or(|r| r.materialise))
            .collect()
    }

    /// The files of `sql/` that these texts read, at any depth, with their text.
    pub(crate) fn texts<'a>(
        &'a self,
        reads: impl IntoIterator<Item = &'a RelationName>,
    ) -> BTreeMap<RelationName, &'a str> {
        self.closure(reads)
            .into_iter()
            .filter_map(|name| {
                self.get(&name)
                    .map(|relation| (name, relation.sql.as_str()))
            })
            .collect()
    }

    /// Everything reachable. A stored relation is an end: what it was computed from no longer matters.
    fn closure<'a>(
        &'a self,
        reads: impl IntoIterator<Item = &'a RelationName>,
    ) -> BTreeSet<RelationName> {
        let mut found: BTreeSet<RelationName> = BTreeSet::new();
        let mut open: Vec<RelationName> = reads.into_iter().cloned().collect();
        while let Some(name) = open.pop() {
            if let Some(relation) = self.get(&name)
                && !relation.materialise
            {
                open.extend(
                    relation
                        .reads
                        .iter()
                        .filter(|name| !found.contains(name))
                        .cloned(),
                );
            }
            found.insert(name);
        }
        found
    }

    /// The stored relations of `schema`, each after those it reads.
    pub(crate) fn materialised(&self, schema: &str) -> Vec<(&RelationName, &Relation)> {
        let mut ordered = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, relation) in &self.relations {
            if relation.materialise && name.schema == schema {
                self.visit(name, &mut seen, &mut ordered);
            }
        }
        ordered
    }

    fn visit<'a>(
        &'a self,
        name: &RelationName,
        seen: &mut BTreeSet<RelationName>,
        ordered: &mut Vec<(&'a RelationName, &'a Relation)>,
    ) {
        if !seen.insert(name.clone()) {
            return;
        }
        if let Some((name, relation)) = self.relations.get_key_value(name) {
            for read in &relation.reads {
                self.visit(read, seen, ordered);
            }
            if relation.materialise {
                ordered.push((name, relation));
            }
        }
    }

    fn refuse_loops(&mut self) {
        let looping: Vec<RelationName> = self
            .relations
            .iter()
            .filter(|(name, relation)| self.reaches(&relation.reads, name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in looping {
            if let Some(relation) = self.relations.get_mut(&name) {
                relation.problem = Some(
                    Problem::new(
                        relation.file.clone(),
                        format!("`{name}` reads itself, directly or through others"),
                    )
                    .help("break the loop: a relation may read only what exists without it"),
                );
            }
        }
    }

    /// A stored relation is computed slice by slice, so each row may depend on its own slice only.
    fn refuse_unstorable(&mut self) {
        let wrong: Vec<(RelationName, String)> = self
            .relations
            .iter()
            .filter(|(_, relation)| !relation.stored.is_empty() && relation.problem.is_none())
            .filter_map(|(name, relation)| Some((name.clone(), self.unstorable(name, relation)?)))
            .collect();
        for (name, why) in wrong {
            if let Some(relation) = self.relations.get_mut(&name) {
                relation.problem = Some(
                    Problem::new(
                        relation.file.clone(),
                        format!("`{name}` cannot be stored: {why}"),
                    )
                    .help("leave out the line `-- stored:`; the relation is then a view"),
                );
            }
        }
    }

    fn unstorable(&self, name: &RelationName, relation: &Relation) -> Option<String> {
        if name.schema != "conformed" {
            return Some("only relations of `conformed` are".to_owned());
        }
        let mut raw = 0;
        for source in self.sources(&relation.reads) {
            match source.schema.as_str() {
                "raw" => raw += 1,
                "reference" => {}
                _ => return Some(format!("it reads `{source}`, which changes by itself")),
            }
        }
        (raw != 1).then(|| format!("it reads {raw} raw tables, not one"))
    }

    /// The relations that are stored in coded form and that these texts read, at any depth.
    pub(crate) fn stored<'a>(
        &'a self,
        reads: impl IntoIterator<Item = &'a RelationName>,
    ) -> BTreeSet<RelationName> {
        let mut found = self.closure(reads);
        found.retain(|name| {
            self.get(name)
                .is_some_and(|relation| !relation.stored.is_empty() && relation.problem.is_none())
        });
        found
    }

    fn reaches(&self, reads: &BTreeSet<RelationName>, goal: &RelationName) -> bool {
        let mut seen = BTreeSet::new();
        let mut open: Vec<&RelationName> = reads.iter().collect();
        while let Some(name) = open.pop() {
            if name == goal {
                return true;
            }
            if seen.insert(name)
                && let Some(relation) = self.get(name)
            {
                open.extend(&relation.reads);
            }
        }
        false
    }
}

impl Relation {
    fn parse(file: String, sql: String) -> Relation {
        let header = |key: &str| {
            sql.lines()
                .map(str::trim)
                .take_while(|line| line.is_empty() || line.starts_with("--"))
                .find_map(|line| {
                    line.strip_prefix("--")?
                        .trim()
                        .strip_prefix(key)?
                        .trim()
                        .strip_prefix(':')
                })
                .map(|value| value.trim().to_owned())
        };
        let grain = header("grain");
        let columns = |key: &str| -> Vec<String> {
            header(key)
                .unwrap_or_default()
                .split(',')
                .map(|column| column.trim().to_owned())
                .filter(|column| !column.is_empty())
                .collect()
        };
        let stored = columns("stored");
        let (declared, unread) = described(&file, &sql);
        let key = declared.key.iter().map(|column| column.name.clone());
        let key = key.collect();
        let materialise = header("materialise").is_some_and(|answer| answer == "yes");
        let (reads, problem) = match reads_of(&sql) {
            Ok(reads) => (reads, None),
            Err(error) => {
                let problem = Problem::new(file.clone(), error.to_string())
                    .help("a file of sql/ is comment lines and then one SELECT");
                (BTreeSet::new(), Some(problem))
            }
        };
        Relation {
            file,
            sql,
            grain,
            key,
            materialise,
            stored,
            reads,
            declared,
            unread,
            problem,
        }
    }
}

/// What the header says of keys and columns, and the lines of it that cannot be read.
fn described(file: &str, sql: &str) -> (Declared, Vec<Problem>) {
    let mut declared = Declared::default();
    let mut place = Place {
        file: file.to_owned(),
        ..Place::default()
    };
    let mut unread = Vec::new();
    let lines = sql.lines().map(str::trim);
    let header = lines.take_while(|line| line.is_empty() || line.starts_with("--"));
    for (line, number) in header.zip(1..) {
        let Some((word, text)) = line
            .strip_prefix("--")
            .and_then(|line| line.split_once(':'))
        else {
            continue;
        };
        let (word, text) = (word.trim(), text.trim());
        let mut refuse = |message: String, help: &str| {
            unread.push(Problem::new(file, message).at(number).help(help));
        };
        match word {
            "key" if place.key_line.is_some() => {
                refuse(
                    "the key is there twice".to_owned(),
                    "leave one of the lines",
                );
            }
            "key" => match parse_key(text) {
                Ok(key) => {
                    declared.key = key;
                    place.key_line = Some(number);
                }
                Err(message) => refuse(message, "write `-- key: column, column`"),
            },
            "references" => match parse_reference(text, Some(number)) {
                Ok(reference) => declared.references.push(reference),
                Err(message) => refuse(message, REFERENCE_FORM),
            },
            _ => {
                let Some(column) = word.strip_prefix("column ").map(str::trim) else {
                    continue;
                };
                if !is_name(column) || text.is_empty() {
                    refuse(
                        format!("`{word}` describes no column"),
                        "write `-- column name: what it is`",
                    );
                } else if place.comment_lines.contains_key(column) {
                    refuse(
                        format!("the column `{column}` is described twice"),
                        "leave one of the lines",
                    );
                } else {
                    place.comment_lines.insert(column.to_owned(), number);
                    declared.comments.insert(column.to_owned(), text.to_owned());
                }
            }
        }
    }
    declared.place = Some(place);
    (declared, unread)
}

/// The relations that a query names.
///
/// # Errors
/// [`EngineError::UserSql`] when the text is not one query.
pub(crate) fn reads_of(sql: &str) -> Result<BTreeSet<RelationName>> {
    let parsed = statement::parse(sql, RECURSION_LIMIT)?;
    let (tables, _) = resolve_table_references(&parsed.tree, true)?;
    Ok(tables.iter().map(RelationName::of).collect())
}

/// The files of a folder with an extension: stem and text, in name order. A folder that does not
/// exist has none.
///
/// # Errors
/// A file that cannot be read or is not UTF-8.
pub(crate) fn read_folder(
    root: &Path,
    folder: &str,
    extension: &str,
) -> Result<Vec<(String, String)>> {
    let unreadable = |what: &str, error: std::io::Error| EngineError::Definitions {
        problems: vec![
            Problem::new(what.to_owned(), format!("cannot be read: {}", error.kind()))
                .help("check that the file exists, is UTF-8 text and may be read"),
        ],
    };
    let entries = match std::fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .map(str::to_owned);
        let matching = path.extension().is_some_and(|found| found == extension);
        if let (true, Some(stem)) = (matching, stem) {
            let text = std::fs::read_to_string(&path)
                .map_err(|error| unreadable(&format!("{folder}/{stem}.{extension}"), error))?;
            files.push((stem, text));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(files: &[(&str, &str)]) -> Models {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join("sql").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Models::read(folder.path()).unwrap()
    }

    fn name(text: &str) -> RelationName {
        let (schema, name) = text.split_once('.').unwrap();
        RelationName::new(schema, name)
    }

    #[test]
    fn a_header_says_grain_and_whether_to_store() {
        let models = models(&[(
            "reference/period.sql",
            "-- grain: one row per period\n-- key: grain, period_start\n-- materialise: yes\nSELECT 1 AS a",
        )]);
        let relation = models.get(&name("reference.period")).unwrap();
        assert_eq!(relation.grain.as_deref(), Some("one row per period"));
        assert_eq!(relation.key, ["grain", "period_start"]);
        assert!(relation.materialise && relation.problem.is_none());
    }

    #[test]
    fn a_header_describes_keys_and_columns_and_says_what_it_cannot_read() {
        let models = models(&[(
            "conformed/a.sql",
            "-- grain: one row per n\n\n-- key: n, area?\n\
             -- references: n -> reference.b(n)\n-- references: n > reference.b(n)\n\
             -- column n: a number: the first\n-- column N: no\n-- column n: again\n\
             -- A note: columns are as they come.\n-- key: n\n\
             SELECT 1 AS n -- key: other\n",
        )]);
        let relation = models.get(&name("conformed.a")).unwrap();
        assert_eq!(relation.key, ["n", "area"]);
        let nullable = relation.declared.key.iter().map(|column| column.nullable);
        assert_eq!(nullable.collect::<Vec<_>>(), [false, true]);
        assert_eq!(relation.declared.references.len(), 1);
        assert_eq!(relation.declared.comments["n"], "a number: the first");
        assert!(relation.problem.is_none());
        let told: Vec<String> = models
            .problems()
            .iter()
            .map(|problem| format!("{}: {}", problem.line.unwrap_or(0), problem.message))
            .collect();
        assert_eq!(
            told,
            [
                "5: `n > reference.b(n)` is not a reference",
                "7: `column N` describes no column",
                "8: the column `n` is described twice",
                "10: the key is there twice",
            ]
        );
    }

    #[test]
    fn a_stored_relation_reads_one_raw_table_and_reference_data() {
        let models = models(&[
            ("staging/a.sql", "SELECT * FROM raw.a"),
            ("staging/b.sql", "SELECT * FROM raw.b"),
            (
                "conformed/good.sql",
                "-- key: no\n-- stored: pid, day\nSELECT * FROM staging.a JOIN reference.code ON true",
            ),
            (
                "conformed/over.sql",
                "SELECT day, count(*) AS n FROM conformed.good GROUP BY day",
            ),
            (
                "conformed/ledger.sql",
                "-- stored: pid\nSELECT * FROM staging.a JOIN meta.delivery ON true",
            ),
            (
                "conformed/two.sql",
                "-- stored: pid\nSELECT * FROM staging.a JOIN staging.b ON true",
            ),
            ("staging/c.sql", "-- stored: pid\nSELECT * FROM raw.c"),
        ]);
        assert_eq!(
            models.get(&name("conformed.good")).unwrap().stored,
            ["pid", "day"]
        );
        let stored = |relation: &str| models.stored(&[name(relation)]).len();
        assert_eq!((stored("conformed.over"), stored("conformed.two")), (1, 0));
        let told: Vec<String> = models
            .problems()
            .into_iter()
            .map(|problem| problem.message)
            .collect();
        assert_eq!(
            told,
            [
                "`conformed.ledger` cannot be stored: it reads `meta.delivery`, which changes by itself",
                "`conformed.two` cannot be stored: it reads 2 raw tables, not one",
                "`staging.c` cannot be stored: only relations of `conformed` are",
            ]
        );
    }

    #[test]
    fn common_table_expressions_are_not_relations() {
        let models = models(&[(
            "conformed/a.sql",
            "WITH x AS (SELECT * FROM staging.b) SELECT * FROM x JOIN reference.c ON true WHERE EXISTS (SELECT 1 FROM raw.d)",
        )]);
        let reads: Vec<String> = models
            .get(&name("conformed.a"))
            .unwrap()
            .reads
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(reads, ["raw.d", "reference.c", "staging.b"]);
    }

    #[test]
    fn a_faulty_file_breaks_only_itself() {
        let models = models(&[
            ("staging/good.sql", "SELECT * FROM raw.x"),
            ("staging/bad.sql", "SELEC * FROM raw.x"),
            ("staging/change.sql", "DROP TABLE raw.x"),
            ("conformed/loop_a.sql", "SELECT * FROM conformed.loop_b"),
            ("conformed/loop_b.sql", "SELECT * FROM conformed.loop_a"),
        ]);
        assert!(models.get(&name("staging.good")).unwrap().problem.is_none());
        let files: Vec<String> = models
            .problems()
            .into_iter()
            .map(|problem| problem.file)
            .collect();
        assert_eq!(
            files,
            [
                "sql/conformed/loop_a.sql",
                "sql/conformed/loop_b.sql",
                "sql/staging/bad.sql",
                "sql/staging/change.sql"
            ]
        );
    }

    #[test]
    fn sources_are_found_through_views_and_stop_at_stored_relations() {
        let models = models(&[
            ("staging/a.sql", "SELECT * FROM raw.a"),
            (
                "conformed/b.sql",
                "SELECT * FROM staging.a JOIN reference.day ON true",
            ),
            (
                "reference/day.sql",
                "-- materialise: yes\nSELECT * FROM reference.eve",
            ),
        ]);
        let start = [name("conformed.b")];
        let sources: Vec<String> = models
            .sources(&start)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(sources, ["raw.a", "reference.day"]);
        assert_eq!(models.texts(&start).len(), 3);
    }

    #[test]
    fn stored_relations_come_after_what_they_read() {
        let models = models(&[
            (
                "reference/a.sql",
                "-- materialise: yes\nSELECT * FROM reference.v",
            ),
            ("reference/v.sql", "SELECT * FROM reference.z"),
            ("reference/z.sql", "-- materialise: yes\nSELECT 1 AS n"),
        ]);
        let order: Vec<&str> = models
            .materialised("reference")
            .iter()
            .map(|(name, _)| name.name.as_str())
            .collect();
        assert_eq!(order, ["z", "a"]);
    }
}
