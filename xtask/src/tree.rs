//! The files of the project as the checks see them: paths and contents in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One file: path from the root with `/`, and its bytes.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

impl File {
    /// The text, or `None` when the file is not UTF-8.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// Whether the file name ends with `.extension`.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        self.path
            .strip_suffix(extension)
            .is_some_and(|stem| stem.ends_with('.'))
    }
}

/// Every file that is or would be committed, sorted by path.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

impl Tree {
    /// Reads the files that git knows or would add; without git, all but build output.
    pub(crate) fn read(root: &Path) -> Result<Tree, String> {
        let paths = match git_paths(root) {
            Some(paths) => paths,
            None => walk(root)?,
        };
        let mut files = Vec::new();
        for path in paths {
            let full = root.join(&path);
            // Deleted but not yet committed, or a link to a folder.
            if !full.is_file() {
                continue;
            }
            let bytes =
                fs::read(&full).map_err(|error| format!("cannot read `{path}`: {error}"))?;
            files.push(File { path, bytes });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Tree { files })
    }

    /// A tree in memory, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Tree {
        let files = files
            .iter()
            .map(|(path, text)| File {
                path: (*path).to_owned(),
                bytes: text.as_bytes().to_vec(),
            })
            .collect();
        Tree { files }
    }

    /// The file at a path.
    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust sources.
    pub(crate) fn rust_files(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.has_extension("rs"))
    }

    /// Files in a folder and below it.
    pub(crate) fn under(&self, folder: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| {
            file.path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
        })
    }
}

/// The root of the workspace: the folder above this crate's.
pub(crate) fn root() -> Result<PathBuf, String> {
    let here = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_dir()
            .map_err(|error| format!("cannot tell the current folder: {error}"))?,
    };
    here.ancestors()
        .find(|folder| folder.join("xtask/Cargo.toml").is_file())
        .map(Path::to_path_buf)
        .ok_or_else(|| "this is not a clone of the project: no `xtask` folder above".to_owned())
}

fn git_paths(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others"])
        .arg("--exclude-standard")
        .current_dir(root)
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let mut paths: Vec<String> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect();
    paths.dedup();
    Some(paths)
}

fn walk(root: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(folder) = waiting.pop() {
        let entries = fs::read_dir(root.join(&folder))
            .map_err(|error| format!("cannot list `{}`: {error}", folder.display()))?;
        for entry in entries {
            let entry = entry.map_err(|error| format!("cannot list a folder: {error}"))?;
            let path = folder.join(entry.file_name());
            let name = entry.file_name();
            if entry.path().is_dir() {
                if name != "target" && name != ".git" && name != ".venv" {
                    waiting.push(path);
                }
            } else {
                found.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_folder_and_extension() {
        let tree = Tree::of(&[
            ("sql/a.sql", ""),
            ("sqlx/b.sql", ""),
            ("crates/x/src/lib.rs", ""),
            ("docs/rs", ""),
        ]);
        let sql: Vec<&str> = tree.under("sql").map(|file| file.path.as_str()).collect();
        assert_eq!(sql, ["sql/a.sql"]);
        let rust: Vec<&str> = tree.rust_files().map(|file| file.path.as_str()).collect();
        assert_eq!(rust, ["crates/x/src/lib.rs"]);
        assert!(tree.get("sql/a.sql").is_some());
        assert!(tree.get("sql").is_none());
    }

    #[test]
    fn the_walk_finds_this_very_file() {
        let Ok(root) = root() else {
            unreachable!("tests run inside the project")
        };
        let Ok(found) = walk(&root.join("xtask")) else {
            unreachable!("the folder of this crate can be listed")
        };
        assert!(found.contains(&"src/tree.rs".to_owned()));
    }
}
