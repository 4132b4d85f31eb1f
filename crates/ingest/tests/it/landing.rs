//! Exactly once: repeats, corrections, races, limits, and the order of rows.

use std::fmt::Write as _;
use std::sync::Mutex;

use tietopohja_domain::{Clock, FixedClock};
use tietopohja_ingest::{
    LandError, LandLimits, LandRequest, NoProgress, Outcome, Progress, RequestError, land,
    land_many,
};

use crate::support::{
    Warehouse, clock, contract, contract_text, lists, march, parse, runtime, testdata,
};

/// Notices with numbers `first..first + rows` in the month.
fn notices(month: u32, numbers: impl IntoIterator<Item = u64>) -> String {
    let mut text = String::from("ilmoitusnumero;saapumispvm\n");
    for number in numbers {
        let day = 1 + number % 28;
        writeln!(text, "I{number:09};{day:02}.{month:02}.2024").unwrap();
    }
    text
}

#[test]
fn the_same_bytes_land_once_and_say_so() {
    let contract = contract("test_case");
    let file = testdata().join("good/plain.csv");
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        let first = warehouse.land(march(&contract, &file)).await.unwrap();
        assert_eq!(
            (first.outcome, first.delivery_id.as_str()),
            (Outcome::Landed, "test_case.07.202403.r1")
        );
        let again = warehouse.land(march(&contract, &file)).await.unwrap();
        assert_eq!(again.outcome, Outcome::AlreadyLanded);
        assert_eq!(
            (
                again.received,
                again.accepted,
                again.quarantined,
                &again.delivery_id,
                again.table_version
            ),
            (
                first.received,
                first.accepted,
                first.quarantined,
                &first.delivery_id,
                first.table_version
            )
        );
        assert_eq!(
            (&again.control_sums, &again.content_hash, again.bytes),
            (&first.control_sums, &first.content_hash, first.bytes)
        );
        assert_eq!(warehouse.count("raw", "test_case").await, 8);
        assert_eq!(
            warehouse.ledger("test_case", "07", "2024-03").await.len(),
            1
        );
    });
}

#[test]
fn a_correction_replaces_and_an_older_revision_is_refused() {
    let contract = contract("test_case");
    let plain = std::fs::read_to_string(testdata().join("good/plain.csv")).unwrap();
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        warehouse
            .land(march(&contract, &warehouse.file("a.csv", &plain)))
            .await
            .unwrap();
        // One row less, and one row that is quarantined.
        let corrected = plain
            .replacen("T0002;", "T9999;", 1)
            .replacen(";109;B;", ";109;X;", 1);
        let corrected: String = corrected
            .lines()
            .filter(|line| !line.starts_with("T0003"))
            .map(|line| format!("{line}\n"))
            .collect();
        let second = warehouse
            .land(march(&contract, &warehouse.file("b.csv", &corrected)))
            .await
            .unwrap();
        assert_eq!(
            (second.outcome, second.replaces),
            (Outcome::Replaced, Some(1))
        );
        assert_eq!(
            (second.received, second.accepted, second.quarantined),
            (7, 6, 1)
        );
        let ids = warehouse
            .rows("raw", "test_case", &["delivery_id"])
            .await
            .concat();
        assert_eq!(ids, vec!["test_case.07.202403.r2".to_owned(); 6]);
        assert_eq!(warehouse.rejected("test_case").await.len(), 1);

        let older = LandRequest {
            revision: Some(1),
            ..march(
                &contract,
                &warehouse.file("c.csv", plain.replace("47,13", "47,14")),
            )
        };
        let error = warehouse.land(older).await.unwrap_err();
        assert!(
            matches!(
                error,
                LandError::OlderRevision {
                    wanted: 1,
                    current: 2,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .contains("revision 1 of test_case of 07 for 2024-03 is older than revision 2"),
            "{error}"
        );
        assert_eq!(warehouse.count("raw", "test_case").await, 6);
        assert_eq!(
            warehouse
                .ledger("test_case", "07", "2024-03")
                .await
                .iter()
                .map(|row| row.revision)
                .collect::<Vec<_>>(),
            [1, 2]
        );

        // Back to the first content: a correction like any other.
        let third = warehouse
            .land(march(&contract, &warehouse.file("a.csv", &plain)))
            .await
            .unwrap();
        assert_eq!(
            (third.outcome, third.replaces, third.accepted),
            (Outcome::Replaced, Some(2), 8)
        );
        // Rejects of replaced revisions stay, under their own delivery.
        let rejects = warehouse
            .rows("reject", "test_case", &["delivery_id"])
            .await
            .concat();
        assert_eq!(rejects, ["test_case.07.202403.r2"]);
    });
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_would_be() {
    let contract = contract("test_case");
    let file = testdata().join("good/plain.csv");
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        let dry = |file: &std::path::Path| LandRequest {
            dry_run: true,
            ..march(&contract, file)
        };
        let receipt = warehouse.land(dry(&file)).await.unwrap();
        assert_eq!(
            (receipt.outcome, receipt.accepted, receipt.table_version),
            (Outcome::WouldLand, 8, None)
        );
        assert!(
            !warehouse.folder.path().join("lake/raw").exists(),
            "not even a table"
        );
        warehouse.land(march(&contract, &file)).await.unwrap();
        assert_eq!(
            warehouse.land(dry(&file)).await.unwrap().outcome,
            Outcome::AlreadyLanded
        );
        let other = testdata().join("good/bom_crlf.csv");
        let receipt = warehouse.land(dry(&other)).await.unwrap();
        assert_eq!(
            (receipt.outcome, receipt.delivery_id.as_str()),
            (Outcome::WouldReplace, "test_case.07.202403.r2")
        );
        let bad = warehouse
            .land(dry(&testdata().join("bad/half_wrong.csv")))
            .await
            .unwrap_err();
        assert!(matches!(bad, LandError::Refused(_)), "{bad}");
        assert_eq!(
            warehouse.ledger("test_case", "07", "2024-03").await.len(),
            1
        );
    });
}

#[test]
fn an_empty_delivery_lands_where_the_contract_allows_it() {
    let contract = contract("test_notice");
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        let receipt = warehouse
            .land(march(&contract, &warehouse.file("a.csv", notices(3, []))))
            .await
            .unwrap();
        assert_eq!((receipt.outcome, receipt.received), (Outcome::Landed, 0));
        assert_eq!(
            warehouse.ledger("test_notice", "07", "2024-03").await.len(),
            1
        );
        let receipt = warehouse
            .land(march(&contract, &warehouse.file("a.csv", notices(3, 0..5))))
            .await
            .unwrap();
        assert_eq!((receipt.outcome, receipt.accepted), (Outcome::Replaced, 5));
        let receipt = warehouse
            .land(march(&contract, &warehouse.file("a.csv", notices(3, []))))
            .await
            .unwrap();
        assert_eq!((receipt.outcome, receipt.accepted), (Outcome::Replaced, 0));
        assert_eq!(warehouse.count("raw", "test_notice").await, 0);
    });
}

#[test]
fn a_held_delivery_waits_for_approval() {
    let contract = parse(&contract_text("test_notice").replace(
        "severityAction, value: reject",
        "severityAction, value: hold",
    ));
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        let file = warehouse.file("a.csv", notices(3, [1, 2, 2]));
        let held = warehouse.land(march(&contract, &file)).await.unwrap();
        assert_eq!((held.outcome, held.accepted), (Outcome::Held, 3));
        assert_eq!(warehouse.count("raw", "test_notice").await, 0);
        let approved = warehouse
            .land(LandRequest {
                approve_held: true,
                ..march(&contract, &file)
            })
            .await
            .unwrap();
        assert_eq!((approved.outcome, approved.accepted), (Outcome::Landed, 3));
        assert_eq!(warehouse.count("raw", "test_notice").await, 3);
    });
}

#[test]
fn rows_keep_their_order_and_counts_whatever_the_threads_and_blocks() {
    let contract = parse(&contract_text("test_notice").replace(
        "severityAction, value: reject",
        "severityAction, value: quarantine",
    ));
    // Every 97th number comes twice, every 1 000th row has a wrong month.
    let mut text = String::from("ilmoitusnumero;saapumispvm\n");
    for n in 0..30_000u64 {
        let number = if n % 97 == 5 { n - 5 } else { n };
        let month = if n % 1_000 == 7 { 2 } else { 3 };
        writeln!(text, "I{number:09};{:02}.{month:02}.2024", 1 + n % 28).unwrap();
    }
    runtime().block_on(async {
        let mut first: Option<(Vec<Vec<String>>, Vec<Vec<String>>, String)> = None;
        for (workers, block_bytes, max_keys_in_memory) in [
            (1, 1 << 20, 4_000_000),
            (2, 64 << 10, 4_000_000),
            (3, 4 << 10, 1_000),
            (7, 8 << 10, 0),
        ] {
            let mut warehouse = Warehouse::new();
            warehouse.limits = LandLimits {
                workers,
                block_bytes,
                max_keys_in_memory,
                ..LandLimits::default()
            };
            let receipt = warehouse
                .land(march(&contract, &warehouse.file("a.csv", &text)))
                .await
                .unwrap();
            assert_eq!(
                (receipt.received, receipt.accepted + receipt.quarantined),
                (30_000, 30_000)
            );
            let rows = warehouse
                .rows(
                    "raw",
                    "test_notice",
                    &["row_no", "notice_no", "received_on"],
                )
                .await;
            let rejects = warehouse
                .rows("reject", "test_notice", &["row_no", "rule", "message"])
                .await;
            let found = (rows, rejects, receipt.to_string());
            match &first {
                None => {
                    let repeated = found
                        .1
                        .iter()
                        .filter(|reject| reject[1] == "duplicate_key")
                        .count();
                    assert!(repeated > 290, "{repeated}");
                    first = Some(found);
                }
                Some(first) => {
                    assert_eq!(first.0, found.0, "rows, workers {workers}");
                    assert_eq!(first.1, found.1, "rejects, workers {workers}");
                    assert_eq!(first.2, found.2, "receipt, workers {workers}");
                }
            }
        }
    });
}

#[test]
fn a_correction_may_repeat_the_keys_it_replaces() {
    let contract = contract("test_notice");
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        warehouse
            .land(march(
                &contract,
                &warehouse.file("a.csv", notices(3, 0..100)),
            ))
            .await
            .unwrap();
        let receipt = warehouse
            .land(march(
                &contract,
                &warehouse.file("a.csv", notices(3, 50..150)),
            ))
            .await
            .unwrap();
        assert_eq!(
            (receipt.outcome, receipt.accepted),
            (Outcome::Replaced, 100)
        );
    });
}

#[test]
fn two_landings_of_one_delivery_at_once_leave_one() {
    let contract = contract("test_notice");
    runtime().block_on(async {
        for round in 0..5u64 {
            let warehouse = Warehouse::new();
            let same = warehouse.file("a.csv", notices(3, 0..2_000));
            let other = warehouse.file("b.csv", notices(3, round..1_000));
            let (one, two, three) = tokio::join!(
                warehouse.land(march(&contract, &same)),
                warehouse.land(march(&contract, &same)),
                warehouse.land(march(&contract, &other))
            );
            let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
            let landed = [&one, &two]
                .iter()
                .filter(|receipt| receipt.outcome != Outcome::AlreadyLanded)
                .count();
            // The other content may come between the two equal ones; then both land.
            assert!(landed >= 1, "{one}\n{two}\n{three}");
            let ledger = warehouse.ledger("test_notice", "07", "2024-03").await;
            let last = ledger.last().unwrap();
            assert_eq!(
                warehouse.count("raw", "test_notice").await as i64,
                last.accepted,
                "{ledger:?}"
            );
            let revisions: Vec<i64> = ledger.iter().map(|row| row.revision).collect();
            let expected: Vec<i64> = (1..=ledger.len() as i64).collect();
            assert_eq!(revisions, expected);
        }
    });
}

#[test]
fn several_files_land_at_once_and_answers_keep_their_order() {
    let contract = contract("test_notice");
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        let names = ["01", "02", "03", "05", "06"];
        let mut requests: Vec<LandRequest> = names
            .iter()
            .map(|county| {
                let numbers = 1_000 * county.parse::<u64>().unwrap()
                    ..1_000 * county.parse::<u64>().unwrap() + 50;
                let file = warehouse.file(
                    &format!("test_notice_{county}_202403.csv"),
                    notices(3, numbers),
                );
                LandRequest::new(contract.clone(), lists(), file)
            })
            .collect();
        requests.insert(
            2,
            LandRequest::new(
                contract.clone(),
                lists(),
                warehouse.file("test_notice_07_202403.csv", ""),
            ),
        );
        requests.push(LandRequest {
            county: None,
            ..march(
                &contract,
                &warehouse.file("test_notice_02_202403.copy.csv", notices(3, 0..9)),
            )
        });
        let clock = clock();
        let results = land_many(
            warehouse.intake(&clock),
            requests,
            3,
            &LandLimits::default(),
            &NoProgress,
        )
        .await;
        let shown: Vec<String> = results
            .iter()
            .map(|result| match result {
                Ok(receipt) => format!("{} {}", receipt.county, receipt.accepted),
                Err(LandError::Source(error)) => format!("{:?}", error.fault),
                Err(LandError::Request(RequestError::SameDeliveryTwice { first, .. })) => {
                    format!("twice: {first}")
                }
                Err(error) => panic!("{error}"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "01 50",
                "02 50",
                "Empty",
                "03 50",
                "05 50",
                "06 50",
                "twice: test_notice_02_202403.csv"
            ]
        );
        assert_eq!(warehouse.count("raw", "test_notice").await, 250);
    });
}

/// Keeps what it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<(u64, u64)>>);

impl Progress for Heard {
    fn bytes(&self, _file: &str, done: u64, total: u64) {
        self.0.lock().unwrap().push((done, total));
    }
}

#[test]
fn progress_rises_to_the_size_of_the_file() {
    let contract = contract("test_notice");
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        let text = notices(3, 0..20_000);
        let heard = Heard::default();
        let limits = LandLimits {
            block_bytes: 16 << 10,
            ..LandLimits::default()
        };
        let request = march(&contract, &warehouse.file("a.csv", &text));
        land(warehouse.intake(&clock()), request, &limits, &heard)
            .await
            .unwrap();
        let heard = heard.0.into_inner().unwrap();
        assert!(heard.len() > 10 && heard.is_sorted());
        assert_eq!(heard.last(), Some(&(text.len() as u64, text.len() as u64)));
    });
}

#[test]
fn the_ledger_row_says_what_the_receipt_says() {
    let contract = contract("test_case");
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        let receipt = warehouse
            .land(march(&contract, &testdata().join("bad/duplicate_keys.csv")))
            .await
            .unwrap();
        let ledger = warehouse.ledger("test_case", "07", "2024-03").await;
        let row = ledger.first().unwrap();
        assert_eq!((row.received, row.accepted, row.quarantined), (11, 8, 3));
        assert_eq!(
            (row.received, row.accepted, row.quarantined),
            (
                receipt.received as i64,
                receipt.accepted as i64,
                receipt.quarantined as i64
            )
        );
        assert_eq!((row.covers_from, row.covers_to), (19_783, 19_813));
        assert_eq!(
            (row.key_version, row.status.as_str(), row.file_name.as_str()),
            (1, "accepted", "duplicate_keys.csv")
        );
        assert_eq!(
            row.landed_at,
            FixedClock(clock().now()).now().as_microsecond()
        );
        assert!(
            row.control_sums.contains("\"column\":\"amount\""),
            "{}",
            row.control_sums
        );
        assert!(row.findings.contains("duplicate_key"), "{}", row.findings);
    });
}

#[test]
fn too_many_rejects_refuse_the_delivery() {
    let contract = parse(&contract_text("test_notice").replace(
        "severityAction, value: reject",
        "severityAction, value: quarantine",
    ));
    runtime().block_on(async {
        let mut warehouse = Warehouse::new();
        warehouse.limits.max_rejects = 10;
        let file = warehouse.file("a.csv", notices(2, 0..11));
        let error = warehouse.land(march(&contract, &file)).await.unwrap_err();
        let LandError::Refused(receipt) = &error else {
            panic!("{error}")
        };
        assert_eq!(
            receipt
                .findings
                .iter()
                .map(|finding| finding.rule.as_str())
                .collect::<Vec<_>>(),
            ["reject_limit"]
        );
        assert_eq!(warehouse.count("raw", "test_notice").await, 0);
    });
}
