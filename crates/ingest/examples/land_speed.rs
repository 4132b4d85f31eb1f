//! Lands one file into a lake in a temporary folder and tells the time: for measuring, by hand. Only
//! for contracts without SQL checks: there is no query engine here.
//!
//! `cargo run -p tietopohja-ingest --example land_speed -- definitions homecare_visit FILE 07 2024-01 [ROUNDS]`
#![allow(clippy::print_stdout, reason = "the example's result")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tietopohja_contract::{CodeLists, Contract, IdentityCodes};
use tietopohja_domain::{Clock, County, DeliveryPeriod, FixedClock, render_problems};
use tietopohja_ingest::{Intake, KeyRing, LandLimits, LandRequest, NoProgress, land};
use tietopohja_lake::Lake;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [definitions, name, file, county, period, rest @ ..] = arguments.as_slice() else {
        return Err("give: DEFINITIONS CONTRACT FILE COUNTY PERIOD [ROUNDS]".into());
    };
    let definitions = Path::new(definitions);
    let mut lists = Vec::new();
    for entry in std::fs::read_dir(definitions.join("codes"))? {
        let path = entry?.path();
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        lists.push((stem, std::fs::read_to_string(&path)?));
    }
    let lists = Arc::new(CodeLists::parse(lists).map_err(|problems| render_problems(&problems))?);
    let yaml_name = format!("{name}.odcs.yaml");
    let yaml = std::fs::read_to_string(definitions.join("contracts").join(&yaml_name))?;
    let contract = Arc::new(
        Contract::parse(&yaml_name, &yaml, &lists)
            .map_err(|problems| render_problems(&problems))?,
    );
    let rounds: usize = rest.first().map_or(Ok(1), |text| text.parse())?;
    for _ in 0..rounds {
        let folder = tempfile::tempdir()?;
        let clock: Arc<dyn Clock> = Arc::new(FixedClock("2026-01-15T12:00:00Z".parse()?));
        let lake = Arc::new(Lake::open(&folder.path().join("lake"), Arc::clone(&clock))?);
        let keys = KeyRing::create(&folder.path().join("pseudonym.key"))?;
        let request = LandRequest {
            county: Some(County::parse(county)?),
            period: Some(DeliveryPeriod::parse(period)?),
            identity_codes: IdentityCodes::ArtificialOnly,
            ..LandRequest::new(Arc::clone(&contract), Arc::clone(&lists), file)
        };
        let started = Instant::now();
        let intake = Intake {
            lake: &lake,
            keys: &keys,
            clock: clock.as_ref(),
            checks: None,
        };
        let receipt = land(intake, request, &LandLimits::default(), &NoProgress).await?;
        let seconds = started.elapsed().as_secs_f64();
        print!("{receipt}");
        println!(
            "{seconds:.3} s, {:.0} rows/s, {:.0} MB/s",
            receipt.received as f64 / seconds,
            receipt.bytes as f64 / 1e6 / seconds
        );
    }
    Ok(())
}
