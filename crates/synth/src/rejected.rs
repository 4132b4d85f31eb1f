//! Deliveries that must be refused whole: each has one fault of the file, not of a row.
//!
//! They lie under `defects/`, in a folder of their own each, so that their names
//! still say dataset, county and period. The rows are good but for the fault. To
//! add one: a line in [`write`].

use std::fs;

use jiff::civil::Date;
use tietopohja_domain::{County, Hetu};

use crate::error::SynthError;
use crate::inputs::Reference;
use crate::manifest::RejectedFile;
use crate::sink::Sink;

const NOTIFICATIONS: &str =
    "ilmoitusnumero;henkilotunnus;kotikunta;saapumispvm;ilmoittaja;mitatoity";
const INVOICES: &str = "toimittaja_ytunnus;laskunumero;rivi;laskupvm;tuote;paatosnumero;yksikko;maara;yksikkohinta;rivisumma;palvelukausi;tili;kustannuspaikka;tuotantotapa;selite";
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// Writes the faulty files, as from the first county of the plan in January of its last year.
pub(crate) fn write(
    reference: &Reference,
    counties: &[County],
    year: i32,
    sink: &Sink<'_>,
) -> Result<Vec<RejectedFile>, SynthError> {
    let Some(county) = counties.first().copied() else {
        return Ok(Vec::new());
    };
    let home = reference
        .municipalities(county)
        .first()
        .map_or(0, |code| reference.municipality_in(*code, year));
    let (code, period) = (county.code(), year * 100 + 1);
    let rows = notifications(county, home, year);
    let good = format!("{NOTIFICATIONS}\n{rows}");
    let text = |text: String| [MARK, text.as_bytes()].concat();
    let notification = "child_notification";

    let files: [(&str, &str, &str, Vec<u8>); 12] = [
        (
            "separator that is not agreed",
            notification,
            "separator_not_agreed",
            text(good.replace(';', "|")),
        ),
        (
            "header of another contract",
            notification,
            "header_unknown",
            text(format!("{INVOICES}\n{}", invoice(year, "Hoitopäivä"))),
        ),
        (
            "no header",
            notification,
            "header_is_data",
            text(rows.clone()),
        ),
        (
            "column missing",
            notification,
            "column_missing",
            text(without_last_column(&good)),
        ),
        (
            "column twice",
            notification,
            "column_duplicate",
            text(
                good.replace('\n', ";1\n")
                    .replacen(";1\n", ";ilmoittaja\n", 1),
            ),
        ),
        (
            "quote that is never closed",
            "purchase_invoice_line",
            "unclosed_quote",
            text(format!("{INVOICES}\n{}", invoice(year, "\"Hoitopäivä"))),
        ),
        (
            "rows of another period",
            notification,
            "whole_delivery_outside_period",
            text(good.replace(&format!(".01.{year};"), &format!(".02.{};", year - 1))),
        ),
        (
            "identity codes with wrong control characters",
            notification,
            "nothing_accepted",
            text(with_wrong_control(&good)),
        ),
        ("no bytes", notification, "empty", Vec::new()),
        (
            "NUL byte in a row",
            notification,
            "nul_byte",
            text(good.replacen(";K", ";\0K", 1)),
        ),
        (
            "bytes that are not UTF-8 after a byte order mark",
            "purchase_invoice_line",
            "invalid_utf8",
            latin_1_after_utf_8(year),
        ),
        (
            "identity code in free text",
            "purchase_invoice_line",
            "identity_code_in_text",
            text(format!(
                "{INVOICES}\n{}",
                invoice(
                    year,
                    &format!("Asiakas {}, hoitopäivä", identity_code(1950, 944))
                )
            )),
        ),
    ];
    let mut list = Vec::new();
    for (kind, dataset, rule, bytes) in files {
        let path = format!(
            "defects/{}/{dataset}_{code}_{period}.csv",
            kind.replace(' ', "_").to_lowercase()
        );
        let full = sink.path(&path)?;
        fs::write(&full, bytes).map_err(|source| SynthError::Write { path: full, source })?;
        list.push(RejectedFile {
            path,
            dataset: dataset.to_owned(),
            county: code.clone(),
            period,
            outcome: "refused".to_owned(),
            rule: rule.to_owned(),
            kind: kind.to_owned(),
        });
    }
    list.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(list)
}

/// Sixty good notifications under numbers that no other file has.
fn notifications(county: County, municipality: u16, year: i32) -> String {
    (0..60)
        .map(|n| {
            let code = identity_code(2010 + (n % 9) as i16, 900 + n as u16);
            let voided = if n % 9 == 0 { 'K' } else { 'E' };
            format!(
                "{county}-{year}01-X{n:04};{code};{municipality:03};{:02}.01.{year};{};{voided}\n",
                1 + n % 28,
                1 + n % 8
            )
        })
        .collect()
}

/// One good invoice line but for its description.
fn invoice(year: i32, description: &str) -> String {
    format!(
        "9000001-1;X-1;1;28.01.{year};YPA;;VRK;1,00;100,00;100,00;{year}01;4330;3200-20;3;{description}\n"
    )
}

/// A file that begins as UTF-8 and goes on as ISO-8859-1.
fn latin_1_after_utf_8(year: i32) -> Vec<u8> {
    let second = invoice(year, "Hoitopaiva").replacen("X-1;1;", "X-1;2;", 1);
    let mut bytes = [
        MARK,
        format!("{INVOICES}\n{}{second}", invoice(year, "Hoitopäivä")).as_bytes(),
    ]
    .concat();
    if let Some(place) = bytes.windows(4).rposition(|four| four == b"paiv") {
        bytes[place + 1] = 0xE4;
    }
    bytes
}

fn identity_code(year: i16, individual: u16) -> String {
    let code = Hetu::compose(Date::constant(year, 5, 17), individual, None);
    code.map(|hetu| {
        hetu.canonical()
            .iter()
            .map(|byte| char::from(*byte))
            .collect()
    })
    .unwrap_or_default()
}

fn without_last_column(text: &str) -> String {
    text.lines()
        .filter_map(|line| line.rsplit_once(';'))
        .map(|(kept, _)| format!("{kept}\n"))
        .collect()
}

/// Another control character in every identity code.
fn with_wrong_control(text: &str) -> String {
    let wrong = |line: &str| {
        let mut cells: Vec<String> = line.split(';').map(str::to_owned).collect();
        if let Some(code) = cells.get_mut(1) {
            let last = if code.pop() == Some('5') { '6' } else { '5' };
            code.push(last);
        }
        cells.join(";") + "\n"
    };
    text.lines()
        .enumerate()
        .map(|(n, line)| {
            if n == 0 {
                format!("{line}\n")
            } else {
                wrong(line)
            }
        })
        .collect()
}
