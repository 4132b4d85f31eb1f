//! `tietopohja reference PAGE`: pages of the reference documentation, made from the program itself.

use std::fmt::Write;

use clap::{Args, ValueEnum};
use tietopohja_contract::{Contract, ServiceLevel};
use tietopohja_indicators::Language;

use crate::commands::init;
use crate::failure::Failure;
use crate::output::print;
use crate::settings;
use crate::warehouse::Warehouse;

/// Arguments of `reference`.
#[derive(Debug, Args)]
pub(crate) struct Reference {
    page: Page,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Page {
    /// Every command and its arguments
    Cli,
    /// Every indicator
    Indicators,
    /// Every contract
    Contracts,
    /// Every setting
    Settings,
}

impl Reference {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.page {
            Page::Cli => print(&command_page()),
            Page::Settings => print(&format!(
                "# Settings\n\n`{}` in the warehouse folder, as `tietopohja init` writes it:\n\n```toml\n{}```\n",
                settings::FILE,
                settings::TEMPLATE
            )),
            Page::Indicators => {
                let scratch = tempfile::tempdir()?;
                init::make(scratch.path())?;
                let engine = Warehouse::open(scratch.path())?.engine().await?;
                let catalogue = engine.catalogue().await?;
                print(&indicator_page(&catalogue))
            }
            Page::Contracts => {
                let scratch = tempfile::tempdir()?;
                init::make(scratch.path())?;
                print(&contract_page(&Warehouse::open(scratch.path())?))
            }
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn command_page() -> String {
    let mut page = String::from(
        "# Commands\n\nData goes to standard output, everything else to standard error. Exit codes: 0 done, 1 expected failure (bad data, failed check, not found), 2 usage or internal, 130 interrupted.\n",
    );
    let mut root = crate::command_line();
    root.build();
    let mut queue = vec![(root, String::new())];
    while let Some((command, parents)) = queue.pop() {
        let name = format!("{parents}{}", command.get_name());
        let _ = write!(
            page,
            "\n## {name}\n\n{}\n\n",
            command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default()
        );
        let arguments: Vec<_> = command
            .get_arguments()
            .filter(|argument| {
                !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
            })
            .collect();
        if !arguments.is_empty() {
            page.push_str("| argument | meaning | default |\n|---|---|---|\n");
            for argument in arguments {
                let value = argument
                    .get_value_names()
                    .unwrap_or_default()
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(" ");
                let shown = match (argument.get_long(), argument.get_short()) {
                    (Some(long), Some(short)) => format!("-{short}, --{long}"),
                    (Some(long), None) => format!("--{long}"),
                    (None, Some(short)) => format!("-{short}"),
                    (None, None) => String::new(),
                };
                let takes = argument.get_action().takes_values();
                let shown = if shown.is_empty() {
                    value
                } else if takes {
                    format!("{shown} {value}")
                } else {
                    shown
                };
                let default = argument
                    .get_default_values()
                    .iter()
                    .map(|value| value.to_string_lossy().into_owned())
                    .collect::<Vec<_>>()
                    .join(" ");
                let help = argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                let _ = writeln!(
                    page,
                    "| `{}` | {} | {} |",
                    cell(&shown),
                    cell(&help),
                    if default.is_empty() || !takes {
                        String::new()
                    } else {
                        format!("`{}`", cell(&default))
                    }
                );
            }
        }
        let children: Vec<_> = command
            .get_subcommands()
            .filter(|child| !child.is_hide_set() && child.get_name() != "help")
            .cloned()
            .collect();
        queue.extend(
            children
                .into_iter()
                .rev()
                .map(|child| (child, format!("{name} "))),
        );
    }
    page
}

fn indicator_page(catalogue: &tietopohja_indicators::Catalogue) -> String {
    let mut page = format!(
        "# Indicators\n\n{} indicators are shipped. `tietopohja indicator show ID` tells more, `tietopohja indicator sql ID` prints the SQL of one.\n\n| indicator | code | kind | outputs (unit) | levels | periods | breakdowns | title |\n|---|---|---|---|---|---|---|---|\n",
        catalogue.indicators().len()
    );
    for indicator in catalogue.indicators() {
        let title = |language| {
            indicator
                .text(language)
                .map(|text| text.title.clone())
                .unwrap_or_default()
        };
        let outputs: Vec<String> = indicator
            .outputs()
            .iter()
            .map(|output| format!("{} ({})", output.name(), output.unit()))
            .collect();
        let levels: Vec<&str> = indicator
            .levels()
            .iter()
            .map(|level| level.as_str())
            .collect();
        let grains: Vec<&str> = indicator
            .grains()
            .iter()
            .map(|grain| grain.as_str())
            .collect();
        let breakdowns: Vec<&str> = indicator
            .breakdowns()
            .iter()
            .map(|breakdown| breakdown.name.as_str())
            .collect();
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} / *{}* |",
            indicator.id(),
            indicator.catalogue_codes().join(" "),
            indicator.kind().as_str(),
            cell(&outputs.join(", ")),
            levels.join(", "),
            grains.join(", "),
            breakdowns.join(", "),
            cell(&title(Language::Fi)),
            cell(&title(Language::En))
        );
    }
    page
}

fn contract_page(warehouse: &Warehouse) -> String {
    let mut page = format!(
        "# Contracts\n\n{} source tables. The contracts themselves are ODCS 3.1 files in `definitions/contracts/`.\n",
        warehouse.contracts.len()
    );
    for contract in warehouse.contracts.values() {
        let key: Vec<&str> = contract.key().iter().map(AsRef::as_ref).collect();
        let _ = write!(
            page,
            "\n## {} {}\n\n{} {}. Delivered as {}; key: {}. Terms: {}.\n\n| column | header in the file | type | required | code list | meaning |\n|---|---|---|---|---|---|\n",
            contract.name(),
            contract.version(),
            contract.purpose(),
            contract.granularity(),
            contract.mode().as_str(),
            key.join(", "),
            terms(contract)
        );
        for property in contract.properties() {
            let _ = writeln!(
                page,
                "| `{}` | `{}` | {} | {} | {} | {} |",
                property.name(),
                property.header(),
                cell(property.physical_type()),
                if property.required() { "yes" } else { "" },
                property.code_list().unwrap_or_default(),
                cell(property.description_en())
            );
        }
        if !contract.sql_checks().is_empty() {
            page.push_str("\nSQL checks over the accepted rows of a delivery:\n\n");
        }
        for check in contract.sql_checks() {
            let what = check.description.as_deref().unwrap_or_default();
            let _ = writeln!(page, "* `{}` ({}): {what}", check.id, check.action);
        }
    }
    page
}

/// The terms of delivery in words: `frequency 1 month, latency 10 days`.
fn terms(contract: &Contract) -> String {
    let in_words = |level: &ServiceLevel| {
        let unit = match level.unit.as_str() {
            "d" => "day",
            "m" => "month",
            _ => "year",
        };
        let many = if level.value == 1.0 { "" } else { "s" };
        format!("{} {} {unit}{many}", level.property, level.value)
    };
    let levels: Vec<String> = contract.service_levels().iter().map(in_words).collect();
    levels.join(", ")
}
