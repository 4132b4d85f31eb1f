//! `tietopohja status`: one screen.

use std::path::Path;

use clap::Args;

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
