//! `tietopohja land`: source files into the lake.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tietopohja_domain::{County, DeliveryPeriod};
use tietopohja_ingest::{
    Intake, LandError, LandLimits, LandRequest, Outcome, Progress, Receipt, land_many,
};
use tietopohja_lake::{Lake, LakeError, TableName};

use crate::failure::{Failure, chain};
use crate::output::{print, print_json, say};
use crate::sql_checks::SqlChecks;
use crate::warehouse::Warehouse;

/// Arguments of `land`.
#[derive(Debug, Args)]
pub(crate) struct Land {
    /// The contract the files are checked against
    contract: String,
    /// CSV, XLSX, NDJSON or Parquet, plain or compressed with gzip or zstd
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The organiser, 01 to 21, 90, or FI; else as the file's name says
    #[arg(long, value_parser = |text: &str| County::parse(text))]
    county: Option<County>,
    /// The period, such as 2024-03 or 2024; else as the file's name says
    #[arg(long, value_parser = |text: &str| DeliveryPeriod::parse(text))]
    period: Option<DeliveryPeriod>,
    /// The sender's revision number; else the next one
    #[arg(long)]
    revision: Option<i64>,
    /// Check everything and commit nothing
    #[arg(long)]
    dry_run: bool,
    /// Land although the contract holds the delivery for approval
    #[arg(long)]
    approve: bool,
    /// Print receipts as JSON
    #[arg(long)]
    json: bool,
    /// Files landed at the same time
    #[arg(long, value_name = "N")]
    at_once: Option<usize>,
}

impl Land {
    pub(crate) async fn run(self, folder: &Path) -> Result<(), Failure> {
        let warehouse = Warehouse::open(folder)?;
        let contract = warehouse.contract(&self.contract)?;
        let requests = self
            .files
            .iter()
            .map(|file| LandRequest {
                county: self.county,
                period: self.period,
                revision: self.revision,
                dry_run: self.dry_run,
                approve_held: self.approve,
                identity_codes: warehouse.settings.landing.identity_codes.into(),
                ..LandRequest::new(contract.clone(), warehouse.lists.clone(), file)
            })
            .collect();
        let results = Box::pin(land_all(&warehouse, requests, self.at_once)).await?;
        let mut stopped = 0;
        let mut receipts = Vec::new();
        for result in results {
            match result {
                Ok(receipt) => {
                    stopped += usize::from(receipt.outcome == Outcome::Held);
                    receipts.push(receipt);
                }
                Err(error) => {
                    stopped += 1;
                    say(&format!("error: {}", chain(&error)));
                }
            }
        }
        if self.json {
            print_json(&receipts)?;
        } else {
            receipts
                .iter()
                .try_for_each(|receipt| print(&receipt.to_string()))?;
        }
        if stopped > 0 {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }
}

/// Lands requests with a bound on how many run at once, shows progress, and keeps the logs short.
pub(crate) async fn land_all(
    warehouse: &Warehouse,
    requests: Vec<LandRequest>,
    at_once: Option<usize>,
) -> Result<Vec<Result<Receipt, LandError>>, Failure> {
    let keys = warehouse.keys()?;
    let at_once = at_once.unwrap_or(warehouse.settings.landing.at_once).max(1);
    let tables: BTreeSet<String> = requests
        .iter()
        .filter(|request| !request.dry_run)
        .map(|request| request.contract.name().to_owned())
        .collect();
    let checks = Box::pin(SqlChecks::of(warehouse, &requests)).await?;
    let bars = Bars::new(requests.len());
    let intake = Intake {
        lake: &warehouse.lake,
        keys: &keys,
        clock: warehouse.clock.as_ref(),
        checks: checks.as_ref().map(|checks| checks as _),
    };
    let results = Box::pin(land_many(
        intake,
        requests,
        at_once,
        &LandLimits::default(),
        &bars,
    ))
    .await;
    bars.finish();
    // What has landed has landed, whatever becomes of this.
    if let Err(error) = keep_short(&warehouse.lake, &tables).await {
        say(&format!(
            "warning: the logs of the lake could not be shortened, which the next landing tries again; nothing is lost: {}",
            chain(&error)
        ));
    }
    Ok(results)
}

/// Folds what grew by landing into these tables.
async fn keep_short(lake: &Lake, tables: &BTreeSet<String>) -> Result<(), LakeError> {
    for table in tables {
        lake.maintain(&TableName::new("raw", table)?).await?;
        lake.maintain(&TableName::new("reject", table)?).await?;
    }
    let ledger = TableName::new("meta", "delivery")?;
    lake.fold(&ledger).await?;
    lake.maintain(&ledger).await
}

/// A bar without a length, hidden where nobody looks.
pub(crate) fn spinner(text: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {prefix}: {pos} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::new_spinner()
        .with_style(style)
        .with_prefix(text.to_owned())
}

/// One bar for each file under way, on a terminal only.
struct Bars {
    all: Option<MultiProgress>,
    open: Mutex<BTreeMap<String, ProgressBar>>,
    files: usize,
}

impl Bars {
    fn new(files: usize) -> Self {
        Self {
            all: std::io::stderr().is_terminal().then(MultiProgress::new),
            open: Mutex::default(),
            files,
        }
    }

    fn finish(&self) {
        if let Some(all) = &self.all {
            let _ = all.clear();
        }
    }
}

impl Progress for Bars {
    fn bytes(&self, file: &str, done: u64, total: u64) {
        let (Some(all), Ok(mut open)) = (&self.all, self.open.lock()) else {
            return;
        };
        let bar = open.entry(file.to_owned()).or_insert_with(|| {
            let style = ProgressStyle::with_template(
                "{msg:32!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            all.add(
                ProgressBar::new(total)
                    .with_style(style)
                    .with_message(file.to_owned()),
            )
        });
        bar.set_position(done);
        if done >= total && self.files > 1 {
            bar.finish_and_clear();
        }
    }

    fn committing(&self, file: &str) {
        if let Ok(mut open) = self.open.lock()
            && let Some(bar) = open.remove(file)
        {
            bar.finish_and_clear();
        }
    }
}
