//! One table in every form that is read: the same rows whatever the form.

use tietopohja_contract::IdentityCodes;
use tietopohja_ingest::{LandRequest, Outcome};

use crate::support::{Warehouse, contract, march, runtime, testdata};

const COLUMNS: [&str; 13] = [
    "case_no",
    "client_pid",
    "client_birth_date",
    "client_sex",
    "municipality",
    "kind",
    "started_on",
    "ended_on",
    "amount",
    "provider_business_id",
    "urgent",
    "note",
    "delivery_id",
];

#[test]
fn every_form_lands_the_same_rows() {
    let contract = contract("test_case");
    let mut names: Vec<String> = std::fs::read_dir(testdata().join("good"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name != "README.md");
    names.sort();
    assert!(names.len() >= 20, "the forms are there");
    runtime().block_on(async {
        let mut first: Option<Vec<Vec<String>>> = None;
        for name in names {
            let warehouse = Warehouse::new();
            let receipt = warehouse
                .land(march(&contract, &testdata().join("good").join(&name)))
                .await
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(
                (receipt.outcome, receipt.received, receipt.quarantined),
                (Outcome::Landed, 8, 0),
                "{name}\n{receipt}"
            );
            let rows = warehouse.rows("raw", "test_case", &COLUMNS).await;
            match &first {
                None => {
                    assert_eq!(rows[0][0], "T0001");
                    assert_eq!(
                        rows[0][3..12],
                        [
                            "male",
                            "109",
                            "B",
                            "2024-03-02",
                            "2024-04-02",
                            "47.13",
                            "0101263-6",
                            "false",
                            "Käynti sovittu"
                        ],
                        "{name}"
                    );
                    first = Some(rows);
                }
                Some(first) => assert_eq!(*first, rows, "{name}"),
            }
        }
    });
}

#[test]
fn row_numbers_are_those_a_person_sees_in_the_file() {
    let contract = contract("test_case");
    let check = async |name: &str, expected: [i64; 8]| {
        let warehouse = Warehouse::new();
        warehouse
            .land(march(&contract, &testdata().join("good").join(name)))
            .await
            .unwrap();
        let rows: Vec<String> = warehouse
            .rows("raw", "test_case", &["row_no"])
            .await
            .concat();
        assert_eq!(rows, expected.map(|row| row.to_string()), "{name}");
    };
    runtime().block_on(async {
        check("plain.csv", [2, 3, 4, 5, 6, 7, 8, 9]).await;
        check("title_line.csv", [4, 5, 6, 7, 8, 9, 10, 11]).await;
        check("blank_lines.csv", [4, 6, 8, 10, 12, 14, 16, 18]).await;
        check("typed.xlsx", [4, 5, 6, 7, 8, 9, 10, 11]).await;
        check("rows.ndjson", [1, 2, 3, 4, 5, 6, 7, 8]).await;
        check("typed.parquet", [1, 2, 3, 4, 5, 6, 7, 8]).await;
    });
}

#[test]
fn no_identity_code_reaches_the_lake() {
    let contract = contract("test_case");
    runtime().block_on(async {
        let warehouse = Warehouse::new();
        let plain = testdata().join("good/plain.csv");
        let request = LandRequest {
            identity_codes: IdentityCodes::ArtificialOnly,
            ..march(&contract, &plain)
        };
        warehouse.land(request).await.unwrap();
        let text = std::fs::read_to_string(&plain).unwrap();
        let codes: Vec<&str> = text
            .lines()
            .skip(1)
            .map(|line| line.split(';').nth(1).unwrap())
            .collect();
        assert_eq!(codes.len(), 8);
        // Parquet pages are packed: what is looked at is every value as a reader gets it, and
        // every byte of the log.
        let rows = warehouse
            .rows("raw", "test_case", &COLUMNS)
            .await
            .concat()
            .concat();
        let mut bytes = Vec::new();
        gather(warehouse.folder.path(), &mut bytes);
        for code in codes {
            assert!(!rows.contains(code));
            assert!(memchr::memmem::find(&bytes, code.as_bytes()).is_none());
        }
    });
}

fn gather(folder: &std::path::Path, bytes: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, bytes);
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
}
