//! `flight_sql_client`, arrow-flight's own program, where this machine has it.
//!
//! It takes long to build and nothing else here needs it, so it is not installed by the tests:
//! `cargo install arrow-flight --version 59.3.2 --features cli,flight-sql,tls-ring`. The variable
//! `FLIGHT_SQL_CLIENT` names it when it is not on the path. A new case is a line of [`CASES`].

use std::path::PathBuf;
use std::process::Command;

use crate::process;
use crate::tally::Tally;

const NAME: &str = "flight_sql_client";

/// Arguments, and what the answer must hold: of the program's output, or of its error.
const CASES: &[(&[&str], &str)] = &[
    (&["statement-query", "SELECT 41 + 1 AS n"], "| 42 |"),
    (
        &[
            "statement-query",
            "SELECT 'Äänekoski' AS t, CAST(1.5 AS DECIMAL(9, 2)) AS d",
        ],
        "| Äänekoski | 1.50 |",
    ),
    (&["statement-query", "SELECT 1 AS n WHERE 1 = 0"], "| n |"),
    (
        &["prepared-statement-query", "SELECT 41 + 1 AS n"],
        "| 42 |",
    ),
    (
        &[
            "prepared-statement-query",
            "SELECT value AS n FROM generate_series(1, 9) WHERE value > $1 ORDER BY n LIMIT 1",
            "-p",
            "$1=7",
        ],
        "| 8 |",
    ),
    (&["catalogs"], "tietopohja"),
    (&["db-schemas", "tietopohja"], "published"),
    (
        &["tables", "tietopohja", "--db-schema-filter", "publ%"],
        "indicator_value",
    ),
    (&["table-types"], "SYSTEM TABLE"),
    (
        &["statement-query", "SELECT * FROM missing"],
        "table `published.missing` not found",
    ),
];

/// Each case as one check; none, with a word about it, where the program is missing.
pub(super) fn run(address: &str) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let Some(program) = program() else {
        eprintln!("skipped {NAME}: it is not installed here; CONTRIBUTING.md tells how");
        return Ok(tally);
    };
    let Some((host, port)) = address
        .strip_prefix("grpc://")
        .and_then(|address| address.rsplit_once(':'))
    else {
        return Err(format!("`{address}` is not an address of the server"));
    };
    for (arguments, wanted) in CASES {
        let mut client = Command::new(&program);
        client.args(["--host", host, "--port", port]);
        client.args(["--username", "anyone", "--password", "anything"]);
        client.args(*arguments);
        let output = client
            .output()
            .map_err(|error| process::cannot_start(&client, &error))?;
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8_lossy(&told);
        let right = told.contains(wanted);
        let how = if right { "ok    " } else { "FAILED" };
        eprintln!("{how} {NAME} {}", arguments.join(" "));
        if !right {
            eprintln!("{told}");
        }
        tally.add(Tally::one(right));
    }
    Ok(tally)
}

/// The program that the variable names, or the one on the path.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("FLIGHT_SQL_CLIENT").map(PathBuf::from);
    let name = format!("{NAME}{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named
        .into_iter()
        .chain(std::env::split_paths(&path).map(|folder| folder.join(&name)))
        .find(|program| program.is_file())
}
