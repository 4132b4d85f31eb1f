//! Real Python and Node clients against the real binary: what a newcomer's first hour does.
//!
//! Makes a small demo warehouse in a throw-away folder, serves it on a free
//! port, and runs the scripts of `testdata/clients`, which know the product only
//! from outside: one speaks Flight SQL, one opens the Delta tables with other
//! people's readers. A script ends with `N passed, N failed`, which is added to
//! the tests. The `matrix` scripts tell what each client can do, and the page
//! `docs/reference/flight-sql-clients.md` must tell the same; with the variable
//! `BLESS` set it is written instead. A new client is a new script and a function
//! here that starts it; what it imports goes to `requirements.txt` or
//! `package.json`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::process;
use crate::tally::Tally;

const SCRIPTS: &str = "testdata/clients";

/// How long the server may take to say that it is ready, and to stop.
const READY_WITHIN: Duration = Duration::from_secs(120);
const STOPS_WITHIN: Duration = Duration::from_secs(30);

/// Tables that the Delta readers open: whole schemas and single tables.
const DELTA_TABLES: &[&str] = &[
    "raw",
    "reject",
    "meta/delivery",
    "reference/county",
    "reference/population",
];

/// What to tell a machine that lacks something.
const INSTALL: &str = "\
The client tests need Python 3.11 or newer with pip. Install them, for instance
  Debian, Ubuntu   apt install python3 python3-pip
  Fedora           dnf install python3 python3-pip
  macOS            brew install python
and run `cargo xtask test --only clients` again. The Rust tests need neither:
`cargo xtask test --only rust`.";

/// The page that the matrix of clients is compared with.
const PAGE: &str = "docs/reference/flight-sql-clients.md";

/// The page whose snippets are run.
const HOW_TO: &str = "docs/how-to/connect-a-client.md";

/// What to tell a machine without Node.
const INSTALL_NODE: &str = "\
The client tests need Node 20 or newer with npm. Install them, for instance
  Debian, Ubuntu   apt install nodejs npm
  Fedora           dnf install nodejs npm
  macOS            brew install node
and run `cargo xtask test --only clients` again.";

/// Runs the clients; the demo and a clean stop count as one check each.
pub(crate) fn run(root: &Path) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let Some(packages) = install_packages(root)? else {
        eprintln!("\n{INSTALL}");
        return Ok(Tally::one(false));
    };
    let Some(node) = install_node_packages(root)? else {
        eprintln!("\n{INSTALL_NODE}");
        return Ok(Tally::one(false));
    };
    let folder = Scratch::create()?;
    let warehouse = folder.0.join("warehouse");

    let mut demo = Command::new(process::binary()?);
    demo.args(["demo", "--once", "--dir"]).arg(&warehouse);
    let made = process::succeeds("demo warehouse", &mut demo)?;
    tally.add(Tally::one(made));
    if !made {
        return Ok(tally);
    }

    let python = Python {
        scripts: root.join(SCRIPTS),
        packages,
    };
    let mut server = Server::start(&warehouse, "reader")?;
    tally.add(python.flight_sql(&server.flight)?);
    tally.add(python.matrix(&server.flight, &node, root)?);
    tally.add(python.snippets(&server.flight, &node, root)?);
    let stopped = server.stop();
    if let Err(message) = &stopped {
        eprintln!("FAILED  the server did not stop cleanly: {message}");
    }
    tally.add(Tally::one(stopped.is_ok()));
    let analysts = Server::start(&warehouse, "analyst")?;
    tally.add(python.workspace(&analysts.flight)?);
    drop(analysts);
    tally.add(python.delta_tables(&warehouse, &folder.0)?);
    Ok(tally)
}

/// Starts the scripts with their packages.
struct Python {
    scripts: PathBuf,
    packages: PathBuf,
}

impl Python {
    /// The ADBC driver, and Flight messages written by hand.
    fn flight_sql(&self, address: &str) -> Result<Tally, String> {
        let mut client = self.script("adbc_flight.py");
        client.arg(address);
        checks(&mut client)
    }

    /// Tables of one's own, which an analyst may make.
    fn workspace(&self, address: &str) -> Result<Tally, String> {
        let mut client = self.script("workspace.py");
        client.arg(address);
        checks(&mut client)
    }

    /// What every client can do, compared with the page; each script that did as
    /// it asserts and the page that agrees count as one check.
    fn matrix(&self, address: &str, node: &Path, root: &Path) -> Result<Tally, String> {
        let mut tally = Tally::default();
        let mut lines = Vec::new();
        let mut of_python = self.script("matrix.py");
        of_python.arg(address);
        let mut of_node = Command::new("node");
        of_node.arg(self.scripts.join("matrix.mjs"));
        of_node.arg(address).arg(node);
        for client in [&mut of_python, &mut of_node] {
            process::announce("matrix", client);
            let output = run_to_end(client)?;
            tally.add(Tally::one(output.status.success()));
            lines.extend(output.stdout);
        }
        let write = std::env::var_os("BLESS").is_some();
        let mut page = self.script("matrix_page.py");
        page.arg(if write { "write" } else { "check" });
        page.arg(root.join(PAGE)).stdin(Stdio::piped());
        process::announce("matrix", &page);
        let mut child = page
            .spawn()
            .map_err(|error| process::cannot_start(&page, &error))?;
        if let Some(mut input) = child.stdin.take() {
            input
                .write_all(&lines)
                .map_err(|error| format!("cannot hand over the matrix: {error}"))?;
        }
        let status = child
            .wait()
            .map_err(|error| format!("cannot wait for the page: {error}"))?;
        tally.add(Tally::one(status.success()));
        Ok(tally)
    }

    /// The snippets of the page that tells how to connect.
    fn snippets(&self, address: &str, node: &Path, root: &Path) -> Result<Tally, String> {
        let mut client = self.script("snippets.py");
        client.arg(address).arg(root.join(HOW_TO)).arg(node);
        checks(&mut client)
    }

    /// Each table of [`DELTA_TABLES`] read by others gives the figures that our
    /// own engine gives.
    fn delta_tables(&self, warehouse: &Path, scratch: &Path) -> Result<Tally, String> {
        let tables = delta_tables(&warehouse.join("lake"))?;
        let mut figures = Vec::new();
        for table in &tables {
            let mut wanted = self.script("open_delta.py");
            let query = capture(wanted.arg("sql").arg(table))?;
            let mut own = Command::new(process::binary()?);
            own.arg("-C").arg(warehouse).args(["sql", "-o", "json"]);
            let answer = capture(own.arg(query.trim()))?;
            figures.push(format!("{:?}: {answer}", sql_name(table)));
        }
        let expected = scratch.join("figures.json");
        fs::write(&expected, format!("{{{}}}", figures.join(",\n")))
            .map_err(|error| format!("cannot write `{}`: {error}", expected.display()))?;
        let mut client = self.script("open_delta.py");
        client.arg("check").arg(&expected).args(&tables);
        checks(&mut client)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = python();
        command.arg(self.scripts.join(name));
        command.env("PYTHONPATH", &self.packages);
        command.env("PYTHONNOUSERSITE", "1");
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// The folders of the tables to open, sorted.
fn delta_tables(lake: &Path) -> Result<Vec<PathBuf>, String> {
    let mut tables = Vec::new();
    for name in DELTA_TABLES {
        let folder = lake.join(name);
        if folder.join("_delta_log").is_dir() {
            tables.push(folder);
            continue;
        }
        let unlisted = |error| format!("cannot list `{}`: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(unlisted)? {
            let table = entry.map_err(unlisted)?.path();
            if table.join("_delta_log").is_dir() {
                tables.push(table);
            }
        }
    }
    tables.sort();
    Ok(tables)
}

/// `schema.table` of a table's folder.
fn sql_name(folder: &Path) -> String {
    let part = |path: Option<&Path>| {
        path.and_then(Path::file_name)
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    format!("{}.{}", part(folder.parent()), part(Some(folder)))
}

/// Runs a script that reports checks, shows its output, and counts them. One
/// that ends badly without saying so is one failure.
fn checks(script: &mut Command) -> Result<Tally, String> {
    process::announce("client", script);
    let output = run_to_end(script)?;
    let text = String::from_utf8_lossy(&output.stdout);
    eprint!("{text}");
    let mut tally = text
        .lines()
        .filter_map(Tally::from_closing_line)
        .next_back()
        .unwrap_or_default();
    let nothing_ran = tally == Tally::default();
    if (!output.status.success() && tally.failed == 0) || nothing_ran {
        tally.failed += 1;
    }
    Ok(tally)
}

/// What a command prints; an error when it fails.
fn capture(command: &mut Command) -> Result<String, String> {
    let output = run_to_end(command)?;
    if !output.status.success() {
        return Err(format!(
            "`{}` failed",
            command.get_program().to_string_lossy()
        ));
    }
    String::from_utf8(output.stdout).map_err(|_| "the output is not UTF-8".to_owned())
}

fn run_to_end(command: &mut Command) -> Result<Output, String> {
    command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| process::cannot_start(command, &error))
}

fn python() -> Command {
    Command::new("python3")
}

/// Whether Python is there, new enough, and has pip.
fn is_new_enough() -> bool {
    let program = "import sys, pip; sys.exit(sys.version_info < (3, 11))";
    python()
        .args(["-c", program])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Installs the pinned packages into a folder beside the build, once for each
/// list of requirements; `None` when Python or pip is missing.
///
/// `pip --target` needs no virtual environment, which some systems package apart.
fn install_packages(root: &Path) -> Result<Option<PathBuf>, String> {
    let requirements = root.join(SCRIPTS).join("requirements.txt");
    let wanted = fs::read_to_string(&requirements)
        .map_err(|error| format!("cannot read `{}`: {error}", requirements.display()))?;
    let folder = process::program_dir()?.join("python-clients");
    let record = folder.join("installed.txt");
    if fs::read_to_string(&record).is_ok_and(|installed| installed == wanted) {
        return Ok(Some(folder));
    }
    if !is_new_enough() {
        return Ok(None);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .map_err(|error| format!("cannot empty `{}`: {error}", folder.display()))?;
    }
    let mut pip = python();
    pip.args(["-m", "pip", "install", "--quiet"]);
    pip.args(["--disable-pip-version-check", "--no-warn-script-location"]);
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    pip.arg("--target").arg(&folder);
    pip.arg("--requirement").arg(&requirements);
    if !process::succeeds("Python packages", &mut pip)? {
        return Err(format!(
            "pip could not install the packages of `{SCRIPTS}/requirements.txt`; is a package index reachable?"
        ));
    }
    fs::write(&record, wanted)
        .map_err(|error| format!("cannot write `{}`: {error}", record.display()))?;
    Ok(Some(folder))
}

/// Installs the locked Node packages beside the build, once for each lock file;
/// `None` when Node or npm is missing.
fn install_node_packages(root: &Path) -> Result<Option<PathBuf>, String> {
    let scripts = root.join(SCRIPTS);
    let lock = scripts.join("package-lock.json");
    let wanted = fs::read_to_string(&lock)
        .map_err(|error| format!("cannot read `{}`: {error}", lock.display()))?;
    let folder = process::program_dir()?.join("node-clients");
    let record = folder.join("installed.json");
    let there = |program: &str| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    if !there("node") || !there("npm") {
        return Ok(None);
    }
    if fs::read_to_string(&record).is_ok_and(|installed| installed == wanted) {
        return Ok(Some(folder));
    }
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot make `{}`: {error}", folder.display()))?;
    for name in ["package.json", "package-lock.json"] {
        fs::copy(scripts.join(name), folder.join(name))
            .map_err(|error| format!("cannot copy `{name}`: {error}"))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--silent", "--no-audit", "--no-fund"]);
    npm.current_dir(&folder);
    if !process::succeeds("Node packages", &mut npm)? {
        return Err(format!(
            "npm could not install the packages of `{SCRIPTS}/package.json`; is a package registry reachable?"
        ));
    }
    fs::write(&record, wanted)
        .map_err(|error| format!("cannot write `{}`: {error}", record.display()))?;
    Ok(Some(folder))
}

/// A folder beside the build that is gone when the tests are.
struct Scratch(PathBuf);

impl Scratch {
    fn create() -> Result<Scratch, String> {
        let name = format!("client-tests-{}", std::process::id());
        let folder = process::program_dir()?.join(name);
        fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make `{}`: {error}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove `{}`: {error}", self.0.display());
        }
    }
}

/// A running server, killed if the tests end before they stop it.
struct Server {
    child: Child,
    flight: String,
}

impl Server {
    /// Starts the server on a free port and waits for its ready line.
    fn start(warehouse: &Path, role: &str) -> Result<Server, String> {
        let mut command = Command::new(process::binary()?);
        command.arg("-C").arg(warehouse);
        command.args(["serve", "--json", "--flight", "127.0.0.1:0", "--role", role]);
        command.stdout(Stdio::piped());
        process::announce("server", &command);
        let mut child = command
            .spawn()
            .map_err(|error| process::cannot_start(&command, &error))?;
        let Some(output) = child.stdout.take() else {
            return Err("it has no output".to_owned());
        };
        let (sender, receiver) = mpsc::channel();
        // Goes on reading after the first line, so that the server never waits.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Nobody listens any more once the first line is read.
                let _ = sender.send(line);
            }
        });
        let mut server = Server {
            child,
            flight: String::new(),
        };
        let line = receiver
            .recv_timeout(READY_WITHIN)
            .map_err(|_| format!("no ready line within {} s", READY_WITHIN.as_secs()))?;
        server.flight = text_field(&line, "flight")
            .ok_or_else(|| format!("the ready line has no `flight` address: {line}"))?;
        Ok(server)
    }

    /// Interrupts the server as Ctrl-C does and waits for its end.
    fn stop(&mut self) -> Result<(), String> {
        let process = self.child.id().to_string();
        let asked = Command::new("kill").args(["-INT", &process]).status();
        if !asked.is_ok_and(|status| status.success()) {
            return Err(format!("cannot interrupt process {process}"));
        }
        let started = Instant::now();
        while started.elapsed() < STOPS_WITHIN {
            match self.child.try_wait() {
                Ok(Some(status)) if is_clean(status) => return Ok(()),
                Ok(Some(status)) => return Err(status.to_string()),
                Ok(None) => thread::sleep(Duration::from_millis(50)),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(format!("still running after {} s", STOPS_WITHIN.as_secs()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error here means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 0 is a finished server, 130 one that was interrupted.
fn is_clean(status: ExitStatus) -> bool {
    matches!(status.code(), Some(0 | 130))
}

/// The value of a text field of a flat JSON object; addresses hold no escapes.
fn text_field(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("\"{name}\""))?;
    let value = rest.trim_start().strip_prefix(':')?;
    let value = value.trim_start().strip_prefix('"')?;
    let (value, _) = value.split_once('"')?;
    Some(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_after_its_folders() {
        assert_eq!(
            sql_name(Path::new("x/lake/raw/hr_absence")),
            "raw.hr_absence"
        );
    }

    #[test]
    fn the_address_is_read_from_the_ready_line() {
        let line = r#"{"flight": "grpc://127.0.0.1:4711", "http": null, "pid": 12}"#;
        assert_eq!(
            text_field(line, "flight").as_deref(),
            Some("grpc://127.0.0.1:4711")
        );
        assert_eq!(text_field(line, "http"), None);
        assert_eq!(text_field(line, "user"), None);
        assert_eq!(text_field("starting", "flight"), None);
    }
}
