//! The packages of the client tests: pinned, and installed beside the build once
//! for each list. Python packages are of two lists, because one client needs an
//! older SQLAlchemy; Node packages are of one. A machine that lacks Python or
//! Node is told what to install.

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

/// The folders of the installed packages.
pub(super) struct Packages {
    python: PathBuf,
    sqlalchemy_1: PathBuf,
    /// Holds `node_modules`.
    pub(super) node: PathBuf,
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
        let packages = Packages {
            python: beside.join("python-clients"),
            sqlalchemy_1: beside.join("python-clients-sqlalchemy-1"),
            node: beside.join("node-clients"),
        };
        install_python(&scripts.join("requirements.txt"), &packages.python)?;
        install_python(
            &scripts.join("requirements-sqlalchemy-1.txt"),
            &packages.sqlalchemy_1,
        )?;
        install_node(&scripts, &packages.node)?;
        Ok(Some(packages))
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
