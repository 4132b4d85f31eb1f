//! `tietopohja demo`: the whole chain on synthetic extracts and public reference data.

use std::path::{Path, PathBuf};

use clap::Args;
use tietopohja_domain::{Clock, Date};
use tietopohja_engine::{CalcRequest, Principal};
use tietopohja_ingest::{LandRequest, Outcome};
use tietopohja_synth::{Manifest, SynthPlan};

use crate::clock::{SystemClock, seconds_since};
use crate::commands::{calc, init, land, serve, synth};
use crate::failure::{Failure, chain};
use crate::output::{Form, print, say, write_stream};
use crate::warehouse::Warehouse;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The warehouse folder to make
    #[arg(
        long = "dir",
        id = "demo_dir",
        value_name = "DIR",
        default_value = "demo"
    )]
    folder: PathBuf,
    /// 1 is one county of 200 000 residents for three years
    #[arg(long, default_value_t = 0.1)]
    scale: f64,
    /// The same seed gives the same extracts
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End when the numbers are published, instead of serving them
    #[arg(long)]
    once: bool,
}

/// The day the demo's extracts are from: fixed, so that every run makes the same files.
const TODAY: Date = Date::constant(2026, 3, 1);

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let started = SystemClock.now();
        let files = init::make(&self.folder)?;
        print(&format!(
            "1 warehouse   `{}`, {files} files",
            self.folder.display()
        ))?;

        let extracts = self.folder.join("extracts");
        let plan = SynthPlan::new(self.scale, self.seed, TODAY);
        let step = SystemClock.now();
        let manifest = tokio::task::block_in_place(|| synth::write(&plan, &extracts))?;
        print(&format!(
            "2 extracts    {} files, {} rows, {:.1} MB, {} planted defects in rows and {} in deliveries; {:.1} s",
            manifest.files.len(),
            manifest.rows(),
            manifest.bytes() as f64 / 1e6,
            manifest.defects(),
            manifest.findings(),
            seconds_since(step)
        ))?;

        let warehouse = Warehouse::open(&self.folder)?;
        let step = SystemClock.now();
        Box::pin(land_manifest(&warehouse, &manifest, &extracts, step)).await?;

        let step = SystemClock.now();
        let engine = warehouse.engine().await?;
        let reference = Box::pin(engine.load_reference()).await?;
        print(&format!(
            "4 reference   {} tables, {} rows; {:.1} s",
            reference.tables.len(),
            reference.rows(),
            seconds_since(step)
        ))?;

        let request = CalcRequest {
            ids: Vec::new(),
            full: false,
            one_by_one: false,
            trigger: "demo".to_owned(),
        };
        let report = Box::pin(calc::compute(&engine, &request)).await?;
        let values: u64 = report
            .indicators
            .iter()
            .map(|result| result.value_rows)
            .sum();
        let hidden: u64 = report
            .indicators
            .iter()
            .map(|result| result.suppressed)
            .sum();
        print(&format!(
            "5 indicators  {} computed, {} unchanged, {} failed: {values} values, {hidden} hidden; {:.1} s",
            report.computed(),
            report.indicators.len() - report.computed() - report.failed(),
            report.failed(),
            report.seconds
        ))?;
        print(&format!("done in {:.0} s\n", seconds_since(started)))?;

        let session = Box::pin(engine.session(&Principal::local_admin())).await?;
        for (title, query) in GLIMPSES {
            print(title)?;
            let rows = Box::pin(session.query(query)).await?;
            let schema = rows.schema();
            let rows = futures::StreamExt::map(rows, |batch| {
                batch.map_err(tietopohja_engine::EngineError::from_datafusion)
            });
            Box::pin(write_stream(schema, rows, Form::Table)).await?;
            print("")?;
        }
        print(&next_steps(&self.folder))?;
        if report.failed() > 0 {
            return Err(Failure::Reported);
        }
        if self.once {
            Ok(())
        } else {
            Box::pin(serve::Serve::default().run(&self.folder)).await
        }
    }
}

/// Lands every file of a manifest, contract by contract.
async fn land_manifest(
    warehouse: &Warehouse,
    manifest: &Manifest,
    extracts: &Path,
    step: tietopohja_domain::Timestamp,
) -> Result<(), Failure> {
    let mut requests = Vec::new();
    for file in &manifest.files {
        requests.push(LandRequest {
            identity_codes: warehouse.settings.landing.identity_codes.into(),
            ..LandRequest::new(
                warehouse.contract(&file.dataset)?,
                warehouse.lists.clone(),
                extracts.join(&file.path),
            )
        });
    }
    let results = Box::pin(land::land_all(warehouse, requests, None)).await?;
    let (mut received, mut accepted, mut quarantined, mut again, mut refused) = (0, 0, 0, 0, 0);
    let mut findings = 0;
    for result in &results {
        match result {
            Ok(receipt) => {
                received += receipt.received;
                accepted += receipt.accepted;
                quarantined += receipt.quarantined;
                findings += receipt.findings.len();
                again += usize::from(receipt.outcome == Outcome::AlreadyLanded);
            }
            Err(error) => {
                refused += 1;
                say(&format!("error: {}", chain(error)));
            }
        }
    }
    print(&format!(
        "3 landed      {} deliveries ({again} were there already): {received} rows received = {accepted} accepted + {quarantined} quarantined, {findings} findings; {:.1} s",
        results.len() - refused,
        seconds_since(step)
    ))?;
    if refused > 0 {
        Err(Failure::expected(format!("{refused} files were refused")))
    } else {
        Ok(())
    }
}

const GLIMPSES: &[(&str, &str)] = &[
    (
        "Need for services, whole country = 1 (THL's model, real data)",
        "SELECT v.area, c.name_fi AS county, round(v.value, 4) AS coefficient
         FROM published.indicator_value v JOIN reference.county c ON c.county_code = v.area
         WHERE v.indicator = 'need.service_need' AND v.output = 'factor_total' AND v.area_level = 'county' AND v.period = '2023'
         ORDER BY v.value DESC LIMIT 5",
    ),
    (
        "Some indicators of the newest whole year (synthetic extracts, real population)",
        "SELECT v.indicator, v.output, v.area, v.period, round(v.value, 2) AS value, v.unit
         FROM published.indicator_value v
         WHERE v.area_level = 'county' AND v.period_grain = 'year' AND v.value IS NOT NULL
           AND v.indicator IN ('lasu.notifications_per_1000', 'iakkaat.housing_24h_75_pct', 'hr.sickness_days_per_htv',
                               'ostot.purchased_care_day_share', 'talous.net_cost_per_inhabitant', 'lasu.placed_0_17_pct')
           AND v.sex IS NULL AND v.task_group IS NULL AND v.service_code IS NULL
           AND v.area = (SELECT max(area) FROM published.indicator_value WHERE indicator = 'lasu.placed_0_17_pct' AND area_level = 'county' AND value IS NOT NULL)
           AND v.period = (SELECT max(period) FROM published.indicator_value WHERE indicator = 'lasu.placed_0_17_pct' AND value IS NOT NULL)
         ORDER BY v.indicator",
    ),
];

fn next_steps(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Look around:\n  tietopohja -C {folder} status\n  tietopohja -C {folder} sql\n  tietopohja -C {folder} indicator list\n  tietopohja -C {folder} indicator check\n  tietopohja -C {folder} serve\n(in the source tree: `cargo run -- -C {folder} status`)"
    )
}
