//! `tietopohja plan` and `tietopohja calc`: what is stale, and computing it.

use std::path::Path;

use clap::Args;
use indicatif::ProgressBar;
use tietopohja_engine::{
    AloneReport, CalcProgress, CalcReport, CalcRequest, IndicatorOutcome, IndicatorResult,
    ScanReport,
};

use crate::commands::land::spinner;
use crate::failure::Failure;
use crate::output::{print, print_json, say, text_grid};
use crate::warehouse::Warehouse;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Indicators by id; none means all
    #[arg(value_name = "INDICATOR")]
    ids: Vec<String>,
    /// Show which components share a pass over a relation, and why others cannot
    #[arg(long)]
    explain: bool,
    /// A list of steps as JSON
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(crate) async fn run(self, folder: &Path) -> Result<(), Failure> {
        let engine = Warehouse::open(folder)?.engine().await?;
        engine.load_reference().await?;
        if self.explain {
            let (scans, alone) = Box::pin(engine.plan_scans(&self.ids)).await?;
            if self.json {
                return print_json(&serde_json::json!({ "scans": scans, "alone": alone }));
            }
            return print(&scans_text(&scans, &alone));
        }
        let steps = Box::pin(engine.plan_calc(&self.ids)).await?;
        if self.json {
            return print_json(&steps);
        }
        if steps.is_empty() {
            return print("nothing is stale");
        }
        let rows: Vec<Vec<String>> = steps
            .iter()
            .map(|step| {
                let reason = match step.reason {
                    tietopohja_engine::StaleReason::NeverComputed => "never computed",
                    tietopohja_engine::StaleReason::Changed => {
                        "its definition or its data has changed"
                    }
                };
                vec![step.id.clone(), reason.to_owned()]
            })
            .collect();
        let mut text = Vec::new();
        text_grid(
            &mut text,
            &["indicator".into(), "why".into()],
            &[],
            &rows,
            false,
        )?;
        print(&String::from_utf8_lossy(&text))
    }
}

/// A pass: over a relation, or its spells month by month, and how much of it when that is not all.
fn passed(scan: &ScanReport) -> String {
    let by_month = match (scan.spells, scan.marks) {
        (false, _) => "",
        (true, false) => " by month",
        (true, true) => " by month, as marks",
    };
    let over = format!("pass over {}{by_month}", scan.table);
    match scan.slices {
        Some(slices) if slices.read == 0 && slices.of > 0 => format!("no {over} (all is kept)"),
        Some(slices) if slices.read < slices.of => format!(
            "one {over} ({} of {} slices; the rest is kept)",
            slices.read, slices.of
        ),
        _ => format!("one {over}"),
    }
}

fn scans_text(scans: &[ScanReport], alone: &[AloneReport]) -> String {
    let mut text = String::new();
    for scan in scans {
        text.push_str(&format!(
            "{}: {} components, {} groupings, {} expressions\n",
            passed(scan),
            scan.components.len(),
            scan.groupings,
            scan.expressions
        ));
        for component in &scan.components {
            text.push_str(&format!("    {component}\n"));
        }
    }
    if !alone.is_empty() {
        text.push_str("queries of their own\n");
        for AloneReport { component, why } in alone {
            text.push_str(&format!("    {component}: {why}\n"));
        }
    }
    if text.is_empty() {
        text.push_str("nothing is stale");
    }
    text.trim_end().to_owned()
}

/// Arguments of `calc`.
#[derive(Debug, Args)]
pub(crate) struct Calc {
    /// Indicators by id; none means all
    #[arg(value_name = "INDICATOR")]
    ids: Vec<String>,
    /// Compute also what has not changed, and all of it anew
    #[arg(long)]
    full: bool,
    /// Compute each component by a query of its own: slower, with the same numbers
    #[arg(long)]
    one_by_one: bool,
    /// Show what would be computed and compute nothing
    #[arg(long)]
    dry_run: bool,
    /// The report as JSON
    #[arg(long)]
    json: bool,
}

impl Calc {
    pub(crate) async fn run(self, folder: &Path) -> Result<(), Failure> {
        if self.dry_run {
            return Box::pin(
                Plan {
                    ids: self.ids,
                    explain: false,
                    json: self.json,
                }
                .run(folder),
            )
            .await;
        }
        let engine = Warehouse::open(folder)?.engine().await?;
        let request = CalcRequest {
            ids: self.ids,
            full: self.full,
            one_by_one: self.one_by_one,
            trigger: "manual".to_owned(),
        };
        let report = Box::pin(compute(&engine, &request)).await?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&report_text(&report)?)?;
        }
        if report.failed() > 0 {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }
}

/// Loads reference data that changed, then computes.
pub(crate) async fn compute(
    engine: &std::sync::Arc<tietopohja_engine::Engine>,
    request: &CalcRequest,
) -> Result<CalcReport, Failure> {
    engine.load_reference().await?;
    let watcher = Watcher(spinner("computing"));
    let report = Box::pin(engine.calc(request, &watcher)).await?;
    watcher.0.finish_and_clear();
    for result in &report.indicators {
        if let IndicatorOutcome::Failed { message } = &result.outcome {
            say(&format!(
                "error: indicator `{}` was not computed: {message}",
                result.id
            ));
        }
    }
    Ok(report)
}

/// The report as lines for people.
pub(crate) fn report_text(report: &CalcReport) -> Result<String, Failure> {
    let rows: Vec<Vec<String>> = report
        .indicators
        .iter()
        .map(|result| {
            let outcome = match result.outcome {
                IndicatorOutcome::Computed => "computed",
                IndicatorOutcome::Unchanged => "unchanged",
                IndicatorOutcome::Failed { .. } => "FAILED",
            };
            vec![
                result.id.clone(),
                outcome.to_owned(),
                result.component_rows.to_string(),
                result.value_rows.to_string(),
                result.suppressed.to_string(),
                format!("{:.2}", result.seconds),
            ]
        })
        .collect();
    let names = [
        "indicator",
        "outcome",
        "components",
        "values",
        "hidden",
        "seconds",
    ]
    .map(str::to_owned);
    let mut text = Vec::new();
    text_grid(
        &mut text,
        &names,
        &[false, false, true, true, true, true],
        &rows,
        false,
    )?;
    let mut text = String::from_utf8_lossy(&text).into_owned();
    for fact in &report.facts {
        if let Some(why) = &fact.gave_way {
            text.push_str(&format!("{} read as a view: {why}\n", fact.relation));
        } else if fact.stored + fact.removed > 0 {
            text.push_str(&format!(
                "stored {} of {} slices of {}, {} rows: {:.2} s\n",
                fact.stored, fact.slices, fact.relation, fact.rows, fact.seconds
            ));
        }
    }
    for scan in &report.scans {
        text.push_str(&format!(
            "{} for {} components: {:.2} s{}\n",
            passed(scan),
            scan.components.len(),
            scan.seconds,
            how(scan)
        ));
    }
    text.push_str(&format!(
        "{} computed, {} unchanged, {} failed; {:.1} s\n",
        report.computed(),
        report.indicators.len() - report.computed() - report.failed(),
        report.failed(),
        report.seconds
    ));
    Ok(text)
}

/// What a pass met on its way.
fn how(scan: &ScanReport) -> String {
    if scan.gave_way.is_some() {
        return ", given up for queries of their own".to_owned();
    }
    let mut text = String::new();
    if scan.parts > 1 {
        text.push_str(&format!(", in {} parts to fit in memory", scan.parts));
    }
    if scan.spilled_bytes > 0 {
        let mib = scan.spilled_bytes.div_ceil(1 << 20);
        text.push_str(&format!(", {mib} MiB of what it found waited on disk"));
    }
    text
}

struct Watcher(ProgressBar);

impl CalcProgress for Watcher {
    fn started(&self, id: &str, number: usize, total: usize) {
        self.0.set_message(format!("of {total}: {id}"));
        self.0.set_position(number as u64);
    }

    fn storing(&self, relation: &str) {
        self.0.set_message(format!("storing {relation}"));
    }

    fn scanning(&self, table: &str) {
        self.0.set_message(format!("reading {table}"));
    }

    fn finished(&self, _result: &IndicatorResult) {}
}
