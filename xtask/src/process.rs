//! Starting other programs: cargo with the right folder, and steps with a title.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::tally::Tally;

/// The compiler that the workspace's own crates are built with from now on.
static DRIVER: OnceLock<PathBuf> = OnceLock::new();

/// Clippy's compiler, which comes with the pinned toolchain.
pub(crate) fn lint_driver() -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").map(PathBuf::from);
    let name = format!("clippy-driver{}", std::env::consts::EXE_SUFFIX);
    let driver = cargo.and_then(|cargo| Some(cargo.parent()?.join(name)));
    match driver.filter(|driver| driver.is_file()) {
        Some(driver) => Ok(driver),
        None => Err(
            "clippy is not installed; run `rustup component add clippy` and try again".to_owned(),
        ),
    }
}

/// Lets every later [`cargo`] compile the workspace's crates with this compiler. Lints that the
/// workspace denies are errors of the build.
pub(crate) fn compile_with(driver: PathBuf) {
    let _ = DRIVER.set(driver);
}

/// `cargo` of the running toolchain, in the given folder.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root);
    if let Some(driver) = DRIVER.get() {
        command.env("RUSTC_WORKSPACE_WRAPPER", driver);
    }
    // The outer `cargo run` tells this program which package it is. Some build scripts watch those
    // variables, and would have half the dependencies built again.
    for (name, _) in std::env::vars_os() {
        let about_us = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST_")
                || matches!(
                    name,
                    "CARGO_BIN_NAME" | "CARGO_CRATE_NAME" | "CARGO_PRIMARY_PACKAGE"
                )
        });
        if about_us {
            command.env_remove(name);
        }
    }
    command
}

/// The folder that holds compiled programs: where this very program stands.
///
/// Asking the running program finds the folder in every way to name it:
/// variable, configuration file or default.
pub(crate) fn program_dir() -> Result<PathBuf, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot tell where this program stands: {error}"))?;
    match program.parent() {
        Some(folder) => Ok(folder.to_path_buf()),
        None => Err(format!(
            "`{}` does not stand in a folder",
            program.display()
        )),
    }
}

/// Path of the compiled `tietopohja`, which `cargo build` has put beside this program.
pub(crate) fn binary() -> Result<PathBuf, String> {
    let name = format!("tietopohja{}", std::env::consts::EXE_SUFFIX);
    Ok(program_dir()?.join(name))
}

/// Prints the title of a step and the command line that repeats it.
pub(crate) fn announce(title: &str, command: &Command) {
    let mut line = command.get_program().to_string_lossy().into_owned();
    if let Some(name) = Path::new(&line).file_name().and_then(OsStr::to_str) {
        line = name.to_owned();
    }
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    eprintln!("\n==> {title}: {line}");
}

/// Runs a command to its end with its output shown; true when it succeeded.
pub(crate) fn succeeds(title: &str, command: &mut Command) -> Result<bool, String> {
    announce(title, command);
    let status = command
        .status()
        .map_err(|error| cannot_start(command, &error))?;
    Ok(status.success())
}

/// Runs Rust tests with their output shown, and counts them.
///
/// A run that fails without a failed test, for instance because something does
/// not compile, counts as one failure.
pub(crate) fn rust_tests(title: &str, command: &mut Command) -> Result<Tally, String> {
    announce(title, command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| cannot_start(command, &error))?;
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        let mut terminal = std::io::stdout().lock();
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(|error| format!("cannot read the test output: {error}"))?;
            let line = String::from_utf8_lossy(&line);
            if let Some(counts) = Tally::from_test_result(&line) {
                tally.add(counts);
            }
            // A closed terminal must not stop the tests.
            let _ = writeln!(terminal, "{line}");
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for the tests: {error}"))?;
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// What to say when a program does not start.
pub(crate) fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!(
        "cannot start `{}`: {error}",
        command.get_program().to_string_lossy()
    )
}
