//! Shipped definitions load and compile; bad ones say everything that is wrong with them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use support::{Warehouse, check_golden, crate_dir, repository, toml_files};
use tietopohja_indicators::{
    Alone, Catalogue, Kind, Language, RowMeasure, Span, SpellAges, SpellReach,
};

fn shipped() -> Catalogue {
    let definitions = toml_files(&repository().join("definitions/indicators"));
    let limits = toml_files(&repository().join("definitions/limits"));
    Warehouse::read()
        .load(&definitions, &limits)
        .unwrap_or_else(|problems| {
            panic!("{}", tietopohja_domain::render_problems(&problems));
        })
}

fn test_limits() -> Vec<(String, String)> {
    toml_files(&repository().join("definitions/limits"))
}

#[test]
fn every_shipped_definition_loads_without_problems() {
    let catalogue = shipped();
    assert!(
        catalogue.indicators().len() >= 35,
        "{} indicators",
        catalogue.indicators().len()
    );
    for indicator in catalogue.indicators() {
        assert_eq!(
            format!("{}.toml", indicator.id()),
            indicator.file(),
            "a file is named after its indicator"
        );
        for language in [Language::Fi, Language::Sv, Language::En] {
            assert!(
                indicator.text(language).is_some(),
                "{} has a title in {language}",
                indicator.id()
            );
        }
        assert!(
            indicator.text(Language::Fi).unwrap().source.is_some(),
            "{} says where its data come from",
            indicator.id()
        );
    }
}

#[test]
fn shipped_definitions_use_every_kind_but_sum() {
    let used: BTreeSet<Kind> = shipped()
        .indicators()
        .iter()
        .map(tietopohja_indicators::Indicator::kind)
        .collect();
    let all: BTreeSet<Kind> = Kind::ALL
        .iter()
        .copied()
        .filter(|k| *k != Kind::Sum)
        .collect();
    assert_eq!(used, all);
}

#[test]
fn storage_numbers_are_positive_and_differ() {
    let catalogue = shipped();
    let numbers: BTreeSet<i32> = catalogue
        .indicators()
        .iter()
        .map(tietopohja_indicators::Indicator::number)
        .collect();
    assert_eq!(numbers.len(), catalogue.indicators().len());
    assert!(numbers.iter().all(|n| *n >= 0));
}

#[test]
fn breakdowns_of_the_catalogue_are_the_sorted_union() {
    assert_eq!(
        shipped().breakdowns(),
        [
            "age_group",
            "production",
            "profession_group",
            "service_code",
            "sex",
            "task_group"
        ]
    );
}

#[test]
fn an_unknown_id_gets_a_suggestion() {
    let catalogue = shipped();
    assert!(catalogue.get("lasu.notification_per_1000").is_none());
    assert_eq!(
        catalogue.suggest("lasu.notification_per_1000"),
        Some("lasu.notifications_per_1000")
    );
}

#[test]
fn contracts_and_tables_are_those_of_the_sources() {
    let catalogue = shipped();
    let vacancy = catalogue.get("hr.vacancy_rate").unwrap();
    assert_eq!(vacancy.contracts(), ["hr_employment", "hr_post"]);
    assert_eq!(
        vacancy.tables(),
        ["conformed.employment_spell", "conformed.post"]
    );
    let need = catalogue.get("need.service_need").unwrap();
    assert_eq!(need.contracts(), Vec::<&str>::new());
    assert_eq!(
        need.tables(),
        [
            "reference.need_coefficient",
            "reference.need_mean",
            "reference.need_population",
            "reference.need_sector_weight"
        ]
    );
}

#[test]
fn a_population_is_a_public_denominator_and_clients_are_not() {
    let catalogue = shipped();
    assert!(
        catalogue
            .get("lasu.placed_0_17_pct")
            .unwrap()
            .denominator_is_public()
    );
    assert!(
        !catalogue
            .get("lasu.family_care_share")
            .unwrap()
            .denominator_is_public()
    );
}

#[test]
fn limits_of_the_care_guarantee_follow_the_law_of_their_day() {
    let catalogue = shipped();
    let rules: Vec<String> = catalogue
        .limits()
        .iter()
        .filter(|l| l.id() == "statute.hoitotakuu_pth")
        .map(|l| {
            let day =
                |d: Option<tietopohja_domain::Date>| d.map_or("open".to_owned(), |d| d.to_string());
            format!(
                "{} {} {} {}..{}",
                l.value().unwrap(),
                l.unit(),
                l.condition().unwrap_or_else(|| "everyone".to_owned()),
                day(l.valid_from()),
                day(l.valid_to())
            )
        })
        .collect();
    assert_eq!(
        rules,
        [
            "3 month everyone open..2023-09-01",
            "14 day everyone 2023-09-01..2025-01-01",
            "14 day age < 23 2025-01-01..open",
            "3 month age >= 23 2025-01-01..open",
        ]
    );
}

/// One indicator of each kind: the SQL it becomes.
#[test]
fn each_kind_compiles_to_its_golden_sql() {
    let mut definitions = toml_files(&crate_dir().join("testdata/compiled"));
    let examples = [
        "hr.headcount",
        "hr.person_years",
        "hr.turnover_out",
        "hr.vacancy_rate",
        "lasu.notifications_per_1000",
        "need.service_need",
        "ostot.unit_cost_care_day",
        "pth.waiting_time_nonurgent",
        "talous.budget_execution",
        "talous.net_cost_per_inhabitant",
        "talous.purchased_client_services_share",
        "vaesto.population",
    ];
    for (file, text) in toml_files(&repository().join("definitions/indicators")) {
        if examples.iter().any(|id| file == format!("{id}.toml")) {
            definitions.push((file, text));
        }
    }
    let catalogue = Warehouse::read()
        .load(&definitions, &test_limits())
        .unwrap();
    let kinds: BTreeSet<Kind> = catalogue
        .indicators()
        .iter()
        .map(tietopohja_indicators::Indicator::kind)
        .collect();
    assert_eq!(kinds.len(), Kind::ALL.len(), "every kind has a golden text");
    for indicator in catalogue.indicators() {
        let compiled = catalogue.compile(indicator);
        assert_eq!(
            compiled,
            catalogue.compile(indicator),
            "the text depends on nothing else"
        );
        let mut text = String::new();
        for component in &compiled.components {
            let _ = writeln!(text, "{}", component.sql);
        }
        let _ = write!(text, "{}\n{}", compiled.value_sql, compiled.lineage_sql);
        check_golden(
            &crate_dir().join(format!("testdata/compiled/{}.sql", indicator.id())),
            &text,
        );
    }
}

#[test]
fn a_stock_takes_the_last_month_and_a_year_to_date_all_months_so_far() {
    let catalogue = shipped();
    let spans = |id: &str| -> Vec<(String, Span)> {
        catalogue
            .compile(catalogue.get(id).unwrap())
            .components
            .into_iter()
            .map(|c| (c.name, c.span))
            .collect()
    };
    assert_eq!(
        spans("hr.headcount"),
        [("numerator".to_owned(), Span::PeriodEnd)]
    );
    assert_eq!(
        spans("talous.budget_execution"),
        [
            ("actual".to_owned(), Span::YearToDate),
            ("budget".to_owned(), Span::FullYear)
        ]
    );
    assert_eq!(
        spans("vaesto.population"),
        [
            ("numerator".to_owned(), Span::Period),
            ("numerator_estimated".to_owned(), Span::Period)
        ]
    );
}

#[test]
fn a_component_stands_alone_only_for_a_reason() {
    let catalogue = shipped();
    let mut alone: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for indicator in catalogue.indicators() {
        for component in catalogue.compile(indicator).components {
            let why = match component.row {
                Ok(_) => continue,
                Err(Alone::Matches) => "matches",
                Err(Alone::SeveralRelations) => "several relations",
                Err(Alone::NewestVersion) => "newest version",
                Err(Alone::Model) => "model",
            };
            let name = format!("{}/{}", indicator.id(), component.name);
            alone.entry(why).or_default().push(name);
        }
    }
    assert_eq!(alone["matches"], ["hr.vacancy_rate/numerator"]);
    assert_eq!(
        alone["several relations"],
        ["ostot.unit_cost_care_day/numerator"]
    );
    // Of events, the newest version is found in a shared scan; of spells nobody asks for it.
    assert_eq!(alone.get("newest version"), None);
    let budget = catalogue.compile(catalogue.get("talous.budget_execution").unwrap());
    let latest = |name: &str| {
        let found = budget.components.iter().find(|c| c.name == name).unwrap();
        found.row.as_ref().unwrap().latest.clone()
    };
    assert_eq!(latest("budget"), Some("version".to_owned()));
    assert_eq!(latest("actual"), None);
    assert!(
        alone["model"]
            .iter()
            .all(|of| of.starts_with("need.service_need/"))
    );
}

#[test]
fn spells_say_what_they_reach_and_at_what_age() {
    let catalogue = shipped();
    let spell = |id: &str, component: &str| {
        let compiled = catalogue.compile(catalogue.get(id).unwrap());
        let mut components = compiled.components.into_iter();
        let found = components.find(|c| c.name == component).unwrap();
        let row = found.row.unwrap();
        assert_eq!(row.period, None, "{id}");
        let spell = row.spell.unwrap();
        // The months are those of the component's own query.
        assert!(found.sql.contains(&spell.months), "{id}: {}", found.sql);
        (spell, row.measure)
    };
    let (days, measure) = spell("hr.person_years", "numerator");
    assert_eq!((days.reach, days.ages), (SpellReach::AnyDay, None));
    assert_eq!(measure, RowMeasure::Days(Some("work_time_bp".to_owned())));
    let ends = [
        days.organiser.as_str(),
        days.first_day.as_str(),
        days.last_day.as_str(),
    ];
    assert_eq!(ends, ["county_code", "started_on", "ended_on"]);
    let ages = |from: u32| {
        Some(SpellAges {
            birth_date: "birth_date".to_owned(),
            from: Some(from),
            to: None,
            at_year_end: false,
        })
    };
    let (old, measure) = spell("hr.staff_60_share", "numerator");
    assert_eq!((old.reach, old.ages), (SpellReach::LastDay, ages(60)));
    assert_eq!(measure, RowMeasure::Persons);
    let (housed, _) = spell("iakkaat.housing_24h_75_pct", "numerator");
    assert_eq!((housed.reach, housed.ages), (SpellReach::LastDay, ages(75)));
    // Who leaves on a day is not there on it.
    assert_eq!(housed.last_day, "ended_on - 1");
    let (before, _) = spell("hr.turnover_in", "denominator");
    assert_eq!((before.reach, before.ages), (SpellReach::LastDay, None));
}

#[test]
fn bad_definitions_report_every_problem_at_once() {
    let folder = crate_dir().join("testdata/bad");
    let warehouse = Warehouse::read();
    for (file, text) in toml_files(&folder) {
        let problems = if text.contains("tietopohja-limits/1") {
            warehouse.load(&[], &[(file.clone(), text)])
        } else {
            warehouse.load(&[(file.clone(), text)], &test_limits())
        };
        let problems = problems.err().unwrap_or_default();
        assert!(!problems.is_empty(), "{file} has no problem");
        let report = tietopohja_domain::render_problems(&problems) + "\n";
        check_golden(&folder.join(file.replace(".toml", ".problems")), &report);
    }
}

#[test]
fn two_files_with_one_id_are_refused() {
    let text =
        std::fs::read_to_string(repository().join("definitions/indicators/hr.headcount.toml"))
            .unwrap();
    let definitions = [
        ("a.toml".to_owned(), text.clone()),
        ("b.toml".to_owned(), text),
    ];
    let problems = Warehouse::read().load(&definitions, &[]).err().unwrap();
    assert_eq!(
        tietopohja_domain::render_problems(&problems),
        "b.toml: indicator `hr.headcount` is already defined in a.toml\n  help: give one of them another `id`"
    );
}

/// A file with any one line taken out either loads or has problems; nothing panics.
#[test]
fn a_definition_that_lost_a_line_never_panics() {
    let warehouse = Warehouse::read();
    let limits = test_limits();
    let mut refused = 0;
    for (file, text) in toml_files(&repository().join("definitions/indicators")) {
        let lines: Vec<&str> = text.lines().collect();
        for lost in 0..lines.len() {
            let rest: Vec<&str> = lines
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != lost)
                .map(|(_, l)| *l)
                .collect();
            match warehouse.load(&[(file.clone(), rest.join("\n"))], &limits) {
                Ok(catalogue) => {
                    for indicator in catalogue.indicators() {
                        let _ = catalogue.compile(indicator);
                    }
                }
                Err(problems) => {
                    refused += 1;
                    assert!(problems.iter().all(|p| !p.message.is_empty()));
                }
            }
        }
    }
    assert!(
        refused > 500,
        "only {refused} damaged definitions were refused"
    );
}
