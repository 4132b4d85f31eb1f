//! The contracts and code lists that the product ships are whole, and agree
//! with each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tietopohja_contract::{
    Checked, CodeLists, Contract, DeliveryContext, IdentityCodes, Lookup, Mode, PropertyType,
    Pseudonymise, TextBlock, Totals, Validator,
};
use tietopohja_domain::{County, Date, DeliveryPeriod, render_problems};

fn definitions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../definitions")
}

fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(definitions().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(ending)?.to_owned();
            Some((name, fs::read_to_string(&path).unwrap()))
        })
        .collect();
    files.sort();
    files
}

fn lists() -> CodeLists {
    CodeLists::parse(files("codes", ".csv"))
        .unwrap_or_else(|problems| panic!("{}", render_problems(&problems)))
}

fn contracts() -> Vec<Contract> {
    let lists = lists();
    files("contracts", ".odcs.yaml")
        .iter()
        .map(|(name, yaml)| {
            Contract::parse(&format!("{name}.odcs.yaml"), yaml, &lists)
                .unwrap_or_else(|problems| panic!("{}", render_problems(&problems)))
        })
        .collect()
}

#[test]
fn every_contract_is_read_and_named_after_its_file() {
    let names: Vec<String> = files("contracts", ".odcs.yaml")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        contracts()
            .iter()
            .map(|c| c.name().to_owned())
            .collect::<Vec<_>>(),
        names
    );
    assert_eq!(names.len(), 16);
}

#[test]
fn every_code_of_a_source_has_a_word_of_the_model() {
    let lists = lists();
    for name in lists.names().filter(|name| !name.starts_with("fi.")) {
        for code in lists.list(name).unwrap().codes() {
            assert!(code.maps_to().is_some(), "{name} {}", code.code());
        }
    }
}

#[test]
fn every_code_list_is_used_by_a_contract() {
    let contracts = contracts();
    for name in lists().names() {
        let used = contracts
            .iter()
            .flat_map(|c| c.properties())
            .any(|p| p.code_list() == Some(name));
        assert!(used, "{name}");
    }
}

#[test]
fn municipalities_are_valid_in_their_years() {
    let lists = lists();
    let municipalities = lists.list("fi.municipality").unwrap();
    let on = |code: &str, date: Date| match municipalities.lookup(code, date) {
        Lookup::Valid(code) => code
            .maps_to()
            .map_or("none".to_owned(), ToString::to_string),
        Lookup::Expired { valid_to } => format!("ended {valid_to}"),
        Lookup::NotYet { .. } => "not yet".to_owned(),
        Lookup::Unknown => "unknown".to_owned(),
    };
    for (code, date, expected) in [
        ("091", Date::constant(2024, 1, 1), "90"),
        ("588", Date::constant(2024, 12, 31), "12"),
        ("588", Date::constant(2025, 1, 1), "ended 2025-01-01"),
        ("911", Date::constant(2019, 12, 31), "14"),
        ("099", Date::constant(2022, 1, 1), "ended 2021-01-01"),
        ("198", Date::constant(2022, 1, 1), "none"),
        ("999", Date::constant(2022, 1, 1), "unknown"),
    ] {
        assert_eq!(on(code, date), expected, "{code} {date}");
    }
    let valid = |year| {
        let day = Date::constant(year, 6, 1);
        municipalities
            .codes()
            .iter()
            .filter(|c| c.maps_to().is_some() && on(c.code(), day) != format!("ended {day}"))
            .count()
    };
    assert!(valid(2024) >= 309);
}

#[test]
fn person_data_is_classified_and_pseudonymised() {
    for contract in contracts() {
        for property in contract.properties() {
            let identity = matches!(property.kind(), PropertyType::Hetu { .. });
            assert_eq!(
                identity,
                property.classification().as_str() == "personal_identity_code",
                "{} {}",
                contract.name(),
                property.name()
            );
            if let PropertyType::Text { scan, .. } = property.kind() {
                assert!(scan.is_some(), "{} {}", contract.name(), property.name());
            }
        }
        let levels: Vec<&str> = contract
            .service_levels()
            .iter()
            .map(|level| level.property.as_str())
            .collect();
        assert_eq!(
            levels,
            ["frequency", "latency", "retention"],
            "{}",
            contract.name()
        );
    }
}

struct Zeros;

impl Pseudonymise for Zeros {
    fn pseudonym(&self, _domain: &str, _canonical: &[u8; 11]) -> [u8; 16] {
        [0; 16]
    }
}

/// What the shipped contract makes of lines of `;`-separated cells, delivered
/// by county 07.
fn deliver(dataset: &str, period: &str, lines: &[&str]) -> (Checked, Totals, Arc<Contract>) {
    let contract = contracts().into_iter().find(|c| c.name() == dataset);
    let contract = Arc::new(contract.unwrap());
    let context = DeliveryContext {
        county: if contract.mode() == Mode::Document {
            County::NATIONAL
        } else {
            County::parse("07").unwrap()
        },
        period: DeliveryPeriod::parse(period).unwrap(),
        today: Date::constant(2025, 3, 1),
        identity_codes: IdentityCodes::ArtificialOnly,
    };
    let validator = Validator::new(
        contract.clone(),
        Arc::new(lists()),
        context,
        Arc::new(Zeros),
    );
    let header: Vec<String> = contract
        .properties()
        .iter()
        .map(|p| p.header().to_string())
        .collect();
    let map = validator.map_header(&header).unwrap();
    let mut text = Vec::new();
    let mut cells = Vec::new();
    for line in lines {
        let split: Vec<&str> = line.split(';').collect();
        assert_eq!(split.len(), header.len(), "{dataset}: {line}");
        for cell in split {
            let start = text.len() as u32;
            text.extend_from_slice(cell.as_bytes());
            cells.push((start, text.len() as u32));
        }
    }
    let block = TextBlock {
        first_row: 2,
        rows: lines.len(),
        columns: header.len(),
        text,
        cells,
        dialect: contract.format().dialect(),
        row_lines: None,
    };
    let checked = validator.check(&map, &block);
    let mut totals = Totals::default();
    totals.add(&checked);
    assert_eq!(totals.received, lines.len() as u64);
    (checked, totals, contract)
}

/// `expected` is "accepted rows; row field rule, ...".
fn check(dataset: &str, period: &str, lines: &[&str], expected: &str) {
    let (checked, _, _) = deliver(dataset, period, lines);
    let rejects: Vec<String> = checked
        .rejects
        .iter()
        .map(|r| format!("{} {} {}", r.row_no, r.field, r.rule))
        .collect();
    assert_eq!(
        format!("{}; {}", checked.row_no.len(), rejects.join(", ")),
        expected,
        "{dataset}"
    );
}

/// `expected` is the findings of a delivery that repeats one line 100 times.
fn check_delivery(dataset: &str, period: &str, line: &str, expected: &[&str]) {
    let lines: Vec<String> = (0..100)
        .map(|n| line.replace('#', &n.to_string()))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (_, totals, contract) = deliver(dataset, period, &lines);
    let findings: Vec<String> = contract
        .conclude(&totals)
        .iter()
        .map(|f| format!("{} {}", f.action, f.rule))
        .collect();
    assert_eq!(findings, expected, "{dataset}: {line}");
}

#[test]
fn a_delivery_under_the_wrong_name_is_refused() {
    check_delivery(
        "child_notification",
        "2024-03",
        "L#;020516C903K;109;05.03.2024;4;E",
        &[],
    );
    // A month that is not the file's, and a municipality of another county.
    check_delivery(
        "child_notification",
        "2024-03",
        "L#;020516C903K;109;05.02.2024;4;E",
        &[
            "reject whole_delivery_outside_period",
            "reject nothing_accepted",
            "reject quarantined_share",
            "warn quarantined_share_noted",
        ],
    );
    check_delivery(
        "child_notification",
        "2024-03",
        "L#;020516C903K;091;05.03.2024;4;E",
        &["reject home_county_share"],
    );
}

#[test]
fn each_dataset_takes_a_good_row_and_tells_a_bad_one_apart() {
    check(
        "hr_employment",
        "2024",
        &[
            "010190-900P;P1;0101263-6;KOTIHOITO-1;3100;LHOI;SOTE;V;1.1.2020;31.12.9999;;78,43;V1",
            "010190-900P;P2;0101263-6;KOTIHOITO-1;3100;LHOI;SOTE;M;1.1.2020;31.12.2023;MP;0,00;",
        ],
        "1; 3 osa_aika_prosentti number_range, 3 alkupvm wrong_period",
    );
    check(
        "hr_absence",
        "2024-03",
        &[
            "010190-900P;P1;SL;01.03.2024;31.03.2024;66,67",
            "010190-900P;P1;SL;28.02.2024;01.04.2024;100,00",
        ],
        "1; 3 alkupvm wrong_period, 3 loppupvm wrong_period",
    );
    check(
        "hr_post",
        "2024",
        &[
            "V1;HALLINTO-1;HALL;100,00;01.01.2010;",
            "V2;HALLINTO-1;HALL;101,00;01.01.2010;",
        ],
        "1; 3 budjetoitu_prosentti number_range",
    );
    check(
        "finance_ledger",
        "2024-03",
        &[
            "4000;110010;1100;202403;T;T;1234,50",
            "4000;110010;1100;202412;E;202403;-1234,50",
            "4000;110010;1100;202404;TA;TA;1,00",
            "4000;110010;1100;202312;E;202403;1,00",
        ],
        "2; 4 kausi wrong_period, 5 kausi wrong_period",
    );
    check(
        "finance_htas",
        "2025",
        &[
            "01;Itä-Uudenmaan hyvinvointialue;2025;465.363",
            "1;Itä-Uusimaa;2025;465,363",
        ],
        "1; 3 toimintamenot_meur decimal_separator",
    );
    check(
        "finance_ktas",
        "2023",
        &[
            "0101263-6;KTAS;2023;2023;current_budget;1093;VUOSIKATE;349083947.70;EUR;lopullinen",
            "0101263-7;KTAS;2023;2023;current_budget;1093;VUOSIKATE;349083947.70;EUR;lopullinen",
        ],
        "1; 3 y_tunnus business_id",
    );
    check(
        "child_notification",
        "2024-03",
        &[
            "L1;020516C903K;109;05.03.2024;4;E",
            "L2;020516C903K;999;05.03.2024;4;E",
        ],
        "1; 3 kotikunta code_unknown",
    );
    check(
        "needs_assessment",
        "2024-03",
        &[
            "A1;020516C903K;109;2;05.03.2024;07.03.2024;01.06.2024;E;SOSIAALIASEMA-1",
            "A2;020516C903K;109;2;05.03.2024;04.03.2024;03.03.2024;E;SOSIAALIASEMA-1",
        ],
        "1; 3 arviointi_alkoi started_not_before_initiated, 3 arviointi_valmis completed_not_before_started",
    );
    check(
        "placement",
        "2024",
        &[
            "S1;020516C903K;109;1;3;05.03.2023;;3;0101263-6",
            "S2;020516C903K;109;5;3;05.03.2023;;1;",
        ],
        "1; 3 muoto code_unknown",
    );
    check(
        "homecare_visit",
        "2024-03",
        &[
            "K1;010190-900P;9;05.03.2024;45;3;LHOI;KOTIHOITO-1;1;;K",
            "K2;010190-900P;109;05.03.2024;1441;3;LHOI;KOTIHOITO-1;1;;K",
        ],
        "1; 3 kesto_min number_range",
    );
    check(
        "care_spell",
        "2024",
        &[
            "J1;010190-900P;109;YPA;05.03.2023;31.12.9999;K;1;;HOIVA-1",
            "J2;010190-900P;109;YPA;05.03.2023;;?;1;;HOIVA-1",
        ],
        "1; 3 pitkaaikainen boolean_form",
    );
    check(
        "informal_care_decision",
        "2024",
        &[
            "O1;010190-900P;020516C903K;109;2;05.03.2023;",
            "O2;010190-900P;;109;2;05.03.2023;",
        ],
        "1; 3 hoitaja_henkilotunnus required_missing",
    );
    check(
        "provider",
        "2024",
        &[
            "0101263-6;Hoiva Oy;3;109;01.01.2020;",
            "0101263-6;Hoiva Oy;9;109;01.01.2020;",
        ],
        "1; 3 sektori code_unknown",
    );
    check(
        "purchase_invoice_line",
        "2024-03",
        &[
            "0101263-6;L-1;1;01.04.2024;YPA;;VRK;31,00;150,25;4657,75;202403;4330;3200-20;3;Hoivapäivät, maaliskuu",
            "0101263-6;L-1;2;01.04.2024;YPA;;VRK;31,00;150,25;4658,75;202403;4330;3200-20;3;",
            "0101263-6;L-1;3;01.04.2024;YPA;;VRK;1,00;150,25;150,25;202403;4330;3200-20;3;Asiakas 010190-900P",
        ],
        "1; 3 rivisumma amount_is_quantity_times_price, 4 selite identity_code_in_text",
    );
    check(
        "primary_care_contact",
        "2024-03",
        &[
            "T1;010190-900P;109;01.03.2024;05.03.2024;2;1;LAAK;TERVEYSASEMA-1;K",
            "T2;010190-900P;109;06.03.2024;05.03.2024;2;1;LAAK;TERVEYSASEMA-1;K",
        ],
        "1; 3 kayntipvm assessed_not_after_visit",
    );
    check(
        "specialised_referral",
        "2024-03",
        &[
            "R1;010190-900P;109;01.03.2024;05.03.2024;05.03.2024;;10;2",
            "R2;010190-900P;109;01.03.2024;29.02.2024;;;10;2",
        ],
        "1; 3 kasitelty processed_not_before_arrived",
    );
}
