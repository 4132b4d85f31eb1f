//! Rules on the relations under `sql/`: what a file states, and what it may read.

use super::Finding;
use crate::tree::{File, Tree};

/// Folders of relations, with the schemas each may read besides its own.
/// `checks` are queries for people and may read what they like.
const LAYERS: &[(&str, &[&str])] = &[
    ("staging", &["raw", "reference"]),
    ("conformed", &["staging", "reference", "meta"]),
    ("reference", &[]),
];

/// Schemas whose use a layer restricts.
const SCHEMAS: &[&str] = &[
    "raw",
    "reject",
    "staging",
    "conformed",
    "reference",
    "component",
    "result",
    "published",
    "meta",
];

/// Each relation says first what one row is, then what identifies it; each
/// check says what one row is.
pub(super) fn headers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in sql_files(tree) {
        let header: Vec<&str> = file
            .text()
            .unwrap_or_default()
            .lines()
            .take_while(|line| line.starts_with("--"))
            .collect();
        if !header.iter().any(|line| states(line, "grain")) {
            findings.push(Finding::new(
                &file.path,
                1,
                "the header does not state the grain",
                "begin the file with `-- grain: one row per ...`",
            ));
        }
        let is_relation = LAYERS.iter().any(|(layer, _)| in_layer(file, layer));
        if is_relation && !header.iter().any(|line| states(line, "key")) {
            findings.push(Finding::new(
                &file.path,
                1,
                "the header does not state the key",
                "add `-- key: column, column` below the grain",
            ));
        }
    }
    findings
}

/// Staging reads the raw tables, conformed reads staging: a source is named once.
pub(super) fn layers(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in sql_files(tree) {
        let Some((layer, may_read)) = LAYERS.iter().find(|(layer, _)| in_layer(file, layer)) else {
            continue;
        };
        for (index, line) in file.text().unwrap_or_default().lines().enumerate() {
            let code = line.split("--").next().unwrap_or_default();
            for schema in SCHEMAS {
                let allowed = schema == layer || may_read.contains(schema);
                if !allowed && reads(code, schema) {
                    findings.push(Finding::new(
                        &file.path,
                        index + 1,
                        format!("a relation in `{layer}` reads schema `{schema}`"),
                        format!("`{layer}` reads {}", readable(layer, may_read)),
                    ));
                }
            }
        }
    }
    findings
}

fn sql_files(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.under("sql").filter(|file| file.has_extension("sql"))
}

fn in_layer(file: &File, layer: &str) -> bool {
    file.path
        .strip_prefix("sql/")
        .and_then(|rest| rest.strip_prefix(layer))
        .is_some_and(|rest| rest.starts_with('/'))
}

fn states(line: &str, word: &str) -> bool {
    line.strip_prefix("-- ")
        .and_then(|rest| rest.strip_prefix(word))
        .and_then(|rest| rest.strip_prefix(':'))
        .is_some_and(|text| !text.trim().is_empty())
}

/// Whether a line follows `FROM` or `JOIN` with a table of the schema.
fn reads(code: &str, schema: &str) -> bool {
    let lower = code.to_ascii_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    words.windows(2).any(|pair| {
        matches!(pair[0], "from" | "join" | "(from")
            && pair[1]
                .strip_prefix(schema)
                .is_some_and(|rest| rest.starts_with('.'))
    })
}

fn readable(layer: &str, may_read: &[&str]) -> String {
    let mut names = vec![format!("`{layer}`")];
    names.extend(may_read.iter().map(|schema| format!("`{schema}`")));
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: fn(&Tree) -> Vec<Finding>, path: &str, text: &str, expected: &[&str]) {
        let found = rule(&Tree::of(&[(path, text)]));
        let messages: Vec<&str> = found.iter().map(|f| f.message.as_str()).collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn a_relation_states_grain_and_key() {
        let text = "-- grain: one row per post\n-- key: post_no\nSELECT 1\n";
        check(headers, "sql/conformed/post.sql", text, &[]);
        check(
            headers,
            "sql/conformed/post.sql",
            "SELECT 1\n-- grain: late\n",
            &[
                "the header does not state the grain",
                "the header does not state the key",
            ],
        );
    }

    #[test]
    fn a_check_states_its_grain_only() {
        let text = "-- grain: one row per area and period\nSELECT 1\n";
        check(headers, "sql/checks/hr.headcount.sql", text, &[]);
    }

    #[test]
    fn conformed_names_no_source() {
        check(
            layers,
            "sql/conformed/post.sql",
            "SELECT *\nFROM raw.hr_post -- and why\n",
            &["a relation in `conformed` reads schema `raw`"],
        );
        check(
            layers,
            "sql/conformed/post.sql",
            "SELECT * FROM staging.hr_post JOIN reference.county USING (county_code)\n",
            &[],
        );
        check(layers, "sql/conformed/post.sql", "-- from raw.x\n", &[]);
    }
}
