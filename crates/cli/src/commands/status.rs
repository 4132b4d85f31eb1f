//! `tietopohja status`: one screen.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use tietopohja_engine::{ExpectedDelivery, OutlivedDelivery};

use crate::failure::Failure;
use crate::output::{print, print_json, text_grid};
use crate::warehouse::Warehouse;

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) async fn run(self, folder: &Path) -> Result<(), Failure> {
        let engine = Warehouse::open(folder)?.engine().await?;
        let status = Box::pin(engine.status()).await?;
        if self.json {
            return print_json(&status);
        }
        let mut text = Vec::new();
        if status.contracts.is_empty() {
            text.extend_from_slice(b"nothing has landed yet: `tietopohja land CONTRACT FILE`\n");
        } else {
            let rows: Vec<Vec<String>> = status
                .contracts
                .iter()
                .map(|row| {
                    vec![
                        row.contract.clone(),
                        row.counties.to_string(),
                        row.deliveries.to_string(),
                        row.received.to_string(),
                        row.quarantined.to_string(),
                        row.covers_from.clone().unwrap_or_default(),
                        row.covers_to.clone().unwrap_or_default(),
                        row.landed_at
                            .clone()
                            .unwrap_or_default()
                            .chars()
                            .take(16)
                            .collect(),
                    ]
                })
                .collect();
            let names = [
                "contract",
                "counties",
                "deliveries",
                "rows",
                "quarantined",
                "from",
                "to",
                "last landed",
            ]
            .map(str::to_owned);
            text_grid(
                &mut text,
                &names,
                &[false, true, true, true, true],
                &rows,
                false,
            )?;
        }
        let mut text = String::from_utf8_lossy(&text).into_owned();
        text.push_str(&late(&status.next_deliveries));
        text.push_str(&outlived(&status.past_retention));
        text.push_str(&format!(
            "\n{} indicators, {} published values ({} hidden), {} reference tables\n",
            status.indicators, status.values, status.suppressed, status.reference_tables
        ));
        match &status.last_run {
            Some(run) => text.push_str(&format!(
                "last run {}: {}, {} ({})\n",
                run.run_id,
                run.status,
                run.finished_at.as_deref().unwrap_or("not finished"),
                run.trigger
            )),
            None => text.push_str("nothing has been computed yet: `tietopohja calc`\n"),
        }
        for check in &status.failing_checks {
            text.push_str(&format!(
                "check of `{}`: {} (see `tietopohja indicator check {}`)\n",
                check.indicator, check.status, check.indicator
            ));
        }
        for problem in &status.problems {
            text.push_str(&format!("problem: {problem}\n"));
        }
        print(&text)
    }
}

/// What is late, one line for each contract and period.
fn late(deliveries: &[ExpectedDelivery]) -> String {
    let mut groups: BTreeMap<(&str, &str), (&ExpectedDelivery, Vec<&str>)> = BTreeMap::new();
    for delivery in deliveries.iter().filter(|delivery| delivery.days_late > 0) {
        groups
            .entry((&delivery.contract, &delivery.next_period))
            .or_insert_with(|| (delivery, Vec::new()))
            .1
            .push(&delivery.county);
    }
    let mut text = String::new();
    for ((contract, period), (delivery, counties)) in groups {
        let days = delivery.days_late;
        text.push_str(&format!(
            "\nlate: `{contract}` for {period}, due {}, {days} {} ago: {}",
            delivery.due,
            if days == 1 { "day" } else { "days" },
            counties.join(", ")
        ));
    }
    if !text.is_empty() {
        text.push_str("\n  help: ask these organisers for the extract, then `tietopohja land CONTRACT FILE`\n");
    }
    text
}

/// What is older than its retention, one line for each contract.
fn outlived(deliveries: &[OutlivedDelivery]) -> String {
    let mut groups: BTreeMap<&str, Vec<&OutlivedDelivery>> = BTreeMap::new();
    for delivery in deliveries {
        groups.entry(&delivery.contract).or_default().push(delivery);
    }
    let mut text = String::new();
    for (contract, deliveries) in groups {
        let count = deliveries.len();
        let oldest = deliveries.iter().map(|delivery| &delivery.covers_to).min();
        text.push_str(&format!(
            "\nolder than its retention: `{contract}`, {count} {}, the oldest to {}",
            if count == 1 { "delivery" } else { "deliveries" },
            oldest.map_or("", String::as_str)
        ));
    }
    if !text.is_empty() {
        text.push_str("\n  help: decide whether they are still needed; `tietopohja status --json` lists them, and nothing is deleted by itself\n");
    }
    text
}
