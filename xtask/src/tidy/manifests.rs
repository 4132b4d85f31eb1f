//! How each crate is set up: one version of everything, the house lints, a
//! description; and that the lock file and the code map keep up.

use toml::{Table, Value};

use super::Finding;
use super::dependencies::{dependencies, manifests};
use crate::tree::Tree;

/// Every crate takes the workspace's lints and dependencies, and says what it is.
pub(super) fn set_up(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, krate) in manifests(tree) {
        let text = file.text().unwrap_or_default();
        let manifest = match text.parse::<Table>() {
            Ok(manifest) => manifest,
            Err(error) => {
                let message = format!("not TOML: {}", error.message());
                findings.push(Finding::new(&file.path, 0, message, "mend the file"));
                continue;
            }
        };
        let inherits_lints = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            == Some(&Value::Boolean(true));
        if !inherits_lints {
            findings.push(Finding::new(
                &file.path,
                0,
                format!("`{krate}` does not take the house lints"),
                "add `[lints]` with `workspace = true`",
            ));
        }
        let described = manifest
            .get("package")
            .and_then(|package| package.get("description"))
            .and_then(Value::as_str)
            .is_some_and(|text| !text.trim().is_empty());
        if !described {
            findings.push(Finding::new(
                &file.path,
                0,
                format!("`{krate}` has no description"),
                "add `description = \"...\"` to `[package]`: one line on what the crate is for",
            ));
        }
        let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
        for used in dependencies(file, &sections) {
            if used.value.get("workspace") != Some(&Value::Boolean(true)) {
                findings.push(Finding::new(
                    &file.path,
                    used.line,
                    format!("`{}` has a version of its own", used.name),
                    "put the version into `[workspace.dependencies]` and write `workspace = true` here",
                ));
            }
        }
    }
    findings
}

/// The lock file is there to be committed.
pub(super) fn lock_file(tree: &Tree) -> Vec<Finding> {
    if tree.get("Cargo.lock").is_some() {
        return Vec::new();
    }
    vec![Finding::new(
        "Cargo.lock",
        0,
        "the lock file is missing or ignored",
        "commit it: every build uses `--locked`",
    )]
}

/// `ARCHITECTURE.md` names every crate as `crates/NAME`.
pub(super) fn code_map(tree: &Tree) -> Vec<Finding> {
    let map = tree
        .get("ARCHITECTURE.md")
        .and_then(|file| file.text())
        .unwrap_or_default();
    manifests(tree)
        .filter(|(file, _)| file.path.starts_with("crates/"))
        .filter(|(_, krate)| !map.contains(&format!("`crates/{krate}`")))
        .map(|(_, krate)| {
            Finding::new(
                "ARCHITECTURE.md",
                0,
                format!("the code map does not name `crates/{krate}`"),
                "add a row: what lives there, and what may not",
            )
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
    fn a_crate_that_is_set_up_passes() {
        let manifest = "[package]\nname = \"x\"\ndescription = \"names\"\n[lints]\nworkspace = true\n[dependencies]\nserde.workspace = true\n";
        let tree = Tree::of(&[("crates/domain/Cargo.toml", manifest)]);
        assert_eq!(set_up(&tree), []);
    }

    #[test]
    fn everything_missing_is_reported_at_once() {
        let manifest = "[package]\nname = \"x\"\n[dev-dependencies]\nserde = \"1\"\n";
        let tree = Tree::of(&[("crates/domain/Cargo.toml", manifest)]);
        assert_eq!(
            messages(&set_up(&tree)),
            [
                "`domain` does not take the house lints",
                "`domain` has no description",
                "`serde` has a version of its own",
            ]
        );
    }

    #[test]
    fn a_broken_manifest_is_a_finding() {
        let tree = Tree::of(&[("crates/domain/Cargo.toml", "[package")]);
        assert_eq!(set_up(&tree).len(), 1);
    }

    #[test]
    fn the_lock_file_is_asked_for() {
        assert_eq!(lock_file(&Tree::of(&[("Cargo.lock", "")])), []);
        assert_eq!(lock_file(&Tree::of(&[])).len(), 1);
    }

    #[test]
    fn the_code_map_is_compared_with_the_crates() {
        let tree = Tree::of(&[
            ("crates/domain/Cargo.toml", ""),
            ("crates/lake/Cargo.toml", ""),
            ("xtask/Cargo.toml", ""),
            ("ARCHITECTURE.md", "| `crates/domain` | names |"),
        ]);
        assert_eq!(
            messages(&code_map(&tree)),
            ["the code map does not name `crates/lake`"]
        );
    }
}
