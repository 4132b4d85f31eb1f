//! SQL checks of contracts as a user meets them: in the receipt, in the ledger, in exit codes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::warehouse::{Scratch, text};

const CONTRACT: &str = "definitions/contracts/informal_care_decision.odcs.yaml";
const CHECK: &str = "carer_is_not_the_client";
const COUNT: &str = "SELECT count(*) AS n FROM raw.informal_care_decision";

/// Decisions of one year; in the second one the carer is the client. Identity codes are artificial.
fn file(scratch: &Scratch) -> PathBuf {
    scratch.file(
        "decisions.csv",
        "paatosnumero;hoidettava_henkilotunnus;hoitaja_henkilotunnus;kotikunta;palkkioluokka;alkupvm;loppupvm\r\n\
         O1;010190-900P;020516C903K;109;2;05.03.2023;\r\n\
         O2;020516C903K;020516C903K;109;2;05.03.2023;\r\n",
    )
}

const LAND: [&str; 6] = [
    "land",
    "informal_care_decision",
    "--county",
    "07",
    "--period",
    "2024",
];

/// Changes the check, from its id to the next check, in the warehouse's own contract.
fn change(scratch: &Scratch, from: &str, to: &str) {
    let path = scratch.path().join(CONTRACT);
    let yaml = std::fs::read_to_string(&path).expect("a contract");
    let (before, after) = yaml.split_once(CHECK).expect("the check");
    assert!(after.contains(from));
    let changed = format!("{before}{CHECK}{}", after.replacen(from, to, 1));
    std::fs::write(path, changed).expect("a contract is written");
}

#[test]
fn a_warning_stands_in_the_receipt_and_in_the_ledger() {
    let scratch = Scratch::new();
    let receipts = scratch.run(&[&LAND[..], &["--json", path(&file(&scratch))]].concat());
    let receipts: Value = serde_json::from_str(&receipts).expect("JSON");
    let finding = &receipts[0]["findings"][0];
    assert_eq!(receipts[0]["outcome"], "landed");
    assert_eq!(finding["rule"], CHECK);
    assert_eq!(finding["action"], "warn");
    assert_eq!(
        finding["message"],
        "the query counts 1 row; the contract requires 0"
    );
    assert_eq!(scratch.figure(COUNT), 2);
    let kept = scratch.rows("SELECT findings FROM meta.delivery");
    assert!(
        kept[0]["findings"].as_str().expect("text").contains(CHECK),
        "{kept:?}"
    );
}

#[test]
fn a_delivery_that_a_check_refuses_or_holds_does_not_land_and_ends_with_1() {
    for (action, words) in [
        ("reject", "refused, nothing landed"),
        ("hold", "held for approval, nothing landed"),
    ] {
        let scratch = Scratch::new();
        change(&scratch, "value: warn", &format!("value: {action}"));
        let output = scratch
            .command(&LAND)
            .arg(file(&scratch))
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains(words), "{}", text(&output));
        assert!(text(&output).contains(CHECK), "{}", text(&output));
        assert_eq!(scratch.figure(COUNT), 0, "{action}");
    }
}

#[test]
fn a_query_that_cannot_be_planned_is_told_with_its_line_before_a_file_is_read() {
    let scratch = Scratch::new();
    change(&scratch, "carer_pid = client_pid", "carer = client_pid");
    let yaml = std::fs::read_to_string(scratch.path().join(CONTRACT)).expect("a contract");
    let line = yaml
        .lines()
        .position(|line| line.contains(CHECK))
        .expect("the check")
        + 1;
    let said =
        format!("{CONTRACT}:{line}: the check `{CHECK}` cannot be run: no field named carer");
    let output = scratch
        .command(&LAND)
        .arg("no_such_file.csv")
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains(&said), "{}", text(&output));
    assert!(scratch.run(&["status"]).contains(&said));
}

#[test]
fn a_query_that_fails_on_a_row_is_told_without_the_row() {
    let scratch = Scratch::new();
    change(
        &scratch,
        "select count(*) from {object} where carer_pid = client_pid",
        "select sum(cast(decision_no as int)) from {object}",
    );
    let output = scratch
        .command(&LAND)
        .arg(file(&scratch))
        .output()
        .expect("it runs");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(CONTRACT) && said.contains(CHECK), "{said}");
    assert!(!said.contains("O1") && !said.contains("internal"), "{said}");
    assert_eq!(scratch.figure(COUNT), 0);
}

#[test]
fn a_dry_run_asks_too_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let temporary = scratch.path().join("temporary");
    std::fs::create_dir(&temporary).expect("a folder");
    let output = scratch
        .command(&LAND)
        .arg("--dry-run")
        .arg(file(&scratch))
        .env("TMPDIR", &temporary)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("would land"), "{}", text(&output));
    assert!(text(&output).contains(CHECK), "{}", text(&output));
    let left = std::fs::read_dir(&temporary).expect("a folder").count();
    assert_eq!(left, 0, "temporary files stay behind");
    assert!(!scratch.path().join("lake/raw").exists());
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path")
}
