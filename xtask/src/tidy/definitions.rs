//! Rules on `definitions/`: every indicator is computed a second time by hand,
//! and a definition is found under its own name.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::Finding;
use crate::tree::Tree;

const CHECKS: &str = "sql/checks";

/// Each indicator has a check query of its name, and no check lacks an indicator.
pub(super) fn checks(tree: &Tree) -> Vec<Finding> {
    let indicators = indicators(tree);
    let mut findings = Vec::new();
    for (id, path) in &indicators {
        let check = format!("{CHECKS}/{id}.sql");
        if tree.get(&check).is_none() {
            findings.push(Finding::new(
                path,
                0,
                format!("`{id}` has no check query"),
                format!("write `{check}`: the same numbers by hand from the conformed relations"),
            ));
        }
    }
    for file in tree.under(CHECKS).filter(|file| file.has_extension("sql")) {
        let id = file
            .path
            .strip_prefix(CHECKS)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_suffix(".sql"))
            .unwrap_or_default();
        if !indicators.contains_key(id) {
            findings.push(Finding::new(
                &file.path,
                0,
                format!("no indicator is called `{id}`"),
                "name the file after the indicator it checks, or delete it",
            ));
        }
    }
    findings
}

/// The file of an indicator or a contract carries its name.
pub(super) fn names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (id, path) in indicators(tree) {
        if path != format!("definitions/indicators/{id}.toml") {
            findings.push(Finding::new(
                &path,
                0,
                format!("the file defines `{id}`"),
                format!("call it `definitions/indicators/{id}.toml`"),
            ));
        }
    }
    for file in tree.under("definitions/contracts") {
        let Some(stem) = file
            .path
            .strip_prefix("definitions/contracts/")
            .and_then(|name| name.strip_suffix(".odcs.yaml"))
        else {
            continue;
        };
        let text = file.text().unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("name:"));
        if name.map(str::trim) != Some(stem) {
            findings.push(Finding::new(
                &file.path,
                0,
                format!("the contract is not called `{stem}`"),
                format!("write `name: {stem}`, or rename the file"),
            ));
        }
    }
    findings
}

/// Identifiers of all indicator definitions with their files. What does not
/// parse is the business of `tietopohja indicator check`.
fn indicators(tree: &Tree) -> BTreeMap<String, String> {
    tree.under("definitions/indicators")
        .filter(|file| file.has_extension("toml"))
        .filter_map(|file| {
            let definition = file.text()?.parse::<Table>().ok()?;
            let id = definition.get("id").and_then(Value::as_str)?;
            Some((id.to_owned(), file.path.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|f| f.message.as_str()).collect()
    }

    #[test]
    fn indicators_and_checks_are_matched_both_ways() {
        let tree = Tree::of(&[
            ("definitions/indicators/a.b.toml", "id = \"a.b\""),
            ("definitions/indicators/a.c.toml", "id = \"a.c\""),
            ("sql/checks/a.b.sql", ""),
            ("sql/checks/a.d.sql", ""),
        ]);
        assert_eq!(
            messages(&checks(&tree)),
            ["`a.c` has no check query", "no indicator is called `a.d`"]
        );
    }

    #[test]
    fn a_definition_is_named_after_its_file() {
        let tree = Tree::of(&[
            ("definitions/indicators/a.toml", "id = \"a.b\""),
            ("definitions/contracts/x.odcs.yaml", "name: x\n"),
            ("definitions/contracts/y.odcs.yaml", "name: z\n"),
        ]);
        assert_eq!(
            messages(&names(&tree)),
            ["the file defines `a.b`", "the contract is not called `y`"]
        );
    }
}
