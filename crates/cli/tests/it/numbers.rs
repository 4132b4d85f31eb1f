//! The whole chain at a small scale: every planted defect caught, every indicator equal to its
//! check query, and the same numbers to the bit on any number of partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::keys::every_declared_key_is_true;
use crate::warehouse::{Scratch, text};

/// Everything published, with floating-point numbers written to the bit.
fn published(scratch: &Scratch) -> String {
    scratch.run(&[
        "sql",
        "-o",
        "csv",
        "SELECT * EXCEPT (run_id, published_at) FROM result.indicator_value ORDER BY indicator, output, area_level, area, period_grain, period_start, sex, task_group, profession_group, service_code, age_group",
    ])
}

/// The ids of the SQL checks of the shipped contracts.
fn sql_checks() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../definitions/contracts");
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("contracts") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a contract");
        for check in text.split("- id: ").skip(1) {
            if check.contains("type: sql") {
                ids.insert(check.lines().next().unwrap_or_default().trim().to_owned());
            }
        }
    }
    assert!(ids.len() >= 6);
    ids
}

#[test]
fn the_demo_catches_every_defect_and_every_indicator_equals_its_check() {
    let scratch = Scratch::new();
    let demo = scratch
        .command(&["demo", "--once", "--scale", "0.02", "--dir"])
        .arg(scratch.path())
        .output()
        .expect("it runs");
    assert!(demo.status.success(), "{}", text(&demo));

    // Defects: exactly those of the manifest, file by file.
    let manifest: Value = serde_json::from_slice(
        &std::fs::read(scratch.path().join("extracts/manifest.json")).expect("a manifest"),
    )
    .expect("JSON");
    let mut expected: BTreeMap<(String, i64), String> = BTreeMap::new();
    let mut expected_findings: BTreeSet<(String, String)> = BTreeSet::new();
    let (mut rows, mut accepted) = (0, 0);
    for file in manifest["files"].as_array().expect("files") {
        let delivery = format!(
            "{}.{}.{}.r1",
            file["dataset"].as_str().expect("a name"),
            file["county"].as_str().expect("a code"),
            file["period"]
        );
        for finding in file["findings"].as_array().into_iter().flatten() {
            let rule = finding["rule"].as_str().expect("a rule").to_owned();
            expected_findings.insert((delivery.clone(), rule));
        }
        rows += file["rows"].as_i64().expect("rows");
        accepted += file["accepted"].as_i64().expect("accepted");
        for defect in file["defects"].as_array().into_iter().flatten() {
            expected.insert(
                (delivery.clone(), defect["row"].as_i64().expect("a row")),
                defect["rule"].as_str().expect("a rule").to_owned(),
            );
        }
    }
    assert!(expected.len() > 300, "{} planted defects", expected.len());
    let contracts: BTreeSet<&str> = manifest["files"]
        .as_array()
        .expect("files")
        .iter()
        .filter_map(|file| file["dataset"].as_str())
        .collect();
    let mut found: BTreeMap<(String, i64), String> = BTreeMap::new();
    for contract in contracts {
        for row in scratch.rows(&format!("SELECT delivery_id, row_no, min(rule) AS rule FROM reject.{contract} GROUP BY delivery_id, row_no")) {
            found.insert((row["delivery_id"].as_str().unwrap_or_default().to_owned(), row["row_no"].as_i64().unwrap_or_default()), row["rule"].as_str().unwrap_or_default().to_owned());
        }
    }
    let missing: Vec<_> = expected
        .iter()
        .filter(|(key, rule)| found.get(*key) != Some(rule))
        .take(10)
        .collect();
    let more: Vec<_> = found
        .iter()
        .filter(|(key, _)| !expected.contains_key(*key))
        .take(10)
        .collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "not caught: {missing:?}; caught without being planted: {more:?}"
    );

    // Findings of the rows as a set: exactly those planted, and every SQL check has at least one.
    let planted: BTreeSet<&str> = expected_findings
        .iter()
        .map(|(_, rule)| rule.as_str())
        .collect();
    assert_eq!(planted, sql_checks().iter().map(String::as_str).collect());
    let mut found_findings: BTreeSet<(String, String)> = BTreeSet::new();
    for row in scratch.rows("SELECT delivery_id, findings FROM meta.delivery") {
        let kept: Value =
            serde_json::from_str(row["findings"].as_str().expect("text")).expect("JSON");
        for finding in kept["findings"].as_array().expect("a list") {
            let of = |value: &Value| value.as_str().expect("text").to_owned();
            found_findings.insert((of(&row["delivery_id"]), of(&finding["rule"])));
        }
    }
    assert_eq!(found_findings, expected_findings);

    // Reconciliation, delivery by delivery and against the tables.
    assert_eq!(
        scratch
            .figure("SELECT count(*) FROM meta.delivery WHERE received <> accepted + quarantined"),
        0
    );
    assert_eq!(
        scratch.figure("SELECT sum(received) FROM meta.delivery"),
        rows
    );
    assert_eq!(
        scratch.figure("SELECT sum(accepted) FROM meta.delivery"),
        accepted
    );

    // Each indicator is computed twice.
    let checks: Value =
        serde_json::from_str(&scratch.run(&["indicator", "check", "--json"])).expect("JSON");
    let checks = checks.as_array().expect("a list");
    assert!(checks.len() >= 24);
    for check in checks {
        assert_eq!(check["status"], "agrees", "{check}");
        assert_eq!(
            (check["mismatched"].as_i64(), check["missing"].as_i64()),
            (Some(0), Some(0)),
            "{check}"
        );
    }

    every_declared_key_is_true(&scratch);

    // The need model equals the official coefficients.
    let worst = scratch.rows(
        "SELECT count(*) AS n, max(abs(v.value / o.factor_total - 1)) AS worst FROM published.indicator_value v
         JOIN reference.need_official o ON o.county_code = v.area AND o.year = CAST(v.period AS INT)
         WHERE v.indicator = 'need.service_need' AND v.output = 'factor_total' AND v.area_level IN ('county', 'country')",
    );
    assert_eq!(worst[0]["n"], 92, "{worst:?}");
    assert!(
        worst[0]["worst"].as_f64().expect("a number") <= 1e-12,
        "{worst:?}"
    );

    // The same on 1, 2 and 7 partitions, and nothing stale afterwards.
    let settings =
        std::fs::read_to_string(scratch.path().join("tietopohja.toml")).expect("settings");
    let mut results = Vec::new();
    for partitions in [1, 2, 7] {
        std::fs::write(
            scratch.path().join("tietopohja.toml"),
            settings.replace("partitions = 0", &format!("partitions = {partitions}")),
        )
        .expect("settings");
        scratch.run(&["calc", "--full"]);
        results.push(published(&scratch));
    }
    assert!(results[0].lines().count() > 10_000);
    assert!(
        results.iter().all(|result| *result == results[0]),
        "results depend on the number of partitions"
    );
    // And the same when each component is computed by a query of its own.
    scratch.run(&["calc", "--full", "--one-by-one"]);
    assert!(
        published(&scratch) == results[0],
        "results depend on which components share a scan"
    );
    assert_eq!(scratch.run(&["plan", "--json"]).trim(), "[]");
}

#[test]
fn indicators_that_need_the_year_before_equal_their_checks() {
    let scratch = Scratch::new();
    let extracts = scratch.path().join("extracts");
    let folder = extracts.to_str().expect("a path");
    scratch.run(&[
        "synth",
        "--scale",
        "0.05",
        "--years",
        "2023-2024",
        "--counties",
        "18",
        "--clean",
        "--out",
        folder,
    ]);
    let manifest: Value =
        serde_json::from_slice(&std::fs::read(extracts.join("manifest.json")).expect("a manifest"))
            .expect("JSON");
    for file in manifest["files"].as_array().expect("files") {
        if file["dataset"] == "hr_employment" {
            let path = extracts.join(file["path"].as_str().expect("a path"));
            let year = (file["period"].as_i64().expect("a period") / 100).to_string();
            let county = file["county"].as_str().expect("a county");
            let path = path.to_str().expect("a path");
            scratch.run(&[
                "land",
                "hr_employment",
                "--county",
                county,
                "--period",
                &year,
                path,
            ]);
        }
    }
    let ids = ["hr.turnover_in", "hr.turnover_out"];
    scratch.run(&["calc", ids[0], ids[1]]);
    let checks = scratch.run(&["indicator", "check", "--json", ids[0], ids[1]]);
    let checks: Value = serde_json::from_str(&checks).expect("JSON");
    for check in checks.as_array().expect("a list") {
        assert_eq!(check["status"], "agrees", "{check}");
        assert!(check["compared"].as_i64() > Some(0), "{check}");
    }
}
