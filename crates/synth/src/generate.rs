//! The order of work: county by county, its datasets and years shared by the threads.
//!
//! One county's people are in memory at a time; files are written as they are
//! made. Nothing here draws numbers.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{fs, thread};

use tietopohja_domain::County;

use crate::days::{from_date, months_of};
use crate::documents;
use crate::error::SynthError;
use crate::inputs::{Reference, ReferenceInputs};
use crate::manifest::{FileEntry, MANIFEST_FORMAT, Manifest};
use crate::plan::SynthPlan;
use crate::providers::Providers;
use crate::rejected;
use crate::sink::{Period, Sink};
use crate::sources::{AGGREGATE, PERSON_LEVEL, Rhythm, finance_ledger, provider};
use crate::world::World;

/// Writes the extracts of a plan below `out`, and `out/manifest.json`.
///
/// `progress` is called after each file, from the thread that wrote it; `Break` stops the work and
/// gives [`SynthError::Stopped`]. Existing files of the same names are overwritten, others stay.
pub fn generate(
    plan: &SynthPlan,
    inputs: &ReferenceInputs<'_>,
    out: &Path,
    progress: &(dyn Fn(&FileEntry) -> ControlFlow<()> + Sync),
) -> Result<Manifest, SynthError> {
    let reference = Reference::parse(inputs)?;
    let scope = plan.scope(&reference)?;
    let (first_year, last_year) = (*scope.years.start(), *scope.years.end());
    let sink = Sink {
        out,
        seed: plan.seed,
        defects: plan.defects,
        today: from_date(plan.today),
        first_year,
        progress,
        entries: Mutex::default(),
        folders: Mutex::new(BTreeSet::new()),
    };

    documents::write(inputs, &sink)?;

    let aggregates: Vec<(County, i32)> = County::all()
        .flat_map(|county| scope.years.clone().map(move |year| (county, year)))
        .collect();
    share(plan.threads, &aggregates, |(county, year)| {
        let providers = Providers::build(&reference, *county, first_year, last_year, plan.seed);
        provider::write(&reference, *county, &providers, *year, &sink)?;
        finance_ledger::write(&reference, *county, *year, plan.seed, &sink)
    })?;
    if plan.defects {
        finance_ledger::write_unbooked(&reference, last_year, &sink)?;
    }

    for county in &scope.counties {
        let world = World::build(
            &reference,
            *county,
            scope.years.clone(),
            sink.today,
            plan.seed,
        )?;
        let tasks: Vec<_> = PERSON_LEVEL
            .iter()
            .flat_map(|(write, _)| scope.years.clone().map(move |year| (*write, year)))
            .collect();
        share(plan.threads, &tasks, |(write, year)| {
            write(&world, *year, &sink)
        })?;
    }

    let rejected_files = if plan.defects {
        rejected::write(&reference, &scope.counties, last_year, &sink)?
    } else {
        Vec::new()
    };
    let mut files = sink
        .entries
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        scale: plan.scale,
        seed: plan.seed,
        today: plan.today.to_string(),
        first_year: first_year as i16,
        last_year: last_year as i16,
        counties: scope.counties.iter().map(|county| county.code()).collect(),
        files,
        rejected_files,
    };
    let path = out.join("manifest.json");
    let write = |path: &Path| -> std::io::Result<()> {
        let mut text = serde_json::to_vec_pretty(&manifest)?;
        text.push(b'\n');
        fs::write(path, text)
    };
    write(&path).map_err(|source| SynthError::Write { path, source })?;
    Ok(manifest)
}

/// The number of good deliveries that [`generate`] writes for a plan: how often it calls `progress`.
pub fn planned_files(plan: &SynthPlan, inputs: &ReferenceInputs<'_>) -> Result<usize, SynthError> {
    let reference = Reference::parse(inputs)?;
    let scope = plan.scope(&reference)?;
    let today = from_date(plan.today);
    let over = |rhythm: Rhythm, year: i32| match rhythm {
        Rhythm::Monthly => months_of(year)
            .filter(|month| Period::Month(*month).is_over(today))
            .count(),
        Rhythm::Yearly => usize::from(Period::Year(year).is_over(today)),
    };
    let of_year = |year: i32| {
        let aggregate: usize = AGGREGATE.iter().map(|rhythm| over(*rhythm, year)).sum();
        let person_level: usize = PERSON_LEVEL
            .iter()
            .map(|(_, rhythm)| over(*rhythm, year))
            .sum();
        aggregate * County::all().count() + person_level * scope.counties.len()
    };
    let unbooked = Period::Month(finance_ledger::unbooked_month(*scope.years.end()));
    let early = usize::from(plan.defects && unbooked.is_over(today));
    Ok(documents::count(inputs)? + scope.years.clone().map(of_year).sum::<usize>() + early)
}

/// Does the tasks on some threads, in order of starting; the first failing task's error, by order,
/// is the result, and no new task is started after a failure.
fn share<T: Sync>(
    threads: usize,
    tasks: &[T],
    work: impl Fn(&T) -> Result<(), SynthError> + Sync,
) -> Result<(), SynthError> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let errors: Mutex<Vec<(usize, SynthError)>> = Mutex::default();
    let run = || {
        while !failed.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(n) else { return };
            if let Err(error) = work(task) {
                failed.store(true, Ordering::Relaxed);
                errors
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((n, error));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.clamp(1, 64) {
            scope.spawn(run);
        }
        run();
    });
    let errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
    errors
        .into_iter()
        .min_by_key(|(n, _)| *n)
        .map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
    use std::sync::OnceLock;

    use jiff::civil::Date;
    use tietopohja_domain::{BusinessId, Hetu, Sex};

    use super::*;
    use crate::days::{Day, age_on, day};
    use crate::manifest::decimal_text;
    use crate::testdata;

    const KAINUU: &str = "20";

    fn plan(change: impl Fn(&mut SynthPlan)) -> SynthPlan {
        let mut plan = SynthPlan::new(0.1, 7, Date::constant(2025, 3, 10));
        plan.counties = Some(vec![County::parse(KAINUU).unwrap()]);
        change(&mut plan);
        plan
    }

    fn made(plan: &SynthPlan) -> (tempfile::TempDir, Manifest) {
        let folder = tempfile::tempdir().unwrap();
        let manifest = generate(plan, &testdata::inputs(), folder.path(), &|_| {
            ControlFlow::Continue(())
        })
        .unwrap();
        (folder, manifest)
    }

    /// One generation of Kainuu 2024 for all tests that only read it.
    fn kainuu() -> &'static (tempfile::TempDir, Manifest) {
        static MADE: OnceLock<(tempfile::TempDir, Manifest)> = OnceLock::new();
        MADE.get_or_init(|| made(&plan(|_| ())))
    }

    /// A file's rows as cells by header, with their row numbers.
    struct Rows {
        header: Vec<String>,
        rows: Vec<Vec<String>>,
        bad: HashSet<u64>,
    }

    impl Rows {
        fn read(folder: &Path, entry: &FileEntry) -> Rows {
            let bytes = fs::read(folder.join(&entry.path)).unwrap();
            let text = match bytes.strip_prefix(b"\xEF\xBB\xBF") {
                Some(rest) => String::from_utf8(rest.to_vec()).unwrap(),
                None => bytes.iter().map(|byte| char::from(*byte)).collect(),
            };
            let mut lines = text
                .lines()
                .map(|line| line.split(';').map(str::to_owned).collect::<Vec<_>>());
            let header = lines.next().unwrap();
            Rows {
                header,
                rows: lines.collect(),
                bad: entry.defects.iter().map(|defect| defect.row).collect(),
            }
        }

        /// The good rows, reduced to the named columns.
        fn good<const N: usize>(&self, columns: [&str; N]) -> Vec<[&str; N]> {
            let places =
                columns.map(|column| self.header.iter().position(|name| name == column).unwrap());
            (2u64..)
                .zip(&self.rows)
                .filter(|(n, _)| !self.bad.contains(n))
                .map(|(_, row)| places.map(|place| row[place].as_str()))
                .collect()
        }
    }

    /// The good rows of all files of a dataset of Kainuu.
    fn all<const N: usize>(dataset: &str, columns: [&str; N]) -> Vec<[String; N]> {
        let (folder, manifest) = kainuu();
        let files = manifest
            .files
            .iter()
            .filter(|file| file.dataset == dataset && file.county == KAINUU);
        files
            .flat_map(|file| {
                Rows::read(folder.path(), file)
                    .good(columns)
                    .into_iter()
                    .map(|row| row.map(str::to_owned))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    fn date(text: &str) -> Day {
        let mut parts = text.split('.').map(|part| part.parse::<i32>().unwrap());
        let (d, m, y) = (
            parts.next().unwrap(),
            parts.next().unwrap(),
            parts.next().unwrap(),
        );
        day(y, m, d)
    }

    fn birth(code: &str) -> Day {
        from_date(Hetu::parse(code.as_bytes()).unwrap().birth_date())
    }

    fn cents(text: &str) -> i64 {
        text.replace(',', "").parse().unwrap()
    }

    fn bytes_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path
                        .strip_prefix(folder)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .replace('\\', "/");
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        found
    }

    #[test]
    fn the_same_plan_gives_the_same_bytes_on_any_number_of_threads() {
        let (folder, manifest) = kainuu();
        let (again, same) = made(&plan(|plan| plan.threads = 1));
        assert_eq!(&same, manifest);
        assert!(
            bytes_of(again.path()) == bytes_of(folder.path()),
            "one thread or two"
        );
        let (other, _) = made(&plan(|plan| plan.seed = 8));
        let differing = bytes_of(other.path())
            .iter()
            .filter(|(name, bytes)| bytes_of(folder.path()).get(*name) != Some(bytes))
            .count();
        assert!(differing > 300, "{differing} files");
    }

    #[test]
    fn a_county_is_the_same_beside_another() {
        let (folder, _) = kainuu();
        let (both, _) = made(&plan(|plan| {
            plan.counties = Some(vec![
                County::parse("18").unwrap(),
                County::parse(KAINUU).unwrap(),
            ])
        }));
        let (alone, both) = (bytes_of(folder.path()), bytes_of(both.path()));
        let mut compared = 0;
        for (name, bytes) in alone.iter().filter(|(name, _)| name.starts_with("20/")) {
            assert!(both.get(name) == Some(bytes), "{name}");
            compared += 1;
        }
        assert!(compared > 100);
    }

    #[test]
    fn the_manifest_lists_every_file_with_its_rows_bytes_and_sums() {
        let (folder, manifest) = kainuu();
        let on_disk = bytes_of(folder.path());
        let listed: BTreeSet<&str> = manifest
            .files
            .iter()
            .map(|file| file.path.as_str())
            .chain(
                manifest
                    .rejected_files
                    .iter()
                    .map(|file| file.path.as_str()),
            )
            .chain(["manifest.json"])
            .collect();
        assert_eq!(
            on_disk.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            listed
        );
        let read: Manifest = serde_json::from_slice(&on_disk["manifest.json"]).unwrap();
        assert_eq!(&read, manifest);
        assert_eq!(
            planned_files(&plan(|_| ()), &testdata::inputs()).unwrap(),
            manifest.files.len()
        );
        for file in &manifest.files {
            assert_eq!(
                on_disk[&file.path].len() as u64,
                file.bytes,
                "{}",
                file.path
            );
            assert_eq!(
                file.rows,
                file.accepted + file.defects.len() as u64,
                "{}",
                file.path
            );
            assert!(file.rows > 0, "{}", file.path);
            if file.county == "FI" {
                continue;
            }
            let rows = Rows::read(folder.path(), file);
            assert_eq!(rows.rows.len() as u64, file.rows, "{}", file.path);
            let short: Vec<u64> = (2u64..)
                .zip(&rows.rows)
                .filter(|(_, row)| row.len() != rows.header.len())
                .map(|(n, _)| n)
                .collect();
            let planted: Vec<u64> = file
                .defects
                .iter()
                .filter(|defect| defect.rule == "row_width")
                .map(|defect| defect.row)
                .collect();
            assert_eq!(short, planted, "{}", file.path);
            for defect in &file.defects {
                assert!((2..=file.rows + 1).contains(&defect.row), "{}", file.path);
                assert!(
                    defect.header.is_empty() || rows.header.contains(&defect.header),
                    "{}",
                    file.path
                );
            }
            for (header, column) in [
                ("euro", "amount"),
                ("rivisumma", "amount"),
                ("palkallisuus_prosentti", "pay_percent"),
                ("budjetoitu_prosentti", "budgeted_percent"),
            ] {
                if rows.header.iter().any(|name| name == header) {
                    let sum: i128 = rows
                        .good([header])
                        .iter()
                        .map(|[cell]| i128::from(cents(cell)))
                        .sum();
                    assert_eq!(
                        file.sums.get(column),
                        Some(&decimal_text(sum, 2)),
                        "{}",
                        file.path
                    );
                }
            }
        }
    }

    #[test]
    fn every_dataset_and_month_is_there() {
        let (_, manifest) = kainuu();
        let mut periods: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for file in manifest.files.iter().filter(|file| file.county == KAINUU) {
            periods.entry(&file.dataset).or_default().push(file.period);
        }
        let monthly: Vec<i32> = (202401..=202412).collect();
        for (dataset, yearly) in [
            ("care_spell", true),
            ("child_notification", false),
            ("finance_ledger", false),
            ("homecare_visit", false),
            ("hr_absence", false),
            ("hr_employment", true),
            ("hr_post", true),
            ("informal_care_decision", true),
            ("needs_assessment", false),
            ("placement", true),
            ("primary_care_contact", false),
            ("provider", true),
            ("purchase_invoice_line", false),
            ("specialised_referral", false),
        ] {
            let expected = if yearly {
                vec![202400]
            } else {
                monthly.clone()
            };
            assert_eq!(periods.remove(dataset), Some(expected), "{dataset}");
        }
        assert!(periods.is_empty(), "{periods:?}");
        let ledgers: BTreeSet<&str> = manifest
            .files
            .iter()
            .filter(|file| file.dataset == "finance_ledger")
            .map(|file| file.county.as_str())
            .collect();
        assert_eq!(ledgers.len(), 22);
    }

    #[test]
    fn identity_codes_outside_the_manifest_are_artificial_and_valid() {
        let (folder, manifest) = kainuu();
        let (mut people, mut variants) = (HashSet::new(), 0);
        for file in manifest.files.iter().filter(|file| file.county != "FI") {
            let rows = Rows::read(folder.path(), file);
            for column in rows
                .header
                .iter()
                .filter(|name| name.ends_with("henkilotunnus"))
            {
                for [cell] in rows.good([column.as_str()]) {
                    let hetu = Hetu::parse(cell.as_bytes())
                        .unwrap_or_else(|error| panic!("{}: {error}", file.path));
                    assert!(hetu.is_artificial(), "{}", file.path);
                    variants += usize::from(cell.as_bytes() != hetu.canonical());
                    people.insert(*hetu.canonical());
                }
            }
        }
        assert!(people.len() > 40_000, "{}", people.len());
        assert!(variants > 100, "{variants}");
    }

    #[test]
    fn faulty_identity_codes_of_the_manifest_are_really_faulty_and_never_real() {
        let (folder, manifest) = kainuu();
        let mut seen = 0;
        for file in &manifest.files {
            let rows = Rows::read(folder.path(), file);
            for defect in file
                .defects
                .iter()
                .filter(|defect| defect.rule.starts_with("hetu_"))
            {
                let place = rows
                    .header
                    .iter()
                    .position(|name| *name == defect.header)
                    .unwrap();
                let cell = &rows.rows[defect.row as usize - 2][place];
                assert!(
                    Hetu::parse(cell.as_bytes()).is_err(),
                    "{} {}",
                    file.path,
                    defect.kind
                );
                seen += 1;
            }
        }
        assert!(seen > 15, "{seen}");
    }

    #[test]
    fn business_ids_outside_the_manifest_are_valid_test_numbers() {
        let (folder, manifest) = kainuu();
        let mut ids = BTreeSet::new();
        for file in manifest.files.iter().filter(|file| file.county != "FI") {
            let rows = Rows::read(folder.path(), file);
            for column in rows.header.iter().filter(|name| name.ends_with("ytunnus")) {
                for [cell] in rows
                    .good([column.as_str()])
                    .into_iter()
                    .filter(|[cell]| !cell.is_empty())
                {
                    assert!(BusinessId::parse(cell.as_bytes()).is_ok(), "{}", file.path);
                    assert!(cell.starts_with('9'), "{}", file.path);
                    ids.insert(cell.to_owned());
                }
            }
        }
        assert!(ids.len() > 22 * 14, "{}", ids.len());
    }

    #[test]
    fn a_client_has_one_municipality_in_all_sources() {
        let mut homes: HashMap<[u8; 11], String> = HashMap::new();
        for (dataset, column) in [
            ("primary_care_contact", "henkilotunnus"),
            ("specialised_referral", "henkilotunnus"),
            ("homecare_visit", "henkilotunnus"),
            ("care_spell", "henkilotunnus"),
            ("child_notification", "henkilotunnus"),
            ("needs_assessment", "henkilotunnus"),
            ("placement", "henkilotunnus"),
            ("informal_care_decision", "hoidettava_henkilotunnus"),
        ] {
            let mut shared = 0;
            for [code, home] in all(dataset, [column, "kotikunta"]) {
                let code = *Hetu::parse(code.as_bytes()).unwrap().canonical();
                match homes.get(&code) {
                    Some(known) => {
                        assert_eq!(*known, home, "{dataset}");
                        shared += 1;
                    }
                    None => {
                        homes.insert(code, home);
                    }
                }
            }
            assert!(
                dataset == "primary_care_contact" || shared > 20,
                "{dataset} shares {shared} people with the sources before it"
            );
        }
    }

    #[test]
    fn budgets_are_the_real_ones_and_actuals_near_them() {
        let (folder, manifest) = kainuu();
        let reference = Reference::parse(&testdata::inputs()).unwrap();
        let mut sums: BTreeMap<(String, String), i64> = BTreeMap::new();
        // The ledger that was sent too early is of the next year.
        let of_year = |file: &&FileEntry| file.period / 100 == 2024;
        for file in manifest
            .files
            .iter()
            .filter(of_year)
            .filter(|file| file.dataset == "finance_ledger")
        {
            let rows = Rows::read(folder.path(), file);
            for [account, month, scenario, version, euro] in
                rows.good(["tili", "kausi", "laji", "versio", "euro"])
            {
                let expense = ("4000".."4900").contains(&account);
                // Of the forecasts, the one made in December.
                if expense && (scenario != "E" || version == "202412") {
                    *sums
                        .entry((file.county.clone(), scenario.to_owned()))
                        .or_default() += cents(euro);
                }
                assert!(scenario == "E" || month.parse::<i32>().unwrap() == file.period);
            }
        }
        for county in County::all() {
            let real = reference.budget_cents(county, 2024) as f64;
            for (scenario, tolerance) in [("TA", 0.005), ("T", 0.04), ("E", 0.05)] {
                // Quarantined rows are missing from the sums, hence the tolerance of the budget.
                let sum = sums[&(county.code(), scenario.to_owned())] as f64;
                assert!(
                    (sum / real - 1.0).abs() < tolerance,
                    "{county} {scenario}: {sum} of {real}"
                );
            }
        }
    }

    #[test]
    fn budgets_are_exact_to_the_cent_without_defects() {
        let (folder, manifest) = made(&plan(|plan| plan.defects = false));
        assert_eq!((manifest.defects(), manifest.findings()), (0, 0));
        assert_eq!(manifest.rejected_files.len(), 0);
        let reference = Reference::parse(&testdata::inputs()).unwrap();
        for county in County::all() {
            let mut budget = 0;
            let mut internal = 0;
            for file in manifest
                .files
                .iter()
                .filter(|file| file.dataset == "finance_ledger" && file.county == county.code())
            {
                for [account, scenario, euro] in
                    Rows::read(folder.path(), file).good(["tili", "laji", "euro"])
                {
                    budget += if scenario == "TA" && ("4000".."4900").contains(&account) {
                        cents(euro)
                    } else {
                        0
                    };
                    internal += if scenario == "T" && (account == "4900" || account == "3900") {
                        cents(euro)
                    } else {
                        0
                    };
                }
            }
            assert_eq!(budget, reference.budget_cents(county, 2024), "{county}");
            assert_eq!(internal, 0, "{county}: internal charges cancel out");
        }
    }

    #[test]
    fn placed_children_are_the_real_number() {
        let reference = Reference::parse(&testdata::inputs()).unwrap();
        for county in [KAINUU, "09"].map(|code| County::parse(code).unwrap()) {
            let world = World::build(&reference, county, 2021..=2025, day(2026, 1, 15), 5).unwrap();
            for year in 2021..=2025 {
                let of_year = world.placements.iter().filter(|placement| {
                    crate::staff::overlaps_year(placement.from, placement.to, year)
                });
                let placed: BTreeSet<u32> = of_year.map(|placement| placement.person).collect();
                assert_eq!(
                    placed.len() as u32,
                    reference.placed_children(county, year),
                    "{county} {year}"
                );
                let oldest = placed
                    .iter()
                    .map(|id| world.people.person(*id).age_in(year))
                    .max();
                assert!(oldest <= Some(24), "{oldest:?}");
            }
        }
    }

    /// A share in per cent, checked against its range.
    fn check_share(name: &str, part: usize, whole: u64, range: std::ops::RangeInclusive<f64>) {
        let share = part as f64 * 100.0 / whole as f64;
        assert!(
            range.contains(&share),
            "{name}: {share:.2} % is not in {range:?}"
        );
    }

    #[test]
    fn rates_of_care_are_those_of_the_country() {
        let reference = Reference::parse(&testdata::inputs()).unwrap();
        let county = County::parse(KAINUU).unwrap();
        let last = day(2024, 12, 31);
        let old = reference.residents_aged(county, 2024, |age| age >= 75);
        let children = reference.residents_aged(county, 2024, |age| age < 18);
        let everyone = reference.residents_aged(county, 2024, |_| true);
        let is_old = |code: &str, on: Day| age_on(birth(code), on) >= 75;

        let mut visits: HashMap<String, u32> = HashMap::new();
        for [code, on, done] in all(
            "homecare_visit",
            ["henkilotunnus", "kayntipvm", "toteutunut"],
        ) {
            if done == "K" && on.ends_with(".11.2024") && is_old(&code, day(2024, 11, 30)) {
                *visits.entry(code).or_default() += 1;
            }
        }
        check_share(
            "regular home care 75+",
            visits.values().filter(|n| **n >= 4).count(),
            old,
            10.0..=14.0,
        );
        let mean = visits.values().sum::<u32>() as f64 / visits.len() as f64;
        assert!((28.0..48.0).contains(&mean), "{mean} visits a month");

        let housed: BTreeSet<String> = all("care_spell", ["henkilotunnus", "palvelu", "lahtopvm"])
            .into_iter()
            .filter(|[code, service, end]| service == "YPA" && end.is_empty() && is_old(code, last))
            .map(|[code, _, _]| code)
            .collect();
        check_share("round-the-clock housing 75+", housed.len(), old, 6.5..=9.0);
        let cared: BTreeSet<String> = all("informal_care_decision", ["hoidettava_henkilotunnus"])
            .into_iter()
            .map(|[code]| code)
            .filter(|code| is_old(code, last))
            .collect();
        check_share("informal care 75+", cared.len(), old, 3.3..=5.2);
        let notified: BTreeSet<String> = all("child_notification", ["henkilotunnus"])
            .into_iter()
            .map(|[code]| code)
            .collect();
        check_share(
            "children with a notification",
            notified.len(),
            children,
            7.0..=10.5,
        );
        check_share(
            "contacts per inhabitant",
            all("primary_care_contact", ["tapahtumanumero"]).len(),
            everyone,
            270.0..=340.0,
        );
        check_share(
            "referrals per inhabitant",
            all("specialised_referral", ["lahetenumero"]).len(),
            everyone,
            13.0..=18.0,
        );
    }

    #[test]
    fn waiting_and_deadlines_are_those_of_the_country() {
        let mut waits: Vec<Day> = all(
            "primary_care_contact",
            ["hta_pvm", "kayntipvm", "kiireellisyys"],
        )
        .into_iter()
        .filter(|[assessed, _, urgency]| !assessed.is_empty() && urgency == "2")
        .map(|[assessed, visit, _]| date(&visit) - date(&assessed))
        .collect();
        waits.sort_unstable();
        assert!(waits[0] >= 0);
        // Published of October 2023: 82 % within 7 days, 89 % within 14.
        for (limit, range) in [(7, 74.0..=88.0), (14, 84.0..=93.0)] {
            check_share(
                "waits within the limit",
                waits.iter().filter(|wait| **wait <= limit).count(),
                waits.len() as u64,
                range,
            );
        }

        let working_days = |from: Day, to: Day| {
            (from + 1..=to)
                .filter(|on| crate::days::is_working_day(*on))
                .count()
        };
        let matters: Vec<[String; 3]> = all(
            "needs_assessment",
            ["palvelutehtava", "vireilletulopvm", "arviointi_alkoi"],
        )
        .into_iter()
        .filter(|[task, _, _]| task == "2")
        .collect();
        let in_time = matters
            .iter()
            .filter(|[_, initiated, started]| {
                !started.is_empty() && working_days(date(initiated), date(started)) <= 7
            })
            .count();
        check_share(
            "assessments begun in 7 working days",
            in_time,
            matters.len() as u64,
            87.0..=97.0,
        );
        let completed: Vec<[String; 2]> =
            all("needs_assessment", ["vireilletulopvm", "arviointi_valmis"])
                .into_iter()
                .filter(|[_, done]| !done.is_empty())
                .collect();
        let ready = completed
            .iter()
            .filter(|[initiated, done]| date(done) <= crate::days::add_months(date(initiated), 3))
            .count();
        check_share(
            "assessments completed in 3 months",
            ready,
            completed.len() as u64,
            82.0..=92.0,
        );
    }

    #[test]
    fn personnel_is_a_twenty_fifth_of_residents_with_common_turnover_and_sickness() {
        let reference = Reference::parse(&testdata::inputs()).unwrap();
        let residents = reference.residents(County::parse(KAINUU).unwrap());
        let employments = all(
            "hr_employment",
            [
                "henkilotunnus",
                "luonne",
                "alkupvm",
                "loppupvm",
                "osa_aika_prosentti",
                "vakanssinumero",
            ],
        );
        let (first, last) = (day(2024, 1, 1), day(2024, 12, 31));
        let in_force = employments
            .iter()
            .filter(|row| row[3] == "31.12.9999")
            .count();
        check_share("employments in force", in_force, residents, 3.4..=4.6);
        let before = employments
            .iter()
            .filter(|row| row[1] == "V" && date(&row[2]) < first)
            .count();
        let left = employments
            .iter()
            .filter(|row| row[1] == "V" && row[3] != "31.12.9999")
            .count();
        check_share("permanent staff who left", left, before as u64, 7.0..=13.0);
        let end = |text: &str| {
            if text == "31.12.9999" {
                last
            } else {
                date(text)
            }
        };
        let person_years: f64 = employments
            .iter()
            .map(|row| {
                f64::from(end(&row[3]) - date(&row[2]).max(first) + 1) * cents(&row[4]) as f64
                    / 1e4
                    / 366.0
            })
            .sum();
        let sick: i32 = all("hr_absence", ["laji", "alkupvm", "loppupvm"])
            .iter()
            .filter(|row| row[0] == "SL" || row[0] == "TT")
            .map(|row| date(&row[2]) - date(&row[1]) + 1)
            .sum();
        let rate = f64::from(sick) / person_years;
        assert!(
            (14.0..20.0).contains(&rate),
            "{rate} days of sickness a person-year"
        );
        let held: HashSet<&str> = employments
            .iter()
            .filter(|row| row[3] == "31.12.9999")
            .map(|row| row[5].as_str())
            .collect();
        let posts: Vec<[String; 2]> = all("hr_post", ["vakanssinumero", "loppupvm"])
            .into_iter()
            .filter(|row| row[1] == "31.12.9999")
            .collect();
        let empty = posts
            .iter()
            .filter(|row| !held.contains(row[0].as_str()))
            .count();
        check_share("empty posts", empty, posts.len() as u64, 4.0..=8.5);
    }

    #[test]
    fn absences_of_an_employment_lie_in_it_and_overlap_only_where_that_is_planted() {
        let employments: HashMap<String, (Day, Day)> = all(
            "hr_employment",
            ["palvelussuhdenumero", "alkupvm", "loppupvm"],
        )
        .into_iter()
        .map(|[number, from, to]| (number, (date(&from), date(&to))))
        .collect();
        let mut spells: HashMap<String, Vec<(Day, Day)>> = HashMap::new();
        for [number, from, to] in all("hr_absence", ["palvelussuhdenumero", "alkupvm", "loppupvm"])
        {
            assert_eq!(from[2..], to[2..], "a row lies in one month");
            spells
                .entry(number)
                .or_default()
                .push((date(&from), date(&to)));
        }
        let mut overlaps = 0;
        for (number, mut of_one) in spells {
            of_one.sort_unstable();
            overlaps += of_one
                .windows(2)
                .filter(|pair| pair[0].1 >= pair[1].0)
                .count();
            // The employment itself may be a planted defect.
            if let Some((from, to)) = employments.get(&number) {
                assert!(
                    of_one
                        .iter()
                        .all(|spell| spell.0 >= *from && spell.1 <= *to)
                );
            }
        }
        let planted = kainuu().1.files.iter().flat_map(|file| &file.findings);
        let planted = planted.filter(|finding| finding.rule == "one_absence_a_day");
        assert_eq!(overlaps, planted.count());
    }

    #[test]
    fn every_kind_of_finding_is_planted_and_its_rows_are_not_defects() {
        let (_, manifest) = kainuu();
        let mut rules: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for file in &manifest.files {
            for finding in &file.findings {
                *rules.entry((&file.dataset, &finding.rule)).or_default() += 1;
                for row in &finding.rows {
                    assert!((2..=file.rows + 1).contains(row), "{}", file.path);
                    assert!(
                        file.defects.iter().all(|defect| defect.row != *row),
                        "{}",
                        file.path
                    );
                }
            }
        }
        assert_eq!(
            rules.into_iter().collect::<Vec<_>>(),
            [
                (("care_spell", "one_open_spell"), 1),
                (("finance_ledger", "actuals_have_expenses"), 1),
                (("hr_absence", "one_absence_a_day"), 4),
                (("hr_employment", "work_time_at_most_150_percent"), 1),
                (("informal_care_decision", "carer_is_not_the_client"), 1),
                (("placement", "one_open_placement"), 1),
            ]
        );
    }

    #[test]
    fn keys_are_unique_and_invoices_multiply() {
        for (dataset, key) in [
            ("homecare_visit", "kayntinumero"),
            ("primary_care_contact", "tapahtumanumero"),
            ("care_spell", "jaksonumero"),
            ("placement", "sijoitusnumero"),
            ("hr_employment", "palvelussuhdenumero"),
            ("provider", "ytunnus"),
        ] {
            let keys = all(dataset, [key]);
            assert_eq!(
                keys.iter().collect::<HashSet<_>>().len(),
                keys.len(),
                "{dataset}"
            );
        }
        let lines = all(
            "purchase_invoice_line",
            [
                "toimittaja_ytunnus",
                "laskunumero",
                "rivi",
                "maara",
                "yksikkohinta",
                "rivisumma",
            ],
        );
        assert!(lines.len() > 5_000);
        let keys: HashSet<_> = lines
            .iter()
            .map(|line| (&line[0], &line[1], &line[2]))
            .collect();
        assert_eq!(keys.len(), lines.len());
        assert!(
            lines
                .iter()
                .all(|line| cents(&line[3]) * cents(&line[4]) == cents(&line[5]) * 100)
        );
        assert!(lines.iter().any(|line| line[5].starts_with('-')));
    }

    #[test]
    fn nothing_is_known_after_today() {
        let (folder, manifest) = made(&plan(|plan| {
            plan.defects = false;
            plan.today = Date::constant(2024, 8, 20);
        }));
        let county = manifest.files.iter().filter(|file| file.county == KAINUU);
        let periods: BTreeSet<i32> = county.clone().map(|file| file.period).collect();
        assert_eq!(periods, (202401..=202407).collect());
        let early = plan(|plan| plan.today = Date::constant(2024, 8, 20));
        assert_eq!(
            planned_files(&early, &testdata::inputs()).unwrap(),
            manifest.files.len()
        );
        let today = day(2024, 8, 20);
        for file in county {
            let rows = Rows::read(folder.path(), file);
            for column in rows.header.iter().filter(|name| {
                name.ends_with("pvm")
                    || name.starts_with("arviointi_")
                    || ["saapunut", "kasitelty", "jonoon", "hoidettu"].contains(&name.as_str())
            }) {
                for [cell] in rows.good([column.as_str()]) {
                    assert!(
                        cell.is_empty() || cell == "31.12.9999" || date(cell) <= today,
                        "{} {column}",
                        file.path
                    );
                }
            }
        }
    }

    #[test]
    fn a_stopped_generation_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let files = AtomicUsize::new(0);
        let stop = |_: &FileEntry| {
            if files.fetch_add(1, Ordering::Relaxed) < 10 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        let result = generate(&plan(|_| ()), &testdata::inputs(), folder.path(), &stop);
        assert!(matches!(result, Err(SynthError::Stopped)));
        assert!(!folder.path().join("manifest.json").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"x").unwrap();
        let error = generate(&plan(|_| ()), &testdata::inputs(), &file, &|_| {
            ControlFlow::Continue(())
        })
        .unwrap_err();
        assert!(matches!(error, SynthError::Write { .. }), "{error}");
    }

    #[test]
    fn a_broken_reference_text_is_told_with_its_line() {
        let inputs = ReferenceInputs {
            placed_children: "indicator,hva_code,year,abs_value\n3563,01,2021,x\n",
            ..testdata::inputs()
        };
        let folder = tempfile::tempdir().unwrap();
        let error = generate(&plan(|_| ()), &inputs, folder.path(), &|_| {
            ControlFlow::Continue(())
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "placed_children:2: `x` is not a number of the expected kind"
        );
        let inputs = ReferenceInputs {
            htas_budgets: "a,b\n",
            ..testdata::inputs()
        };
        let error = generate(&plan(|_| ()), &inputs, folder.path(), &|_| {
            ControlFlow::Continue(())
        })
        .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("htas_budgets:1: column `hva_code` is missing"),
            "{error}"
        );
    }

    #[test]
    fn the_bench_file_has_valid_rows_of_the_promised_size_with_their_own_keys() {
        let mut bytes = Vec::new();
        crate::bench_care_events(20_000, 3, &mut bytes).unwrap();
        assert!(
            (80..92).contains(&(bytes.len() / 20_000)),
            "{} bytes a row",
            bytes.len() / 20_000
        );
        let text = String::from_utf8(bytes).unwrap();
        let mut keys = HashSet::new();
        let mut women = 0;
        for row in text.lines().skip(1) {
            let cells: Vec<&str> = row.split(';').collect();
            assert_eq!(cells.len(), 11);
            assert!(keys.insert(cells[0]));
            let hetu = Hetu::parse(cells[1].as_bytes()).unwrap();
            assert!(hetu.is_artificial());
            women += usize::from(hetu.sex() == Sex::Female);
            assert!(cells[9].is_empty() || BusinessId::parse(cells[9].as_bytes()).is_ok());
            assert_eq!(cells[9].is_empty(), cells[8] == "1");
        }
        assert_eq!(keys.len(), 20_000);
        assert!((5_000..15_000).contains(&women));
    }
}
