//! `reference/tables.toml`: which file fills which reference table, with which columns and types.
//!
//! ```toml
//! [table.county]
//! comment = "one row per county"
//! file = "regions/hyvinvointialueet.csv"
//! separator = ","
//! columns = [{ name = "county_code", from = "hva_code", type = "text" }]
//! key = ["county_code"]
//! references = ["area_code -> reference.area(area_code)"]
//! source = "Statistics Finland"
//! licence = "CC BY 4.0"
//! attribution = "Lähde: Tilastokeskus (CC BY 4.0)"
//! ```
//!
//! A column may have a `comment`. Types: `text`, `int`, `bigint`, `float`, `date`, `decimal(p,s)`. Unknown keys are errors.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::Deserialize;
use tietopohja_domain::{Problem, did_you_mean};
use tietopohja_lake::TableName;

use super::csv::{Column, schema_of};
use crate::error::{EngineError, Result};
use crate::keys::{Declared, KeyColumn, Place, REFERENCE_FORM, Reference, parse_reference};

/// The file as users know it.
pub(crate) const FILE: &str = "reference/tables.toml";

/// The tables that files fill, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manifest {
    tables: BTreeMap<String, FileTable>,
}

/// One table and its file.
#[derive(Debug, Clone)]
pub(crate) struct FileTable {
    pub(crate) file: String,
    pub(crate) separator: char,
    pub(crate) columns: Vec<Column>,
    pub(crate) key: Vec<String>,
    references: Vec<Reference>,
    column_comments: BTreeMap<String, String>,
    line: Option<u32>,
    pub(crate) comment: String,
    pub(crate) source: String,
    pub(crate) licence: String,
    pub(crate) attribution: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    table: BTreeMap<String, RawTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    file: String,
    #[serde(default = "comma")]
    separator: char,
    columns: Vec<RawColumn>,
    key: Vec<String>,
    #[serde(default)]
    references: Vec<String>,
    #[serde(default)]
    comment: String,
    source: String,
    licence: String,
    #[serde(default)]
    attribution: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawColumn {
    name: String,
    from: Option<String>,
    #[serde(rename = "type")]
    type_name: String,
    #[serde(default)]
    optional: bool,
    comment: Option<String>,
}

fn comma() -> char {
    ','
}

impl Manifest {
    /// Reads the file of a warehouse; a warehouse without one has no file tables.
    ///
    /// # Errors
    /// [`EngineError::Definitions`] with every problem.
    pub(crate) fn read(root: &Path) -> Result<Manifest> {
        match std::fs::read_to_string(root.join(FILE)) {
            Ok(text) => {
                Self::parse(&text).map_err(|problems| EngineError::Definitions { problems })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(EngineError::Definitions {
                problems: vec![Problem::new(
                    FILE,
                    format!("cannot be read: {}", error.kind()),
                )],
            }),
        }
    }

    fn parse(text: &str) -> Result<Manifest, Vec<Problem>> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let problem = Problem::new(FILE, error.message().trim_end_matches('.').to_owned());
            vec![match error.span() {
                Some(span) => problem.at(line_at(text, span.start)),
                None => problem,
            }]
        })?;
        let mut problems = Vec::new();
        let mut tables = BTreeMap::new();
        for (name, raw) in document.table {
            let line = table_line(text, &name);
            if let Some(table) = check(&name, raw, line, &mut problems) {
                tables.insert(name, table);
            }
        }
        if problems.is_empty() {
            Ok(Manifest { tables })
        } else {
            Err(problems)
        }
    }

    /// The tables in name order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&String, &FileTable)> {
        self.tables.iter()
    }

    /// Columns and comment of each table that loading fills, code lists and limits included.
    pub(crate) fn empty_tables(&self) -> BTreeMap<String, (SchemaRef, String)> {
        let files = self.tables.iter().map(|(name, table)| {
            (
                name.clone(),
                (schema_of(&table.columns), table.comment.clone()),
            )
        });
        let code = (
            CODE.to_owned(),
            (
                code_schema(),
                "one row per code list, code and validity".to_owned(),
            ),
        );
        let limit = (
            LIMIT.to_owned(),
            (
                limit_schema(),
                "one row per statutory limit, condition and validity".to_owned(),
            ),
        );
        files.chain([code, limit]).collect()
    }

    /// What each of these tables says about its rows.
    pub(crate) fn declared(&self) -> BTreeMap<String, Declared> {
        let files = self.tables.iter().map(|(name, table)| {
            let declared = Declared {
                key: table.key.iter().map(|name| key_column(name)).collect(),
                references: table.references.clone(),
                comments: table.column_comments.clone(),
                place: Some(Place {
                    file: FILE.to_owned(),
                    line: table.line,
                    ..Place::default()
                }),
            };
            (name.clone(), declared)
        });
        let filled = [
            (CODE, &CODE_KEY, &CODE_COMMENTS[..]),
            (LIMIT, &LIMIT_KEY, &LIMIT_COMMENTS[..]),
        ];
        let filled = filled.map(|(name, key, comments)| {
            let declared = Declared {
                key: key
                    .iter()
                    .map(|(name, nullable)| KeyColumn {
                        name: (*name).to_owned(),
                        nullable: *nullable,
                    })
                    .collect(),
                comments: comments
                    .iter()
                    .map(|(name, comment)| ((*name).to_owned(), (*comment).to_owned()))
                    .collect(),
                ..Declared::default()
            };
            (name.to_owned(), declared)
        });
        files.chain(filled).collect()
    }
}

fn key_column(name: &str) -> KeyColumn {
    KeyColumn {
        name: name.to_owned(),
        nullable: false,
    }
}

/// The key of code lists: a code whose validity has no beginning has a null there.
const CODE_KEY: [(&str, bool); 3] = [("list", false), ("code", false), ("valid_from", true)];
/// The key of statutory limits.
const LIMIT_KEY: [(&str, bool); 3] = [
    ("limit_id", false),
    ("condition", true),
    ("valid_from", true),
];

const CODE_COMMENTS: [(&str, &str); 8] = [
    ("list", "the code list: its file in definitions/codes"),
    ("code", "the code as sources write it"),
    ("name_fi", "name in Finnish"),
    ("name_sv", "name in Swedish"),
    ("name_en", "name in English"),
    (
        "maps_to",
        "the shared code that this one stands for; null where there is none",
    ),
    (
        "valid_from",
        "first day of validity; null: always before valid_to",
    ),
    ("valid_to", "first day after validity; null: still valid"),
];

const LIMIT_COMMENTS: [(&str, &str); 10] = [
    ("limit_id", "name of the limit"),
    ("condition", "for whom or what it holds; null: for all"),
    ("unit", "unit of max and min"),
    ("max", "most that is allowed"),
    ("min", "least that is allowed"),
    ("valid_from", "first day of validity"),
    ("valid_to", "first day after validity; null: still valid"),
    ("basis", "the statute"),
    (
        "confirmed",
        "whether the limit has been checked against the statute",
    ),
    ("title_fi", "what it limits, in Finnish"),
];

/// The table that holds every code list.
pub(crate) const CODE: &str = "code";
/// The table that holds every statutory limit.
pub(crate) const LIMIT: &str = "statutory_limit";

/// The columns of a code list's file.
pub(crate) fn code_columns() -> Vec<Column> {
    let column = |name: &str, data_type: DataType, optional: bool| Column {
        name: name.to_owned(),
        from: name.to_owned(),
        data_type,
        optional,
    };
    vec![
        column("code", DataType::Utf8, false),
        column("name_fi", DataType::Utf8, false),
        column("name_sv", DataType::Utf8, false),
        column("name_en", DataType::Utf8, false),
        column("maps_to", DataType::Utf8, true),
        column("valid_from", DataType::Date32, false),
        column("valid_to", DataType::Date32, false),
    ]
}

/// `reference.code`: the code lists' columns after the list's name.
pub(crate) fn code_schema() -> SchemaRef {
    let list = Field::new("list", DataType::Utf8, true);
    let columns = schema_of(&code_columns());
    let fields = columns.fields().iter().map(|field| field.as_ref().clone());
    SchemaRef::new(Schema::new(
        [list].into_iter().chain(fields).collect::<Vec<_>>(),
    ))
}

/// `reference.statutory_limit`.
pub(crate) fn limit_schema() -> SchemaRef {
    SchemaRef::new(Schema::new(vec![
        Field::new("limit_id", DataType::Utf8, true),
        Field::new("condition", DataType::Utf8, true),
        Field::new("unit", DataType::Utf8, true),
        Field::new("max", DataType::Float64, true),
        Field::new("min", DataType::Float64, true),
        Field::new("valid_from", DataType::Date32, true),
        Field::new("valid_to", DataType::Date32, true),
        Field::new("basis", DataType::Utf8, true),
        Field::new("confirmed", DataType::Boolean, true),
        Field::new("title_fi", DataType::Utf8, true),
    ]))
}

fn check(
    name: &str,
    raw: RawTable,
    line: Option<u32>,
    problems: &mut Vec<Problem>,
) -> Option<FileTable> {
    let before = problems.len();
    let mut tell = |message: String, help: Option<String>| {
        let mut problem = Problem::new(FILE, format!("table `{name}`: {message}"));
        problem.line = line;
        problem.help = help;
        problems.push(problem);
    };
    let RawTable {
        file,
        separator,
        columns,
        key,
        references,
        comment,
        source,
        licence,
        attribution,
    } = raw;
    if TableName::new("reference", name).is_err() {
        tell(
            "is not a table name".to_owned(),
            Some("use lower-case letters, digits and `_`".to_owned()),
        );
    }
    if [CODE, LIMIT].contains(&name) {
        tell(
            "is filled from definitions/".to_owned(),
            Some("choose another name".to_owned()),
        );
    }
    if Path::new(&file).is_absolute() || file.split(['/', '\\']).any(|part| part == "..") {
        tell(format!("`{file}` leads out of reference/"), None);
    }
    if columns.is_empty() {
        tell("has no columns".to_owned(), None);
    }
    let mut checked: Vec<Column> = Vec::new();
    let mut column_comments = BTreeMap::new();
    for RawColumn {
        name: column,
        from,
        type_name,
        optional,
        comment,
    } in columns
    {
        if checked.iter().any(|known| known.name == column) {
            tell(format!("the column `{column}` is there twice"), None);
        }
        match data_type(&type_name) {
            Some(data_type) => {
                if let Some(comment) = comment {
                    column_comments.insert(column.clone(), comment);
                }
                let from = from.unwrap_or_else(|| column.clone());
                checked.push(Column {
                    name: column,
                    from,
                    data_type,
                    optional,
                });
            }
            None => tell(
                format!("`{type_name}` of column `{column}` is not a type"),
                Some("use text, int, bigint, float, date or decimal(p,s)".to_owned()),
            ),
        }
    }
    if key.is_empty() {
        tell(
            "has no key".to_owned(),
            Some("name the columns that tell rows apart".to_owned()),
        );
    }
    for column in &key {
        if !checked.iter().any(|known| known.name == *column) {
            let near = did_you_mean(column, checked.iter().map(|known| known.name.as_str()));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            tell(format!("the key column `{column}` is not a column"), help);
        }
    }
    let mut read = Vec::new();
    for text in references {
        match parse_reference(&text, line) {
            Ok(reference) => read.push(reference),
            Err(message) => tell(message, Some(REFERENCE_FORM.to_owned())),
        }
    }
    let fine = problems.len() == before;
    fine.then_some(FileTable {
        file,
        separator,
        columns: checked,
        key,
        references: read,
        column_comments,
        line,
        comment,
        source,
        licence,
        attribution,
    })
}

fn data_type(name: &str) -> Option<DataType> {
    match name {
        "text" => Some(DataType::Utf8),
        "int" => Some(DataType::Int32),
        "bigint" => Some(DataType::Int64),
        "float" => Some(DataType::Float64),
        "date" => Some(DataType::Date32),
        other => {
            let (precision, scale) = other
                .strip_prefix("decimal(")?
                .strip_suffix(')')?
                .split_once(',')?;
            let precision: u8 = precision.trim().parse().ok()?;
            let scale: i8 = scale.trim().parse().ok()?;
            let fits =
                (1..=38).contains(&precision) && (0..=precision.cast_signed()).contains(&scale);
            fits.then_some(DataType::Decimal128(precision, scale))
        }
    }
}

fn line_at(text: &str, offset: usize) -> u32 {
    let before = text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count();
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}

fn table_line(text: &str, name: &str) -> Option<u32> {
    let header = format!("[table.{name}]");
    let at = text
        .lines()
        .position(|line| line.trim_start().starts_with(&header))?;
    u32::try_from(at + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        match Manifest::parse(text) {
            Ok(manifest) => vec![format!("{} tables", manifest.tables.len())],
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    const GOOD: &str = r#"
[table.county]
file = "regions/a.csv"
columns = [
    { name = "county_code", from = "hva_code", type = "text" },
    { name = "amount", type = "decimal(12,3)" },
]
key = ["county_code"]
source = "s"
licence = "l"
"#;

    #[test]
    fn a_good_table_is_read() {
        assert_eq!(told(GOOD), ["1 tables"]);
        let manifest = Manifest::parse(GOOD).unwrap();
        let empty = manifest.empty_tables();
        assert_eq!(
            empty.keys().collect::<Vec<_>>(),
            ["code", "county", "statutory_limit"]
        );
        assert_eq!(
            empty["county"].0.field(1).data_type(),
            &DataType::Decimal128(12, 3)
        );
    }

    #[test]
    fn problems_are_told_with_their_line() {
        let bad = r#"
[table.county]
file = "../secret.csv"
columns = [{ name = "a", type = "string" }, { name = "b", type = "decimal(3,4)" }, { name = "b", type = "int" }, { name = "b", type = "int" }]
key = ["c"]
references = ["a = reference.b(c)"]
source = "s"
licence = "l"

[table.code]
file = "x.csv"
columns = []
key = []
source = "s"
licence = "l"
"#;
        let told = told(bad);
        for part in [
            "table `county`: `a = reference.b(c)` is not a reference",
            "reference/tables.toml:10: table `code`: is filled from definitions/",
            "table `code`: has no columns",
            "table `code`: has no key",
            "reference/tables.toml:2: table `county`: `../secret.csv` leads out of reference/",
            "`string` of column `a` is not a type",
            "`decimal(3,4)` of column `b` is not a type",
            "the column `b` is there twice",
            "the key column `c` is not a column",
        ] {
            assert!(
                told.iter().any(|problem| problem.contains(part)),
                "{part}: {told:#?}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_at_its_line() {
        let told = told(&GOOD.replace("licence", "license"));
        assert!(
            told[0].starts_with("reference/tables.toml:10: unknown field `license`"),
            "{told:?}"
        );
    }
}
