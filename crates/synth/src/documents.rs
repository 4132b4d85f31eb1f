//! National documents: public texts given as input, copied out as deliveries of the whole country.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use tietopohja_domain::County;

use crate::error::SynthError;
use crate::inputs::{ReferenceInputs, Table};
use crate::manifest::decimal_text;
use crate::sink::{Period, Sink};

const BUDGETS: [&str; 2] = ["budget_year", "toimintamenot_meur"];
const DOCUMENT: [&str; 2] = ["raportointikausi", "arvo"];

/// Writes `finance_htas` (one document per budget year) and `finance_ktas`.
pub(crate) fn write(inputs: &ReferenceInputs<'_>, sink: &Sink<'_>) -> Result<(), SynthError> {
    let budgets = Table::new("htas_budgets", inputs.htas_budgets, &BUDGETS)?;
    split_by_year(
        &budgets,
        inputs.htas_budgets,
        sink,
        ("finance_htas", "operating_expenses_meur", 3),
    )?;
    let document = Table::new("ktas_document", inputs.ktas_document, &DOCUMENT)?;
    split_by_year(
        &document,
        inputs.ktas_document,
        sink,
        ("finance_ktas", "value", 2),
    )
}

/// The number of documents that [`write`] writes.
pub(crate) fn count(inputs: &ReferenceInputs<'_>) -> Result<usize, SynthError> {
    let mut documents = 0;
    for table in [
        Table::new("htas_budgets", inputs.htas_budgets, &BUDGETS)?,
        Table::new("ktas_document", inputs.ktas_document, &DOCUMENT)?,
    ] {
        let years = table
            .rows()
            .map(|row| row?.number(0))
            .collect::<Result<BTreeSet<i32>, SynthError>>()?;
        documents += years.len();
    }
    Ok(documents)
}

/// Copies the lines of each year, the first asked column, into a file of that year.
fn split_by_year(
    table: &Table<'_>,
    text: &str,
    sink: &Sink<'_>,
    (dataset, amount, scale): (&str, &str, u32),
) -> Result<(), SynthError> {
    let header = text.lines().next().unwrap_or_default();
    let mut years: BTreeMap<i32, (String, u64, i128)> = BTreeMap::new();
    for row in table.rows() {
        let row = row?;
        let (lines, rows, sum) = years
            .entry(row.number(0)?)
            .or_insert_with(|| (format!("{header}\n"), 0, 0));
        lines.push_str(row.text());
        lines.push('\n');
        *rows += 1;
        *sum += row.decimal(1, scale)?;
    }
    for (year, (lines, rows, sum)) in years {
        let mut entry = sink.entry(dataset, County::NATIONAL, Period::Year(year));
        entry.rows = rows;
        entry.accepted = rows;
        entry.bytes = lines.len() as u64;
        entry
            .sums
            .insert(amount.to_owned(), decimal_text(sum, scale));
        let path = sink.path(&entry.path)?;
        fs::write(&path, lines).map_err(|source| SynthError::Write { path, source })?;
        sink.finished(entry)?;
    }
    Ok(())
}
