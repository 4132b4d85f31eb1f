//! `tietopohja indicator`: the indicators, their definitions, SQL and checks.

use std::path::Path;

use clap::Subcommand;
use serde::Serialize;
use tietopohja_engine::CheckStatus;
use tietopohja_indicators::{Indicator as Definition, Language};

use crate::failure::Failure;
use crate::output::{print, print_json, say, text_grid};
use crate::warehouse::Warehouse;

/// Subcommands of `indicator`.
#[derive(Debug, Subcommand)]
pub(crate) enum Indicator {
    /// Every indicator on a line
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One indicator: what it means, for whom, from what
    Show {
        /// Its id
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The SQL that an indicator becomes
    Sql {
        /// Its id
        id: String,
    },
    /// Compare published values with the hand-written check queries; without ids, all
    Check {
        /// Indicators by id
        ids: Vec<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Summary<'a> {
    id: &'a str,
    version: &'a str,
    kind: String,
    codes: &'a [String],
    title_fi: &'a str,
    title_sv: &'a str,
    title_en: &'a str,
    definition_fi: &'a str,
    outputs: Vec<&'a str>,
    units: Vec<&'a str>,
    levels: Vec<String>,
    grains: Vec<String>,
    breakdowns: Vec<&'a str>,
    tables: Vec<&'a str>,
    contracts: Vec<&'a str>,
    disclosure: &'a str,
    file: &'a str,
}

impl<'a> Summary<'a> {
    fn of(indicator: &'a Definition) -> Self {
        let title = |language| {
            indicator
                .text(language)
                .map(|text| text.title.as_str())
                .unwrap_or_default()
        };
        Self {
            id: indicator.id(),
            version: indicator.version(),
            kind: indicator.kind().as_str().to_owned(),
            codes: indicator.catalogue_codes(),
            title_fi: title(Language::Fi),
            title_sv: title(Language::Sv),
            title_en: title(Language::En),
            definition_fi: indicator
                .text(Language::Fi)
                .and_then(|text| text.definition.as_deref())
                .unwrap_or_default(),
            outputs: indicator
                .outputs()
                .iter()
                .map(|output| output.name())
                .collect(),
            units: indicator
                .outputs()
                .iter()
                .map(|output| output.unit())
                .collect(),
            levels: indicator
                .levels()
                .iter()
                .map(|level| level.as_str().to_owned())
                .collect(),
            grains: indicator
                .grains()
                .iter()
                .map(|grain| grain.as_str().to_owned())
                .collect(),
            breakdowns: indicator
                .breakdowns()
                .iter()
                .map(|breakdown| breakdown.name.as_str())
                .collect(),
            tables: indicator.tables(),
            contracts: indicator.contracts(),
            disclosure: indicator.disclosure_profile(),
            file: indicator.file(),
        }
    }
}

impl Indicator {
    pub(crate) async fn run(self, folder: &Path) -> Result<(), Failure> {
        let engine = Warehouse::open(folder)?.engine().await?;
        let catalogue = engine.catalogue().await?;
        let find = |id: &str| {
            catalogue.get(id).ok_or_else(|| {
                let close = catalogue
                    .suggest(id)
                    .map(|close| format!("; did you mean `{close}`?"))
                    .unwrap_or_default();
                Failure::expected(format!(
                    "there is no indicator `{id}`{close} (`tietopohja indicator list` shows all)"
                ))
            })
        };
        match self {
            Indicator::List { json } => {
                let all: Vec<Summary<'_>> =
                    catalogue.indicators().iter().map(Summary::of).collect();
                if json {
                    print_json(&all)
                } else {
                    print(&list(&all)?)
                }
            }
            Indicator::Show { id, json } => {
                let summary = Summary::of(find(&id)?);
                if json {
                    print_json(&summary)
                } else {
                    print(&show(&summary))
                }
            }
            Indicator::Sql { id } => {
                let compiled = catalogue.compile(find(&id)?);
                let mut text = String::new();
                for component in &compiled.components {
                    text.push_str(&format!(
                        "-- component {}\n{};\n\n",
                        component.name,
                        component.sql.trim_end()
                    ));
                }
                text.push_str(&format!("-- values\n{};\n", compiled.value_sql.trim_end()));
                print(&text)
            }
            Indicator::Check { ids, json } => {
                let outcomes = Box::pin(engine.check(&ids)).await?;
                if json {
                    print_json(&outcomes)?;
                } else {
                    let rows: Vec<Vec<String>> = outcomes
                        .iter()
                        .map(|outcome| {
                            vec![
                                outcome.indicator.clone(),
                                outcome.status.as_str().to_owned(),
                                outcome.compared.to_string(),
                                outcome.mismatched.to_string(),
                                outcome.missing.to_string(),
                                outcome.unexpected.to_string(),
                                format!("{:.2}", outcome.seconds),
                            ]
                        })
                        .collect();
                    let names = [
                        "indicator",
                        "check",
                        "compared",
                        "different",
                        "missing",
                        "unexpected",
                        "seconds",
                    ]
                    .map(str::to_owned);
                    let mut text = Vec::new();
                    text_grid(
                        &mut text,
                        &names,
                        &[false, false, true, true, true, true, true],
                        &rows,
                        false,
                    )?;
                    print(&String::from_utf8_lossy(&text))?;
                }
                for outcome in outcomes.iter().filter(|outcome| !outcome.agrees()) {
                    if let Some(message) = &outcome.message {
                        say(&format!("{}: {message}", outcome.indicator));
                    }
                    for found in &outcome.mismatches {
                        let show = |value: Option<f64>| {
                            value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
                        };
                        say(&format!(
                            "{}: {} {}: computed {}, check says {}",
                            outcome.indicator,
                            found.key,
                            found.column,
                            show(found.computed),
                            show(found.expected)
                        ));
                    }
                }
                let good = |status: CheckStatus| status == CheckStatus::Agrees;
                if outcomes.iter().all(|outcome| good(outcome.status)) {
                    Ok(())
                } else {
                    Err(Failure::Reported)
                }
            }
        }
    }
}

fn list(all: &[Summary<'_>]) -> Result<String, Failure> {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|summary| {
            vec![
                summary.id.to_owned(),
                summary.codes.join(" "),
                summary.kind.clone(),
                summary.grains.join(" "),
                summary.title_en.to_owned(),
            ]
        })
        .collect();
    let names = ["indicator", "code", "kind", "periods", "title"].map(str::to_owned);
    let mut text = Vec::new();
    text_grid(&mut text, &names, &[], &rows, false)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn show(summary: &Summary<'_>) -> String {
    let line = |name: &str, text: String| {
        if text.is_empty() {
            String::new()
        } else {
            format!("{name:<12} {text}\n")
        }
    };
    let outputs: Vec<String> = summary
        .outputs
        .iter()
        .zip(&summary.units)
        .map(|(name, unit)| format!("{name} ({unit})"))
        .collect();
    [
        format!("{} {}\n\n", summary.id, summary.version),
        line("fi", summary.title_fi.to_owned()),
        line("sv", summary.title_sv.to_owned()),
        line("en", summary.title_en.to_owned()),
        line("definition", summary.definition_fi.to_owned()),
        line("code", summary.codes.join(", ")),
        line("kind", summary.kind.clone()),
        line("outputs", outputs.join(", ")),
        line("levels", summary.levels.join(", ")),
        line("periods", summary.grains.join(", ")),
        line("breakdowns", summary.breakdowns.join(", ")),
        line("tables", summary.tables.join(", ")),
        line("deliveries", summary.contracts.join(", ")),
        line("disclosure", summary.disclosure.to_owned()),
        line("file", summary.file.to_owned()),
    ]
    .concat()
}
