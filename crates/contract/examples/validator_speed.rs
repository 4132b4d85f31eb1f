//! Measures the validator alone: a home-care file of made-up rows, already cut
//! into cells, checked block by block on one thread.
//!
//! Run: `cargo run -p tietopohja-contract --example validator_speed -- definitions`

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tietopohja_contract::{
    CodeLists, Contract, DeliveryContext, IdentityCodes, Pseudonymise, TextBlock, Totals, Validator,
};
use tietopohja_domain::{County, Date, DeliveryPeriod, Hetu};

struct Plain;

impl Pseudonymise for Plain {
    fn pseudonym(&self, _domain: &str, canonical: &[u8; 11]) -> [u8; 16] {
        let mut out = [0; 16];
        out[..11].copy_from_slice(canonical);
        out
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args()
        .nth(1)
        .ok_or("give the folder of the definitions")?;
    let folder = Path::new(&folder);
    let mut lists = Vec::new();
    for entry in fs::read_dir(folder.join("codes"))? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        lists.push((name, fs::read_to_string(&path)?));
    }
    let lists = CodeLists::parse(lists)
        .map_err(|problems| tietopohja_domain::render_problems(&problems))?;
    let yaml = fs::read_to_string(folder.join("contracts/homecare_visit.odcs.yaml"))?;
    let contract = Contract::parse("homecare_visit.odcs.yaml", &yaml, &lists)
        .map_err(|problems| tietopohja_domain::render_problems(&problems))?;
    let contract = Arc::new(contract);
    let context = DeliveryContext {
        county: County::parse("07")?,
        period: DeliveryPeriod::parse("2024-03")?,
        today: Date::constant(2024, 4, 15),
        identity_codes: IdentityCodes::ArtificialOnly,
    };
    let validator = Validator::new(contract.clone(), Arc::new(lists), context, Arc::new(Plain));
    let header: Vec<String> = contract
        .properties()
        .iter()
        .map(|p| p.header().to_string())
        .collect();
    let map = validator
        .map_header(&header)
        .map_err(|_| "the header does not fit")?;

    let block = block(&contract, 12_000)?;
    let bytes = block.text.len() as f64;
    let rounds = 100;
    let started = Instant::now();
    let mut totals = Totals::default();
    for _ in 0..rounds {
        totals.add(&validator.check(&map, &block));
    }
    let seconds = started.elapsed().as_secs_f64();
    if totals.quarantined > 0 {
        return Err(format!(
            "{} rows were refused: {:?}",
            totals.quarantined, totals.rejects
        )
        .into());
    }
    let rows = totals.received as f64;
    let mut out = std::io::stdout();
    use std::io::Write;
    writeln!(
        out,
        "{rows} rows of {:.0} bytes in {seconds:.2} s: {:.0} MB/s, {:.2} M rows/s on one thread",
        bytes / 12_000.0,
        bytes * f64::from(rounds) / seconds / 1e6,
        rows / seconds / 1e6
    )?;
    Ok(())
}

fn block(contract: &Contract, rows: usize) -> Result<TextBlock, Box<dyn Error>> {
    let mut text = Vec::new();
    let mut cells = Vec::new();
    let municipalities = ["061", "109", "165", "433", "694", "981"];
    for row in 0..rows {
        let born = Date::constant(
            1930 + (row % 30) as i16,
            1 + (row % 12) as i8,
            1 + (row % 28) as i8,
        );
        let code = Hetu::compose(born, 900 + (row % 100) as u16, None)?;
        let line = format!(
            "07-202403-{row:07};{};{};{:02}.03.2024;{};{};{};KOTIHOITO-{:03};{};{};{}",
            String::from_utf8_lossy(code.canonical()),
            municipalities[row % 6],
            1 + row % 31,
            10 + row % 50,
            1 + row % 3,
            ["LHOI", "HOIT", "TERA"][row % 3],
            row % 200,
            if row % 4 == 0 { 3 } else { 1 },
            if row % 4 == 0 { "0101263-6" } else { "" },
            if row % 20 == 0 { "E" } else { "K" },
        );
        for cell in line.split(';') {
            let start = text.len() as u32;
            text.extend_from_slice(cell.as_bytes());
            cells.push((start, text.len() as u32));
            text.push(b';');
        }
    }
    let columns = contract.properties().len();
    Ok(TextBlock {
        first_row: 2,
        rows,
        columns,
        text,
        cells,
        dialect: contract.format().dialect(),
        row_lines: None,
    })
}
