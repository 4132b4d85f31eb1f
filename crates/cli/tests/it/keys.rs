//! Keys are promises about data that nothing enforces: here each is held against a whole warehouse.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::warehouse::Scratch;

/// A constraint with its columns in order.
#[derive(Debug, Default)]
struct Constraint {
    kind: String,
    table: String,
    columns: Vec<String>,
}

fn text(row: &Value, column: &str) -> String {
    row[column].as_str().unwrap_or_default().to_owned()
}

/// Every constraint that `information_schema` tells of, by schema and name.
fn constraints(scratch: &Scratch) -> BTreeMap<(String, String), Constraint> {
    let rows = scratch.rows(
        "SELECT c.constraint_schema, c.constraint_name, c.constraint_type, u.table_schema, u.table_name, u.column_name
         FROM information_schema.table_constraints AS c
         JOIN information_schema.key_column_usage AS u USING (constraint_schema, constraint_name)
         ORDER BY u.ordinal_position",
    );
    let mut found: BTreeMap<(String, String), Constraint> = BTreeMap::new();
    for row in &rows {
        let name = (text(row, "constraint_schema"), text(row, "constraint_name"));
        let constraint = found.entry(name).or_default();
        constraint.kind = text(row, "constraint_type");
        constraint.table = format!("{}.{}", text(row, "table_schema"), text(row, "table_name"));
        constraint.columns.push(text(row, "column_name"));
    }
    found
}

/// Questions that one statement asks: a statement has a limit.
const AT_ONCE: usize = 30;

/// Asks the questions; each counts the rows that break a promise.
fn broken(scratch: &Scratch, questions: &[(String, String)]) -> Vec<String> {
    let mut broken = Vec::new();
    for some in questions.chunks(AT_ONCE) {
        let union: Vec<String> = some
            .iter()
            .map(|(promise, count)| format!("SELECT '{promise}' AS promise, ({count}) AS n"))
            .collect();
        let rows = scratch.rows(&union.join(" UNION ALL "));
        assert_eq!(rows.len(), some.len());
        let wrong = rows.iter().filter(|row| row["n"].as_i64() != Some(0));
        broken.extend(wrong.map(ToString::to_string));
    }
    broken
}

/// Each primary key is unique and complete, and each foreign key finds its row.
pub(crate) fn every_declared_key_is_true(scratch: &Scratch) {
    let constraints = constraints(scratch);
    let mut questions = Vec::new();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for ((schema, name), constraint) in &constraints {
        *kinds.entry(constraint.kind.as_str()).or_default() += 1;
        let Constraint {
            kind,
            table,
            columns,
        } = constraint;
        let list = columns.join(", ");
        let promise = format!("{schema}.{name}");
        if kind == "PRIMARY KEY" || kind == "UNIQUE" {
            questions.push((
                format!("{promise} is unique"),
                format!(
                    "SELECT count(*) FROM (SELECT {list} FROM {table} GROUP BY {list} HAVING count(*) > 1)"
                ),
            ));
        }
        if kind == "PRIMARY KEY" {
            let nulls: Vec<String> = columns.iter().map(|c| format!("{c} IS NULL")).collect();
            questions.push((
                format!("{promise} is complete"),
                format!("SELECT count(*) FROM {table} WHERE {}", nulls.join(" OR ")),
            ));
        }
    }
    let references = scratch.rows("SELECT * FROM information_schema.referential_constraints");
    for row in &references {
        let name = (text(row, "constraint_schema"), text(row, "constraint_name"));
        let own = &constraints[&name];
        let key = (
            text(row, "unique_constraint_schema"),
            text(row, "unique_constraint_name"),
        );
        let other = &constraints[&key];
        assert_eq!(other.kind, "PRIMARY KEY", "{name:?}");
        assert_eq!(own.columns.len(), other.columns.len(), "{name:?}");
        let pairs = own.columns.iter().zip(&other.columns);
        let equal: Vec<String> = pairs.map(|(a, b)| format!("a.{a} = b.{b}")).collect();
        let there: Vec<String> = own
            .columns
            .iter()
            .map(|column| format!("a.{column} IS NOT NULL"))
            .collect();
        questions.push((
            format!("{}.{} finds its row", name.0, name.1),
            format!(
                "SELECT count(*) FROM {} AS a LEFT ANTI JOIN {} AS b ON {} WHERE {}",
                own.table,
                other.table,
                equal.join(" AND "),
                there.join(" AND ")
            ),
        ));
    }
    assert_eq!(kinds["FOREIGN KEY"], references.len());
    assert!(
        kinds["PRIMARY KEY"] >= 70 && kinds["FOREIGN KEY"] >= 60,
        "{kinds:?}"
    );
    let broken = broken(scratch, &questions);
    assert!(broken.is_empty(), "{broken:#?}");
}
