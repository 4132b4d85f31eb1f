//! Who may use whom: between the crates of the workspace, and towards the
//! libraries that decide its shape.

use toml::{Table, Value};

use super::Finding;
use crate::tree::{File, Tree};

/// What each crate may use of the workspace, foundations first. Tests may use
/// more (see [`between_crates`]); `ARCHITECTURE.md` says why.
pub(super) const ALLOWED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("kernels", &["domain"]),
    ("contract", &["domain"]),
    ("indicators", &["domain"]),
    ("disclosure", &["domain"]),
    ("policy", &["domain"]),
    ("lake", &["domain"]),
    ("ingest", &["domain", "contract", "lake"]),
    (
        "engine",
        &[
            "domain",
            "kernels",
            "contract",
            "indicators",
            "disclosure",
            "policy",
            "lake",
        ],
    ),
    ("synth", &["domain", "contract"]),
    ("server", &["domain", "policy", "engine"]),
    (
        "cli",
        &[
            "domain",
            "kernels",
            "contract",
            "indicators",
            "disclosure",
            "policy",
            "lake",
            "ingest",
            "engine",
            "synth",
            "server",
        ],
    ),
    (
        "testkit",
        &[
            "domain",
            "kernels",
            "contract",
            "indicators",
            "disclosure",
            "policy",
            "lake",
            "ingest",
            "engine",
            "synth",
            "server",
        ],
    ),
    ("xtask", &[]),
];

/// A library that only some crates may name, and why.
struct Room {
    /// Beginnings of the library's name; `=` in front asks for the whole name.
    library: &'static [&'static str],
    crates: &'static [&'static str],
    why: &'static str,
}

/// The first room that holds a library decides, so special ones stand first.
const ROOMS: &[Room] = &[
    Room {
        library: &[
            "deltalake",
            "delta_kernel",
            "buoyant_kernel",
            "=object_store",
        ],
        crates: &["lake", "testkit"],
        why: "only `lake` knows storage: ask it for a table, a landing or a commit",
    },
    Room {
        library: &["=datafusion"],
        crates: &["lake", "engine", "testkit"],
        why: "only `engine` plans and runs queries; kernels build on `datafusion-expr`",
    },
    Room {
        library: &["=datafusion-common"],
        crates: &["kernels", "lake", "engine", "server", "testkit"],
        why: "it is for scalar values: states of kernels, parameters of statements",
    },
    Room {
        library: &["datafusion"],
        crates: &["kernels", "lake", "engine", "testkit"],
        why: "definitions compile to SQL text and rules decide on plain values",
    },
    Room {
        library: &[
            "tonic",
            "=arrow-flight",
            "axum",
            "hyper",
            "prost",
            "reqwest",
        ],
        crates: &["server"],
        why: "only `server` knows gRPC and HTTP",
    },
    Room {
        library: &["arrow", "parquet"],
        crates: &[
            "kernels", "contract", "lake", "ingest", "engine", "server", "cli", "testkit",
        ],
        why: "names, definitions and rules work on plain values, not on batches",
    },
    Room {
        library: &["tokio", "futures", "async-"],
        crates: &["lake", "ingest", "engine", "server", "cli", "testkit"],
        why: "pure crates compute; waiting is the caller's business",
    },
];

/// Sections of a manifest that go into the shipped program.
const SHIPPED: &[&str] = &["dependencies", "build-dependencies"];

/// Crates use only what [`ALLOWED`] says; tests may also use `testkit` and any
/// crate that stands above them in the list.
pub(super) fn between_crates(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, krate) in manifests(tree) {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == krate) else {
            findings.push(Finding::new(
                &file.path,
                0,
                format!("crate `{krate}` has no place in the order of crates"),
                "add it to `ALLOWED` in xtask/src/tidy/dependencies.rs and to the code map of ARCHITECTURE.md",
            ));
            continue;
        };
        for used in dependencies(file, SHIPPED) {
            let Some(used_crate) = used.name.strip_prefix("tietopohja-") else {
                continue;
            };
            if !allowed.contains(&used_crate) {
                findings.push(Finding::new(
                    &file.path,
                    used.line,
                    format!("`{krate}` may not use `{used_crate}`"),
                    format!(
                        "`{krate}` may use {}; move the code, or pass the thing in as an argument",
                        list(allowed)
                    ),
                ));
            }
        }
    }
    findings
}

/// Libraries of [`ROOMS`] are named only where they belong. What tests use is
/// their own affair.
pub(super) fn rooms(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, krate) in manifests(tree) {
        for used in dependencies(file, SHIPPED) {
            let Some(room) = ROOMS.iter().find(|room| room.holds(&used.name)) else {
                continue;
            };
            if !room.crates.contains(&krate) {
                findings.push(Finding::new(
                    &file.path,
                    used.line,
                    format!("`{krate}` may not use `{}`", used.name),
                    format!("{}; it belongs to {}", room.why, list(room.crates)),
                ));
            }
        }
    }
    findings
}

impl Room {
    fn holds(&self, library: &str) -> bool {
        self.library
            .iter()
            .any(|name| match name.strip_prefix('=') {
                Some(whole) => library == whole,
                None => library.starts_with(name),
            })
    }
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        return "no other crate".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The manifests of the workspace's crates, each with the name of its folder.
/// A package beside them, such as the fuzz targets, is a workspace of its own.
pub(super) fn manifests(tree: &Tree) -> impl Iterator<Item = (&File, &str)> {
    tree.files.iter().filter_map(|file| {
        let folder = file.path.strip_suffix("/Cargo.toml")?;
        let krate = match folder.strip_prefix("crates/") {
            Some(krate) => krate,
            None if folder == "xtask" => folder,
            None => return None,
        };
        (!krate.contains('/')).then_some((file, krate))
    })
}

/// A dependency as a manifest states it.
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) line: usize,
}

/// The dependencies in the given sections, those of one platform included.
pub(super) fn dependencies(file: &File, sections: &[&str]) -> Vec<Dependency> {
    let text = file.text().unwrap_or_default();
    // A manifest that does not parse stops cargo before it stops tidy.
    let manifest = text.parse::<Table>().unwrap_or_default();
    let mut tables = vec![&manifest];
    if let Some(Value::Table(platforms)) = manifest.get("target") {
        tables.extend(platforms.values().filter_map(Value::as_table));
    }
    let mut found = Vec::new();
    for table in tables {
        for section in sections {
            let Some(Value::Table(dependencies)) = table.get(*section) else {
                continue;
            };
            for (key, value) in dependencies {
                let name = match value.get("package").and_then(Value::as_str) {
                    Some(package) => package,
                    None => key,
                };
                found.push(Dependency {
                    name: name.to_owned(),
                    value: value.clone(),
                    line: line_of(text, key),
                });
            }
        }
    }
    found
}

/// The line on which a key stands first, 0 if it is written in some other way.
fn line_of(text: &str, key: &str) -> usize {
    text.lines()
        .position(|line| {
            let rest = line.trim_start().strip_prefix(key);
            rest.is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
        })
        .map_or(0, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: fn(&Tree) -> Vec<Finding>, path: &str, manifest: &str, expected: &[&str]) {
        let found = rule(&Tree::of(&[(path, manifest)]));
        let messages: Vec<&str> = found
            .iter()
            .map(|finding| finding.message.as_str())
            .collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn a_crate_below_may_be_used() {
        check(
            between_crates,
            "crates/engine/Cargo.toml",
            "[dependencies]\ntietopohja-lake.workspace = true\n",
            &[],
        );
    }

    #[test]
    fn a_crate_above_may_not_be_used() {
        check(
            between_crates,
            "crates/lake/Cargo.toml",
            "[dependencies]\ntietopohja-engine.workspace = true\n",
            &["`lake` may not use `engine`"],
        );
    }

    #[test]
    fn testkit_is_for_tests() {
        let manifest = "[dev-dependencies]\ntietopohja-testkit.workspace = true\n";
        check(between_crates, "crates/lake/Cargo.toml", manifest, &[]);
        let manifest = "[dependencies]\ntietopohja-testkit.workspace = true\n";
        check(
            between_crates,
            "crates/cli/Cargo.toml",
            manifest,
            &["`cli` may not use `testkit`"],
        );
    }

    #[test]
    fn an_unknown_crate_must_find_its_place() {
        check(
            between_crates,
            "crates/utils/Cargo.toml",
            "",
            &["crate `utils` has no place in the order of crates"],
        );
    }

    #[test]
    fn storage_belongs_to_the_lake() {
        let manifest = "[dependencies]\ndeltalake-core.workspace = true\nobject_store = \"1\"\n";
        check(rooms, "crates/lake/Cargo.toml", manifest, &[]);
        check(
            rooms,
            "crates/ingest/Cargo.toml",
            manifest,
            &[
                "`ingest` may not use `deltalake-core`",
                "`ingest` may not use `object_store`",
            ],
        );
    }

    #[test]
    fn kernels_use_expressions_but_not_the_engine() {
        let manifest = "[dependencies]\ndatafusion-expr = \"1\"\n";
        check(rooms, "crates/kernels/Cargo.toml", manifest, &[]);
        let manifest = "[dependencies]\ndatafusion = \"1\"\n";
        check(
            rooms,
            "crates/kernels/Cargo.toml",
            manifest,
            &["`kernels` may not use `datafusion`"],
        );
    }

    #[test]
    fn the_special_room_decides() {
        let manifest = "[dependencies]\ndatafusion-common = \"1\"\narrow-flight = \"1\"\n";
        check(rooms, "crates/server/Cargo.toml", manifest, &[]);
        check(
            rooms,
            "crates/contract/Cargo.toml",
            manifest,
            &[
                "`contract` may not use `arrow-flight`",
                "`contract` may not use `datafusion-common`",
            ],
        );
    }

    #[test]
    fn a_renamed_library_and_one_of_a_platform_are_seen() {
        let manifest = "[target.'cfg(unix)'.dependencies]\nrpc = { package = \"tonic\" }\n";
        check(
            rooms,
            "crates/engine/Cargo.toml",
            manifest,
            &["`engine` may not use `tonic`"],
        );
    }

    #[test]
    fn the_line_of_a_dependency_is_told() {
        let tree = Tree::of(&[(
            "crates/policy/Cargo.toml",
            "[dependencies]\nserde = \"1\"\ntokio.workspace = true\n",
        )]);
        let lines: Vec<usize> = rooms(&tree).iter().map(|finding| finding.place.1).collect();
        assert_eq!(lines, [3]);
    }
}
