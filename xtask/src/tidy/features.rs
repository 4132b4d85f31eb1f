//! One set of features for the dependencies, whatever is built.
//!
//! `cargo run` builds the binary alone, `cargo test --workspace` everything.
//! When a crate asks for a feature only in its tests, cargo compiles that
//! dependency, and all that stands on it, a second time: half an hour for one
//! word in a manifest. The remedy is to ask for the feature in the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Finding;
use crate::process;

/// Name of the rule in the report.
pub(super) const NAME: &str = "tests need no second build of the dependencies";

/// Package with version → the sets of features it is built with.
type Features = BTreeMap<String, BTreeSet<String>>;

/// Compares the features of the binary's build with those of the whole workspace.
pub(super) fn unified(root: &Path) -> Vec<Finding> {
    let binary = features(
        root,
        &["--package", "tietopohja-cli", "--edges", "normal,build"],
    );
    let workspace = features(root, &["--workspace", "--edges", "normal,build,dev"]);
    match (binary, workspace) {
        (Ok(binary), Ok(workspace)) => differences(&binary, &workspace),
        (Err(message), _) | (_, Err(message)) => vec![Finding::new(
            "Cargo.toml",
            0,
            message,
            "mend the manifests, or bring the lock file up to date",
        )],
    }
}

fn features(root: &Path, selection: &[&str]) -> Result<Features, String> {
    let mut command = process::cargo(root);
    command.args(["tree", "--locked", "--prefix", "none"]);
    command.args(["--format", "{p}|{f}"]);
    command.args(selection);
    let output = command
        .output()
        .map_err(|error| process::cannot_start(&command, &error))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`cargo tree` failed: {}", message.trim()));
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(listing: &str) -> Features {
    let mut features = Features::new();
    for line in listing.lines() {
        let line = line.strip_suffix(" (*)").unwrap_or(line);
        let Some((package, enabled)) = line.split_once('|') else {
            continue;
        };
        // Crates of the workspace carry their folder; they are ours to rebuild.
        if package.contains(" (") && !package.ends_with("(proc-macro)") {
            continue;
        }
        features
            .entry(package.to_owned())
            .or_default()
            .insert(enabled.to_owned());
    }
    features
}

fn differences(binary: &Features, workspace: &Features) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (package, sets) in binary {
        let Some(everywhere) = workspace.get(package) else {
            continue;
        };
        for set in sets.difference(everywhere) {
            let alone: BTreeSet<&str> = set.split(',').collect();
            let extra: BTreeSet<&str> = everywhere
                .iter()
                .flat_map(|set| set.split(','))
                .filter(|feature| !alone.contains(feature))
                .collect();
            let extra: Vec<&str> = extra.into_iter().collect();
            findings.push(Finding::new(
                "Cargo.toml",
                0,
                format!("`{package}` gets `{}` in tests only", extra.join(", ")),
                "give the workspace dependency these features, or take them from the tests; `cargo tree -e features -i PACKAGE` says who asks",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_asked_for_in_tests_is_found() {
        let binary = parse("tokio v1.0.0|net,rt\nbytes v1.0.0|default\n");
        let workspace = parse(
            "tokio v1.0.0|net,rt,test-util\ntokio v1.0.0|net,rt,test-util (*)\nbytes v1.0.0|default\nproptest v1.0.0|std\n",
        );
        let found = differences(&binary, &workspace);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].message,
            "`tokio v1.0.0` gets `test-util` in tests only"
        );
    }

    #[test]
    fn equal_features_and_our_own_crates_pass() {
        let binary = parse("tietopohja-cli v0.1.0 (somewhere)|\nserde v1.0.0|derive\n");
        let workspace = parse("tietopohja-cli v0.1.0 (somewhere)|x\nserde v1.0.0|derive\n");
        assert_eq!(differences(&binary, &workspace), []);
    }

    #[test]
    fn a_package_built_twice_for_host_and_target_passes_when_both_are() {
        let listing = "syn v2.0.0|default\nsyn v2.0.0|default,full\n";
        assert_eq!(differences(&parse(listing), &parse(listing)), []);
    }
}
