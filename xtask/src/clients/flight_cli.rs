//! `flight_sql_client`, arrow-flight's own program: each of its subcommands and ways to connect.
//!
//! [`super::packages`] installs it. What it prints is compared to the row; no script is needed. A
//! new case is a line of [`CASES`], a new way to connect one of [`CONNECTIONS`].

use std::process::Command;

use crate::process;
use crate::tally::Tally;

use super::packages::Packages;

/// What the program must answer.
enum Answer {
    /// The names of the columns and then the rows, cells between bars.
    Rows(&'static [&'static str]),
    /// This row among others.
    Row(&'static str),
    /// An error that says this.
    Error(&'static str),
}

use Answer::{Error, Row, Rows};

const CASES: &[(&[&str], Answer)] = &[
    (
        &["statement-query", "SELECT 41 + 1 AS n"],
        Rows(&["n", "42"]),
    ),
    (
        &[
            "statement-query",
            "SELECT 'Äänekoski' AS t, CAST(1.5 AS DECIMAL(9, 2)) AS d",
        ],
        Rows(&["t|d", "Äänekoski|1.50"]),
    ),
    (
        &[
            "statement-query",
            "SELECT DATE '2026-03-01' AS d, CAST(NULL AS VARCHAR) AS nothing, true AS b",
        ],
        Rows(&["d|nothing|b", "2026-03-01||true"]),
    ),
    (
        &["statement-query", "SELECT 1 AS n WHERE 1 = 0"],
        Rows(&["n"]),
    ),
    (
        &[
            "statement-query",
            "SELECT count(*) AS n, max(value) AS last FROM generate_series(1, 100000)",
        ],
        Rows(&["n|last", "100000|100000"]),
    ),
    (
        &["statement-query", "SELECT * FROM missing"],
        Error("table `published.missing` not found"),
    ),
    (
        &["prepared-statement-query", "SELECT 41 + 1 AS n"],
        Rows(&["n", "42"]),
    ),
    (
        &[
            "prepared-statement-query",
            "SELECT value AS n FROM generate_series(1, 9) WHERE value > $1 ORDER BY n LIMIT 1",
            "-p",
            "$1=7",
        ],
        Rows(&["n", "8"]),
    ),
    (
        &[
            "prepared-statement-query",
            "SELECT value AS n FROM generate_series(1, 9) WHERE value BETWEEN $1 AND $2 ORDER BY n",
            "-p",
            "$1=3",
            "-p",
            "$2=4",
        ],
        Rows(&["n", "3", "4"]),
    ),
    (
        &["prepared-statement-query", "SELECT * FROM missing"],
        Error("table `published.missing` not found"),
    ),
    (&["catalogs"], Rows(&["catalog_name", "tietopohja"])),
    (&["db-schemas", "tietopohja"], Row("tietopohja|published")),
    (
        &["db-schemas", "tietopohja", "--db-schema-filter", "publ%"],
        Rows(&["catalog_name|db_schema_name", "tietopohja|published"]),
    ),
    (
        &["db-schemas", "elsewhere"],
        Rows(&["catalog_name|db_schema_name"]),
    ),
    (
        &["tables", "tietopohja", "--db-schema-filter", "publ%"],
        Row("tietopohja|published|indicator_value|TABLE"),
    ),
    (
        &[
            "tables",
            "tietopohja",
            "--table-filter",
            "indicator_val__",
            "--table-types",
            "TABLE",
        ],
        Rows(&[
            "catalog_name|db_schema_name|table_name|table_type",
            "tietopohja|published|indicator_value|TABLE",
        ]),
    ),
    (
        &[
            "tables",
            "tietopohja",
            "--table-filter",
            "indicator_value",
            "--table-types",
            "SYSTEM TABLE",
        ],
        Rows(&["catalog_name|db_schema_name|table_name|table_type"]),
    ),
    (
        &["table-types"],
        Rows(&["table_type", "SYSTEM TABLE", "TABLE", "VIEW"]),
    ),
];

/// How the cases connect.
const SIGNED_IN: &[&str] = &["--username", "anyone", "--password", "anything"];

/// A moment, which settings of the connection show in their way.
const MOMENT: &str =
    r#"SELECT arrow_cast('2026-03-01T12:00:00Z', 'Timestamp(Second, Some("UTC"))') AS t"#;

/// Other ways to connect, each with what it makes of [`MOMENT`].
const CONNECTIONS: &[(&[&str], Answer)] = &[
    (&[], Rows(&["t", "2026-03-01T12:00:00"])),
    (&["--token", "abc"], Rows(&["t", "2026-03-01T12:00:00"])),
    (
        &["--accept-compression", "zstd,gzip"],
        Rows(&["t", "2026-03-01T12:00:00"]),
    ),
    (
        &["--send-compression", "gzip"],
        Error("Content is compressed with `gzip` which isn't supported"),
    ),
    (
        &["--header", "tietopohja-timestamps=helsinki"],
        Rows(&["t", "2026-03-01T14:00:00"]),
    ),
    (
        &["--header", "tietopohja-timestamps=lunar"],
        Error("the header `tietopohja-timestamps` takes"),
    ),
];

/// Each case and each connection as one check.
pub(super) fn run(packages: &Packages, address: &str) -> Result<Tally, String> {
    let Some((host, port)) = address
        .strip_prefix("grpc://")
        .and_then(|address| address.rsplit_once(':'))
    else {
        return Err(format!("`{address}` is not an address of the server"));
    };
    let check = |options: &[&str], arguments: &[&str], wanted: &Answer| {
        let mut client = packages.flight_cli();
        client.args(["--host", host, "--port", port]);
        client.args(options).args(arguments);
        answers(&mut client, wanted)
    };
    eprintln!("\n==> client: flight_sql_client --host {host} --port {port}");
    let mut tally = Tally::default();
    for (arguments, wanted) in CASES {
        tally.add(check(SIGNED_IN, arguments, wanted)?);
    }
    for (options, wanted) in CONNECTIONS {
        tally.add(check(options, &["statement-query", MOMENT], wanted)?);
    }
    Ok(tally)
}

/// Runs the program, and says whether it gave the answer.
fn answers(client: &mut Command, wanted: &Answer) -> Result<Tally, String> {
    let output = client
        .output()
        .map_err(|error| process::cannot_start(client, &error))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    let right = match wanted {
        Rows(rows) => output.status.success() && cells(&printed) == *rows,
        Row(row) => output.status.success() && cells(&printed).iter().any(|seen| seen == row),
        Error(message) => !output.status.success() && complained.contains(message),
    };
    let how = if right { "ok    " } else { "FAILED" };
    let told = client.get_args().skip(4).map(|word| word.to_string_lossy());
    eprintln!("{how}  {}", told.collect::<Vec<_>>().join(" "));
    if !right {
        eprintln!("{printed}{complained}");
    }
    Ok(Tally::one(right))
}

/// The lines of a printed table without its frame, cells between bars.
fn cells(table: &str) -> Vec<String> {
    let line = |line: &str| {
        let line = line.strip_prefix('|')?.strip_suffix('|')?;
        let cells = line.split('|').map(str::trim);
        Some(cells.collect::<Vec<_>>().join("|"))
    };
    table.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_without_its_frame() {
        let cases: [(&str, &[&str]); 3] = [
            (
                "+----+---+\n| n  | t |\n+----+---+\n| 42 |   |\n+----+---+\n",
                &["n|t", "42|"],
            ),
            ("+---+\n| n |\n+---+\n+---+\n", &["n"]),
            ("Error: read flight data\n", &[]),
        ];
        for (table, expected) in cases {
            assert_eq!(cells(table), expected, "{table}");
        }
    }
}
