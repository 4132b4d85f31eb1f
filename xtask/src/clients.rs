//! Real clients against the real binary: what a newcomer's first hour does.
//!
//! Makes a small demo warehouse in a throw-away folder, serves it on a free
//! port, and runs the scripts of `testdata/clients`, which know the product only
//! from outside: one speaks Flight SQL, one opens the Delta tables with other
//! people's readers, those of [`matrix`] let every client try every feature. A
//! script ends with `N passed, N failed`, which is added to the tests. A new
//! client is a new script and a line of [`matrix`]; what it imports goes to the
//! lists of [`packages`]. A client that is a program of its own needs no script:
//! [`flight_cli`] holds its cases.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::process;
use crate::tally::Tally;

mod flight_cli;
mod matrix;
mod packages;

use packages::Packages;

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

/// The page whose snippets are run.
const HOW_TO: &str = "docs/how-to/connect-a-client.md";

/// Runs the clients; the demo and a clean stop count as one check each.
pub(crate) fn run(root: &Path) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let Some(packages) = Packages::install(root)? else {
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
        packages: &packages,
    };
    let mut server = Server::start(&warehouse, Some("reader"))?;
    tally.add(python.flight_sql(&server.flight)?);
    tally.add(flight_cli::run(&packages, &server.flight)?);
    tally.add(python.snippets(&server.flight, root)?);
    let stopped = server.stop();
    if let Err(message) = &stopped {
        eprintln!("FAILED  the server did not stop cleanly: {message}");
    }
    tally.add(Tally::one(stopped.is_ok()));
    let analysts = Server::start(&warehouse, Some("analyst"))?;
    tally.add(python.workspace(&analysts.flight)?);
    tally.add(matrix::run(root, &packages, &analysts.flight, &folder.0)?);
    drop(analysts);
    tally.add(python.guarded(&warehouse, root)?);
    tally.add(python.delta_tables(&warehouse, &folder.0)?);
    Ok(tally)
}

/// Starts the scripts with their packages.
struct Python<'a> {
    scripts: PathBuf,
    packages: &'a Packages,
}

impl Python<'_> {
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

    /// The snippets of the page that tells how to connect.
    fn snippets(&self, address: &str, root: &Path) -> Result<Tally, String> {
        let mut client = self.script("snippets.py");
        client.arg(address).arg(root.join(HOW_TO));
        client.arg(&self.packages.node);
        checks(&mut client)
    }

    /// The same warehouse with users, TLS and certificates of clients.
    fn guarded(&self, warehouse: &Path, root: &Path) -> Result<Tally, String> {
        const USER: [&str; 2] = ["anni", "kolme sanaa peräkkäin"];
        let certificates = root.join("testdata/tls");
        let settings = warehouse.join("tietopohja.toml");
        let file = |name: &str| certificates.join(name).display().to_string();
        let written = format!(
            "[serve]\nauth = 'users'\ntls_certificate = '{}'\ntls_key = '{}'\ntls_client_ca = '{}'\n",
            file("server.pem"),
            file("server.key"),
            file("authority.pem")
        );
        fs::write(&settings, written)
            .map_err(|error| format!("cannot write `{}`: {error}", settings.display()))?;
        let mut add = Command::new(process::binary()?);
        add.arg("-C").arg(warehouse);
        add.args([
            "user",
            "add",
            USER[0],
            "--role",
            "reader",
            "--password-stdin",
        ]);
        add.stdin(Stdio::piped());
        process::announce("user", &add);
        let mut adding = add
            .spawn()
            .map_err(|error| process::cannot_start(&add, &error))?;
        if let Some(mut input) = adding.stdin.take() {
            input
                .write_all(USER[1].as_bytes())
                .map_err(|error| format!("cannot hand over the password: {error}"))?;
        }
        if !adding.wait().is_ok_and(|status| status.success()) {
            return Ok(Tally::one(false));
        }
        let mut server = Server::start(warehouse, None)?;
        let mut client = self.script("guarded.py");
        client.arg(&server.flight).arg(&certificates).args(USER);
        let mut tally = checks(&mut client)?;
        let stopped = server.stop();
        if let Err(message) = &stopped {
            eprintln!("FAILED  the server did not stop cleanly: {message}");
        }
        tally.add(Tally::one(stopped.is_ok()));
        Ok(tally)
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
        let mut command = self.packages.python();
        command.arg(self.scripts.join(name));
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
    fn start(warehouse: &Path, role: Option<&str>) -> Result<Server, String> {
        let mut command = Command::new(process::binary()?);
        command.arg("-C").arg(warehouse);
        command.args(["serve", "--json", "--flight", "127.0.0.1:0"]);
        command.args(role.into_iter().flat_map(|role| ["--role", role]));
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
