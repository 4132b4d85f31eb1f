//! Rules on every text file: nothing that ties the project to one machine.

use super::Finding;
use crate::tree::Tree;

/// Folders of one machine. Written in halves so that this file passes.
const MACHINE_PATHS: &[(&str, &str)] = &[
    ("/ho", "me/"),
    ("/ro", "ot/"),
    ("/Us", "ers/"),
    ("/wo", "rk/"),
    ("/tm", "p/"),
    ("/pri", "vate/"),
];

/// Package registries and their mirrors, likewise in halves.
const REGISTRY_HOSTS: &[(&str, &str)] = &[
    ("py", "pi.org"),
    ("python", "hosted.org"),
    ("crates", ".io"),
    ("registry.np", "mjs.org"),
    ("npm", "js.com"),
    ("deb.deb", "ian.org"),
    ("proxy.gol", "ang.org"),
];

/// No file names a folder of somebody's machine.
pub(super) fn no_machine_paths(tree: &Tree) -> Vec<Finding> {
    find(tree, MACHINE_PATHS, starts_a_path, |path| {
        (
            format!("`{path}` is a folder of one machine"),
            "write a path relative to the project, or let the user name it".to_owned(),
        )
    })
}

/// No file names a package registry: which one is used is the machine's affair.
pub(super) fn no_registry_hosts(tree: &Tree) -> Vec<Finding> {
    find(
        tree,
        REGISTRY_HOSTS,
        |_| true,
        |host| {
            (
                format!("`{host}` is a package registry"),
                "name the package only; each machine knows its registry".to_owned(),
            )
        },
    )
}

fn find(
    tree: &Tree,
    halves: &[(&str, &str)],
    begins: fn(&str) -> bool,
    say: fn(&str) -> (String, String),
) -> Vec<Finding> {
    let needles: Vec<String> = halves.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let mut findings = Vec::new();
    for file in &tree.files {
        // The lock file names the registry of every package by its nature.
        if file.path == "Cargo.lock" {
            continue;
        }
        let Some(text) = file.text() else { continue };
        for (index, line) in text.lines().enumerate() {
            for needle in &needles {
                let hit = line
                    .match_indices(needle.as_str())
                    .any(|(at, _)| begins(&line[..at]));
                if hit {
                    let (message, help) = say(needle);
                    findings.push(Finding::new(&file.path, index + 1, message, help));
                }
            }
        }
    }
    findings
}

/// Whether a path begins here, rather than going on from a host, a variable or
/// a relative path.
fn starts_a_path(before: &str) -> bool {
    !before.chars().next_back().is_some_and(|last| {
        last.is_alphanumeric() || matches!(last, '.' | '-' | '_' | '/' | '}' | '~' | ')')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_path_is_found_where_it_begins() {
        let path = MACHINE_PATHS[0].0.to_owned() + MACHINE_PATHS[0].1;
        let text = format!("a\nsee {path}me/x\nhttps://x.fi{path}y\n${{BASE}}{path}z\n");
        let found = no_machine_paths(&Tree::of(&[("README.md", &text)]));
        let lines: Vec<usize> = found.iter().map(|finding| finding.place.1).collect();
        assert_eq!(lines, [2]);
    }

    #[test]
    fn a_registry_is_found_except_in_the_lock_file() {
        let host = REGISTRY_HOSTS[2].0.to_owned() + REGISTRY_HOSTS[2].1;
        let found = no_registry_hosts(&Tree::of(&[("a.md", &host), ("Cargo.lock", &host)]));
        let paths: Vec<&str> = found
            .iter()
            .map(|finding| finding.place.0.as_str())
            .collect();
        assert_eq!(paths, ["a.md"]);
    }
}
