//! Every bad file and its golden diagnostic.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use tietopohja_domain::{County, DeliveryPeriod};
use tietopohja_ingest::{Amount, ControlTotals, LandError, LandRequest, Outcome, Receipt};

use crate::support::{Warehouse, contract, contract_text, march, parse, runtime, testdata};

/// What a person sees, but for the version that the lake gave the table.
fn shown(outcome: &Result<Receipt, LandError>) -> String {
    let text = match outcome {
        Ok(receipt) => Receipt {
            table_version: None,
            ..receipt.clone()
        }
        .to_string(),
        Err(error) => error.to_string(),
    };
    format!("{}\n", text.trim_end())
}

/// Everything written like an identity code in any file of the corpus.
fn identity_codes() -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for folder in ["bad", "good"] {
        for entry in std::fs::read_dir(testdata().join(folder)).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for window in bytes.windows(11) {
                let digits =
                    |range: std::ops::Range<usize>| window[range].iter().all(u8::is_ascii_digit);
                if digits(0..6)
                    && digits(7..10)
                    && window[6].is_ascii_punctuation() | window[6].is_ascii_uppercase()
                    && window[10].is_ascii_alphanumeric()
                {
                    codes.insert(String::from_utf8_lossy(window).into_owned());
                }
            }
        }
    }
    codes
}

fn compare(name: &str, text: &str, differences: &mut Vec<String>) {
    let golden = testdata().join("bad").join(format!("{name}.expected"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, text).unwrap();
        return;
    }
    match std::fs::read_to_string(&golden) {
        Ok(expected) if expected == text => {}
        Ok(expected) => {
            differences.push(format!("--- {name}\nexpected:\n{expected}found:\n{text}"))
        }
        Err(_) => differences.push(format!("--- {name}: no golden; found:\n{text}")),
    }
}

/// What must hold of every case, whatever its golden says.
async fn check(
    name: &str,
    warehouse: &Warehouse,
    table: &str,
    outcome: &Result<Receipt, LandError>,
    codes: &BTreeSet<String>,
) {
    let everything = match outcome {
        Ok(receipt) => format!(
            "{receipt}{receipt:?}{}",
            serde_json::to_string(receipt).unwrap()
        ),
        Err(error) => format!("{error}{error:?}"),
    };
    for code in codes {
        assert!(
            !everything.contains(code.as_str()),
            "{name}: an identity code is shown"
        );
    }
    let rejects = warehouse
        .rows("reject", table, &["rule", "field", "message"])
        .await
        .concat()
        .concat();
    for code in codes {
        assert!(
            !rejects.contains(code.as_str()),
            "{name}: an identity code is in the reject table"
        );
    }
    let (raw, rejected) = (
        warehouse.count("raw", table).await,
        warehouse.rejected(table).await.len(),
    );
    let ledger = warehouse.ledger(table, "07", "2024-03").await;
    match outcome {
        Ok(receipt) if receipt.outcome == Outcome::Landed => {
            assert_eq!(
                receipt.received,
                receipt.accepted + receipt.quarantined,
                "{name}"
            );
            assert_eq!(
                (raw as u64, rejected as u64),
                (receipt.accepted, receipt.quarantined),
                "{name}"
            );
            assert_eq!(ledger.len(), 1, "{name}");
        }
        _ => {
            assert_eq!(
                (raw, rejected, ledger.len()),
                (0, 0, 0),
                "{name}: something landed"
            );
            let left = files_below(&warehouse.folder.path().join("lake/raw"));
            assert!(
                left.iter().all(|file| !file.ends_with(".parquet")),
                "{name}: files stay behind: {left:?}"
            );
        }
    }
}

fn files_below(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path.display().to_string()]
            }
        })
        .collect()
}

#[test]
fn every_bad_file_gives_its_golden_diagnostic() {
    let codes = identity_codes();
    assert!(
        codes.len() > 8,
        "the corpus holds identity codes to look for"
    );
    let contract = contract("test_case");
    let mut differences = Vec::new();
    let mut names: Vec<String> = std::fs::read_dir(testdata().join("bad"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| {
        !name.ends_with(".expected") && !name.ends_with(".control.json") && name != "README.md"
    });
    names.sort();
    assert!(names.len() > 60, "the corpus is there");
    runtime().block_on(async {
        for name in &names {
            let warehouse = Warehouse::new();
            let outcome = warehouse
                .land(march(&contract, &testdata().join("bad").join(name)))
                .await;
            compare(name, &shown(&outcome), &mut differences);
            check(name, &warehouse, "test_case", &outcome, &codes).await;
        }
    });
    assert!(
        differences.is_empty(),
        "{}\nset BLESS=1 to write the goldens anew, and read the difference",
        differences.join("\n")
    );
}

/// A good file of the base table with another content appended or put in.
fn plain() -> String {
    std::fs::read_to_string(testdata().join("good/plain.csv")).unwrap()
}

fn gzip(write: &mut dyn FnMut(&mut dyn Write)) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    write(&mut encoder);
    encoder.finish().unwrap()
}

/// Large or hostile inputs that are made here rather than kept.
fn made() -> Vec<(&'static str, Vec<u8>)> {
    let plain = plain();
    let row = plain.lines().nth(1).unwrap();
    let many_rows = |out: &mut dyn Write| {
        out.write_all(plain.as_bytes()).unwrap();
        let block = format!("{row}\n").repeat(10_000);
        for _ in 0..40 {
            out.write_all(block.as_bytes()).unwrap();
        }
    };
    let mut zstd_bomb = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
    many_rows(&mut zstd_bomb);
    let header = plain.lines().next().unwrap();
    let long = "x".repeat(20 << 20);
    let json = std::fs::read_to_string(testdata().join("good/rows.ndjson")).unwrap();
    let columns = |rest: &str| {
        (0..2_000)
            .map(|n| format!("{rest}{n}"))
            .collect::<Vec<_>>()
            .join(";")
    };
    vec![
        ("bomb.csv.gz", gzip(&mut |mut out| many_rows(&mut out))),
        ("bomb.csv.zst", zstd_bomb.finish().unwrap()),
        (
            "zeros.gz",
            gzip(&mut |out| (0..64).for_each(|_| out.write_all(&[0; 1 << 20]).unwrap())),
        ),
        (
            "field_20_mb.csv",
            format!("{plain}T0099;{long};109;A;05.03.2024;;10,00;;K;\n").into_bytes(),
        ),
        (
            "quoted_field_20_mb.csv",
            format!("{plain}T0099;\"{long}\";109;A;05.03.2024;;10,00;;K;\n").into_bytes(),
        ),
        ("line_20_mb.csv", long.clone().into_bytes()),
        (
            "string_20_mb.ndjson",
            format!("{{\"numero\":\"T1\",\"selite\":\"{long}\"}}\n").into_bytes(),
        ),
        (
            "columns_2000.csv",
            format!("{}\n{}\n", columns("c"), columns("")).into_bytes(),
        ),
        (
            "string_beyond_1_mib.ndjson",
            json.replacen("Käynti sovittu", &long[..(1 << 20) + 1], 1)
                .into_bytes(),
        ),
        (
            "columns_2000.ndjson",
            format!(
                "{{{}}}\n",
                (0..2_000)
                    .map(|n| format!("\"c{n}\":1"))
                    .collect::<Vec<_>>()
                    .join(",")
            )
            .into_bytes(),
        ),
        (
            "record_20_mb.csv",
            format!(
                "{header}\n{}\n",
                format!("{};", "y".repeat(1 << 19)).repeat(40)
            )
            .into_bytes(),
        ),
    ]
}

#[test]
fn large_and_hostile_inputs_give_their_golden_diagnostics() {
    let codes = identity_codes();
    let contract = contract("test_case");
    let mut differences = Vec::new();
    runtime().block_on(async {
        for (name, bytes) in made() {
            let warehouse = Warehouse::new();
            let file = warehouse.file(name, &bytes);
            let outcome = warehouse.land(march(&contract, &file)).await;
            assert!(
                matches!(outcome, Err(LandError::Source(_))),
                "{name}: {outcome:?}"
            );
            compare(name, &shown(&outcome), &mut differences);
            check(name, &warehouse, "test_case", &outcome, &codes).await;
        }
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn wrong_requests_give_their_golden_diagnostics() {
    let codes = identity_codes();
    let case = contract("test_case");
    let mut differences = Vec::new();
    let plain = plain();
    let missing = Path::new("nowhere/test_case_07_202403.csv");
    runtime().block_on(async {
        let unnamed = |warehouse: &Warehouse, name: &str| {
            LandRequest::new(
                case.clone(),
                crate::support::lists(),
                warehouse.file(name, &plain),
            )
        };
        let cases: Vec<(&str, Box<dyn Fn(&Warehouse) -> LandRequest>)> = vec![
            ("no_such_file", Box::new(|_| march(&case, missing))),
            (
                "folder",
                Box::new(|warehouse| march(&case, warehouse.folder.path().join("lake").as_path())),
            ),
            (
                "county_not_said",
                Box::new(|warehouse| unnamed(warehouse, "extract.csv")),
            ),
            (
                "period_not_said",
                Box::new(|warehouse| LandRequest {
                    county: County::parse("07").ok(),
                    ..unnamed(warehouse, "extract.csv")
                }),
            ),
            (
                "county_contradicts",
                Box::new(|warehouse| {
                    march(&case, &warehouse.file("test_case_08_202403.csv", &plain))
                }),
            ),
            (
                "period_contradicts",
                Box::new(|warehouse| {
                    march(&case, &warehouse.file("test_case_07_202402.csv", &plain))
                }),
            ),
            (
                "year_for_a_month",
                Box::new(|warehouse| unnamed(warehouse, "test_case_07_2024.csv")),
            ),
            (
                "national_for_a_county",
                Box::new(|warehouse| unnamed(warehouse, "test_case_FI_202403.csv")),
            ),
            (
                "another_month_asked",
                Box::new(|warehouse| LandRequest {
                    county: County::parse("07").ok(),
                    period: DeliveryPeriod::parse("2024-02").ok(),
                    ..unnamed(warehouse, "extract.csv")
                }),
            ),
            (
                "control_total_argument",
                Box::new(|warehouse| LandRequest {
                    control: Some(ControlTotals {
                        rows: Some(8),
                        sums: [("euro".to_owned(), Amount::new("1000,5"))].into(),
                    }),
                    ..march(&case, &warehouse.file("extract.csv", &plain))
                }),
            ),
        ];
        for (name, request) in cases {
            let warehouse = Warehouse::new();
            let outcome = warehouse.land(request(&warehouse)).await;
            assert!(outcome.is_err(), "{name}");
            compare(name, &shown(&outcome), &mut differences);
            check(name, &warehouse, "test_case", &outcome, &codes).await;
        }
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn keys_of_other_deliveries_give_their_golden_diagnostics() {
    let february = "ilmoitusnumero;saapumispvm\nI1;01.02.2024\nI2;02.02.2024\nI3;03.02.2024\n";
    let march_file =
        "ilmoitusnumero;saapumispvm\nI4;01.03.2024\nI2;02.03.2024\nI5;03.03.2024\nI4;04.03.2024\n";
    let mut differences = Vec::new();
    runtime().block_on(async {
        for action in ["reject", "quarantine", "hold", "warn"] {
            let contract = parse(&contract_text("test_notice").replace(
                "severityAction, value: reject",
                &format!("severityAction, value: {action}"),
            ));
            let warehouse = Warehouse::new();
            let request = |name: &str, text: &str| {
                LandRequest::new(
                    contract.clone(),
                    crate::support::lists(),
                    warehouse.file(name, text),
                )
            };
            warehouse
                .land(request("test_notice_07_202402.csv", february))
                .await
                .unwrap();
            let outcome = warehouse
                .land(request("test_notice_07_202403.csv", march_file))
                .await;
            compare(
                &format!("duplicate_in_lake.{action}"),
                &shown(&outcome),
                &mut differences,
            );
            let expected = match action {
                "reject" | "hold" => 3,
                "quarantine" => 5,
                _ => 7,
            };
            assert_eq!(
                warehouse.count("raw", "test_notice").await,
                expected,
                "{action}"
            );
        }
    });
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
