//! `tietopohja explain`: what a value is made of.

use std::path::Path;

use clap::Args;
use tietopohja_engine::{ExplainRequest, Explanation, Principal};

use crate::failure::Failure;
use crate::output::{print, print_json, text_grid};
use crate::warehouse::Warehouse;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The indicator
    id: String,
    /// The area: a municipality, county or collaboration area by code, or FI
    #[arg(long)]
    area: String,
    /// The period as values show it: 2024, 2024Q1, 2024-03
    #[arg(long)]
    period: String,
    /// The level, when a code is used on several
    #[arg(long, value_name = "LEVEL")]
    area_level: Option<String>,
    /// One output of the indicator
    #[arg(long)]
    output: Option<String>,
    /// A breakdown and its code, such as sex=female; else the total
    #[arg(long, value_name = "NAME=CODE", value_parser = pair)]
    by: Vec<(String, String)>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, code)| (name.to_owned(), code.to_owned()))
        .ok_or_else(|| "write NAME=CODE, such as sex=female".to_owned())
}

impl Explain {
    pub(crate) async fn run(self, folder: &Path) -> Result<(), Failure> {
        let engine = Warehouse::open(folder)?.engine().await?;
        let request = ExplainRequest {
            indicator: self.id,
            area: self.area,
            area_level: self.area_level,
            period: self.period,
            output: self.output,
            breakdowns: self.by,
        };
        let explanation = Box::pin(engine.explain(&Principal::local_admin(), &request)).await?;
        if self.json {
            print_json(&explanation)
        } else {
            print(&text(&explanation)?)
        }
    }
}

fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value}"))
}

fn table(names: &[&str], right: &[bool], rows: &[Vec<String>]) -> Result<String, Failure> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut out = Vec::new();
    text_grid(&mut out, &names, right, rows, false)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn text(explanation: &Explanation) -> Result<String, Failure> {
    let mut text = format!(
        "{} ({}), area {}, {}\ndefinition {} version {}\n\nvalues\n",
        explanation
            .title_fi
            .as_deref()
            .unwrap_or(&explanation.indicator),
        explanation.indicator,
        explanation.area,
        explanation.period,
        explanation.file,
        explanation.version
    );
    let values: Vec<Vec<String>> = explanation
        .values
        .iter()
        .map(|row| {
            let by: Vec<String> = row
                .breakdowns
                .iter()
                .map(|(name, code)| format!("{name}={code}"))
                .collect();
            vec![
                row.output.clone(),
                by.join(" "),
                figure(row.value),
                figure(row.numerator),
                figure(row.denominator),
                figure(row.lower),
                figure(row.upper),
                row.unit.clone(),
                format!("{}{}", row.obs_status, row.conf_status),
                row.run_id.clone(),
            ]
        })
        .collect();
    text.push_str(&table(
        &[
            "output",
            "by",
            "value",
            "numerator",
            "denominator",
            "lower",
            "upper",
            "unit",
            "status",
            "run",
        ],
        &[false, false, true, true, true, true, true],
        &values,
    )?);
    if !explanation.contributions.is_empty() {
        text.push_str("\ncomponents by delivery\n");
        let rows: Vec<Vec<String>> = explanation
            .contributions
            .iter()
            .map(|row| {
                let whole =
                    |value: Option<i64>| value.map_or_else(String::new, |value| value.to_string());
                vec![
                    row.component.clone(),
                    row.delivery_id
                        .clone()
                        .unwrap_or_else(|| "(reference data)".to_owned()),
                    whole(row.n),
                    whole(row.persons),
                    whole(row.waits),
                    row.x.map_or_else(String::new, |x| x.to_string()),
                ]
            })
            .collect();
        text.push_str(&table(
            &["component", "delivery", "n", "persons", "waits", "x"],
            &[false, false, true, true, true, true],
            &rows,
        )?);
    }
    if !explanation.deliveries.is_empty() {
        text.push_str("\ndeliveries\n");
        let rows: Vec<Vec<String>> = explanation
            .deliveries
            .iter()
            .map(|row| {
                vec![
                    row.delivery_id.clone(),
                    row.file_name.clone(),
                    row.content_hash.chars().take(12).collect(),
                    row.received.to_string(),
                    row.accepted.to_string(),
                    row.quarantined.to_string(),
                    row.landed_at.chars().take(16).collect(),
                ]
            })
            .collect();
        text.push_str(&table(
            &[
                "delivery",
                "file",
                "sha-256",
                "received",
                "accepted",
                "quarantined",
                "landed",
            ],
            &[false, false, false, true, true, true],
            &rows,
        )?);
    }
    Ok(text)
}
