//! Exactly once: the same bytes twice, corrections, kills at every step, and races.

use std::process::Command;

use serde_json::Value;

use crate::warehouse::{Scratch, text};

/// Notifications of one month; identity codes are artificial.
fn extract(rows: &[(&str, &str)]) -> String {
    let mut csv =
        String::from("ilmoitusnumero;henkilotunnus;kotikunta;saapumispvm;ilmoittaja;mitatoity\r\n");
    for (number, day) in rows {
        csv.push_str(&format!("{number};020516C903K;398;{day}.01.2024;4;E\r\n"));
    }
    csv
}

const FIRST: &[(&str, &str)] = &[("A1", "05"), ("A2", "06"), ("A3", "07")];
const CORRECTED: &[(&str, &str)] = &[("A1", "05"), ("A2", "08")];
const COUNT: &str = "SELECT count(*) AS n FROM raw.child_notification";
const LEDGER: &str =
    "SELECT delivery_id, received, accepted, quarantined FROM meta.delivery ORDER BY revision";

/// The command that lands a file of that month.
fn landing(scratch: &Scratch) -> Command {
    let of = ["--county", "09", "--period", "2024-01"];
    let mut command = scratch.command(&["land", "child_notification"]);
    command.args(of);
    command
}

fn land(scratch: &Scratch, file: &std::path::Path) -> Value {
    let receipts = scratch.run(&[
        "land",
        "child_notification",
        "--county",
        "09",
        "--period",
        "2024-01",
        "--json",
        file.to_str().expect("a path"),
    ]);
    serde_json::from_str::<Value>(&receipts).expect("JSON")[0].clone()
}

#[test]
fn the_same_bytes_twice_change_nothing_and_a_correction_replaces() {
    let scratch = Scratch::new();
    let first = scratch.file("first.csv", &extract(FIRST));
    assert_eq!(land(&scratch, &first)["outcome"], "landed");
    assert_eq!(land(&scratch, &first)["outcome"], "already_landed");
    assert_eq!(scratch.figure(COUNT), 3);

    let corrected = scratch.file("corrected.csv", &extract(CORRECTED));
    let receipt = land(&scratch, &corrected);
    assert_eq!(receipt["outcome"], "replaced");
    assert_eq!(receipt["delivery_id"], "child_notification.09.202401.r2");
    assert_eq!(scratch.figure(COUNT), 2);
    assert_eq!(
        scratch.rows(LEDGER).len(),
        2,
        "the ledger keeps both revisions"
    );

    let older = landing(&scratch)
        .args(["--revision", "1"])
        .arg(scratch.file("older.csv", &extract(&FIRST[..1])))
        .output()
        .expect("it runs");
    assert_eq!(older.status.code(), Some(1), "{}", text(&older));
    assert_eq!(
        scratch.figure(COUNT),
        2,
        "an older revision changes nothing"
    );
}

#[test]
fn what_has_landed_is_told_though_the_log_cannot_be_shortened() {
    let scratch = Scratch::new();
    let mut told = Vec::new();
    for day in 1..=22 {
        let rows = extract(&[("A1", &format!("{day:02}"))]);
        let file = scratch.file("rows.csv", &rows);
        let landed = landing(&scratch).arg(file).output().expect("it runs");
        assert_eq!(landed.status.code(), Some(0), "{}", text(&landed));
        let landed = text(&landed);
        assert!(landed.contains(&format!(".r{day}")), "{landed}");
        told.push(landed.contains("could not be shortened"));
        // No checkpoint can be written where its pointer is a folder.
        let pointer = scratch
            .path()
            .join("lake/raw/child_notification/_delta_log/_last_checkpoint/in");
        std::fs::create_dir_all(pointer).expect("a folder");
    }
    assert!(!told[0] && told.contains(&true), "{told:?}");
    assert_eq!(scratch.figure(COUNT), 1);
    assert_eq!(scratch.rows(LEDGER).len(), 22);
}

#[test]
fn a_dry_run_changes_nothing() {
    let scratch = Scratch::new();
    let file = scratch.file("first.csv", &extract(FIRST));
    scratch.run(&[
        "land",
        "child_notification",
        "--county",
        "09",
        "--period",
        "2024-01",
        "--dry-run",
        file.to_str().expect("a path"),
    ]);
    assert_eq!(scratch.figure(COUNT), 0);
}

/// Killed at each step, the table is old or new, and a retry lands exactly once.
#[test]
fn a_kill_at_every_step_leaves_old_or_new() {
    for (point, visible) in [
        ("land.staged", 3),
        ("land.pending", 3),
        ("land.rejects", 3),
        ("land.data", 2),
        ("land.ledger", 2),
    ] {
        let scratch = Scratch::new();
        land(&scratch, &scratch.file("first.csv", &extract(FIRST)));
        let corrected = scratch.file("corrected.csv", &extract(CORRECTED));
        let killed = landing(&scratch)
            .arg(&corrected)
            .env("TIETOPOHJA_FAIL_POINT", point)
            .output()
            .expect("it runs");
        assert_eq!(
            killed.status.code(),
            None,
            "{point} did not kill: {}",
            text(&killed)
        );
        assert_eq!(scratch.figure(COUNT), visible, "after a kill at {point}");

        let receipt = land(&scratch, &corrected);
        assert_eq!(
            receipt["delivery_id"], "child_notification.09.202401.r2",
            "{point}"
        );
        assert_eq!(receipt["accepted"], 2, "{point}");
        assert_eq!(scratch.figure(COUNT), 2, "{point}: a retry lands once");
        let ledger = scratch.rows(LEDGER);
        assert_eq!(ledger.len(), 2, "{point}: {ledger:?}");
        assert_eq!(
            land(&scratch, &corrected)["outcome"],
            "already_landed",
            "{point}"
        );
    }
}

#[test]
fn two_processes_landing_the_same_delivery_land_it_once() {
    let scratch = Scratch::new();
    let file = scratch.file("first.csv", &extract(FIRST));
    let start = || {
        scratch
            .command(&[
                "land",
                "child_notification",
                "--county",
                "09",
                "--period",
                "2024-01",
                "--json",
            ])
            .arg(&file)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("it runs")
    };
    let both = [start(), start()];
    let outcomes: Vec<String> = both
        .into_iter()
        .map(|process| {
            let output = process.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{}", text(&output));
            let receipts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            receipts[0]["outcome"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(scratch.figure(COUNT), 3);
    assert_eq!(scratch.rows(LEDGER).len(), 1);
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| *outcome == "landed")
            .count(),
        1,
        "{outcomes:?}"
    );
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| *outcome == "already_landed")
            .count(),
        1,
        "{outcomes:?}"
    );
}

#[test]
fn no_identity_code_reaches_the_lake_or_a_message() {
    let scratch = Scratch::new();
    let mut csv = extract(FIRST);
    csv.push_str("A4;020516C903L;398;09.01.2024;4;E\r\n");
    let file = scratch.file("first.csv", &csv);
    let output = landing(&scratch).arg(&file).output().expect("it runs");
    std::fs::remove_file(&file).expect("the source goes away");
    let mut folders = vec![scratch.path().join("lake")];
    let mut seen = vec![output.stdout, output.stderr];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path)
            } else {
                seen.push(std::fs::read(path).expect("a file"))
            }
        }
    }
    assert!(seen.len() > 4);
    for code in ["020516C903K", "020516C903L"] {
        assert!(
            !seen.iter().any(|bytes| bytes
                .windows(code.len())
                .any(|window| window == code.as_bytes())),
            "an identity code is readable"
        );
    }
}
