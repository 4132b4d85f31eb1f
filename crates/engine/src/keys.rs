//! Keys of relations: how they are written, and what they mean once the relations are known.
//!
//! A key is a promise about data that tools use to join tables; nothing enforces it while rows
//! are read. It is written beside its relation, in the header of a file of `sql/`, in
//! `reference/tables.toml`, or in `tables.rs`, and always in the same words:
//!
//! ```text
//! county_code, spell_no, area?
//! county_code, spell_no -> conformed.care_spell(county_code, spell_no)
//! ```
//!
//! The first says which columns tell rows apart; `?` marks one that may be null, and a key with
//! such a column is unique but no primary key. The second says that the columns of a row are the
//! primary key of a row of another relation, or null. Here both are read strictly and compared
//! with the columns. Who may know of a key is decided where the list of tables is cut for a
//! principal.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, SchemaRef};
use tietopohja_domain::{Problem, did_you_mean};

use crate::model::RelationName;

/// The keys of a table that tools are told of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// The columns that tell rows apart.
    pub own: Option<Key>,
    /// The rows of other tables that a row belongs to.
    pub foreign: Vec<ForeignKey>,
}

/// Columns that tell the rows of a table apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The name of the constraint, unique in its schema.
    pub name: String,
    /// The columns, in the order of the key.
    pub columns: Vec<String>,
    /// None of the columns is ever null.
    pub primary: bool,
}

/// Columns that are the primary key of another table's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The name of the constraint, unique in its schema.
    pub name: String,
    /// The columns, in the order of the key that they refer to.
    pub columns: Vec<String>,
    /// The schema of the other table.
    pub schema: String,
    /// The other table.
    pub table: String,
    /// The name of the other table's primary key.
    pub key_name: String,
    /// The columns of that key.
    pub key_columns: Vec<String>,
}

/// What a relation says about its rows, before it is compared with anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) key: Vec<KeyColumn>,
    pub(crate) references: Vec<Reference>,
    /// What a column is, in words.
    pub(crate) comments: BTreeMap<String, String>,
    /// Where it is written, for problems; none for the engine's own tables.
    pub(crate) place: Option<Place>,
}

/// A file, and the lines of it that say something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: Option<u32>,
    pub(crate) key_line: Option<u32>,
    pub(crate) comment_lines: BTreeMap<String, u32>,
}

/// A column of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    pub(crate) name: String,
    pub(crate) nullable: bool,
}

/// Columns and the key that they refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    columns: Vec<String>,
    target: RelationName,
    key_columns: Vec<String>,
    line: Option<u32>,
}

/// How a reference is written, for help lines.
pub(crate) const REFERENCE_FORM: &str = "write `column, column -> schema.relation(column, column)`";

/// Reads the columns of a key.
pub(crate) fn parse_key(text: &str) -> Result<Vec<KeyColumn>, String> {
    let mut columns = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (name, nullable) = match part.strip_suffix('?') {
            Some(name) => (name, true),
            None => (part, false),
        };
        if !is_name(name) {
            return Err(format!("`{part}` is not the name of a column"));
        }
        columns.push(KeyColumn {
            name: name.to_owned(),
            nullable,
        });
    }
    Ok(columns)
}

/// Reads a reference.
pub(crate) fn parse_reference(text: &str, line: Option<u32>) -> Result<Reference, String> {
    let wrong = || format!("`{text}` is not a reference");
    let (columns, target) = text.split_once("->").ok_or_else(wrong)?;
    let (relation, key_columns) = target
        .trim()
        .strip_suffix(')')
        .and_then(|target| target.split_once('('))
        .ok_or_else(wrong)?;
    let (schema, name) = relation.trim().split_once('.').ok_or_else(wrong)?;
    let names = |list: &str| -> Result<Vec<String>, String> {
        let list: Vec<String> = list.split(',').map(|name| name.trim().to_owned()).collect();
        if list.iter().all(|name| is_name(name)) {
            Ok(list)
        } else {
            Err(wrong())
        }
    };
    if !is_name(schema) || !is_name(name) {
        return Err(wrong());
    }
    let (columns, key_columns) = (names(columns)?, names(key_columns)?);
    if columns.len() != key_columns.len() {
        return Err(format!(
            "{} columns cannot refer to {}",
            columns.len(),
            key_columns.len()
        ));
    }
    Ok(Reference {
        columns,
        target: RelationName::new(schema, name),
        key_columns,
        line,
    })
}

pub(crate) fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_lowercase() || first == '_')
        && letters
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// A relation with its columns and what it says of them.
pub(crate) struct Described {
    pub(crate) columns: SchemaRef,
    pub(crate) declared: Declared,
}

/// The keys of every relation, and what is wrong with those that are left out.
pub(crate) fn resolve(
    relations: &BTreeMap<RelationName, Described>,
) -> (BTreeMap<RelationName, Keys>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut keys: BTreeMap<RelationName, Keys> = BTreeMap::new();
    for (name, relation) in relations {
        let own = own_key(name, relation, &mut problems);
        let foreign = Vec::new();
        keys.insert(name.clone(), Keys { own, foreign });
        unknown_comments(name, relation, &mut problems);
    }
    for (name, relation) in relations {
        let mut foreign: Vec<ForeignKey> = Vec::new();
        for reference in &relation.declared.references {
            match foreign_key(name, relation, reference, relations, &keys) {
                Ok(mut key) => {
                    let same = foreign.iter().filter(|other| other.columns == key.columns);
                    match same.count() {
                        0 => {}
                        others => key.name = format!("{}{}", key.name, others + 1),
                    }
                    foreign.push(key);
                }
                Err((message, help)) => {
                    problems.extend(problem(relation, reference.line, &message, help));
                }
            }
        }
        if let Some(keys) = keys.get_mut(name) {
            keys.foreign = foreign;
        }
    }
    problems.sort();
    (keys, problems)
}

/// The engine's own tables have no place: their keys are tested, not told of.
fn problem(
    relation: &Described,
    line: Option<u32>,
    message: &str,
    help: Option<String>,
) -> Option<Problem> {
    let place = relation.declared.place.as_ref()?;
    let mut problem = Problem::new(place.file.clone(), message.to_owned());
    problem.line = line.or(place.line);
    problem.help = help;
    Some(problem)
}

fn near_column(wanted: &str, columns: &SchemaRef) -> Option<String> {
    let names = columns.fields().iter().map(|field| field.name().as_str());
    did_you_mean(wanted, names).map(|near| format!("did you mean `{near}`?"))
}

fn own_key(name: &RelationName, relation: &Described, problems: &mut Vec<Problem>) -> Option<Key> {
    let declared = &relation.declared;
    if declared.key.is_empty() {
        return None;
    }
    let line = declared.place.as_ref().and_then(|place| place.key_line);
    let mut fine = true;
    for (at, column) in declared.key.iter().enumerate() {
        let message = if relation.columns.index_of(&column.name).is_err() {
            format!("the key column `{}` is not a column", column.name)
        } else if declared
            .key
            .iter()
            .take(at)
            .any(|other| other.name == column.name)
        {
            format!("the key column `{}` is there twice", column.name)
        } else {
            continue;
        };
        fine = false;
        let help = near_column(&column.name, &relation.columns);
        problems.extend(problem(relation, line, &message, help));
    }
    let primary = !declared.key.iter().any(|column| column.nullable);
    let ending = if primary { "pkey" } else { "key" };
    fine.then(|| Key {
        name: format!("{}_{ending}", name.name),
        columns: declared
            .key
            .iter()
            .map(|column| column.name.clone())
            .collect(),
        primary,
    })
}

fn unknown_comments(name: &RelationName, relation: &Described, problems: &mut Vec<Problem>) {
    for column in relation.declared.comments.keys() {
        if relation.columns.index_of(column).is_err() {
            let place = relation.declared.place.as_ref();
            let line = place.and_then(|place| place.comment_lines.get(column).copied());
            let message = format!("the described column `{column}` is not a column of `{name}`");
            let help = near_column(column, &relation.columns);
            problems.extend(problem(relation, line, &message, help));
        }
    }
}

fn foreign_key(
    name: &RelationName,
    relation: &Described,
    reference: &Reference,
    relations: &BTreeMap<RelationName, Described>,
    keys: &BTreeMap<RelationName, Keys>,
) -> Result<ForeignKey, (String, Option<String>)> {
    let Reference {
        columns,
        target,
        key_columns,
        line: _,
    } = reference;
    let Some(other) = relations.get(target) else {
        let names: Vec<String> = relations.keys().map(ToString::to_string).collect();
        let wanted = target.to_string();
        let near = did_you_mean(&wanted, names.iter().map(String::as_str));
        return Err((
            format!("there is no relation `{target}` to refer to"),
            near.map(|near| format!("did you mean `{near}`?")),
        ));
    };
    for column in columns {
        if relation.columns.index_of(column).is_err() {
            return Err((
                format!("the referring column `{column}` is not a column"),
                near_column(column, &relation.columns),
            ));
        }
    }
    let key = keys.get(target).and_then(|keys| keys.own.as_ref());
    let Some(key) = key.filter(|key| key.primary) else {
        return Err((format!("`{target}` has no primary key to refer to"), None));
    };
    let mut wanted = key_columns.clone();
    let mut there = key.columns.clone();
    wanted.sort();
    there.sort();
    if wanted != there {
        return Err((
            format!(
                "`{target}({})` is not its primary key",
                key_columns.join(", ")
            ),
            Some(format!("the key is `{}`", key.columns.join(", "))),
        ));
    }
    // In the order of the key, whatever the order of writing.
    let mut ordered = Vec::with_capacity(columns.len());
    for key_column in &key.columns {
        let at = key_columns.iter().position(|column| column == key_column);
        let Some(column) = at.and_then(|at| columns.get(at)) else {
            return Err((format!("`{key_column}` is not referred to"), None));
        };
        let types = (
            relation.columns.field_with_name(column).ok(),
            other.columns.field_with_name(key_column).ok(),
        );
        if let (Some(own), Some(others)) = types
            && family(own.data_type()) != family(others.data_type())
        {
            return Err((
                format!("`{column}` and `{target}.{key_column}` are of different types"),
                Some("cast the column in the query of the relation".to_owned()),
            ));
        }
        ordered.push(column.clone());
    }
    Ok(ForeignKey {
        name: format!("{}_{}_fkey", name.name, columns.join("_")),
        columns: ordered,
        schema: target.schema.clone(),
        table: target.name.clone(),
        key_name: key.name.clone(),
        key_columns: key.columns.clone(),
    })
}

/// Types whose values can be equal.
fn family(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Dictionary(_, value) => family(value),
        integer if integer.is_integer() => DataType::Int64,
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};

    use super::*;

    fn relation(columns: &[(&str, DataType)], key: &str, references: &[&str]) -> Described {
        let fields = columns
            .iter()
            .map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        Described {
            columns: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            declared: Declared {
                key: parse_key(key).unwrap(),
                references: references
                    .iter()
                    .zip(5..)
                    .map(|(text, line)| parse_reference(text, Some(line)).unwrap())
                    .collect(),
                comments: BTreeMap::new(),
                place: Some(Place {
                    file: "sql/conformed/x.sql".to_owned(),
                    key_line: Some(2),
                    ..Place::default()
                }),
            },
        }
    }

    fn told(key: &str, references: &[&str]) -> Vec<String> {
        let county = relation(
            &[("code", DataType::Utf8), ("year", DataType::Int32)],
            "year, code",
            &[],
        );
        let loose = relation(&[("code", DataType::Utf8)], "code?", &[]);
        let own = relation(
            &[
                ("id", DataType::Int64),
                ("county", DataType::Utf8View),
                ("year", DataType::Int64),
            ],
            key,
            references,
        );
        let relations = BTreeMap::from([
            (RelationName::new("reference", "county"), county),
            (RelationName::new("reference", "loose"), loose),
            (RelationName::new("conformed", "x"), own),
        ]);
        let (keys, problems) = resolve(&relations);
        let own = &keys[&RelationName::new("conformed", "x")];
        let mut told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        told.extend(
            own.own
                .iter()
                .map(|key| format!("{} {:?}", key.name, key.columns)),
        );
        told.extend(own.foreign.iter().map(|key| {
            format!(
                "{} {:?} -> {} {:?}",
                key.name, key.columns, key.key_name, key.key_columns
            )
        }));
        told
    }

    #[test]
    fn keys_are_put_in_the_order_of_the_key_they_refer_to() {
        assert_eq!(
            told("id", &["county, year -> reference.county(code, year)"]),
            [
                r#"x_pkey ["id"]"#,
                r#"x_county_year_fkey ["year", "county"] -> county_pkey ["year", "code"]"#
            ]
        );
        assert_eq!(told("id, county?", &[]), [r#"x_key ["id", "county"]"#]);
    }

    #[test]
    fn a_wrong_key_is_told_with_its_place_and_left_out() {
        let cases: [(&str, &[&str], &str); 7] = [
            (
                "idd",
                &[],
                "sql/conformed/x.sql:2: the key column `idd` is not a column",
            ),
            ("id, id", &[], "x.sql:2: the key column `id` is there twice"),
            (
                "id",
                &["countty, year -> reference.county(code, year)"],
                "x.sql:5: the referring column `countty` is not a column",
            ),
            (
                "id",
                &["county, year -> reference.county(name, year)"],
                "`reference.county(name, year)` is not its primary key",
            ),
            (
                "id",
                &["county -> reference.countyy(code)"],
                "there is no relation `reference.countyy` to refer to",
            ),
            (
                "id",
                &["county -> reference.loose(code)"],
                "`reference.loose` has no primary key to refer to",
            ),
            (
                "id",
                &["year, county -> reference.county(code, year)"],
                "are of different types",
            ),
        ];
        for (key, references, wanted) in cases {
            let told = told(key, references);
            assert!(told[0].contains(wanted), "{wanted}: {told:?}");
            assert!(!told.iter().any(|line| line.contains("fkey")), "{told:?}");
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        assert!(parse_key("a,").is_err());
        assert!(parse_key("a b").is_err());
        assert!(parse_key("A").is_err());
        for text in [
            "a",
            "a -> b(c)",
            "a -> s.b",
            "a -> s.b()",
            "a, b -> s.t(c)",
            "a -> s.t(c) and more",
        ] {
            assert!(parse_reference(text, None).is_err(), "{text}");
        }
        assert!(parse_reference("a,b->s.t( c , d )", None).is_ok());
    }
}
