//! `tietopohja synth`: synthetic source extracts of any size.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::Args;
use tietopohja_domain::{Clock, County, Date};
use tietopohja_synth::{Manifest, ReferenceInputs, SynthPlan, generate};

use crate::clock::{SystemClock, seconds_since};
use crate::failure::{Failure, chain};
use crate::output::{print, say};
use crate::shipped;

/// Arguments of `synth`.
#[derive(Debug, Args)]
pub(crate) struct Synth {
    /// Where the extracts are written
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// 1 is one county of 200 000 residents for three years; 28 and more the whole country
    #[arg(long, default_value_t = 0.1)]
    scale: f64,
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// First and last calendar year, such as 2023-2025
    #[arg(long, value_name = "FROM-TO")]
    years: Option<String>,
    /// Counties with person-level sources, by code
    #[arg(long, value_delimiter = ',', value_name = "CODE,..")]
    counties: Vec<String>,
    /// Plant no defects
    #[arg(long)]
    clean: bool,
    /// The day of extraction: nothing later is known
    #[arg(long, default_value = "2026-03-01", value_name = "DATE")]
    today: Date,
    /// Write only one file of home-care visits with this many rows, to standard use in benches
    #[arg(long, value_name = "ROWS", conflicts_with_all = ["years", "counties"])]
    care_events: Option<u64>,
}

impl Synth {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if let Some(rows) = self.care_events {
            return care_events(&self.out, rows, self.seed);
        }
        let plan = SynthPlan {
            years: self.years.as_deref().map(years).transpose()?,
            counties: (!self.counties.is_empty())
                .then(|| {
                    self.counties
                        .iter()
                        .map(|code| County::parse(code))
                        .collect::<Result<Vec<_>, _>>()
                })
                .transpose()
                .map_err(|error| Failure::usage(error.to_string()))?,
            defects: !self.clean,
            ..SynthPlan::new(self.scale, self.seed, self.today)
        };
        let started = SystemClock.now();
        let manifest = write(&plan, &self.out)?;
        print(&format!(
            "{} files, {} rows, {:.1} MB, {} planted defects in rows and {} in deliveries, {} files to be rejected; {:.1} s\nmanifest: {}",
            manifest.files.len(),
            manifest.rows(),
            manifest.bytes() as f64 / 1e6,
            manifest.defects(),
            manifest.findings(),
            manifest.rejected_files.len(),
            seconds_since(started),
            self.out.join("manifest.json").display()
        ))
    }
}

fn care_events(out: &Path, rows: u64, seed: u64) -> Result<(), Failure> {
    std::fs::create_dir_all(out)?;
    let path = out.join("homecare_visit_07_202401.csv");
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&path)?);
    tietopohja_synth::bench_care_events(rows, seed, &mut file)?;
    std::io::Write::flush(&mut file)?;
    print(&path.display().to_string())
}

fn years(text: &str) -> Result<std::ops::RangeInclusive<i16>, Failure> {
    let wrong = || Failure::usage(format!("`{text}` is not a range of years: write 2023-2025"));
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Ok(from.trim().parse().map_err(|_| wrong())?..=to.trim().parse().map_err(|_| wrong())?)
}

/// Writes the extracts of a plan from the shipped reference data.
pub(crate) fn write(plan: &SynthPlan, out: &Path) -> Result<Manifest, Failure> {
    let text = |name: &str| {
        shipped::text(name)
            .ok_or_else(|| Failure::internal(format!("the shipped file `{name}` is missing")))
    };
    let inputs = ReferenceInputs {
        municipal_population: text("reference/population/vaesto_kunnittain_2000_2022.csv")?,
        age_structure: text("reference/population/vaesto_ika_sukupuoli_kunnittain_2018_2019.csv")?,
        population_projection: text(
            "reference/population/vaestoennuste_2024_koko_maa_2024_2045.csv",
        )?,
        municipality_keys: text("reference/regions/kunnat_hyvinvointialueittain_2022_2026.csv")?,
        municipality_mergers: text("reference/regions/kuntaliitokset.csv")?,
        counties: text("reference/regions/hyvinvointialueet.csv")?,
        htas_budgets: text("reference/finance/htas_talousarvio_toimintamenot_2023_2026.csv")?,
        ktas_document: text("reference/finance/valtiokonttori_ktas_sample_0101263-6_2023.csv")?,
        price_index: text("reference/finance/julkisten_menojen_hintaindeksi_2015_100.csv")?,
        placed_children: text("reference/sotkanet/sotkanet_3563_sijoitetut_lapset_2021_2024.csv")?,
    };
    let bar = crate::commands::land::spinner("writing extracts");
    let manifest = generate(plan, &inputs, out, &|file| {
        bar.set_message(file.path.clone());
        bar.inc(1);
        ControlFlow::Continue(())
    })
    .map_err(|error| Failure::expected(chain(&error)))?;
    bar.finish_and_clear();
    if manifest.files.is_empty() {
        say("the plan comes to no files: is the day of extraction before the years?");
    }
    Ok(manifest)
}
