//! `cargo xtask docs`: the pages of `docs/reference` that the binary knows best.
//!
//! `tietopohja reference PAGE` prints a page as Markdown; this command writes
//! it, or with `--check` says what is out of date. The glossary is written by
//! hand and stays untouched.

use std::fs;
use std::path::Path;

use crate::process;
use crate::tally::Tally;
use crate::tree::root;

/// The pages, each printed by `tietopohja reference PAGE`.
const PAGES: &[&str] = &["cli", "contracts", "indicators", "settings"];

/// Writes the pages, or compares them with `--check`; one check per page.
pub(crate) fn run(options: &[String]) -> Result<Tally, String> {
    let check = match options {
        [] => false,
        [option] if option == "--check" => true,
        _ => return Err("`docs` takes only `--check`".to_owned()),
    };
    let root = root()?;
    if !check {
        let mut build = process::cargo(&root);
        build.args(["build", "--locked", "--package", "tietopohja-cli"]);
        if !process::succeeds("build", &mut build)? {
            return Ok(Tally::one(false));
        }
    }
    let binary = process::binary()?;
    let mut tally = Tally::default();
    for page in PAGES {
        let text = print_page(&root, &binary, page)?;
        let path = root.join("docs/reference").join(format!("{page}.md"));
        let current = fs::read_to_string(&path).unwrap_or_default();
        if current == text {
            tally.add(Tally::one(true));
        } else if check {
            eprintln!("docs/reference/{page}.md is out of date: run `cargo xtask docs`");
            tally.add(Tally::one(false));
        } else {
            fs::write(&path, text)
                .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
            eprintln!("wrote docs/reference/{page}.md");
            tally.add(Tally::one(true));
        }
    }
    Ok(tally)
}

fn print_page(root: &Path, binary: &Path, page: &str) -> Result<String, String> {
    let mut command = std::process::Command::new(binary);
    command.args(["reference", page]).current_dir(root);
    let output = command
        .output()
        .map_err(|error| process::cannot_start(&command, &error))?;
    if !output.status.success() {
        return Err(format!(
            "`tietopohja reference {page}` failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("page `{page}` is not UTF-8"))
}
