//! The packages of the client tests: pinned, and installed beside the build once
//! for each list. Python packages are of two lists, because one client needs an
//! older SQLAlchemy; Node packages are of one. arrow-flight's own program is built
//! by cargo, from the version of the library that `Cargo.lock` has and with the
//! lock file that comes with it; it takes a minute or two, once. A machine that lacks
//! Python or Node is told what to install.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::process;

use super::SCRIPTS;

/// What to tell a machine that lacks Python.
const PYTHON: &str = "\
The client tests need Python 3.11 or newer with pip. Install them, for instance
  Debian, Ubuntu   apt install python3 python3-pip
  Fedora           dnf install python3 python3-pip
  macOS            brew install python
and run `cargo xtask test --only clients` again. The Rust tests need neither:
`cargo xtask test --only rust`.";

/// What to tell a machine that lacks Node.
const NODE: &str = "\
The client tests need Node 20 or newer with npm. Install them, for instance
  Debian, Ubuntu   apt install nodejs npm
  Fedora           dnf install nodejs npm
  macOS            brew install node
and run `cargo xtask test --only clients` again. The Rust tests need neither:
`cargo xtask test --only rust`.";

/// arrow-flight's own client, and the package that holds it.
const FLIGHT_CRATE: &str = "arrow-flight";
const FLIGHT_CLI: &str = "flight_sql_client";
const FLIGHT_CLI_FEATURES: &str = "cli,flight-sql,tls-ring";

/// Names a program that is there already.
const FLIGHT_CLI_VARIABLE: &str = "FLIGHT_SQL_CLIENT";

/// What says how the workspace is built.
const FOR_THE_WORKSPACE: &[&str] = &[
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
];

/// The folders of the installed packages, and the program that is built.
pub(super) struct Packages {
    python: PathBuf,
    sqlalchemy_1: PathBuf,
    /// Holds `node_modules`.
    pub(super) node: PathBuf,
    flight_cli: PathBuf,
}

impl Packages {
    /// Installs what is missing; `None`, once the user has been told, when this
    /// machine has no Python or no Node.
    pub(super) fn install(root: &Path) -> Result<Option<Packages>, String> {
        let scripts = root.join(SCRIPTS);
        let beside = process::program_dir()?;
        if !answers("python3", &["-c", NEW_ENOUGH_PYTHON]) {
            eprintln!("\n{PYTHON}");
            return Ok(None);
        }
        if !answers("node", &["-e", NEW_ENOUGH_NODE]) || !answers("npm", &["--version"]) {
            eprintln!("\n{NODE}");
            return Ok(None);
        }
        let python = beside.join("python-clients");
        install_python(&scripts.join("requirements.txt"), &python)?;
        let sqlalchemy_1 = beside.join("python-clients-sqlalchemy-1");
        let older = scripts.join("requirements-sqlalchemy-1.txt");
        install_python(&older, &sqlalchemy_1)?;
        let node = beside.join("node-clients");
        install_node(&scripts, &node)?;
        Ok(Some(Packages {
            python,
            sqlalchemy_1,
            node,
            flight_cli: flight_cli(root, &beside)?,
        }))
    }

    /// Python that finds the packages of `requirements.txt`.
    pub(super) fn python(&self) -> Command {
        python(self.python.clone().into_os_string())
    }

    /// Python that finds SQLAlchemy 1.4 before the other packages.
    pub(super) fn python_sqlalchemy_1(&self) -> Result<Command, String> {
        let folders = env::join_paths([&self.sqlalchemy_1, &self.python])
            .map_err(|error| error.to_string())?;
        Ok(python(folders))
    }

    /// Node that finds its packages by `require`.
    pub(super) fn node(&self) -> Command {
        let mut command = Command::new("node");
        command.env("NODE_PATH", self.node.join("node_modules"));
        command
    }

    /// arrow-flight's own client.
    pub(super) fn flight_cli(&self) -> Command {
        Command::new(&self.flight_cli)
    }
}

fn python(packages: OsString) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages);
    command.env("PYTHONNOUSERSITE", "1");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

const NEW_ENOUGH_PYTHON: &str = "import sys, pip; sys.exit(sys.version_info < (3, 11))";
const NEW_ENOUGH_NODE: &str = "process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)";

/// Whether a program is there and ends well.
fn answers(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Installs a list of Python packages; the lists name all they bring in.
///
/// `pip --target` needs no virtual environment, which some systems package apart.
fn install_python(requirements: &Path, folder: &Path) -> Result<(), String> {
    let wanted = read(requirements)?;
    if is_installed(folder, &wanted) {
        return Ok(());
    }
    empty(folder)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
    pip.args(["--disable-pip-version-check", "--no-warn-script-location"]);
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    pip.arg("--target").arg(folder);
    pip.arg("--requirement").arg(requirements);
    if !process::succeeds("Python packages", &mut pip)? {
        return Err(format!(
            "pip could not install the packages of `{}`; is a package index reachable?",
            requirements.display()
        ));
    }
    note(folder, &wanted)
}

/// Installs the Node packages exactly as the lock file has them.
fn install_node(lists: &Path, folder: &Path) -> Result<(), String> {
    let wanted = read(&lists.join("package-lock.json"))?;
    if is_installed(folder, &wanted) {
        return Ok(());
    }
    fs::create_dir_all(folder)
        .map_err(|error| format!("cannot make `{}`: {error}", folder.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(lists.join(name), folder.join(name))
            .map_err(|error| format!("cannot copy `{name}`: {error}"))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    npm.current_dir(folder);
    if !process::succeeds("Node packages", &mut npm)? {
        return Err(format!(
            "npm could not install the packages of `{}`; is a package registry reachable?",
            lists.display()
        ));
    }
    note(folder, &wanted)
}

/// The program that [`FLIGHT_CLI_VARIABLE`] names, or the one that is installed beside the build.
fn flight_cli(root: &Path, beside: &Path) -> Result<PathBuf, String> {
    if let Some(named) = env::var_os(FLIGHT_CLI_VARIABLE) {
        return Ok(PathBuf::from(named));
    }
    let version = locked_version(&read(&root.join("Cargo.lock"))?, FLIGHT_CRATE)?;
    let folder = beside.join("flight-client");
    install_flight_cli(root, &version, &folder, &beside.join("flight-client-build"))?;
    let name = format!("{FLIGHT_CLI}{}", env::consts::EXE_SUFFIX);
    Ok(folder.join("bin").join(name))
}

/// Builds the program in a folder of its own: it has another profile and other features than the
/// workspace, and whatever is said about the workspace's builds is not for it.
fn install_flight_cli(
    root: &Path,
    version: &str,
    folder: &Path,
    build: &Path,
) -> Result<(), String> {
    let wanted = format!("{FLIGHT_CRATE} {version} {FLIGHT_CLI_FEATURES}\n");
    if is_installed(folder, &wanted) {
        return Ok(());
    }
    empty(folder)?;
    let mut cargo = process::cargo(root);
    cargo.args(["install", FLIGHT_CRATE, "--version", version]);
    cargo.args(["--bin", FLIGHT_CLI, "--features", FLIGHT_CLI_FEATURES]);
    cargo.args(["--locked", "--debug", "--quiet"]);
    cargo.arg("--root").arg(folder);
    cargo.arg("--target-dir").arg(build);
    for name in FOR_THE_WORKSPACE {
        cargo.env_remove(name);
    }
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
    cargo.env("CARGO_INCREMENTAL", "0");
    let installed = process::succeeds("arrow-flight's own client", &mut cargo)?;
    // It is half a gigabyte, and nothing of it is needed again.
    empty(build)?;
    if !installed {
        return Err(format!(
            "cargo could not install {FLIGHT_CLI} of {FLIGHT_CRATE} {version}; is a crate registry \
             reachable? Where none is, install it elsewhere with the command above, and name the \
             program with the variable `{FLIGHT_CLI_VARIABLE}`"
        ));
    }
    note(folder, &wanted)
}

/// The version of a package in a lock file.
fn locked_version(lock: &str, name: &str) -> Result<String, String> {
    let lock: toml::Table = lock
        .parse()
        .map_err(|error| format!("cannot read `Cargo.lock`: {error}"))?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let package = packages
        .into_iter()
        .flatten()
        .find(|package| text(package, "name") == Some(name));
    match package.and_then(|package| text(package, "version")) {
        Some(version) => Ok(version.to_owned()),
        None => Err(format!("`Cargo.lock` has no package `{name}`")),
    }
}

fn text<'a>(table: &'a toml::Value, field: &str) -> Option<&'a str> {
    table.get(field)?.as_str()
}

fn is_installed(folder: &Path, wanted: &str) -> bool {
    fs::read_to_string(folder.join("installed.txt")).is_ok_and(|installed| installed == wanted)
}

fn note(folder: &Path, installed: &str) -> Result<(), String> {
    let record = folder.join("installed.txt");
    fs::write(&record, installed)
        .map_err(|error| format!("cannot write `{}`: {error}", record.display()))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

fn empty(folder: &Path) -> Result<(), String> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder)
        .map_err(|error| format!("cannot empty `{}`: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_package_is_read_from_the_lock_file() {
        let lock = "version = 4\n\n\
                    [[package]]\nname = \"arrow\"\nversion = \"1.0.0\"\n\n\
                    [[package]]\nname = \"arrow-flight\"\nversion = \"1.2.3\"\n";
        let cases = [
            (lock, FLIGHT_CRATE, Ok("1.2.3")),
            (lock, "arrow", Ok("1.0.0")),
            (lock, "flight", Err("no package `flight`")),
            (
                "version = 4",
                FLIGHT_CRATE,
                Err("no package `arrow-flight`"),
            ),
            ("[[package", FLIGHT_CRATE, Err("cannot read `Cargo.lock`")),
        ];
        for (lock, name, expected) in cases {
            match (locked_version(lock, name), expected) {
                (Ok(version), Ok(wanted)) => assert_eq!(version, wanted),
                (Err(message), Err(wanted)) => assert!(message.contains(wanted), "{message}"),
                (other, _) => panic!("{name}: {other:?}"),
            }
        }
    }
}
