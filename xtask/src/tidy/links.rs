//! Links between the project's own pages.

use super::Finding;
use crate::tree::Tree;

/// Each relative link of a Markdown page leads to a file or folder.
pub(super) fn resolve(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.has_extension("md")) {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut in_code = false;
        for (index, line) in file.text().unwrap_or_default().lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            if in_code {
                continue;
            }
            for target in targets(line) {
                let path = target.split('#').next().unwrap_or_default();
                if path.is_empty() || path.contains(':') {
                    continue;
                }
                let full = join(folder, path);
                if tree.get(&full).is_none() && tree.under(&full).next().is_none() {
                    findings.push(Finding::new(
                        &file.path,
                        index + 1,
                        format!("the link to `{target}` leads nowhere"),
                        "links are relative to the page they stand on",
                    ));
                }
            }
        }
    }
    findings
}

/// What stands between `](` and `)` on a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(str::trim)
}

/// A relative path seen from a folder, with `.` and `..` resolved.
fn join(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_folders_and_the_web_pass() {
        let tree = Tree::of(&[
            (
                "docs/how-to/a.md",
                "[b](../decisions/0001-x.md#why), [c](../decisions/), [d](https://example.org), [e](#here)",
            ),
            ("docs/decisions/0001-x.md", ""),
        ]);
        assert_eq!(resolve(&tree), []);
    }

    #[test]
    fn a_broken_link_is_found_but_not_in_an_example() {
        let tree = Tree::of(&[("README.md", "```\n[a](x.md)\n```\n\n[b](docs/none.md)\n")]);
        let found = resolve(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, ("README.md".to_owned(), 5));
    }
}
