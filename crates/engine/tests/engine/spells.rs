//! Components over spells are the same from shared scans as from queries of their own, whatever the
//! days, months, ages and weights.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Date32Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use tietopohja_engine::{CalcReport, CalcRequest, Engine, NoProgress, Role};

use crate::fixture::{Warehouse, contract_schema, day, session, shown, shown_cells};

/// Spells of the product with days that a delivery would not have, and weights that none has.
const RELATION: &str = "\
-- grain: one row per employment
-- key: county_code, employment_no
SELECT
    CASE WHEN cost_centre = '6' THEN CAST(NULL AS VARCHAR) ELSE county_code END AS county_code,
    delivery_id,
    CASE WHEN county_code = '07' THEN '109' ELSE '061' END AS municipality_code,
    employee_pid,
    birth_date,
    CASE WHEN agreement <> '0' THEN sex END AS sex,
    employment_no,
    unit_code,
    cost_centre,
    contract_type,
    post_no,
    started_on,
    ended_on,
    CASE cost_centre WHEN '1' THEN NULL WHEN '2' THEN -work_time_bp ELSE work_time_bp END AS weight
FROM staging.hr_employment
";

/// Kind of the indicator, lines of the source, lines of the component, lines of breakdowns.
struct Case(
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const SEX: &str = "[[breakdown]]\nname = \"sex\"\nvalues = [\"female\", \"male\", \"unknown\"]\n";
const COUNTY: &str = "county = \"county_code\"";
/// Members without weights, with weights below zero, and others.
const BY_WEIGHT: &str = "county = \"county_code\"\nbreakdown = { sex = \"CASE cost_centre WHEN '1' THEN 'female' WHEN '2' THEN 'male' END\" }";
const TOWN: &str = "municipality = \"municipality_code\"";

const CASES: [Case; 17] = [
    Case(
        "count",
        "stock",
        COUNTY,
        "agg = \"count\"\nat = \"period_end\"",
        "",
    ),
    Case(
        "count_by_sex",
        "stock",
        TOWN,
        "agg = \"count\"\nat = \"period_end\"\nwhere = \"contract_type <> '3'\"",
        SEX,
    ),
    Case(
        "sum",
        "stock",
        COUNTY,
        "agg = \"sum\"\nexpr = \"weight\"\nat = \"period_end\"",
        "",
    ),
    Case(
        "persons",
        "stock",
        COUNTY,
        "agg = \"persons\"\nat = \"period_end\"",
        SEX,
    ),
    Case(
        "persons_of_month",
        "stock",
        TOWN,
        "agg = \"persons\"\nat = \"period\"\nwhere = \"contract_type = '1'\"",
        "",
    ),
    Case(
        "young",
        "stock",
        COUNTY,
        "agg = \"persons\"\nat = \"period\"\nages = \"..=29\"\nage_at = \"year_end\"",
        SEX,
    ),
    Case(
        "grown",
        "stock",
        COUNTY,
        "agg = \"count\"\nat = \"period_end\"\nages = \"30..=59\"\nage_at = \"period_end\"",
        "",
    ),
    Case(
        "old",
        "stock",
        TOWN,
        "agg = \"persons\"\nat = \"period_end\"\nages = \"60..\"\nage_at = \"year_end\"",
        "",
    ),
    Case(
        "posts",
        "stock",
        COUNTY,
        "agg = \"distinct\"\nkey = \"post_no\"\nat = \"period\"",
        "",
    ),
    Case(
        "days",
        "person_time",
        COUNTY,
        "agg = \"days\"\nover = \"year_days\"",
        SEX,
    ),
    Case(
        "weighted",
        "person_time",
        BY_WEIGHT,
        "agg = \"days\"\nover = \"year_days\"\nexpr = \"weight\"",
        SEX,
    ),
    Case(
        "old_days",
        "person_time",
        COUNTY,
        "agg = \"days\"\nover = \"year_days\"\nexpr = \"weight * 2\"\nwhere = \"contract_type <> '2'\"\nages = \"60..\"\nage_at = \"period_end\"",
        "",
    ),
    Case("care_days", "sum", COUNTY, "agg = \"care_days\"", SEX),
    Case(
        "care_days_of_towns",
        "person_time",
        TOWN,
        "agg = \"care_days\"\nover = \"period_days\"\nwhere = \"contract_type <> '2'\"",
        "",
    ),
    Case(
        "care_days_of_the_old",
        "person_time",
        COUNTY,
        "agg = \"care_days\"\nover = \"year_days\"\nages = \"40..\"\nage_at = \"period_end\"",
        "",
    ),
    Case(
        "both_delivered",
        "stock",
        "county = \"county_code\"\n# posts too",
        "agg = \"persons\"\nat = \"period_end\"",
        "",
    ),
    Case(
        "unmatched",
        "stock",
        COUNTY,
        "agg = \"count\"\nat = \"period_end\"",
        "",
    ),
];

impl Case {
    /// Whether it needs no row of a month where no persons are told apart.
    fn adds_up(&self) -> bool {
        let Case(name, _, _, component, _) = self;
        let asks = ["persons", "distinct", "ages", "care_days"];
        *name != "unmatched" && !asks.iter().any(|ask| component.contains(ask))
    }

    /// The definition where the source tells who a person is.
    fn definition(&self) -> String {
        let Case(name, kind, area, component, breakdowns) = self;
        let deliveries = match *name {
            "both_delivered" => "\"hr_employment\", \"hr_post\"",
            _ => "\"hr_employment\"",
        };
        // The day after the last, where persons of a month are counted.
        let last_day = match *name {
            "persons_of_month" | "both_delivered" => "excluded",
            _ => "included",
        };
        let without = match *name {
            "unmatched" => {
                "[source.spells.without]\ntable = \"conformed.post\"\non = [\"county_code\", \"post_no\"]\nvalid_from = \"valid_from\"\nvalid_to = \"valid_to\"\nlast_day = \"included\"\n"
            }
            _ => "",
        };
        let level = match area.starts_with("county") {
            true => "county",
            false => "municipality",
        };
        format!(
            "schema = \"tietopohja-indicator/1\"
id = \"test.{name}\"
version = \"1.0.0\"
kind = \"{kind}\"
status = \"draft\"
mandate = \"management\"
[text.fi]
title = \"Jaksot\"
definition = \"Kokeiltavat jaksot.\"
unit = \"kpl\"
[owner]
unit = \"henkilöstö\"
role = \"henkilöstöjohtaja\"
[source.spells]
table = \"conformed.test_spell\"
valid_from = \"started_on\"
valid_to = \"ended_on\"
last_day = \"{last_day}\"
{area}
person = \"employee_pid\"
birth_date = \"birth_date\"
deliveries = [{deliveries}]
{without}[numerator]
from = \"spells\"
{component}
[time]
grains = [\"month\"]
[area]
levels = [\"{level}\"]
{breakdowns}[disclosure]
profile = \"person_count\"
"
        )
    }

    /// The same over the relation without persons.
    fn plain_definition(&self) -> String {
        let plain = self.definition().replace("id = \"test.", "id = \"plain.");
        let plain = plain.replace("conformed.test_spell", "conformed.test_plain");
        let plain = plain.replace("\"person_count\"", "\"public_money\"");
        let lines = plain
            .lines()
            .filter(|line| !line.starts_with("person = ") && !line.starts_with("birth_date = "));
        lines.map(|line| format!("{line}\n")).collect()
    }
}

/// Employments of a year: short, long, open, without a first day, ended before they began.
fn employments(county: i32, year: i16, count: usize) -> RecordBatch {
    let schema = contract_schema("hr_employment");
    let mixed = |n: usize, by: usize| (n * by + 5) % 9_973;
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let name = field.name().as_str();
        let first = |n: usize| day(year - 1, 11, 1) + (mixed(n, 389) % 420) as i32;
        let column: ArrayRef = match (name, field.data_type()) {
            ("started_on", _) => Arc::new(
                (0..count)
                    .map(|n| (n % 23 != 7).then(|| first(n)))
                    .collect::<Date32Array>(),
            ),
            ("ended_on", _) => {
                let length = |n: usize| [0, 1, 29, 62, 700][n % 5] + (mixed(n, 17) % 40) as i32 - 6;
                Arc::new(
                    (0..count)
                        .map(|n| (n % 4 != 1).then(|| first(n) + length(n)))
                        .collect::<Date32Array>(),
                )
            }
            ("employee_birth_date", _) => Arc::new(
                (0..count)
                    .map(|n| (n % 13 != 2).then(|| day(1950, 1, 1) + (mixed(n, 131) * 2) as i32))
                    .collect::<Date32Array>(),
            ),
            (_, DataType::Date32) => Arc::new(Date32Array::new_null(count)),
            (_, DataType::Binary) => Arc::new(
                (0..count)
                    .map(|n| Some((mixed(n, 7) as u128 % 50 + 1).to_be_bytes().to_vec()))
                    .collect::<BinaryArray>(),
            ),
            (_, DataType::Utf8) => {
                let text = |n: usize| match name {
                    "employment_no" => format!("{county}-{year}-{n}"),
                    "employee_sex" => ["female", "male"][mixed(n, 3) % 2].to_owned(),
                    _ => ((n * (at + 1) + n / 7 * 3) % 7).to_string(),
                };
                Arc::new((0..count).map(|n| Some(text(n))).collect::<StringArray>())
            }
            (_, other) => {
                let numbers = (0..count).map(|n| Some(10 + mixed(n, 41) as i64 % 90));
                cast(&numbers.collect::<Int64Array>(), other).unwrap()
            }
        };
        (name.to_owned(), column, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Posts 0 to 3 of a year, each valid in a part of it.
fn posts(year: i16) -> RecordBatch {
    let schema = contract_schema("hr_post");
    let columns = schema.fields().iter().map(|field| {
        let name = field.name().as_str();
        let column: ArrayRef = match (name, field.data_type()) {
            ("valid_from", _) => Arc::new(Date32Array::from_iter_values(
                (0..4).map(|n| day(year, 1 + 2 * n, 10)),
            )),
            ("valid_to", _) => Arc::new(
                (0..4)
                    .map(|n| (n != 3).then(|| day(year, 4 + 2 * n, 1)))
                    .collect::<Date32Array>(),
            ),
            ("post_no", _) => {
                Arc::new((0..4).map(|n| Some(n.to_string())).collect::<StringArray>())
            }
            (_, DataType::Utf8) => Arc::new(StringArray::from(vec!["1"; 4])),
            (_, other) => cast(&Int64Array::from(vec![50; 4]), other).unwrap(),
        };
        (name.to_owned(), column, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Two counties: one without 2023, the other without 2022 and the last third of 2024.
async fn landed() -> Warehouse {
    let warehouse = Warehouse::product();
    warehouse.write("sql/conformed/test_spell.sql", RELATION);
    let plain = RELATION.replace("    employee_pid,\n    birth_date,\n", "");
    assert_ne!(plain, RELATION);
    warehouse.write("sql/conformed/test_plain.sql", &plain);
    for case in &CASES {
        let file = format!("definitions/indicators/test.{}.toml", case.0);
        warehouse.write(&file, &case.definition());
    }
    for case in CASES.iter().filter(|case| case.adds_up()) {
        let file = format!("definitions/indicators/plain.{}.toml", case.0);
        warehouse.write(&file, &case.plain_definition());
    }
    warehouse.load_reference().await;
    for (county, year, month) in [(7, 2022, 12), (7, 2024, 12), (8, 2023, 12), (8, 2024, 8)] {
        let covers = (
            day(year, 1, 1),
            day(year + month / 12, month as i8 % 12 + 1, 1) - 1,
        );
        let period = i32::from(year) * 100 + 12;
        let rows = employments(county, year, 400);
        warehouse
            .land("hr_employment", county, period, covers, rows)
            .await;
    }
    for (year, covers) in [
        (2022, (day(2022, 4, 1), day(2022, 6, 30))),
        (2024, (day(2024, 10, 1), day(2024, 12, 31))),
    ] {
        let period = i32::from(year) * 100 + 12;
        warehouse
            .land("hr_post", 7, period, covers, posts(year))
            .await;
    }
    warehouse
}

fn tested() -> Vec<String> {
    CASES
        .iter()
        .map(|case| format!("test.{}", case.0))
        .collect()
}

fn plain() -> Vec<String> {
    let plain = CASES.iter().filter(|case| case.adds_up());
    plain.map(|case| format!("plain.{}", case.0)).collect()
}

async fn calc(engine: &Arc<Engine>, ids: Vec<String>, one_by_one: bool) -> CalcReport {
    let request = CalcRequest {
        ids,
        full: true,
        one_by_one,
        ..CalcRequest::default()
    };
    let report = engine.calc(&request, &NoProgress).await.unwrap();
    assert_eq!(report.failed(), 0, "{report:#?}");
    report
}

#[tokio::test]
async fn spells_in_shared_scans_are_those_of_their_own_queries() {
    let warehouse = landed().await;
    let cells = "SELECT indicator, component, area, area_base, period_start, sex, delivery_id, n, \
                 encode(persons, 'hex') AS persons, encode(hist, 'hex') AS hist, x FROM component.cell \
                 ORDER BY indicator, component, area_base, area, period_start, sex, delivery_id";
    let mut answers = Vec::new();
    for (one_by_one, partitions) in [(true, 2), (false, 1), (false, 2), (false, 7)] {
        let options = warehouse.product_options().target_partitions(partitions);
        let engine = Engine::open(options).await.unwrap();
        let report = calc(&engine, tested(), one_by_one).await;
        assert_eq!(report.scans.is_empty(), one_by_one, "{report:#?}");
        for scan in &report.scans {
            assert_eq!(scan.gave_way, None, "{scan:#?}");
            assert!(scan.spells && !scan.marks, "{scan:#?}");
        }
        let shared: usize = report.scans.iter().map(|scan| scan.components.len()).sum();
        assert!(one_by_one || shared == CASES.len() - 1, "{report:#?}");
        let admin = session(&engine, Role::Admin).await;
        answers.push(shown_cells(&warehouse, &admin, cells).await.unwrap());
    }
    for case in &CASES {
        let cells = answers[0].matches(&format!("| test.{} ", case.0)).count();
        assert!(cells > 5, "{} has {cells} cells:\n{}", case.0, answers[0]);
    }
    for answer in &answers {
        assert!(*answer == answers[0], "{answer}\n{}", answers[0]);
    }

    // The cases are all there: nothing where nothing was delivered, weights below zero and unknown.
    let engine = warehouse.product_engine().await;
    let admin = session(&engine, Role::Admin).await;
    for (rows, there) in [
        (
            "area = '07' AND date_part('year', period_start) = 2023",
            false,
        ),
        ("area = '08' AND period_start > DATE '2024-08-01'", false),
        ("area = '07' AND period_start = DATE '2022-12-01'", true),
        ("area = '08' AND period_start = DATE '2024-08-01'", true),
        (
            "indicator = 'test.both_delivered' AND date_part('month', period_start) IN (7, 8, 9)",
            false,
        ),
        ("area IS NULL", false),
        ("indicator = 'test.weighted' AND n < 0", true),
        ("indicator = 'test.weighted' AND n IS NULL", true),
        ("sex = 'unknown'", true),
    ] {
        let sql = format!(
            "SELECT count(*) > 0 AS there FROM component.cell WHERE indicator LIKE 'test.%' AND {rows}"
        );
        let found = shown(&admin, &sql).await.unwrap();
        assert!(found.contains(&format!("| {there} ")), "{rows}: {found}");
    }
}

/// Values of days of persons, counted day by day: of every month and year, county, and sex.
const DAY_BY_DAY: &str = "\
    WITH day AS (
        SELECT DISTINCT s.county_code AS area, coalesce(s.sex, 'unknown') AS sex, s.employee_pid AS person, c.date AS day
        FROM conformed.test_spell AS s
        JOIN reference.calendar AS c
            ON c.date >= s.started_on AND (s.ended_on IS NULL OR c.date <= s.ended_on)
        JOIN meta.delivered_month AS d
            ON d.contract = 'hr_employment' AND d.county_code = s.county_code
            AND d.month_start = date_trunc('month', c.date)
        WHERE s.unit_code = '3'
    ),
    whole AS (SELECT * FROM day UNION ALL SELECT area, NULL, person, day FROM day),
    of_period AS (
        SELECT *, 'month' AS grain, CAST(date_trunc('month', day) AS DATE) AS period_start FROM whole
        UNION ALL
        SELECT *, 'year', CAST(date_trunc('year', day) AS DATE) FROM whole
    )
    SELECT area, grain, period_start, sex,
        count(DISTINCT concat(encode(person, 'hex'), CAST(day AS VARCHAR))) AS days,
        count(DISTINCT person) AS persons
    FROM of_period
    GROUP BY area, grain, period_start, sex";

#[tokio::test]
async fn a_day_of_a_person_counts_once_in_every_area_period_and_member() {
    let warehouse = landed().await;
    let Some(case) = CASES.iter().find(|case| case.0 == "care_days") else {
        panic!("there is no case of care days");
    };
    let grains = "grains = [\"month\", \"year\"]";
    let definition = case.definition().replace("grains = [\"month\"]", grains);
    let some = "agg = \"care_days\"\nwhere = \"unit_code = '3'\"";
    let definition = definition.replace("agg = \"care_days\"", some);
    warehouse.write("definitions/indicators/test.care_days.toml", &definition);
    let differing = format!(
        "WITH own AS (
            SELECT area, period_grain AS grain, period_start, sex,
                numerator AS days, conf_status
            FROM result.indicator_value WHERE indicator = 'test.care_days' AND obs_status <> 'L'
        ),
        known AS ({DAY_BY_DAY})
        SELECT count(*) FILTER (WHERE own.days > 0) > 100 AS filled,
            count(*) FILTER (WHERE own.days <> coalesce(known.days, 0)) AS other_days,
            count(*) FILTER (WHERE own.conf_status = 'C') > 10 AS few,
            count(*) FILTER (WHERE own.days > 0 AND (own.conf_status = 'C') <> (known.persons < 5)) AS other_persons
        FROM own LEFT JOIN known
            ON known.area = own.area AND known.grain = own.grain
            AND known.period_start = own.period_start AND known.sex IS NOT DISTINCT FROM own.sex"
    );
    let mut answers = Vec::new();
    for (one_by_one, partitions) in [(true, 2), (false, 1), (false, 7)] {
        let options = warehouse.product_options().target_partitions(partitions);
        let engine = Engine::open(options).await.unwrap();
        calc(&engine, vec!["test.care_days".to_owned()], one_by_one).await;
        let admin = session(&engine, Role::Admin).await;
        answers.push(shown(&admin, &differing).await.unwrap());
    }
    for answer in &answers {
        assert!(
            answer.contains("| true   | 0          | true | 0  "),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn spells_as_marks_are_those_of_their_own_queries() {
    let warehouse = landed().await;
    let cells = "SELECT indicator, area, area_base, period_start, sex, delivery_id, n FROM component.cell \
                 WHERE indicator LIKE 'plain.%' \
                 ORDER BY indicator, area_base, area, period_start, sex, delivery_id";
    let mut answers = Vec::new();
    for (one_by_one, partitions) in [(true, 2), (false, 1), (false, 2), (false, 7)] {
        let options = warehouse.product_options().target_partitions(partitions);
        let engine = Engine::open(options).await.unwrap();
        let report = calc(&engine, plain(), one_by_one).await;
        for scan in &report.scans {
            assert_eq!(scan.gave_way, None, "{scan:#?}");
            assert!(scan.spells && scan.marks, "{scan:#?}");
        }
        let shared: usize = report.scans.iter().map(|scan| scan.components.len()).sum();
        assert_eq!(shared, if one_by_one { 0 } else { plain().len() });
        let admin = session(&engine, Role::Admin).await;
        answers.push(shown_cells(&warehouse, &admin, cells).await.unwrap());
    }
    assert_eq!(plain().len(), 5);
    for id in plain() {
        let cells = answers[0].matches(&format!("| {id} ")).count();
        assert!(cells > 5, "{id} has {cells} cells:\n{}", answers[0]);
    }
    for answer in &answers {
        assert!(*answer == answers[0], "{answer}\n{}", answers[0]);
    }
    let engine = warehouse.product_engine().await;
    let admin = session(&engine, Role::Admin).await;
    for cells in ["n < 0", "n IS NULL", "n > 0", "area = '08'"] {
        let sql = format!(
            "SELECT count(*) > 0 AS there FROM component.cell \
             WHERE indicator = 'plain.weighted' AND {cells}"
        );
        let found = shown(&admin, &sql).await.unwrap();
        assert!(found.contains("| true "), "{cells}: {found}");
    }
}

#[tokio::test]
async fn spells_share_a_scan_by_relation_last_day_and_deliveries() {
    let warehouse = landed().await;
    let engine = warehouse.product_engine().await;
    let (scans, alone) = engine.plan_scans(&tested()).await.unwrap();
    let mut shared: Vec<Vec<&str>> = scans
        .iter()
        .map(|scan| {
            assert_eq!(
                (scan.table.as_str(), scan.spells),
                ("conformed.test_spell", true)
            );
            let components = scan.components.iter();
            components
                .filter_map(|of| of.strip_suffix("/numerator"))
                .collect()
        })
        .collect();
    shared.sort_by_key(|components| (components.len(), components[0]));
    assert_eq!(shared[0], ["test.both_delivered"]);
    assert_eq!(shared[1], ["test.persons_of_month"]);
    assert_eq!(shared.len(), 3);
    assert_eq!(shared[2].len(), CASES.len() - 3);
    assert_eq!(alone.len(), 1, "{alone:#?}");
    assert_eq!(alone[0].component, "test.unmatched/numerator");
    assert_eq!(
        alone[0].why,
        "it looks for rows of another relation beside each spell"
    );
}

#[tokio::test]
async fn days_that_are_moments_are_left_to_their_own_query() {
    let warehouse = landed().await;
    let moments = RELATION.replace(
        "    ended_on,",
        "    CAST(ended_on AS TIMESTAMP) + INTERVAL '9 hours' AS ended_on,",
    );
    assert_ne!(moments, RELATION);
    warehouse.write("sql/conformed/test_spell.sql", &moments);
    let cells = "SELECT indicator, area, period_start, sex, delivery_id, n, encode(persons, 'hex') AS persons \
                 FROM component.cell WHERE indicator IN ('test.count', 'test.persons') \
                 ORDER BY indicator, area, period_start, sex, delivery_id";
    let mut answers = Vec::new();
    for one_by_one in [true, false] {
        let engine = warehouse.product_engine().await;
        let request = CalcRequest {
            ids: vec!["test.count".to_owned(), "test.persons".to_owned()],
            full: true,
            one_by_one,
            ..CalcRequest::default()
        };
        let report = engine.calc(&request, &NoProgress).await.unwrap();
        assert_eq!(report.failed(), 0, "{report:#?}");
        let gave_way = report.scans.iter().all(|scan| scan.gave_way.is_some());
        assert!(gave_way, "{report:#?}");
        let admin = session(&engine, Role::Admin).await;
        answers.push(shown_cells(&warehouse, &admin, cells).await.unwrap());
    }
    assert!(answers[0].lines().count() > 20, "{}", answers[0]);
    assert_eq!(answers[0], answers[1]);
}
