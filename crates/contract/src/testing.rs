//! A small contract and its pieces, for the tests of this crate.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::sync::Arc;

use tietopohja_domain::{County, Date, DeliveryPeriod};

use crate::block::{Checked, DeliveryContext, Dialect, IdentityCodes, Pseudonymise, TextBlock};
use crate::codes::CodeLists;
use crate::contract::{Contract, Property};
use crate::validator::Validator;

pub(crate) const CONTRACT: &str = r#"apiVersion: v3.1.0
kind: DataContract
id: urn:tietopohja:contract:test-case
name: test_case
version: 1.0.0
status: active
description:
  purpose: Testataan | For tests
schema:
  - name: test_case
    dataGranularityDescription: one row per case
    properties:
      - name: case_no
        physicalName: numero
        businessName: Numero
        description: Asian numero | Number of the case
        logicalType: string
        physicalType: text
        logicalTypeOptions: { maxLength: 10 }
        required: true
        primaryKey: true
        classification: internal
      - name: client_id
        physicalName: hetu
        businessName: Henkilötunnus
        description: Asiakas | The client
        logicalType: string
        physicalType: hetu
        required: true
        classification: personal_identity_code
        customProperties:
          - { property: pseudonymise, value: client }
      - name: kind
        physicalName: laji
        businessName: Laji
        description: Asian laji | Kind of case
        logicalType: string
        physicalType: code
        required: true
        classification: internal
        customProperties:
          - { property: codeSystem, value: test.kind }
      - name: started_on
        physicalName: alkupvm
        businessName: Alku
        description: Ensimmäinen päivä | First day
        logicalType: date
        physicalType: date
        required: true
        classification: personal
      - name: ended_on
        physicalName: loppupvm
        businessName: Loppu
        description: Viimeinen päivä | Last day
        logicalType: date
        physicalType: date
        classification: personal
        customProperties:
          - { property: nullWhen, value: ["31.12.9999"] }
          - { property: dateRange, value: { from: "2000-01-01", to: "2030-12-31" } }
        quality:
          - id: mostly_ended
            metric: missingValues
            mustBeLessThan: 50
            unit: percent
            severity: warning
      - name: amount
        physicalName: euro
        businessName: Euro
        description: Summa | Amount
        logicalType: number
        physicalType: decimal(8,2)
        required: true
        classification: internal
        customProperties:
          - { property: amountSum, value: true }
          - { property: unit, value: EUR }
      - name: note
        physicalName: selite
        businessName: Selite
        description: Vapaa teksti | Free text
        logicalType: string
        physicalType: text
        logicalTypeOptions: { maxLength: 40 }
        classification: internal
    customProperties:
      - property: period
        value:
          - { date: started_on, within: period }
    quality:
      - id: rows_present
        metric: rowCount
        mustBeGreaterThan: 0
        severity: error
      - id: key_unique
        metric: duplicateValues
        arguments: { properties: [case_no] }
        mustBe: 0
        customProperties:
          - { property: scope, value: table }
      - id: ended_before_started
        type: custom
        engine: tietopohja
        implementation: { crossField: "ended_on >= started_on" }
        description: the case ends before it begins
      - id: large_amount
        type: custom
        engine: tietopohja
        implementation: { crossField: "amount <= 1000" }
        description: the amount is unusually large
        severity: warning
      - id: quarantined_share
        type: custom
        engine: tietopohja
        implementation: { measure: quarantinedRows, mustBeLessThan: 50, unit: percent, minRows: 4 }
        severity: error
      - id: one_open_case
        type: sql
        query: "select count(*) from {object}"
        mustBe: 0
        severity: warning
slaProperties:
  - { property: frequency, value: 1, unit: m }
  - { property: latency, value: 10, unit: d }
  - { property: retention, value: 24, unit: m }
customProperties:
  - { property: deliveryMode, value: events }
  - property: sourceFormat
    value: { separators: [";"], decimal: comma, dateFormats: [d.m.yyyy], encodings: [utf-8] }
"#;

pub(crate) fn lists() -> CodeLists {
    let kind = "code,name_fi,name_sv,name_en,valid_from,valid_to,maps_to\nA,Eka,,,,,first\nB,Toka,,,,2024-03-10,second\n";
    CodeLists::parse(vec![("test.kind".to_owned(), kind.to_owned())]).unwrap()
}

pub(crate) fn contract() -> Contract {
    parse(CONTRACT)
}

pub(crate) fn parse(yaml: &str) -> Contract {
    match Contract::parse("test.odcs.yaml", yaml, &lists()) {
        Ok(contract) => contract,
        Err(problems) => panic!("{}", tietopohja_domain::render_problems(&problems)),
    }
}

/// Properties by name and type, for tests that need only those.
pub(crate) fn properties(columns: &[(&str, &str)]) -> Vec<Property> {
    let mut yaml = CONTRACT
        .split("    properties:\n")
        .next()
        .unwrap()
        .to_owned();
    yaml.push_str("    properties:\n");
    for (at, (name, physical)) in columns.iter().enumerate() {
        let logical = match physical.split('(').next().unwrap() {
            "decimal" => "number",
            "int" => "integer",
            "date" => "date",
            _ => "string",
        };
        let options = if *physical == "text" {
            "\n        logicalTypeOptions: { maxLength: 9 }"
        } else {
            ""
        };
        let key = if at == 0 {
            "\n        primaryKey: true\n        required: true"
        } else {
            ""
        };
        yaml.push_str(&format!(
            "      - name: {name}\n        physicalName: {name}\n        businessName: x\n        description: x | y\n        \
             classification: internal\n        logicalType: {logical}\n        physicalType: {physical}{options}{key}\n"
        ));
    }
    let first = columns.first().unwrap().0;
    yaml.push_str(&format!(
        "    quality:\n      - id: key_unique\n        metric: duplicateValues\n        arguments: {{ properties: [{first}] }}\n        \
         mustBe: 0\n        customProperties:\n          - {{ property: scope, value: delivery }}\n"
    ));
    yaml.push_str(
        CONTRACT
            .split_once("slaProperties:")
            .map(|(_, rest)| format!("slaProperties:{rest}"))
            .unwrap()
            .as_str(),
    );
    let yaml = yaml.replace("value: events", "value: document");
    parse(&yaml).properties
}

/// A pseudonym that shows its input, so that tests can see what was hashed.
pub(crate) struct Echo;

impl Pseudonymise for Echo {
    fn pseudonym(&self, domain: &str, canonical: &[u8; 11]) -> [u8; 16] {
        let mut out = [0; 16];
        for (to, from) in out.iter_mut().zip(domain.bytes().take(5).chain(*canonical)) {
            *to = from;
        }
        out
    }
}

/// A validator of the test contract for March 2024; today is 2024-04-15.
pub(crate) fn validator(contract: Contract) -> Validator {
    let context = DeliveryContext {
        county: County::parse("07").unwrap(),
        period: DeliveryPeriod::parse("2024-03").unwrap(),
        today: Date::constant(2024, 4, 15),
        identity_codes: IdentityCodes::ArtificialOnly,
    };
    Validator::new(
        Arc::new(contract),
        Arc::new(lists()),
        context,
        Arc::new(Echo),
    )
}

/// Lines of `;`-separated cells as a block, the first line being row 2.
pub(crate) fn block(lines: &str, dialect: Dialect) -> TextBlock {
    let text = lines.as_bytes().to_vec();
    let mut cells = Vec::new();
    let mut rows = 0;
    let mut columns = 0;
    let mut start = 0;
    for line in lines.split_inclusive('\n') {
        let mut at = start;
        columns = 0;
        for cell in line.trim_end_matches('\n').split(';') {
            cells.push((at as u32, (at + cell.len()) as u32));
            at += cell.len() + 1;
            columns += 1;
        }
        start += line.len();
        rows += 1;
    }
    TextBlock {
        first_row: 2,
        rows,
        columns,
        text,
        cells,
        dialect,
        row_lines: None,
    }
}

/// Checks lines in the order of the contract's columns.
pub(crate) fn check_lines(lines: &str) -> (Validator, Checked) {
    let validator = validator(contract());
    let header: Vec<String> = validator
        .contract()
        .properties()
        .iter()
        .map(|p| p.header().to_string())
        .collect();
    let map = validator.map_header(&header).unwrap();
    let checked = validator.check(&map, &block(lines, validator.contract().format().dialect()));
    (validator, checked)
}
