//! From the text of a definition file to a checked [`Indicator`].
//!
//! Here is what all kinds share: names, texts, owner, sources, breakdowns, components. What differs
//! by kind is in `kinds/`. Every check reports and goes on, so one run shows everything.

use std::collections::BTreeMap;

use tietopohja_domain::Problem;

use crate::catalogue::CatalogueInput;
use crate::document::{Document, Field, Section, suggestion};
use crate::expression::{self, Fragment, Scope, Wanted};
use crate::indicator::{
    AgeAt, Ages, Base, Breakdown, Component, Direction, Formula, Grain, Indicator, Kind, Language,
    Level, Mandate, Match, Measure, Members, Over, Owner, Scope as AreaScope, Source, Span, Status,
    Term, Text, Time, Validity,
};
use crate::kinds;
use crate::limits::Limit;
use crate::words::words;

/// Sections that only some kinds have.
const KIND_KEYS: &[&str] = &[
    "numerator",
    "denominator",
    "component",
    "duration",
    "model",
    "output",
    "uncertainty",
    "scale",
    "source",
];

/// Names that columns of components and results already have.
const TAKEN: &[&str] = &[
    "age",
    "area",
    "area_base",
    "area_level",
    "base",
    "complete",
    "component",
    "conf_status",
    "contributors",
    "delivery_id",
    "denominator_status",
    "estimated",
    "grain",
    "hist",
    "indicator",
    "label",
    "lower",
    "n",
    "obs_status",
    "output",
    "period",
    "period_end",
    "period_grain",
    "period_start",
    "persons",
    "published_at",
    "quality",
    "residents",
    "run_id",
    "span",
    "unit",
    "upper",
    "value",
    "version",
    "x",
    "year",
];

words! {
    /// How the rows of a component are put together.
    pub(crate) enum Aggregate {
        /// Rows.
        Count = "count",
        /// The sum of `expr`.
        Sum = "sum",
        /// Distinct persons.
        Persons = "persons",
        /// Distinct values of `key`.
        Distinct = "distinct",
        /// Days of spells, times `expr`.
        Days = "days",
        /// Days of persons in spells, a day of a person once.
        CareDays = "care_days",
    }
}

words! {
    /// Whether the day in `valid_to` belongs to the spell.
    enum LastDay {
        Included = "included",
        Excluded = "excluded",
    }
}

words! {
    /// How a source without deliveries says what it knows.
    enum Coverage {
        /// An area is known for a year when there is a row of it.
        Rows = "rows",
    }
}

/// A source and what its table looks like. When the source has problems, what could not be read is
/// filled in, so that the components can still be checked; the indicator is refused all the same.
pub(crate) struct SourceEntry {
    pub(crate) source: Source,
    pub(crate) columns: Option<Vec<(String, String)>>,
    line: u32,
    time_known: bool,
    base_known: bool,
}

impl SourceEntry {
    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope {
            table: &self.source.table,
            columns: self.columns.as_deref(),
        }
    }

    fn is_spell(&self) -> bool {
        matches!(self.source.time, Time::Spell(_))
    }

    /// Whether the source is certainly of events.
    pub(crate) fn is_event(&self) -> bool {
        matches!(self.source.time, Time::Event(_)) && self.time_known
    }
}

/// What the reader of a kind needs.
pub(crate) struct Context<'c, 'd, 'i> {
    pub(crate) root: &'c Section<'d, 'i>,
    pub(crate) kind: Kind,
    pub(crate) input: &'c CatalogueInput<'c>,
    pub(crate) limits: &'c [Limit],
    pub(crate) sources: BTreeMap<String, SourceEntry>,
    pub(crate) breakdowns: Vec<(Breakdown, u32)>,
    pub(crate) grains: Vec<Grain>,
    pub(crate) unit: Option<String>,
}

/// Reads one definition. Problems go to `problems`; a definition with problems is not returned.
pub(crate) fn read(
    file: &str,
    text: &str,
    input: &CatalogueInput<'_>,
    limits: &[Limit],
    problems: &mut Vec<Problem>,
) -> Option<Indicator> {
    let (document, table) = Document::parse(file, text);
    if document.problem_count() > 0 {
        problems.extend(document.into_problems());
        return None;
    }
    let root = document.root(table.get_ref());
    let indicator = read_root(file, &root, input, limits);
    let sound = document.problem_count() == 0;
    problems.extend(document.into_problems());
    indicator.filter(|_| sound)
}

fn read_root(
    file: &str,
    root: &Section<'_, '_>,
    input: &CatalogueInput<'_>,
    limits: &[Limit],
) -> Option<Indicator> {
    if let Some(schema) = root.required_text("schema")
        && schema.value != "tietopohja-indicator/1"
    {
        let help = Some("write `schema = \"tietopohja-indicator/1\"`".to_owned());
        root.problem(
            schema.line,
            format!("unknown schema `{}`", schema.value),
            help,
        );
    }
    let id = root.required_text("id");
    if let Some(id) = &id {
        check_id(root, id);
    }
    let version = root.required_text("version");
    if let Some(version) = &version {
        check_version(root, version);
    }
    let kind = root.required_word::<Kind>("kind");
    let status = root.required_word::<Status>("status");
    let mandate = root.required_word::<Mandate>("mandate");
    let catalogue = root.texts("catalogue");
    let better = root.word::<Direction>("better");
    let texts = read_texts(root, mandate.as_ref().map(|m| m.value));
    let owner = read_owner(root);
    let (levels, scope) = read_area(root);
    let grains = read_time(root);
    let annualise = read_annualise(root, kind.as_ref().map(|k| k.value));
    let sources = read_sources(root, input);
    let breakdowns = read_breakdowns(root, input);
    let profile = read_disclosure(root, input, &sources);

    // Without a kind nothing more can be said about the rest.
    let Some(Field { value: kind, .. }) = kind else {
        root.leave_unread(KIND_KEYS);
        root.finish(&[], "");
        return None;
    };
    let unit = texts.get(&Language::Fi).and_then(|t| t.unit.clone());
    let context = Context {
        root,
        kind,
        input,
        limits,
        sources,
        breakdowns,
        grains,
        unit,
    };
    let parts = kinds::read(&context, annualise);
    let reason = format!("kind `{kind}` does not use it");
    root.finish(KIND_KEYS, &reason);
    check_time(
        &context,
        parts
            .as_ref()
            .map(|p| p.components.as_slice())
            .unwrap_or_default(),
    );
    check_area(&context, &levels);
    check_sources_used(&context, parts.as_ref().map(|p| p.components.as_slice()));

    let mut parts = parts?;
    let Context {
        sources,
        breakdowns,
        grains,
        ..
    } = context;
    let estimates: Vec<Component> = parts
        .components
        .iter()
        .filter_map(|c| count_estimates(c, &sources))
        .collect();
    parts.components.extend(estimates);
    Some(Indicator {
        file: file.to_owned(),
        id: id?.value,
        version: version?.value,
        kind,
        status: status?.value,
        mandate: mandate?.value,
        catalogue: catalogue.into_iter().map(|c| c.value).collect(),
        better: better.map_or(Direction::Context, |b| b.value),
        texts,
        owner: owner?,
        levels: levels.into_iter().map(|l| l.value).collect(),
        grains,
        scope,
        breakdowns: breakdowns.into_iter().map(|(b, _)| b).collect(),
        outputs: parts.outputs,
        disclosure_profile: profile?,
        sources: sources
            .into_iter()
            .map(|(name, entry)| (name, entry.source))
            .collect(),
        components: parts.components,
        formula: parts.formula,
    })
}

/// The component that counts the estimated rows of another.
fn count_estimates(
    component: &Component,
    sources: &BTreeMap<String, SourceEntry>,
) -> Option<Component> {
    let says = |name: &&String| {
        sources
            .get(*name)
            .is_some_and(|e| e.source.estimated.is_some())
    };
    let from: Vec<String> = component.from.iter().filter(says).cloned().collect();
    (!from.is_empty()).then(|| Component {
        name: format!("{}_estimated", component.name),
        from,
        measure: Measure::Count,
        estimates: true,
        ..component.clone()
    })
}

/// Whether a text may be a name in SQL and in files: `wait_days`.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn check_id(root: &Section<'_, '_>, id: &Field<String>) {
    let parts: Vec<&str> = id.value.split('.').collect();
    if parts.len() < 2 || !parts.iter().all(|part| is_name(part)) {
        root.problem(
            id.line,
            format!("`{}` is not an id", id.value),
            Some(
                "write small letters, digits and `_`, with a domain before a point: `lasu.notifications_per_1000`"
                    .to_owned(),
            ),
        );
    }
}

fn check_version(root: &Section<'_, '_>, version: &Field<String>) {
    let parts: Vec<&str> = version.value.split('.').collect();
    let number = |p: &&str| {
        !p.is_empty()
            && p.bytes().all(|b| b.is_ascii_digit())
            && (p.len() == 1 || !p.starts_with('0'))
    };
    if parts.len() != 3 || !parts.iter().all(number) {
        let help = "write MAJOR.MINOR.PATCH: series break, recompute, text only".to_owned();
        root.problem(
            version.line,
            format!("`{}` is not a version", version.value),
            Some(help),
        );
    }
}

/// Reports a name that cannot be used as a column; `what` says whose name it is.
pub(crate) fn check_name(section: &Section<'_, '_>, line: u32, what: &str, name: &str) {
    if !is_name(name) {
        let help = "write small letters, digits and `_`, beginning with a letter".to_owned();
        section.problem(
            line,
            format!("`{name}` is not a name for {what}"),
            Some(help),
        );
    } else if !expression::is_plain_identifier(name) {
        section.problem(
            line,
            format!("`{name}` is a word of SQL"),
            Some(format!("give {what} another name")),
        );
    } else if TAKEN.contains(&name) {
        section.problem(
            line,
            format!("`{name}` is already a name of something else"),
            Some(format!("give {what} another name")),
        );
    }
}

fn read_texts(root: &Section<'_, '_>, mandate: Option<Mandate>) -> BTreeMap<Language, Text> {
    let mut texts = BTreeMap::new();
    let Some(section) = root.required_section("text") else {
        return texts;
    };
    for (key, language) in [
        ("fi", Language::Fi),
        ("sv", Language::Sv),
        ("en", Language::En),
    ] {
        let Some(language_section) = section.section(key) else {
            continue;
        };
        let title = language_section.required_text("title");
        let text = |key| language_section.text(key).map(|t: Field<String>| t.value);
        let found = Text {
            title: title.map(|t| t.value).unwrap_or_default(),
            definition: text("definition"),
            limits_of_use: text("limits_of_use"),
            unit: text("unit"),
            source: text("source"),
        };
        language_section.finish(&[], "");
        if language == Language::Fi && found.definition.is_none() {
            language_section.problem(
                language_section.line,
                "`[text.fi]` has no `definition`",
                Some("say in words what is counted".to_owned()),
            );
        }
        texts.insert(language, found);
    }
    section.finish(&[], "");
    if !texts.contains_key(&Language::Fi) {
        root.problem(
            section.line,
            "there is no `[text.fi]`",
            Some("every indicator has a Finnish title".to_owned()),
        );
    }
    let public = matches!(mandate, Some(Mandate::Statutory | Mandate::National));
    if public && !texts.contains_key(&Language::Sv) {
        root.problem(
            section.line,
            "there is no `[text.sv]`, and a public indicator is published in Finnish and Swedish",
            Some("add `[text.sv]` with a `title`".to_owned()),
        );
    }
    texts
}

fn read_owner(root: &Section<'_, '_>) -> Option<Owner> {
    let section = root.required_section("owner")?;
    let unit = section.required_text("unit");
    let role = section.required_text("role");
    let review_by = section.date("review_by").map(|d| d.value);
    section.finish(&[], "");
    Some(Owner {
        unit: unit?.value,
        role: role?.value,
        review_by,
    })
}

fn read_area(root: &Section<'_, '_>) -> (Vec<Field<Level>>, AreaScope) {
    let Some(section) = root.required_section("area") else {
        return (Vec::new(), AreaScope::Organisers);
    };
    let mut levels = section.words::<Level>("levels");
    levels.sort_by_key(|l| l.value);
    if levels.is_empty() {
        section.problem(
            section.line,
            "`[area]` has no `levels`",
            Some("write `levels = [\"county\", \"country\"]`".to_owned()),
        );
    }
    let scope = section.word::<AreaScope>("scope");
    section.finish(&[], "");
    (levels, scope.map_or(AreaScope::Organisers, |s| s.value))
}

fn read_time(root: &Section<'_, '_>) -> Vec<Grain> {
    let Some(section) = root.required_section("time") else {
        return Vec::new();
    };
    let mut grains: Vec<Grain> = section
        .words::<Grain>("grains")
        .into_iter()
        .map(|g| g.value)
        .collect();
    grains.sort_unstable();
    if grains.is_empty() {
        section.problem(
            section.line,
            "`[time]` has no `grains`",
            Some("write `grains = [\"month\", \"year\"]`".to_owned()),
        );
    }
    section.boolean("annualise");
    section.finish(&[], "");
    grains
}

fn read_annualise(root: &Section<'_, '_>, kind: Option<Kind>) -> bool {
    let Some(annualise) = root.section("time").and_then(|s| s.boolean("annualise")) else {
        return false;
    };
    if annualise.value && kind.is_some_and(|k| k != Kind::Rate) {
        root.problem(
            annualise.line,
            "only a rate may be multiplied to a yearly level",
            Some("leave `annualise` out".to_owned()),
        );
    }
    annualise.value
}

fn read_sources(
    root: &Section<'_, '_>,
    input: &CatalogueInput<'_>,
) -> BTreeMap<String, SourceEntry> {
    let mut sources = BTreeMap::new();
    for (name, section) in root.named_sections("source") {
        if !is_name(&name) {
            let help = "write small letters, digits and `_`, beginning with a letter".to_owned();
            section.problem(
                section.line,
                format!("`{name}` is not a name for a source"),
                Some(help),
            );
        }
        sources.insert(name, read_source(&section, input));
    }
    sources
}

/// The columns of a table; an unknown table is reported.
pub(crate) fn table_columns(
    section: &Section<'_, '_>,
    table: &Field<String>,
    input: &CatalogueInput<'_>,
) -> Option<Vec<(String, String)>> {
    let columns = input.tables.columns(&table.value);
    if columns.is_none() {
        let known = input.tables.tables();
        section.problem(
            table.line,
            format!("there is no table `{}`", table.value),
            Some(suggestion(&table.value, known.iter().map(String::as_str))),
        );
    }
    columns
}

fn read_source(section: &Section<'_, '_>, input: &CatalogueInput<'_>) -> SourceEntry {
    let named = section.required_text("table");
    let columns = named
        .as_ref()
        .and_then(|table| table_columns(section, table, input));
    let table = named.unwrap_or_else(|| Field {
        value: "conformed.".to_owned(),
        line: section.line,
    });
    if !table.value.starts_with("conformed.") && !table.value.starts_with("reference.") {
        section.problem(
            table.line,
            format!("an indicator may not read `{}`", table.value),
            Some(
                "read `conformed.…` or `reference.…`; a source system's own form stays in staging"
                    .to_owned(),
            ),
        );
    }
    let scope = Scope {
        table: &table.value,
        columns: columns.as_deref(),
    };
    let column = |key: &'static str| {
        let field = section.text(key)?;
        scope.require(section, &field)?;
        Some(field)
    };
    let filter = section
        .text("where")
        .and_then(|t| expression::read(section, &t, &scope, Wanted::Condition));
    let estimated = section
        .text("estimated")
        .and_then(|t| expression::read(section, &t, &scope, Wanted::Condition));
    let time = read_when(section, &scope, &column);
    let (base, area) = read_where(section, &column);
    let person = column("person");
    if let Some(person) = &person
        && !Scope::is_person(&person.value)
    {
        section.problem(
            person.line,
            format!("`{}` is not a person column", person.value),
            Some("the column of pseudonyms ends with `_pid`; count other things with `agg = \"distinct\"`".to_owned()),
        );
    }
    let pseudonym = columns
        .iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .find(|name| Scope::is_person(name));
    if let (None, Some(pseudonym)) = (&person, pseudonym) {
        section.problem(
            section.line,
            format!(
                "the rows of `{}` are about persons, and the source does not say who",
                table.value
            ),
            Some(format!(
                "add `person = \"{pseudonym}\"`, so that small groups can be protected"
            )),
        );
    }
    let birth_date = column("birth_date").map(|c| c.value);
    let deliveries = read_deliveries(section, input);
    let mut matches = Vec::new();
    for (key, wanted) in [("with", true), ("without", false)] {
        if let Some(found) = section.section(key) {
            matches.extend(read_match(&found, wanted, &scope, input));
        }
    }
    if let (false, Some(Time::Event(_) | Time::Year(_))) = (matches.is_empty(), &time) {
        section.problem(
            section.line,
            "`with` and `without` need a source of spells: they look at one day",
            Some("give `valid_from` and `valid_to`".to_owned()),
        );
    }
    let breakdowns = section
        .named_texts("breakdown")
        .into_iter()
        .filter_map(|(name, text)| {
            Some((
                name,
                expression::read(section, &text, &scope, Wanted::Text)?,
            ))
        })
        .collect();
    section.finish(&[], "");
    if matches!(time, Some(Time::Spell(_))) && scope.column_type("county_code").is_none() {
        section.problem(
            table.line,
            format!(
                "`{}` has no column `county_code`, and spells are cut to the months that their organiser has delivered",
                table.value
            ),
            None,
        );
    }
    let has_delivery = scope.column_type("delivery_id").is_some();
    let (time_known, base_known) = (time.is_some(), base.is_some());
    let source = Source {
        table: table.value,
        filter,
        time: time.unwrap_or_else(|| Time::Event(String::new())),
        base: base.unwrap_or(Base::County),
        area: area.unwrap_or_default(),
        person: person.map(|p| p.value),
        birth_date,
        deliveries: deliveries.unwrap_or_default(),
        estimated,
        matches,
        breakdowns,
        has_delivery,
    };
    SourceEntry {
        source,
        columns,
        line: section.line,
        time_known,
        base_known,
    }
}

/// When a row counts: exactly one of `time`, `year` and `valid_from`.
fn read_when(
    section: &Section<'_, '_>,
    scope: &Scope<'_>,
    column: &dyn Fn(&'static str) -> Option<Field<String>>,
) -> Option<Time> {
    let given: Vec<&'static str> = ["time", "year", "valid_from"]
        .into_iter()
        .filter(|key| section.has(key))
        .collect();
    let validity = read_validity(section, column);
    match given.as_slice() {
        ["time"] => section
            .text("time")
            .and_then(|text| expression::read(section, &text, scope, Wanted::Date))
            .map(|day| Time::Event(day.sql)),
        ["year"] => column("year").map(|c| Time::Year(c.value)),
        ["valid_from"] => validity.map(Time::Spell),
        [] => {
            let help = "give `time` (the day of an event), `year` (a number), or `valid_from` and `valid_to` (a spell)";
            section.problem(
                section.line,
                format!("`[{}]` does not say when a row counts", section.name),
                Some(help.to_owned()),
            );
            None
        }
        several => {
            section.problem(
                section.line,
                format!(
                    "`[{}]` says in {} ways when a row counts",
                    section.name,
                    several.len()
                ),
                Some("keep one of `time`, `year` and `valid_from`".to_owned()),
            );
            None
        }
    }
}

fn read_validity(
    section: &Section<'_, '_>,
    column: &dyn Fn(&'static str) -> Option<Field<String>>,
) -> Option<Validity> {
    let from = column("valid_from");
    let to = column("valid_to");
    let last_day = section.word::<LastDay>("last_day");
    let has_from = section.has("valid_from");
    if !has_from {
        for (key, found) in [("valid_to", to.is_some()), ("last_day", last_day.is_some())] {
            if found {
                section.problem(
                    section.line,
                    format!("`{key}` without `valid_from`"),
                    Some("a spell has both ends".to_owned()),
                );
            }
        }
        return None;
    }
    if !section.has("valid_to") {
        section.problem(
            section.line,
            "`valid_from` without `valid_to`",
            Some("name the column of the last day; null means open".to_owned()),
        );
    }
    if last_day.is_none() {
        section.problem(
            section.line,
            "the source does not say whether the day in `valid_to` belongs to the spell",
            Some("write `last_day = \"included\"` or `last_day = \"excluded\"`".to_owned()),
        );
    }
    Some(Validity {
        from: from?.value,
        to: to?.value,
        last_day_counts: last_day?.value == LastDay::Included,
    })
}

/// Where a row counts: exactly one of `municipality` and `county`.
fn read_where(
    section: &Section<'_, '_>,
    column: &dyn Fn(&'static str) -> Option<Field<String>>,
) -> (Option<Base>, Option<String>) {
    let municipality = column("municipality").map(|c| c.value);
    let county = column("county").map(|c| c.value);
    match (section.has("municipality"), section.has("county")) {
        (true, false) => (Some(Base::Municipality), municipality),
        (false, true) => (Some(Base::County), county),
        (true, true) => {
            let help = "keep the one that the indicator is about".to_owned();
            section.problem(
                section.line,
                format!("`[{}]` has both `municipality` and `county`", section.name),
                Some(help),
            );
            (None, None)
        }
        (false, false) => {
            let help = "name the column: `municipality = \"municipality_code\"` (home) or `county = \"county_code\"` (organiser)";
            section.problem(
                section.line,
                format!("`[{}]` does not say where a row counts", section.name),
                Some(help.to_owned()),
            );
            (None, None)
        }
    }
}

fn read_deliveries(section: &Section<'_, '_>, input: &CatalogueInput<'_>) -> Option<Vec<String>> {
    let deliveries = section.texts("deliveries");
    let coverage = section.word::<Coverage>("coverage");
    for contract in &deliveries {
        if !input.contracts.contains(&contract.value) {
            section.problem(
                contract.line,
                format!("there is no contract `{}`", contract.value),
                Some(suggestion(
                    &contract.value,
                    input.contracts.iter().map(String::as_str),
                )),
            );
        }
    }
    if section.has("deliveries") == section.has("coverage") {
        section.problem(
            section.line,
            format!("`[{}]` must say what makes a period complete", section.name),
            Some("give either `deliveries` (contracts of monthly or yearly extracts) or `coverage = \"rows\"` (published data)".to_owned()),
        );
        return None;
    }
    if coverage.is_none() && deliveries.is_empty() {
        return None;
    }
    Some(deliveries.into_iter().map(|d| d.value).collect())
}

fn read_match(
    section: &Section<'_, '_>,
    wanted: bool,
    source: &Scope<'_>,
    input: &CatalogueInput<'_>,
) -> Option<Match> {
    let table = section.required_text("table")?;
    let columns = table_columns(section, &table, input);
    let scope = Scope {
        table: &table.value,
        columns: columns.as_deref(),
    };
    let column = |key: &'static str| {
        let field = section.text(key)?;
        scope.require(section, &field)?;
        Some(field)
    };
    let on = section.texts("on");
    if on.is_empty() {
        section.problem(
            section.line,
            format!("`[{}]` has no `on`", section.name),
            Some("list the columns that both tables share".to_owned()),
        );
    }
    for name in &on {
        source.require(section, name);
        scope.require(section, name);
    }
    let filter = section
        .text("where")
        .and_then(|t| expression::read(section, &t, &scope, Wanted::Condition));
    let validity = read_validity(section, &column);
    section.finish(&[], "");
    Some(Match {
        wanted,
        table: table.value,
        on: on.into_iter().map(|c| (c.value.clone(), c.value)).collect(),
        filter,
        validity,
    })
}

fn read_breakdowns(root: &Section<'_, '_>, input: &CatalogueInput<'_>) -> Vec<(Breakdown, u32)> {
    let mut breakdowns: Vec<(Breakdown, u32)> = Vec::new();
    for section in root.list("breakdown") {
        let name = section.required_text("name");
        let codes = section.text("codes");
        let values = section.texts("values");
        let population = section.text("population");
        section.finish(&[], "");
        if let Some(codes) = &codes
            && !input.code_lists.contains(&codes.value)
        {
            section.problem(
                codes.line,
                format!("there is no code list `{}`", codes.value),
                Some(suggestion(
                    &codes.value,
                    input.code_lists.iter().map(String::as_str),
                )),
            );
        }
        let members = match (codes, values.is_empty()) {
            (Some(codes), true) => Members::Codes(codes.value),
            (None, false) => Members::Values(values.into_iter().map(|v| v.value).collect()),
            _ => {
                let help = "give either `codes` (a code list) or `values` (the members)".to_owned();
                section.problem(
                    section.line,
                    "the breakdown must say what its members are",
                    Some(help),
                );
                continue;
            }
        };
        let Some(name) = name else { continue };
        check_name(&section, name.line, "a breakdown", &name.value);
        if Scope::is_person(&name.value) {
            let help = "a breakdown has few members; persons are counted with `agg = \"persons\"`"
                .to_owned();
            section.problem(
                name.line,
                format!("`{}` is a person and may not be a breakdown", name.value),
                Some(help),
            );
        }
        if breakdowns.iter().any(|(b, _)| b.name == name.value) {
            section.problem(
                name.line,
                format!("breakdown `{}` is declared twice", name.value),
                None,
            );
            continue;
        }
        breakdowns.push((
            Breakdown {
                name: name.value,
                members,
                population: population.map(|p| p.value),
            },
            section.line,
        ));
    }
    breakdowns
}

fn read_disclosure(
    root: &Section<'_, '_>,
    input: &CatalogueInput<'_>,
    sources: &BTreeMap<String, SourceEntry>,
) -> Option<String> {
    let Some(section) = root.section("disclosure") else {
        let about_persons = sources.values().any(|s| s.source.person.is_some());
        let message = if about_persons {
            "there is no `[disclosure]`, and the sources are about persons"
        } else {
            "there is no `[disclosure]`"
        };
        let help = suggestion("", input.disclosure_profiles.iter().map(String::as_str));
        root.problem(root.line, message, Some(format!("name a profile: {help}")));
        return None;
    };
    let profile = section.required_text("profile");
    section.finish(&[], "");
    let profile = profile?;
    if !input.disclosure_profiles.contains(&profile.value) {
        section.problem(
            profile.line,
            format!("there is no disclosure profile `{}`", profile.value),
            Some(suggestion(
                &profile.value,
                input.disclosure_profiles.iter().map(String::as_str),
            )),
        );
    }
    Some(profile.value)
}

/// Ages written as `0..=17`, `75..` or `..=22`.
pub(crate) fn parse_ages(section: &Section<'_, '_>, text: &Field<String>) -> Option<Field<Ages>> {
    let number = |t: &str| t.trim().parse::<u32>().ok().filter(|n| *n <= 150);
    let ages = text.value.split_once("..").and_then(|(from, to)| {
        let from = if from.trim().is_empty() {
            Some(0)
        } else {
            number(from)
        }?;
        let to = match to.trim().strip_prefix('=') {
            Some(to) => Some(number(to)?),
            None if to.trim().is_empty() => None,
            None => return None,
        };
        (to.is_none_or(|to| from <= to)).then_some(Ages { from, to })
    });
    if ages.is_none() {
        let help =
            "write both ends (`0..=17`), the lower (`75..`) or the upper (`..=22`)".to_owned();
        section.problem(
            text.line,
            format!("`{}` is not a span of ages", text.value),
            Some(help),
        );
    }
    ages.map(|value| Field {
        value,
        line: text.line,
    })
}

/// Reads a component and its place in the formula.
pub(crate) fn read_component(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    name: &str,
) -> Option<(Component, Term)> {
    let froms = section.texts("from");
    if froms.is_empty() {
        section.problem(
            section.line,
            format!("`[{}]` has no `from`", section.name),
            Some("name a source".to_owned()),
        );
    }
    let entries: Vec<(&str, &SourceEntry)> = froms
        .iter()
        .filter_map(|from| Some((from.value.as_str(), source(context, section, from)?)))
        .collect();
    let aggregate = section.required_word::<Aggregate>("agg");
    let span = section.word::<Span>("at");
    let expr = section.text("expr");
    let key = section.text("key");
    let filter = section.text("where");
    let ages = section
        .text("ages")
        .and_then(|text| parse_ages(section, &text));
    let age_at = section.word::<AgeAt>("age_at");
    let latest = section.text("latest");
    let divide_by = section.integer("divide_by", 1).map_or(1, |d| d.value);
    let over = section.word::<Over>("over");
    section.finish(&[], "");

    let filter = filter.and_then(|text| {
        every(&entries, |e| {
            expression::read(section, &text, &e.scope(), Wanted::Condition)
        })
    });
    let latest = latest.map(|column| {
        for (_, entry) in &entries {
            entry.scope().require(section, &column);
        }
        column.value
    });
    check_ages(section, &entries, ages.as_ref(), age_at.as_ref());
    for (source, entry) in &entries {
        check_breakdown_sides(context, section, source, entry);
    }
    let aggregate = aggregate?;
    let measure = read_measure(section, &entries, &aggregate, expr, key);
    let span_value = check_span(section, &entries, aggregate.value, span.as_ref());
    if let Some(over) = &over
        && !matches!(aggregate.value, Aggregate::Days | Aggregate::CareDays)
    {
        section.problem(
            over.line,
            "only days are divided by days",
            Some("leave `over` out".to_owned()),
        );
    }
    if froms.len() != entries.len() || entries.is_empty() {
        return None;
    }
    let component = Component {
        name: name.to_owned(),
        from: froms.into_iter().map(|f| f.value).collect(),
        measure: measure?,
        filter,
        ages: ages.and_then(|a| Some((a.value, age_at?.value))),
        span: span_value?,
        latest,
        estimates: false,
    };
    Some((
        component,
        Term {
            component: name.to_owned(),
            divide_by,
            over: over.map(|o| o.value),
        },
    ))
}

/// The result of a check that must hold for every source; the last one's, since they agree.
fn every<T>(
    entries: &[(&str, &SourceEntry)],
    mut check: impl FnMut(&SourceEntry) -> Option<T>,
) -> Option<T> {
    let mut result = None;
    for (_, entry) in entries {
        result = Some(check(entry)?);
    }
    result
}

/// A source by name; an unknown one is reported.
pub(crate) fn source<'c>(
    context: &'c Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    name: &Field<String>,
) -> Option<&'c SourceEntry> {
    let found = context.sources.get(&name.value);
    if found.is_none() {
        section.problem(
            name.line,
            format!("there is no `[source.{}]`", name.value),
            Some(suggestion(
                &name.value,
                context.sources.keys().map(String::as_str),
            )),
        );
    }
    found
}

fn read_measure(
    section: &Section<'_, '_>,
    entries: &[(&str, &SourceEntry)],
    aggregate: &Field<Aggregate>,
    expr: Option<Field<String>>,
    key: Option<Field<String>>,
) -> Option<Measure> {
    let uses_expr = matches!(aggregate.value, Aggregate::Sum | Aggregate::Days);
    if let (Some(expr), false) = (&expr, uses_expr) {
        let help = "leave it out, or write `agg = \"sum\"`".to_owned();
        section.problem(
            expr.line,
            format!("`agg = \"{}\"` has no `expr`", aggregate.value),
            Some(help),
        );
    }
    if let (Some(key), true) = (&key, aggregate.value != Aggregate::Distinct) {
        let help = "leave it out, or write `agg = \"distinct\"`".to_owned();
        section.problem(
            key.line,
            format!("`agg = \"{}\"` has no `key`", aggregate.value),
            Some(help),
        );
    }
    let number = |text: &Field<String>| {
        every(entries, |e| {
            expression::read(section, text, &e.scope(), Wanted::WholeNumber)
        })
    };
    match aggregate.value {
        Aggregate::Count => Some(Measure::Count),
        Aggregate::Sum => {
            if expr.is_none() {
                section.problem(
                    aggregate.line,
                    "`agg = \"sum\"` needs `expr`",
                    Some("write what is added up".to_owned()),
                );
            }
            number(&expr?).map(Measure::Sum)
        }
        Aggregate::Persons => {
            needs_person(section, entries, aggregate);
            Some(Measure::Persons)
        }
        Aggregate::Distinct => {
            let Some(key) = key else {
                section.problem(
                    aggregate.line,
                    "`agg = \"distinct\"` needs `key`",
                    Some("name the column whose values are counted".to_owned()),
                );
                return None;
            };
            if Scope::is_person(&key.value) {
                section.problem(
                    key.line,
                    format!("`{}` is a person", key.value),
                    Some("count persons with `agg = \"persons\"`".to_owned()),
                );
            }
            for (_, entry) in entries {
                entry.scope().require(section, &key);
            }
            Some(Measure::Distinct(key.value))
        }
        Aggregate::CareDays => {
            needs_spells(section, entries, aggregate);
            needs_person(section, entries, aggregate);
            Some(Measure::CareDays)
        }
        Aggregate::Days => {
            needs_spells(section, entries, aggregate);
            match expr {
                Some(text) => number(&text).map(|weight| Measure::Days(Some(weight))),
                None => Some(Measure::Days(None)),
            }
        }
    }
}

fn needs_person(
    section: &Section<'_, '_>,
    entries: &[(&str, &SourceEntry)],
    aggregate: &Field<Aggregate>,
) {
    for (name, entry) in entries {
        if entry.source.person.is_none() {
            let help =
                "name the column of pseudonyms in the source: `person = \"person_pid\"`".to_owned();
            section.problem(
                aggregate.line,
                format!("`[source.{name}]` has no `person`"),
                Some(help),
            );
        }
    }
}

fn needs_spells(
    section: &Section<'_, '_>,
    entries: &[(&str, &SourceEntry)],
    aggregate: &Field<Aggregate>,
) {
    for (name, entry) in entries {
        if !entry.is_spell() && entry.time_known {
            section.problem(
                aggregate.line,
                format!(
                    "`agg = \"{}\"` counts days of spells, and `[source.{name}]` has none",
                    aggregate.value
                ),
                Some("give the source `valid_from` and `valid_to`".to_owned()),
            );
        }
    }
}

fn check_ages(
    section: &Section<'_, '_>,
    entries: &[(&str, &SourceEntry)],
    ages: Option<&Field<Ages>>,
    age_at: Option<&Field<AgeAt>>,
) {
    match (ages, age_at) {
        (None, None) => {}
        (Some(ages), None) => {
            let help = "write `age_at = \"event\"`, `\"period_end\"` or `\"year_end\"`".to_owned();
            section.problem(
                ages.line,
                "`ages` does not say on which day an age is counted",
                Some(help),
            );
        }
        (None, Some(at)) => {
            section.problem(
                at.line,
                "`age_at` without `ages`",
                Some("leave it out".to_owned()),
            );
        }
        (Some(ages), Some(at)) => {
            for (name, entry) in entries {
                if entry.source.birth_date.is_none() {
                    let help =
                        "name the column in the source: `birth_date = \"birth_date\"`".to_owned();
                    section.problem(
                        ages.line,
                        format!("`[source.{name}]` has no `birth_date`"),
                        Some(help),
                    );
                }
                if at.value == AgeAt::Event && entry.is_spell() {
                    let help = "write `period_end` or `year_end`".to_owned();
                    section.problem(
                        at.line,
                        format!("a spell of `[source.{name}]` has no day of event"),
                        Some(help),
                    );
                }
            }
        }
    }
}

fn check_span(
    section: &Section<'_, '_>,
    entries: &[(&str, &SourceEntry)],
    aggregate: Aggregate,
    span: Option<&Field<Span>>,
) -> Option<Span> {
    if entries.iter().any(|(_, e)| !e.time_known) {
        return Some(Span::Period);
    }
    let spells = entries.iter().filter(|(_, e)| e.is_spell()).count();
    if spells != 0 && spells != entries.len() {
        section.problem(
            section.line,
            format!("`[{}]` mixes spells and events", section.name),
            Some("make two components".to_owned()),
        );
        return None;
    }
    let yearly = entries
        .iter()
        .any(|(_, e)| matches!(e.source.time, Time::Year(_)));
    let value = span.map_or(Span::Period, |s| s.value);
    let line = span.map_or(section.line, |s| s.line);
    let stock = matches!(value, Span::PeriodEnd | Span::PreviousYearEnd);
    let refuse = |message: &str, help: &str| {
        section.problem(line, message, Some(help.to_owned()));
        None
    };
    if yearly && value != Span::Period {
        return refuse(
            "a yearly source has no months to choose from",
            "leave `at` out",
        );
    }
    if spells == 0 {
        if stock {
            return refuse(
                "events have no stock on a day",
                "count spells, or leave `at` out",
            );
        }
        return Some(value);
    }
    match aggregate {
        Aggregate::Days | Aggregate::CareDays if stock => refuse(
            "days of spells are added over a period, not looked at on a day",
            "leave `at` out",
        ),
        Aggregate::Days | Aggregate::CareDays => Some(value),
        Aggregate::Count | Aggregate::Sum if !stock => refuse(
            "a spell would be counted again in every month it lasts",
            "look at one day (`at = \"period_end\"`), or count distinct persons or keys",
        ),
        Aggregate::Persons | Aggregate::Distinct if span.is_none() => refuse(
            "the component does not say which spells count",
            "write `at = \"period_end\"` (valid on the last day) or `at = \"period\"` (valid on any day)",
        ),
        Aggregate::Count | Aggregate::Sum | Aggregate::Persons | Aggregate::Distinct => Some(value),
    }
}

/// Both sides of a formula must be divided by the same breakdowns.
pub(crate) fn check_breakdown_sides(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    source: &str,
    entry: &SourceEntry,
) {
    for (breakdown, _) in &context.breakdowns {
        if entry.source.breakdowns.contains_key(&breakdown.name) {
            continue;
        }
        if entry.scope().column_type(&breakdown.name).is_none() {
            section.problem(
                section.line,
                format!(
                    "breakdown `{}` is missing from `[{}]`: `{}` has no such column",
                    breakdown.name, section.name, entry.source.table
                ),
                Some(format!(
                    "add `breakdown.{} = \"…\"` to `[source.{source}]`, or drop the breakdown",
                    breakdown.name
                )),
            );
        }
    }
}

fn check_time(context: &Context<'_, '_, '_>, components: &[Component]) {
    let line = context.root.section("time").map_or(1, |s| s.line);
    let yearly = context
        .sources
        .values()
        .filter(|e| matches!(e.source.time, Time::Year(_)))
        .count();
    let known = context.sources.values().filter(|e| e.time_known).count();
    if yearly != 0 && yearly != known {
        let help = Some("all sources are yearly, or none is".to_owned());
        context.root.problem(
            line,
            "yearly and monthly sources cannot be put together",
            help,
        );
    }
    if (yearly != 0 || context.kind == Kind::WeightedModel)
        && context.grains.iter().any(|g| *g != Grain::Year)
    {
        let help = Some("write `grains = [\"year\"]`".to_owned());
        context
            .root
            .problem(line, "a yearly source gives only yearly values", help);
    }
    let cumulative = components
        .iter()
        .any(|c| matches!(c.span, Span::YearToDate | Span::FullYear));
    if cumulative && context.grains.contains(&Grain::HalfYear) {
        let help = Some("drop `half_year`, which runs over the turn of the year".to_owned());
        context.root.problem(
            line,
            "a year to date has no half-years of the statutory kind",
            help,
        );
    }
}

fn check_area(context: &Context<'_, '_, '_>, levels: &[Field<Level>]) {
    let mut bases = context
        .sources
        .values()
        .filter(|e| e.base_known)
        .map(|e| e.source.base);
    let Some(first) = bases.next() else { return };
    let line = context.root.section("area").map_or(1, |s| s.line);
    if bases.any(|b| b != first) {
        let help = Some("name the same kind of column in every source".to_owned());
        context.root.problem(
            line,
            "some sources count by municipality and others by county",
            help,
        );
    }
    if let Some(level) = levels
        .iter()
        .find(|l| l.value == Level::Municipality && first == Base::County)
    {
        let help = Some(
            "name the column of the home municipality in the source, or drop the level".to_owned(),
        );
        context.root.problem(
            level.line,
            "the sources are by county and give no municipalities",
            help,
        );
    }
}

fn check_sources_used(context: &Context<'_, '_, '_>, components: Option<&[Component]>) {
    let Some(components) = components else { return };
    for (name, entry) in &context.sources {
        if !components.iter().any(|c| c.from.contains(name)) {
            context.root.problem(
                entry.line,
                format!("`[source.{name}]` is not used"),
                Some("leave it out".to_owned()),
            );
        }
    }
}

/// The parts of an indicator that its kind decides.
pub(crate) struct Parts {
    pub(crate) components: Vec<Component>,
    pub(crate) formula: Formula,
    pub(crate) outputs: Vec<crate::indicator::Output>,
}

/// A whole-number expression over one source.
pub(crate) fn whole_number(
    section: &Section<'_, '_>,
    text: &Field<String>,
    entry: &SourceEntry,
) -> Option<Fragment> {
    expression::read(section, text, &entry.scope(), Wanted::WholeNumber)
}
