//! Reading a contract: ODCS 3.1 YAML with the custom properties of this
//! engine. Strict: an unknown key, name or word is a problem, and all problems
//! of a file are told at once, each with its line.
//!
//! Keys of the standard that say nothing to the engine (team, support, ...)
//! are let through unread. To add a custom property: its name in the list of
//! its level below, its reading in the function of that level, and a line in
//! the reference of contracts in `docs`.

use std::sync::Arc;

use tietopohja_domain::{Date, Problem};

use crate::block::{Action, DecimalMark};
use crate::checks::cross_field::{Equation, EquationFault};
use crate::checks::decimal::{power_of_ten, shown};
use crate::checks::number;
use crate::codes::CodeLists;
use crate::contract::{
    CheckUnit, Classification, Contract, CrossCheck, DateRange, Encoding, KeyScope, LastDay, Limit,
    Measure, Mode, NumberRange, PeriodRule, PeriodTest, Property, PropertyType, ServiceLevel,
    SetCheck, SourceFormat, SqlCheck, Uniqueness, schema_of,
};
use crate::sql_check::{OBJECT, PROPERTY};
use crate::terms::{FREQUENCY, LATENCY, LONGEST_TERM, RETENTION};
use crate::validator::{MUNICIPALITY, null_count_name};
use crate::yaml::{self, Fields, Node, Problems, Value};
use crate::{days, rules};

const API_VERSION: &str = "v3.1.0";
const ENGINE: &str = "tietopohja";

/// Keys of the standard that are let through unread.
const UNREAD_CONTRACT: [&str; 11] = [
    "tenant",
    "tags",
    "dataProduct",
    "servers",
    "support",
    "price",
    "team",
    "roles",
    "slaDefaultElement",
    "authoritativeDefinitions",
    "contractCreatedTs",
];
const UNREAD_ELEMENT: [&str; 4] = ["id", "authoritativeDefinitions", "tags", "relationships"];
const UNREAD_PROPERTY: [&str; 6] = [
    "examples",
    "criticalDataElement",
    "encryptedName",
    "transformLogic",
    "transformDescription",
    "transformSourceObjects",
];
const UNREAD_QUALITY: [&str; 7] = [
    "authoritativeDefinitions",
    "businessImpact",
    "method",
    "name",
    "schedule",
    "scheduler",
    "tags",
];

const DIMENSIONS: [&str; 7] = [
    "accuracy",
    "completeness",
    "conformity",
    "consistency",
    "coverage",
    "timeliness",
    "uniqueness",
];
const SEVERITIES: [&str; 3] = ["info", "warning", "error"];
const ACTIONS: [&str; 4] = ["reject", "quarantine", "hold", "warn"];
const TYPES: [&str; 10] = [
    "text",
    "date",
    "month",
    "int",
    "integer64",
    "decimal(p,s)",
    "bool",
    "hetu",
    "business_id",
    "code",
];
const OPERATORS: [&str; 8] = [
    "mustBe",
    "mustNotBe",
    "mustBeGreaterThan",
    "mustBeGreaterOrEqualTo",
    "mustBeLessThan",
    "mustBeLessOrEqualTo",
    "mustBeBetween",
    "mustNotBeBetween",
];

impl Contract {
    /// Reads one contract. `file` is the name shown in problems; `lists` are
    /// the code lists that the contract may name. On failure every problem of
    /// the file is returned, in the order of its lines.
    pub fn parse(file: &str, yaml: &str, lists: &CodeLists) -> Result<Contract, Vec<Problem>> {
        let node = yaml::parse(file, yaml).map_err(|problem| vec![problem])?;
        let mut problems = Problems::new(file);
        match contract(file, &node, lists, &mut problems) {
            Some(contract) if problems.is_empty() => Ok(contract),
            _ => Err(problems.into_sorted()),
        }
    }
}

fn contract(
    file: &str,
    node: &Node,
    lists: &CodeLists,
    problems: &mut Problems<'_>,
) -> Option<Contract> {
    let mut fields = Fields::open("the contract", node, problems)?;
    fields.allow(&UNREAD_CONTRACT);
    for (key, expected) in [("apiVersion", API_VERSION), ("kind", "DataContract")] {
        if let Some(found) = fields.required_text(key, problems)
            && found != expected
        {
            problems.add(
                line_of(&mut fields, key),
                format!("`{key}` must be `{expected}`, not `{found}`"),
            );
        }
    }
    let id = fields.required_text("id", problems);
    let name = fields.required_text("name", problems);
    if let Some(name) = name
        && !is_name(name)
    {
        problems.add(
            line_of(&mut fields, "name"),
            format!("the name `{name}` must be lower case letters, digits and _"),
        );
    }
    let version = fields.required_text("version", problems);
    if let Some(version) = version
        && !is_version(version)
    {
        problems.add_with_help(
            line_of(&mut fields, "version"),
            format!("`{version}` is not a version"),
            "write major.minor.patch, such as 1.0.0",
        );
    }
    let status = fields.required_text("status", problems);
    let domain = fields.text("domain", problems);
    let purpose = match fields.get("description") {
        Some(node) => purpose(node, problems),
        None => {
            fields.missing("description", problems);
            None
        }
    };
    let custom = custom_properties(&mut fields, &["deliveryMode", "sourceFormat"], problems);
    let line = fields.line;
    let mode = match custom.get("deliveryMode") {
        Some(node) => word("deliveryMode", node, &Mode::NAMES, Mode::parse, problems),
        None => missing_custom("the contract", "deliveryMode", line, problems),
    };
    let format = match custom.get("sourceFormat") {
        Some(node) => source_format(node, problems),
        None => missing_custom("the contract", "sourceFormat", line, problems),
    };
    let service_levels = service_levels(&mut fields, problems);
    let object = match fields.list("schema", problems) {
        [object] => Some(object),
        [] => {
            problems.add(line, "the contract has no `schema`");
            None
        }
        [_, second, ..] => {
            problems.add_with_help(
                second.line,
                "a contract has one schema object",
                "write a contract for each dataset",
            );
            None
        }
    };
    let object = object.and_then(|node| schema_object(node, mode, lists, problems));
    fields.finish(problems);
    let Object {
        granularity,
        properties,
        key,
        uniqueness,
        periods,
        cross_checks,
        set_checks,
        sql_checks,
    } = object?;
    let schema = schema_of(&properties);
    Some(Contract {
        file: file.to_owned(),
        id: id?.to_owned(),
        name: Arc::from(name?),
        version: version?.to_owned(),
        status: status?.to_owned(),
        domain: domain.map(str::to_owned),
        purpose: purpose?,
        granularity,
        mode: mode?,
        format: format?,
        key_names: key
            .iter()
            .filter_map(|at| properties.get(*at))
            .map(|p| p.name.clone())
            .collect(),
        properties,
        key,
        uniqueness: uniqueness?,
        periods,
        cross_checks,
        set_checks,
        sql_checks,
        service_levels,
        schema,
    })
}

fn line_of<'a>(fields: &mut Fields<'a>, key: &'a str) -> u32 {
    fields.get(key).map_or(fields.line, |node| node.line)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() == 3
        && parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

fn purpose(node: &Node, problems: &mut Problems<'_>) -> Option<String> {
    let mut fields = Fields::open("`description`", node, problems)?;
    let purpose = fields.required_text("purpose", problems);
    fields.allow(&[
        "limitations",
        "usage",
        "authoritativeDefinitions",
        "customProperties",
    ]);
    fields.finish(problems);
    purpose.map(str::to_owned)
}

/// Custom properties of one element by name.
struct Custom<'a> {
    list: Vec<(&'a str, &'a Node)>,
}

impl<'a> Custom<'a> {
    fn get(&self, name: &str) -> Option<&'a Node> {
        self.list
            .iter()
            .find(|(property, _)| *property == name)
            .map(|(_, value)| *value)
    }
}

fn custom_properties<'a>(
    fields: &mut Fields<'a>,
    known: &[&str],
    problems: &mut Problems<'_>,
) -> Custom<'a> {
    let mut list: Vec<(&str, &Node)> = Vec::new();
    for item in fields.list("customProperties", problems) {
        let Some(mut fields) = Fields::open("a custom property", item, problems) else {
            continue;
        };
        fields.allow(&["id", "description"]);
        let name = fields.required_text("property", problems);
        let value = fields.get("value");
        if value.is_none() {
            fields.missing("value", problems);
        }
        fields.finish(problems);
        let (Some(name), Some(value)) = (name, value) else {
            continue;
        };
        if !known.contains(&name) {
            problems.unknown(item.line, "custom property", name, known.iter().copied());
        } else if list.iter().any(|(before, _)| *before == name) {
            problems.add(
                item.line,
                format!("the custom property `{name}` is given twice"),
            );
        } else {
            list.push((name, value));
        }
    }
    Custom { list }
}

fn missing_custom<T>(what: &str, name: &str, line: u32, problems: &mut Problems<'_>) -> Option<T> {
    problems.add(line, format!("{what} has no custom property `{name}`"));
    None
}

/// A text that is one of a closed set of words.
fn word<T>(
    key: &str,
    node: &Node,
    known: &[&str],
    parse: impl Fn(&str) -> Option<T>,
    problems: &mut Problems<'_>,
) -> Option<T> {
    let text = yaml::text(key, node, problems)?;
    let value = parse(text);
    if value.is_none() {
        problems.unknown(node.line, &format!("`{key}`"), text, known.iter().copied());
    }
    value
}

fn source_format(node: &Node, problems: &mut Problems<'_>) -> Option<SourceFormat> {
    let mut fields = Fields::open("`sourceFormat`", node, problems)?;
    let mut separators = Vec::new();
    let mut finnish_dates = false;
    let mut iso_dates = false;
    let mut encodings = Vec::new();
    for key in ["separators", "dateFormats", "encodings"] {
        let Some(list) = fields.get(key) else {
            fields.missing(key, problems);
            continue;
        };
        for text in yaml::texts(key, list, problems) {
            match (key, text) {
                ("separators", ";") => separators.push(b';'),
                ("separators", ",") => separators.push(b','),
                ("separators", "|") => separators.push(b'|'),
                ("separators", "tab") => separators.push(b'\t'),
                ("dateFormats", "d.m.yyyy") => finnish_dates = true,
                ("dateFormats", "yyyy-mm-dd") => iso_dates = true,
                ("encodings", name) => match Encoding::parse(name) {
                    Some(encoding) => encodings.push(encoding),
                    None => problems.unknown(list.line, "encoding", name, Encoding::NAMES),
                },
                ("separators", other) => {
                    problems.unknown(list.line, "separator", other, [";", ",", "|", "tab"])
                }
                (_, other) => {
                    problems.unknown(list.line, "date format", other, ["d.m.yyyy", "yyyy-mm-dd"])
                }
            }
        }
    }
    let decimal = match fields.get("decimal") {
        Some(node) => {
            let parse = |text: &str| match text {
                "comma" => Some(DecimalMark::Comma),
                "point" => Some(DecimalMark::Point),
                _ => None,
            };
            word("decimal", node, &["comma", "point"], parse, problems)
        }
        None => {
            fields.missing("decimal", problems);
            None
        }
    };
    fields.finish(problems);
    let decimal = decimal?;
    if separators.contains(&b',') && decimal == DecimalMark::Comma {
        problems.add_with_help(
            node.line,
            "a comma cannot be both separator and decimal sign",
            "agree on `;` or `tab` as the separator",
        );
    }
    Some(SourceFormat {
        separators,
        decimal,
        finnish_dates,
        iso_dates,
        encodings,
    })
}

fn service_levels(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Vec<ServiceLevel> {
    let mut levels: Vec<ServiceLevel> = Vec::new();
    for item in fields.list("slaProperties", problems) {
        let Some(mut item_fields) = Fields::open("a service level", item, problems) else {
            continue;
        };
        item_fields.allow(&[
            "id",
            "valueExt",
            "driver",
            "description",
            "scheduler",
            "schedule",
        ]);
        let property = item_fields.required_text("property", problems);
        let value = match item_fields.get("value") {
            Some(node) => number_of("value", node, problems),
            None => {
                item_fields.missing("value", problems);
                None
            }
        };
        let unit = item_fields.required_text("unit", problems);
        if let Some(unit) = unit
            && !["d", "m", "y"].contains(&unit)
        {
            problems.unknown(item.line, "unit", unit, ["d", "m", "y"]);
        }
        if let (Some(property), Some(value)) = (property, value)
            && TERMS.contains(&property)
            && !is_length_of_time(property, value)
        {
            problems.add_with_help(
                item.line,
                format!("the service level `{property}` is no length of time"),
                "write a whole number of days (`d`), months (`m`) or years (`y`)",
            );
        }
        let element = item_fields.text("element", problems).map(str::to_owned);
        item_fields.finish(problems);
        if let (Some(property), Some(value), Some(unit)) = (property, value, unit) {
            levels.push(ServiceLevel {
                property: property.to_owned(),
                value,
                unit: unit.to_owned(),
                element,
            });
        }
    }
    for wanted in TERMS {
        if !levels.iter().any(|level| level.property == wanted) {
            problems.add_with_help(
                fields.line,
                format!("the contract has no service level `{wanted}`"),
                format!("add it to `slaProperties`: how long is the {wanted}"),
            );
        }
    }
    levels
}

/// Terms that every contract states, because the engine acts on them.
const TERMS: [&str; 3] = [FREQUENCY, LATENCY, RETENTION];

/// A file may be due on the day its period ends, but periods and shelves have a
/// length.
fn is_length_of_time(property: &str, value: f64) -> bool {
    let least = if property == LATENCY { 0.0 } else { 1.0 };
    value.fract() == 0.0 && (least..=LONGEST_TERM).contains(&value)
}

fn number_of(key: &str, node: &Node, problems: &mut Problems<'_>) -> Option<f64> {
    match node.value {
        Value::Integer(value) => Some(value as f64),
        Value::Float(value) => Some(value),
        ref other => {
            problems.add(
                node.line,
                format!("`{key}` must be a number, not {}", other.kind()),
            );
            None
        }
    }
}

struct Object {
    granularity: String,
    properties: Vec<Property>,
    key: Vec<usize>,
    uniqueness: Option<Uniqueness>,
    periods: Vec<PeriodRule>,
    cross_checks: Vec<CrossCheck>,
    set_checks: Vec<SetCheck>,
    sql_checks: Vec<SqlCheck>,
}

/// Checks of the contract while they are collected from its elements.
#[derive(Default)]
struct Checks {
    uniqueness: Option<Uniqueness>,
    cross: Vec<CrossCheck>,
    set: Vec<SetCheck>,
    sql: Vec<SqlCheck>,
    ids: Vec<String>,
}

fn schema_object(
    node: &Node,
    mode: Option<Mode>,
    lists: &CodeLists,
    problems: &mut Problems<'_>,
) -> Option<Object> {
    let mut fields = Fields::open("the schema object", node, problems)?;
    fields.allow(&UNREAD_ELEMENT);
    fields.allow(&[
        "businessName",
        "physicalType",
        "physicalName",
        "description",
    ]);
    fields.required_text("name", problems);
    if let Some(logical) = fields.text("logicalType", problems)
        && logical != "object"
    {
        problems.add(
            line_of(&mut fields, "logicalType"),
            format!("`logicalType` must be `object`, not `{logical}`"),
        );
    }
    let granularity = fields
        .required_text("dataGranularityDescription", problems)
        .map(str::to_owned);
    let custom = custom_properties(&mut fields, &["period"], problems);
    let property_nodes = fields.list("properties", problems);
    if property_nodes.is_empty() {
        problems.add(fields.line, "the schema object has no `properties`");
    }
    let mut drafts: Vec<Draft<'_>> = property_nodes
        .iter()
        .filter_map(|node| property(node, lists, problems))
        .collect();
    // A property that could not be read leaves names unknown that are there;
    // what refers to names is then told only after the first faults are mended.
    let complete = drafts.len() == property_nodes.len();
    check_names(&drafts, problems);
    let key = if complete {
        key(&drafts, fields.line, problems)
    } else {
        Vec::new()
    };
    let names: Vec<Arc<str>> = drafts
        .iter()
        .map(|draft| draft.property.name.clone())
        .collect();
    let periods = match custom.get("period") {
        Some(node) if complete => period_rules(node, mode, &drafts, lists, problems),
        Some(_) => Vec::new(),
        None => {
            if matches!(mode, Some(Mode::Events | Mode::YearlySpells)) {
                missing_custom::<()>("the schema object", "period", fields.line, problems);
            }
            Vec::new()
        }
    };
    let row_date = periods.iter().find_map(|rule| match rule.test {
        PeriodTest::Within { date } | PeriodTest::WithinYear { date } => Some(date),
        PeriodTest::Overlaps { from, .. } => Some(from),
    });
    for draft in &mut drafts {
        resolve_valid_on(draft, &names, row_date, complete, problems);
    }
    let mut checks = Checks::default();
    let quality: Vec<(Option<usize>, &[Node])> =
        std::iter::once((None, fields.list("quality", problems)))
            .chain(
                drafts
                    .iter()
                    .enumerate()
                    .map(|(at, draft)| (Some(at), draft.quality)),
            )
            .collect();
    let properties: Vec<Property> = drafts.into_iter().map(|draft| draft.property).collect();
    if complete {
        for (at, nodes) in quality {
            for node in nodes {
                quality_check(node, at, &properties, &key, &mut checks, problems);
            }
        }
        if checks.uniqueness.is_none() && !key.is_empty() {
            problems.add_with_help(
                fields.line,
                "the contract does not say what a repeated key does",
                "add a quality check with `metric: duplicateValues` and `mustBe: 0`",
            );
        }
    }
    fields.finish(problems);
    let Checks {
        uniqueness,
        cross,
        set,
        sql,
        ids: _,
    } = checks;
    Some(Object {
        granularity: granularity?,
        properties,
        key,
        uniqueness,
        periods,
        cross_checks: cross,
        set_checks: set,
        sql_checks: sql,
    })
}

/// A property whose references to other properties are not yet resolved.
struct Draft<'a> {
    property: Property,
    line: u32,
    /// Position in the key, if part of it.
    key: Option<i64>,
    valid_on: Option<(&'a str, u32)>,
    quality: &'a [Node],
}

const PROPERTY_CUSTOM: [&str; 9] = [
    "unit",
    "codeSystem",
    "codeWidth",
    "validOn",
    "pseudonymise",
    "nullWhen",
    "dateRange",
    "amountSum",
    "scanIdentityCodes",
];

fn property<'a>(
    node: &'a Node,
    lists: &CodeLists,
    problems: &mut Problems<'_>,
) -> Option<Draft<'a>> {
    let mut fields = Fields::open("a property", node, problems)?;
    fields.allow(&UNREAD_ELEMENT);
    fields.allow(&UNREAD_PROPERTY);
    let name = fields.required_text("name", problems);
    if let Some(name) = name
        && !is_name(name)
    {
        problems.add(
            node.line,
            format!("the name `{name}` must be lower case letters, digits and _"),
        );
    }
    let header = fields.required_text("physicalName", problems);
    let title_fi = fields.required_text("businessName", problems);
    let description = fields
        .required_text("description", problems)
        .and_then(|text| {
            let halves = text
                .split_once(" | ")
                .filter(|(fi, en)| !fi.trim().is_empty() && !en.trim().is_empty());
            if halves.is_none() {
                problems.add_with_help(
                    node.line,
                    "the description must be given in Finnish and in English",
                    "write `suomeksi | in English`",
                );
            }
            halves
        });
    let classification = match fields.get("classification") {
        Some(node) => word(
            "classification",
            node,
            &Classification::NAMES,
            Classification::parse,
            problems,
        ),
        None => {
            fields.missing("classification", problems);
            None
        }
    };
    let required = fields.bool("required", problems).unwrap_or(false);
    let primary = fields.bool("primaryKey", problems).unwrap_or(false);
    let position = fields.integer("primaryKeyPosition", problems);
    let key = match (primary, position) {
        (true, position) => Some(position.unwrap_or(1)),
        (false, None) => None,
        (false, Some(_)) => {
            problems.add_with_help(
                node.line,
                "a position in the key without `primaryKey`",
                "add `primaryKey: true`",
            );
            None
        }
    };
    if primary && !required {
        problems.add_with_help(
            node.line,
            "a part of the key can be empty",
            "add `required: true`",
        );
    }
    fields.bool("unique", problems);
    fields.bool("partitioned", problems);
    fields.integer("partitionKeyPosition", problems);
    let logical = fields.required_text("logicalType", problems);
    let physical = fields.required_text("physicalType", problems);
    let custom = custom_properties(&mut fields, &PROPERTY_CUSTOM, problems);
    let options = fields.get("logicalTypeOptions");
    let kind = physical.and_then(|physical| {
        let reading = TypeReading {
            node,
            physical,
            logical,
            options,
            custom: &custom,
            lists,
            classification,
            name,
        };
        reading.read(problems)
    });
    let unit = custom
        .get("unit")
        .and_then(|node| yaml::text("unit", node, problems))
        .map(str::to_owned);
    let null_when = custom
        .get("nullWhen")
        .map(|node| {
            yaml::texts("nullWhen", node, problems)
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .unwrap_or_default();
    if required && !null_when.is_empty() {
        problems.add(node.line, "a required property cannot have `nullWhen`");
    }
    let valid_on = custom
        .get("validOn")
        .and_then(|node| yaml::text("validOn", node, problems).map(|name| (name, node.line)));
    let quality = fields.list("quality", problems);
    fields.finish(problems);
    let (description_fi, description_en) = description?;
    Some(Draft {
        property: Property {
            name: Arc::from(name?),
            header: Arc::from(header?),
            kind: kind?,
            required,
            title_fi: title_fi?.to_owned(),
            description_fi: description_fi.trim().to_owned(),
            description_en: description_en.trim().to_owned(),
            unit,
            classification: classification?,
            null_when,
            physical_type: physical?.to_owned(),
        },
        line: node.line,
        key,
        valid_on,
        quality,
    })
}

/// What the type of a property is read from.
struct TypeReading<'a, 'c> {
    node: &'a Node,
    physical: &'a str,
    logical: Option<&'a str>,
    options: Option<&'a Node>,
    custom: &'c Custom<'a>,
    lists: &'c CodeLists,
    classification: Option<Classification>,
    name: Option<&'a str>,
}

impl TypeReading<'_, '_> {
    fn read(&self, problems: &mut Problems<'_>) -> Option<PropertyType> {
        let line = self.node.line;
        let (logical, option_keys, custom_keys): (&str, &[&str], &[&str]) = match self.physical {
            "text" => ("string", &["maxLength"], &["scanIdentityCodes"]),
            "date" => ("date", &["format"], &["dateRange"]),
            "month" => ("date", &["format"], &["dateRange"]),
            "int" | "integer64" => (
                "integer",
                &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
                &[],
            ),
            "bool" => ("boolean", &[], &[]),
            "hetu" => ("string", &[], &["pseudonymise"]),
            "business_id" => ("string", &[], &[]),
            "code" => ("string", &[], &["codeSystem", "codeWidth", "validOn"]),
            other if other.starts_with("decimal") => (
                "number",
                &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
                &["amountSum"],
            ),
            other => {
                problems.unknown(line, "type", other, TYPES);
                return None;
            }
        };
        if let Some(found) = self.logical
            && found != logical
        {
            problems.add(
                line,
                format!(
                    "the type `{}` has the logical type `{logical}`, not `{found}`",
                    self.physical
                ),
            );
        }
        for (name, value) in &self.custom.list {
            if !custom_keys.contains(name) && !["unit", "nullWhen"].contains(name) {
                problems.add(
                    value.line,
                    format!("`{name}` does not go with the type `{}`", self.physical),
                );
            }
        }
        let mut options = Vec::new();
        if let Some(node) = self.options
            && let Some(mut fields) = Fields::open("`logicalTypeOptions`", node, problems)
        {
            for key in option_keys {
                if let Some(node) = fields.get(key) {
                    options.push((*key, node));
                }
            }
            fields.finish(problems);
        }
        match self.physical {
            "text" => self.text(&options, problems),
            "date" => Some(PropertyType::Date(self.date_range(problems)?)),
            "month" => Some(PropertyType::Month(self.date_range(problems)?)),
            "int" => {
                let range = self.number_range(
                    0,
                    i128::from(i32::MIN),
                    i128::from(i32::MAX),
                    &options,
                    problems,
                )?;
                Some(PropertyType::Integer { wide: false, range })
            }
            "integer64" => {
                let range = self.number_range(
                    0,
                    i128::from(i64::MIN),
                    i128::from(i64::MAX),
                    &options,
                    problems,
                )?;
                Some(PropertyType::Integer { wide: true, range })
            }
            "bool" => Some(PropertyType::Boolean),
            "hetu" => self.hetu(problems),
            "business_id" => Some(PropertyType::BusinessId),
            "code" => self.code(problems),
            _ => self.decimal(&options, problems),
        }
    }

    fn text(&self, options: &[(&str, &Node)], problems: &mut Problems<'_>) -> Option<PropertyType> {
        let max_length = match options.iter().find(|(key, _)| *key == "maxLength") {
            Some((key, node)) => {
                let value = number_of(key, node, problems)?;
                if value < 1.0 || value > 1_000_000.0 || value.fract() != 0.0 {
                    problems.add(node.line, "`maxLength` must be from 1 to 1000000");
                    return None;
                }
                value as usize
            }
            None => {
                problems.add_with_help(
                    self.node.line,
                    "the text has no greatest length",
                    "add `logicalTypeOptions: { maxLength: 30 }`",
                );
                return None;
            }
        };
        let scan = match self.custom.get("scanIdentityCodes") {
            None => Some(Action::Reject),
            Some(node) => {
                // A code let through would be stored, so a warning is no choice.
                let parse = |text: &str| match text {
                    "reject" => Some(Some(Action::Reject)),
                    "quarantine" => Some(Some(Action::Quarantine)),
                    "off" => Some(None),
                    _ => None,
                };
                word(
                    "scanIdentityCodes",
                    node,
                    &["reject", "quarantine", "off"],
                    parse,
                    problems,
                )?
            }
        };
        Some(PropertyType::Text { max_length, scan })
    }

    fn date_range(&self, problems: &mut Problems<'_>) -> Option<DateRange> {
        let mut range = DateRange {
            first: days::from_date(Date::constant(1900, 1, 1)),
            last: LastDay::Today,
        };
        let Some(node) = self.custom.get("dateRange") else {
            return Some(range);
        };
        let mut fields = Fields::open("`dateRange`", node, problems)?;
        if let Some(text) = fields.text("from", problems) {
            range.first = day(text, node.line, problems)?;
        }
        if let Some(text) = fields.text("to", problems)
            && text != "today"
        {
            range.last = LastDay::Fixed(day(text, node.line, problems)?);
        }
        fields.finish(problems);
        if let LastDay::Fixed(last) = range.last
            && last < range.first
        {
            problems.add(node.line, "`dateRange` ends before it begins");
        }
        Some(range)
    }

    fn hetu(&self, problems: &mut Problems<'_>) -> Option<PropertyType> {
        let line = self.node.line;
        if self
            .classification
            .is_some_and(|c| c != Classification::PersonalIdentityCode)
        {
            problems.add_with_help(
                line,
                "an identity code has another classification",
                "write `classification: personal_identity_code`",
            );
        }
        if self.name.is_some_and(|name| !name.ends_with("_id")) {
            problems.add_with_help(
                line,
                "the name of an identity code must end in `_id`",
                "the raw columns are named after it: `client_id` becomes `client_pid`",
            );
        }
        match self.custom.get("pseudonymise") {
            Some(node) => {
                let domain = yaml::text("pseudonymise", node, problems)?;
                if !is_name(domain) {
                    problems.add(
                        node.line,
                        format!("the domain `{domain}` must be lower case letters, digits and _"),
                    );
                }
                Some(PropertyType::Hetu {
                    domain: Arc::from(domain),
                })
            }
            None => missing_custom("an identity code", "pseudonymise", line, problems),
        }
    }

    fn code(&self, problems: &mut Problems<'_>) -> Option<PropertyType> {
        let Some(node) = self.custom.get("codeSystem") else {
            return missing_custom("a code", "codeSystem", self.node.line, problems);
        };
        let text = yaml::text("codeSystem", node, problems)?;
        // A version after @ names the edition agreed on; validity by date does the rest.
        let list = text.split_once('@').map_or(text, |(list, _)| list);
        if self.lists.list(list).is_none() {
            let known: Vec<&str> = self.lists.names().collect();
            problems.unknown(node.line, "code list", list, known.iter().copied());
        }
        let width = match self.custom.get("codeWidth") {
            None => 0,
            Some(node) => match node.value {
                Value::Integer(width @ 1..=16) => width as usize,
                _ => {
                    problems.add(node.line, "`codeWidth` must be from 1 to 16");
                    return None;
                }
            },
        };
        Some(PropertyType::Code {
            list: Arc::from(list),
            width,
            valid_on: None,
        })
    }

    fn decimal(
        &self,
        options: &[(&str, &Node)],
        problems: &mut Problems<'_>,
    ) -> Option<PropertyType> {
        let sizes = self
            .physical
            .strip_prefix("decimal(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|sizes| sizes.split_once(','))
            .and_then(|(p, s)| Some((p.trim().parse::<u8>().ok()?, s.trim().parse::<u8>().ok()?)))
            .filter(|(precision, scale)| (1..=38).contains(precision) && scale <= precision);
        let Some((precision, scale)) = sizes else {
            problems.add_with_help(
                self.node.line,
                format!("`{}` is not a decimal type", self.physical),
                "write the digits in all and the decimals, such as decimal(14,2); at most 38 digits",
            );
            return None;
        };
        let sum = match self
            .custom
            .get("amountSum")
            .map(|node| (&node.value, node.line))
        {
            None => false,
            Some((Value::Bool(sum), _)) => *sum,
            Some((_, line)) => {
                problems.add(line, "`amountSum` must be true or false");
                false
            }
        };
        let largest = power_of_ten(precision) - 1;
        let range = self.number_range(scale, -largest, largest, options, problems)?;
        Some(PropertyType::Decimal {
            precision,
            scale,
            range,
            sum,
        })
    }

    fn number_range(
        &self,
        scale: u8,
        min: i128,
        max: i128,
        options: &[(&str, &Node)],
        problems: &mut Problems<'_>,
    ) -> Option<NumberRange> {
        let mut range = NumberRange { min, max };
        for (key, node) in options {
            let value = scaled(key, node, scale, problems)?;
            match *key {
                "minimum" => range.min = value,
                "exclusiveMinimum" => range.min = value.saturating_add(1),
                "maximum" => range.max = value,
                _ => range.max = value.saturating_sub(1),
            }
        }
        if range.min > range.max || range.min < min || range.max > max {
            problems.add(
                self.node.line,
                format!(
                    "the limits {} to {} do not fit the type `{}`",
                    shown(range.min, scale),
                    shown(range.max, scale),
                    self.physical
                ),
            );
            return None;
        }
        Some(range)
    }
}

/// A limit as units of the last decimal of the type.
fn scaled(key: &str, node: &Node, scale: u8, problems: &mut Problems<'_>) -> Option<i128> {
    let value = number_of(key, node, problems)?;
    let number = number::parse(value.to_string().as_bytes(), DecimalMark::Point).ok();
    let scaled = number.and_then(|n| {
        n.digits
            .checked_mul(power_of_ten(scale.checked_sub(n.decimals)?))
    });
    if scaled.is_none() {
        problems.add(
            node.line,
            format!("`{key}` has more decimals or digits than the type"),
        );
    }
    scaled
}

fn day(text: &str, line: u32, problems: &mut Problems<'_>) -> Option<i32> {
    match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => Some(days::from_date(date)),
        _ => {
            problems.add_with_help(
                line,
                format!("`{text}` is not a date"),
                "write dates as 2024-03-31, or `today`",
            );
            None
        }
    }
}

fn check_names(drafts: &[Draft<'_>], problems: &mut Problems<'_>) {
    for (at, draft) in drafts.iter().enumerate() {
        for before in drafts.iter().take(at) {
            if before.property.name == draft.property.name {
                problems.add(
                    draft.line,
                    format!("the property `{}` is given twice", draft.property.name),
                );
            }
            if before.property.header.to_lowercase() == draft.property.header.to_lowercase() {
                problems.add(
                    draft.line,
                    format!("the column `{}` is given twice", draft.property.header),
                );
            }
        }
    }
}

fn key(drafts: &[Draft<'_>], line: u32, problems: &mut Problems<'_>) -> Vec<usize> {
    let mut parts: Vec<(i64, usize)> = drafts
        .iter()
        .enumerate()
        .filter_map(|(at, draft)| Some((draft.key?, at)))
        .collect();
    parts.sort_unstable();
    if parts.is_empty() && !drafts.is_empty() {
        problems.add_with_help(
            line,
            "the dataset has no key",
            "mark its properties with `primaryKey: true`",
        );
    }
    if !parts
        .iter()
        .map(|(position, _)| *position)
        .eq(1..=parts.len() as i64)
    {
        problems.add_with_help(
            line,
            "the positions in the key are not 1, 2, 3, ...",
            "give each part of the key its own `primaryKeyPosition`",
        );
    }
    parts.into_iter().map(|(_, at)| at).collect()
}

fn resolve_valid_on(
    draft: &mut Draft<'_>,
    names: &[Arc<str>],
    row_date: Option<usize>,
    complete: bool,
    problems: &mut Problems<'_>,
) {
    let PropertyType::Code { valid_on, .. } = &mut draft.property.kind else {
        return;
    };
    *valid_on = match draft.valid_on {
        None => row_date,
        Some((name, line)) => {
            let found = names.iter().position(|known| known.as_ref() == name);
            if found.is_none() && complete {
                problems.unknown(line, "property", name, names.iter().map(AsRef::as_ref));
            }
            found
        }
    };
}

/// The place of a date or month property.
fn date_at(
    name: &str,
    line: u32,
    drafts: &[Draft<'_>],
    problems: &mut Problems<'_>,
) -> Option<usize> {
    let Some(at) = drafts
        .iter()
        .position(|draft| draft.property.name.as_ref() == name)
    else {
        problems.unknown(
            line,
            "property",
            name,
            drafts.iter().map(|draft| draft.property.name.as_ref()),
        );
        return None;
    };
    match drafts.get(at).map(|draft| &draft.property.kind) {
        Some(PropertyType::Date(_) | PropertyType::Month(_)) => Some(at),
        _ => {
            problems.add(line, format!("`{name}` is not a date"));
            None
        }
    }
}

fn period_rules(
    node: &Node,
    mode: Option<Mode>,
    drafts: &[Draft<'_>],
    lists: &CodeLists,
    problems: &mut Problems<'_>,
) -> Vec<PeriodRule> {
    let Value::List(items) = &node.value else {
        problems.add(
            node.line,
            format!("`period` must be a list, not {}", node.value.kind()),
        );
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| period_rule(item, mode, drafts, lists, problems))
        .collect()
}

fn period_rule(
    node: &Node,
    mode: Option<Mode>,
    drafts: &[Draft<'_>],
    lists: &CodeLists,
    problems: &mut Problems<'_>,
) -> Option<PeriodRule> {
    let mut fields = Fields::open("a period rule", node, problems)?;
    let date = fields.text("date", problems);
    let from = fields.text("from", problems);
    let to = fields.text("to", problems);
    let within = fields.text("within", problems);
    let when = fields
        .get("when")
        .and_then(|node| condition(node, drafts, lists, problems));
    let has_when = fields.get("when").is_some();
    fields.finish(problems);
    let test = match (date, from, to) {
        (Some(date), None, None) => {
            let date = date_at(date, node.line, drafts, problems)?;
            match within {
                Some("period") => PeriodTest::Within { date },
                Some("year") => PeriodTest::WithinYear { date },
                Some(other) => {
                    problems.unknown(node.line, "`within`", other, ["period", "year"]);
                    return None;
                }
                None => {
                    problems.add(node.line, "a period rule has no `within`");
                    return None;
                }
            }
        }
        (None, Some(from), Some(to)) if within.is_none() => {
            let from = date_at(from, node.line, drafts, problems);
            let to = date_at(to, node.line, drafts, problems);
            PeriodTest::Overlaps {
                from: from?,
                to: to?,
            }
        }
        _ => {
            problems.add_with_help(
                node.line,
                "a period rule names either a date or a spell",
                "write `{ date: visit_on, within: period }` or `{ from: started_on, to: ended_on }`",
            );
            return None;
        }
    };
    let fits = match (mode, test) {
        (Some(Mode::Events), PeriodTest::Within { .. } | PeriodTest::WithinYear { .. }) => true,
        (Some(Mode::YearlySpells), PeriodTest::Overlaps { .. }) => true,
        (Some(Mode::Events | Mode::YearlySpells), _) => false,
        (Some(Mode::Document) | None, _) => true,
    };
    if !fits {
        problems.add_with_help(
            node.line,
            "the period rule does not go with the delivery mode",
            "events have a `date`, yearly spells have `from` and `to`",
        );
    }
    if has_when && when.is_none() {
        return None;
    }
    Some(PeriodRule { test, when })
}

/// `when: { property: scenario, in: [T] }`
fn condition(
    node: &Node,
    drafts: &[Draft<'_>],
    lists: &CodeLists,
    problems: &mut Problems<'_>,
) -> Option<(usize, Vec<Arc<str>>)> {
    let mut fields = Fields::open("`when`", node, problems)?;
    let name = fields.required_text("property", problems);
    let codes = match fields.get("in") {
        Some(node) => yaml::texts("in", node, problems),
        None => {
            fields.missing("in", problems);
            Vec::new()
        }
    };
    fields.finish(problems);
    let name = name?;
    let Some(at) = drafts
        .iter()
        .position(|draft| draft.property.name.as_ref() == name)
    else {
        problems.unknown(
            node.line,
            "property",
            name,
            drafts.iter().map(|draft| draft.property.name.as_ref()),
        );
        return None;
    };
    let list = drafts
        .get(at)
        .and_then(|draft| draft.property.code_list())
        .and_then(|list| lists.list(list));
    let Some(list) = list else {
        problems.add(node.line, format!("`{name}` is not a code"));
        return None;
    };
    for code in &codes {
        if !list
            .codes()
            .iter()
            .any(|known| known.code().as_ref() == *code)
        {
            problems.unknown(
                node.line,
                "code",
                code,
                list.codes().iter().map(|known| known.code().as_ref()),
            );
        }
    }
    Some((at, codes.into_iter().map(Arc::from).collect()))
}

/// The common head of a quality check.
struct CheckHead<'a> {
    id: &'a str,
    description: Option<&'a str>,
    /// The declared action, or the one that the severity stands for.
    action: Option<Action>,
    error: bool,
    limit: Option<Limit>,
    unit: Option<CheckUnit>,
    line: u32,
}

fn quality_check(
    node: &Node,
    at: Option<usize>,
    properties: &[Property],
    key: &[usize],
    checks: &mut Checks,
    problems: &mut Problems<'_>,
) {
    let Some(mut fields) = Fields::open("a quality check", node, problems) else {
        return;
    };
    fields.allow(&UNREAD_QUALITY);
    let id = fields.required_text("id", problems);
    if let Some(id) = id {
        if !is_name(id) {
            problems.add(
                node.line,
                format!("the id `{id}` must be lower case letters, digits and _"),
            );
        }
        if rules::ALL.contains(&id) {
            problems.add(
                node.line,
                format!("the id `{id}` is the name of a built-in rule"),
            );
        }
        if checks.ids.iter().any(|before| before == id) {
            problems.add(node.line, format!("two quality checks have the id `{id}`"));
        }
        checks.ids.push(id.to_owned());
    }
    let dimension = fields.text("dimension", problems);
    if let Some(dimension) = dimension
        && !DIMENSIONS.contains(&dimension)
    {
        problems.unknown(node.line, "dimension", dimension, DIMENSIONS);
    }
    let description = fields.text("description", problems);
    let severity = fields.text("severity", problems);
    if let Some(severity) = severity
        && !SEVERITIES.contains(&severity)
    {
        problems.unknown(node.line, "severity", severity, SEVERITIES);
    }
    let metric = fields.text("metric", problems);
    let kind = fields.text("type", problems).unwrap_or("library");
    let custom_names: &[&str] = match metric {
        Some("duplicateValues") => &["severityAction", "scope"],
        Some(_) => &["severityAction", "minRows"],
        None => &["severityAction"],
    };
    let custom = custom_properties(&mut fields, custom_names, problems);
    let action = custom
        .get("severityAction")
        .and_then(|node| word("severityAction", node, &ACTIONS, Action::parse, problems));
    let limit = if kind == "custom" || kind == "text" {
        None
    } else {
        limit(&mut fields, problems)
    };
    let unit = fields
        .text("unit", problems)
        .and_then(|unit| unit_of(unit, node.line, problems));
    let Some(id) = id else { return };
    let error = severity.unwrap_or("error") == "error";
    let head = CheckHead {
        id,
        description,
        action,
        error,
        limit,
        unit,
        line: node.line,
    };
    match kind {
        "library" => library_check(
            &head,
            metric,
            &mut fields,
            &custom,
            at,
            properties,
            key,
            checks,
            problems,
        ),
        "sql" => {
            let query = fields.required_text("query", problems);
            let limit = head.required_limit(problems);
            let property = at.and_then(|at| properties.get(at));
            if let Some(query) = query {
                sql_placeholders(&head, query, property, problems);
            }
            if let (Some(query), Some(limit)) = (query, limit) {
                checks.sql.push(SqlCheck {
                    id: id.to_owned(),
                    line: node.line,
                    property: property.map(|property| property.name.to_string()),
                    query: query.to_owned(),
                    limit,
                    unit,
                    action: head.set_action(problems),
                    dimension: dimension.map(str::to_owned),
                    description: description.map(str::to_owned),
                });
            }
        }
        "custom" => {
            if let Some(engine) = fields.required_text("engine", problems)
                && engine != ENGINE
            {
                problems.unknown(node.line, "engine", engine, [ENGINE]);
            }
            match fields.get("implementation") {
                Some(node) => custom_check(&head, node, properties, checks, problems),
                None => fields.missing("implementation", problems),
            }
        }
        // Written for people only.
        "text" => {}
        other => problems.unknown(
            node.line,
            "check type",
            other,
            ["library", "sql", "custom", "text"],
        ),
    }
    fields.finish(problems);
}

impl CheckHead<'_> {
    fn required_limit(&self, problems: &mut Problems<'_>) -> Option<Limit> {
        if self.limit.is_none() {
            problems.add_with_help(
                self.line,
                format!("the check `{}` has no limit", self.id),
                format!("add one of {}", OPERATORS.join(", ")),
            );
        }
        self.limit
    }

    /// The action of a check of the whole delivery, which cannot single out rows.
    fn set_action(&self, problems: &mut Problems<'_>) -> Action {
        match self.action {
            Some(Action::Quarantine) => {
                problems.add_with_help(
                    self.line,
                    format!(
                        "the check `{}` is of the whole delivery and cannot quarantine rows",
                        self.id
                    ),
                    "use reject, hold or warn",
                );
                Action::Warn
            }
            Some(action) => action,
            None if self.error => Action::Reject,
            None => Action::Warn,
        }
    }

    fn row_action(&self) -> Action {
        match self.action {
            Some(action) => action,
            None if self.error => Action::Quarantine,
            None => Action::Warn,
        }
    }
}

/// A query reads the delivery under the name `{object}` and nothing else, so a
/// query without it says nothing about the delivery.
fn sql_placeholders(
    head: &CheckHead<'_>,
    query: &str,
    property: Option<&Property>,
    problems: &mut Problems<'_>,
) {
    let id = head.id;
    if query.contains("${") {
        problems.add_with_help(
            head.line,
            format!("the query of the check `{id}` has a `$` before a name in braces"),
            "write `{object}` and `{property}`, as the standard does since 3.1",
        );
    } else if !query.contains(OBJECT) {
        problems.add_with_help(
            head.line,
            format!("the query of the check `{id}` does not read the delivery"),
            "name the delivery's rows `{object}`, as in `select count(*) from {object}`",
        );
    }
    if query.contains(PROPERTY) && property.is_none() {
        problems.add_with_help(
            head.line,
            format!("the check `{id}` is of the schema object and has no `{PROPERTY}`"),
            "name the column, or move the check to its property",
        );
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one reading of one check, split off for length only"
)]
fn library_check<'a>(
    head: &CheckHead<'_>,
    metric: Option<&str>,
    fields: &mut Fields<'a>,
    custom: &Custom<'a>,
    at: Option<usize>,
    properties: &[Property],
    key: &[usize],
    checks: &mut Checks,
    problems: &mut Problems<'_>,
) {
    let limit = head.required_limit(problems);
    let arguments = fields.get("arguments");
    let property = at.and_then(|at| properties.get(at));
    let measure = match (metric, property) {
        (Some("rowCount"), None) => Measure::Received,
        (Some("duplicateValues"), None) => {
            uniqueness(
                head, limit, arguments, custom, properties, key, checks, problems,
            );
            return;
        }
        (Some("invalidValues"), Some(property)) => Measure::Invalid(property.header.clone()),
        (Some("nullValues" | "missingValues"), Some(property)) => {
            Measure::Missing(Arc::from(null_count_name(&property.name)))
        }
        (Some(metric @ ("rowCount" | "duplicateValues")), Some(_)) => {
            problems.add(
                head.line,
                format!("`{metric}` is a check of the schema object, not of a property"),
            );
            return;
        }
        (Some(metric @ ("invalidValues" | "nullValues" | "missingValues")), None) => {
            problems.add(
                head.line,
                format!("`{metric}` is a check of a property, not of the schema object"),
            );
            return;
        }
        (Some(other), _) => {
            let known = [
                "rowCount",
                "duplicateValues",
                "invalidValues",
                "nullValues",
                "missingValues",
            ];
            problems.unknown(head.line, "metric", other, known);
            return;
        }
        (None, _) => {
            problems.add(
                head.line,
                format!("the check `{}` has no `metric`", head.id),
            );
            return;
        }
    };
    if let Some(arguments) = arguments {
        problems.add(
            arguments.line,
            format!("the check `{}` takes no `arguments`", head.id),
        );
    }
    let min_rows = custom
        .get("minRows")
        .and_then(|node| rows("minRows", node, problems))
        .unwrap_or(0);
    let Some(limit) = limit else { return };
    checks.set.push(SetCheck {
        id: Arc::from(head.id),
        field: property.map(|property| property.header.clone()),
        measure,
        limit,
        unit: head.unit.unwrap_or(CheckUnit::Rows),
        min_rows,
        action: head.set_action(problems),
        description: head.description.map(str::to_owned),
    });
}

#[expect(
    clippy::too_many_arguments,
    reason = "one reading of one check, split off for length only"
)]
fn uniqueness(
    head: &CheckHead<'_>,
    limit: Option<Limit>,
    arguments: Option<&Node>,
    custom: &Custom<'_>,
    properties: &[Property],
    key: &[usize],
    checks: &mut Checks,
    problems: &mut Problems<'_>,
) {
    if limit.is_some_and(|limit| limit != Limit::Be(0.0)) {
        problems.add_with_help(
            head.line,
            "a key is either unique or no key",
            "write `mustBe: 0`",
        );
    }
    if let Some(node) = arguments
        && let Some(mut fields) = Fields::open("`arguments`", node, problems)
    {
        let named = fields
            .get("properties")
            .map(|node| yaml::texts("properties", node, problems))
            .unwrap_or_default();
        let names: Vec<&str> = key
            .iter()
            .filter_map(|at| properties.get(*at))
            .map(Property::name)
            .collect();
        if named != names {
            problems.add(
                node.line,
                format!(
                    "the unique properties are not the key ({})",
                    names.join(", ")
                ),
            );
        }
        fields.finish(problems);
    } else {
        problems.add_with_help(
            head.line,
            "the check of the key does not name its properties",
            "add `arguments: { properties: [...] }`",
        );
    }
    let scope = match custom.get("scope") {
        Some(node) => {
            let parse = |text: &str| match text {
                "delivery" => Some(KeyScope::Delivery),
                "table" => Some(KeyScope::Table),
                _ => None,
            };
            word("scope", node, &["delivery", "table"], parse, problems)
        }
        None => missing_custom("the check of the key", "scope", head.line, problems),
    };
    if checks.uniqueness.is_some() {
        problems.add(head.line, "the uniqueness of the key is declared twice");
    }
    let action = match head.action {
        Some(action) => action,
        None if head.error => Action::Reject,
        None => Action::Warn,
    };
    checks.uniqueness = scope.map(|scope| Uniqueness { scope, action });
}

fn custom_check(
    head: &CheckHead<'_>,
    node: &Node,
    properties: &[Property],
    checks: &mut Checks,
    problems: &mut Problems<'_>,
) {
    let Some(mut fields) = Fields::open("`implementation`", node, problems) else {
        return;
    };
    let equation = fields.text("crossField", problems);
    let measure = fields.text("measure", problems);
    match (equation, measure) {
        (Some(text), None) => {
            let message = head.description.unwrap_or(text).to_owned();
            match Equation::parse(text, properties) {
                Ok(equation) => {
                    // The reject stands under the first column that the check names.
                    let field = equation.columns().next();
                    match field {
                        Some(field) => checks.cross.push(CrossCheck {
                            rule: Arc::from(head.id),
                            equation,
                            field,
                            action: head.row_action(),
                            message,
                        }),
                        None => problems.add(node.line, "the check names no property"),
                    }
                }
                Err(EquationFault::UnknownColumn(name)) => {
                    problems.unknown(node.line, "property", &name, properties.iter().map(Property::name));
                }
                Err(EquationFault::Text(text)) => problems.add(node.line, format!("the check `{}`: {text}", head.id)),
            }
        }
        (None, Some(name)) => {
            let rule = fields.text("rule", problems);
            let min_rows = fields.get("minRows").and_then(|node| rows("minRows", node, problems));
            let limit = limit(&mut fields, problems);
            let unit = fields.text("unit", problems).and_then(|unit| unit_of(unit, node.line, problems));
            let known = ["quarantinedRows", "ruleRows", "homeCountyRows"];
            let measure = match (name, rule) {
                ("quarantinedRows", None) => Measure::Quarantined,
                ("homeCountyRows", None) => {
                    if !properties.iter().any(|p| p.code_list() == Some(MUNICIPALITY)) {
                        problems.add(node.line, format!("no property has the code list `{MUNICIPALITY}`"));
                    }
                    Measure::HomeCounty
                }
                ("ruleRows", Some(rule)) => {
                    let own = checks.cross.iter().map(|check| check.rule.as_ref());
                    let rules: Vec<&str> = rules::ALL.iter().copied().chain(own).collect();
                    if !rules.contains(&rule) {
                        problems.unknown(node.line, "rule", rule, rules.iter().copied());
                    }
                    Measure::Rule(Arc::from(rule))
                }
                ("ruleRows", None) => {
                    problems.add(node.line, "`ruleRows` needs a `rule`");
                    return;
                }
                ("quarantinedRows" | "homeCountyRows", Some(_)) => {
                    problems.add(node.line, format!("`{name}` takes no `rule`"));
                    return;
                }
                (other, _) => {
                    problems.unknown(node.line, "measure", other, known);
                    return;
                }
            };
            match limit {
                Some(limit) => checks.set.push(SetCheck {
                    id: Arc::from(head.id),
                    field: None,
                    measure,
                    limit,
                    unit: unit.unwrap_or(CheckUnit::Rows),
                    min_rows: min_rows.unwrap_or(0),
                    action: head.set_action(problems),
                    description: head.description.map(str::to_owned),
                }),
                None => problems.add(node.line, format!("the check `{}` has no limit", head.id)),
            }
        }
        _ => problems.add_with_help(
            node.line,
            "the implementation says neither `crossField` nor `measure`",
            "write `{ crossField: \"ended_on >= started_on\" }` or `{ measure: quarantinedRows, ... }`",
        ),
    }
    fields.finish(problems);
}

/// A number of rows.
fn rows(key: &str, node: &Node, problems: &mut Problems<'_>) -> Option<u64> {
    let rows = match node.value {
        Value::Integer(rows) => u64::try_from(rows).ok(),
        _ => None,
    };
    if rows.is_none() {
        problems.add(node.line, format!("`{key}` must be a whole number of rows"));
    }
    rows
}

fn unit_of(text: &str, line: u32, problems: &mut Problems<'_>) -> Option<CheckUnit> {
    match text {
        "rows" => Some(CheckUnit::Rows),
        "percent" => Some(CheckUnit::Percent),
        other => {
            problems.unknown(line, "unit", other, ["rows", "percent"]);
            None
        }
    }
}

fn limit(fields: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Limit> {
    let mut limits = Vec::new();
    for operator in OPERATORS {
        let Some(node) = fields.get(operator) else {
            continue;
        };
        let limit = match operator {
            "mustBeBetween" | "mustNotBeBetween" => match &node.value {
                Value::List(items) if items.len() == 2 => {
                    let mut ends = items
                        .iter()
                        .filter_map(|item| number_of(operator, item, problems));
                    match (ends.next(), ends.next()) {
                        (Some(a), Some(b)) if operator == "mustBeBetween" => {
                            Some(Limit::Between(a, b))
                        }
                        (Some(a), Some(b)) => Some(Limit::NotBetween(a, b)),
                        _ => None,
                    }
                }
                _ => {
                    problems.add(
                        node.line,
                        format!("`{operator}` must be a list of two numbers"),
                    );
                    None
                }
            },
            _ => number_of(operator, node, problems).map(|value| match operator {
                "mustBe" => Limit::Be(value),
                "mustNotBe" => Limit::NotBe(value),
                "mustBeGreaterThan" => Limit::GreaterThan(value),
                "mustBeGreaterOrEqualTo" => Limit::GreaterOrEqualTo(value),
                "mustBeLessThan" => Limit::LessThan(value),
                _ => Limit::LessOrEqualTo(value),
            }),
        };
        limits.push((node.line, limit));
    }
    match limits.as_slice() {
        [] => None,
        [(_, limit)] => *limit,
        [_, (line, _), ..] => {
            problems.add(*line, "a check has one limit");
            None
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]
mod tests {
    use super::*;
    use crate::testing::{self, CONTRACT};

    #[test]
    fn a_whole_contract_is_read() {
        let contract = testing::contract();
        assert_eq!(
            (contract.name(), contract.version(), contract.mode()),
            ("test_case", "1.0.0", Mode::Events)
        );
        assert_eq!(contract.key(), [Arc::from("case_no")]);
        assert_eq!(
            contract.uniqueness(),
            &Uniqueness {
                scope: KeyScope::Table,
                action: Action::Reject
            }
        );
        assert_eq!(contract.format().separators(), b";");
        assert_eq!(contract.sql_checks().len(), 1);
        assert_eq!(
            contract
                .amount_columns()
                .map(Property::name)
                .collect::<Vec<_>>(),
            ["amount"]
        );
        let note = contract.property("note").unwrap();
        assert_eq!(
            (note.description_fi(), note.description_en()),
            ("Vapaa teksti", "Free text")
        );
        assert_eq!(
            note.kind(),
            &PropertyType::Text {
                max_length: 40,
                scan: Some(Action::Reject)
            }
        );
        let PropertyType::Code { valid_on, .. } = contract.property("kind").unwrap().kind() else {
            panic!("a code")
        };
        assert_eq!(*valid_on, Some(3));
    }

    /// The problems of the test contract after one change, each with the text of its line.
    fn check(from: &str, to: &str, expected: &[&str]) {
        assert!(CONTRACT.contains(from), "the contract has no `{from}`");
        let yaml = CONTRACT.replacen(from, to, 1);
        let problems = match Contract::parse("c.yaml", &yaml, &testing::lists()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems,
        };
        let shown: Vec<String> = problems
            .iter()
            .map(|problem| {
                let line = yaml
                    .lines()
                    .nth(problem.line.unwrap() as usize - 1)
                    .unwrap()
                    .trim();
                let help = problem
                    .help
                    .as_deref()
                    .map(|help| format!(" [{help}]"))
                    .unwrap_or_default();
                format!("{line} => {}{help}", problem.message)
            })
            .collect();
        assert_eq!(shown, expected, "{from} -> {to}");
    }

    #[test]
    fn unknown_keys_are_problems_with_a_hint() {
        check(
            "version: 1.0.0",
            "verzion: 1.0.0",
            &[
                "apiVersion: v3.1.0 => the contract has no `version`",
                "verzion: 1.0.0 => unknown key in the contract `verzion` [did you mean `version`?]",
            ],
        );
        check(
            "businessName: Laji",
            "businesName: Laji",
            &[
                "- name: kind => a property has no `businessName`",
                "businesName: Laji => unknown key in a property `businesName` [did you mean `businessName`?]",
            ],
        );
        check(
            "property: amountSum",
            "property: amountsum",
            &[
                "- { property: amountsum, value: true } => unknown custom property `amountsum` [did you mean `amountSum`?]",
            ],
        );
    }

    #[test]
    fn unknown_names_and_words_are_problems_with_a_hint() {
        check(
            "value: test.kind",
            "value: test.kinds",
            &[
                "- { property: codeSystem, value: test.kinds } => unknown code list `test.kinds` [did you mean `test.kind`?]",
            ],
        );
        check(
            "physicalType: hetu",
            "physicalType: hety",
            &["- name: client_id => unknown type `hety` [did you mean `hetu`?]"],
        );
        check(
            "date: started_on,",
            "date: startd_on,",
            &[
                "- { date: startd_on, within: period } => unknown property `startd_on` [did you mean `started_on`?]",
            ],
        );
        check(
            "ended_on >= started_on",
            "ended_on >= starts",
            &[
                "implementation: { crossField: \"ended_on >= starts\" } => unknown property `starts` [known: case_no, client_id, kind, started_on, ended_on, amount, note]",
            ],
        );
        check(
            "value: events",
            "value: event",
            &[
                "- { property: deliveryMode, value: event } => unknown `deliveryMode` `event` [did you mean `events`?]",
            ],
        );
        check(
            "metric: rowCount",
            "metric: rowCounts",
            &["- id: rows_present => unknown metric `rowCounts` [did you mean `rowCount`?]"],
        );
        check(
            "mustBeGreaterThan: 0",
            "mustBeGreaterThen: 0",
            &[
                "- id: rows_present => the check `rows_present` has no limit [add one of mustBe, mustNotBe, mustBeGreaterThan, mustBeGreaterOrEqualTo, mustBeLessThan, mustBeLessOrEqualTo, mustBeBetween, mustNotBeBetween]",
                "mustBeGreaterThen: 0 => unknown key in a quality check `mustBeGreaterThen` [did you mean `mustBeGreaterThan`?]",
            ],
        );
    }

    #[test]
    fn types_and_their_settings_must_fit() {
        check(
            "physicalType: decimal(8,2)",
            "physicalType: decimal(8,9)",
            &[
                "- name: amount => `decimal(8,9)` is not a decimal type [write the digits in all and the decimals, such as decimal(14,2); at most 38 digits]",
            ],
        );
        check(
            "logicalType: number",
            "logicalType: string",
            &[
                "- name: amount => the type `decimal(8,2)` has the logical type `number`, not `string`",
            ],
        );
        check(
            "property: amountSum, value: true",
            "property: nullWhen, value: x",
            &["- name: amount => a required property cannot have `nullWhen`"],
        );
        check(
            "{ property: unit, value: EUR }",
            "{ property: pseudonymise, value: hr }",
            &[
                "- { property: pseudonymise, value: hr } => `pseudonymise` does not go with the type `decimal(8,2)`",
            ],
        );
        check(
            "        classification: personal_identity_code",
            "        classification: personal",
            &[
                "- name: client_id => an identity code has another classification [write `classification: personal_identity_code`]",
            ],
        );
        check(
            "logicalTypeOptions: { maxLength: 10 }",
            "logicalTypeOptions: { maxLenght: 10 }",
            &[
                "- name: case_no => the text has no greatest length [add `logicalTypeOptions: { maxLength: 30 }`]",
                "logicalTypeOptions: { maxLenght: 10 } => unknown key in `logicalTypeOptions` `maxLenght` [did you mean `maxLength`?]",
            ],
        );
        check(
            "description: Summa | Amount",
            "description: Summa",
            &[
                "- name: amount => the description must be given in Finnish and in English [write `suomeksi | in English`]",
            ],
        );
    }

    #[test]
    fn keys_and_periods_must_be_whole() {
        check(
            "        primaryKey: true\n",
            "",
            &[
                "- name: test_case => the dataset has no key [mark its properties with `primaryKey: true`]",
                "arguments: { properties: [case_no] } => the unique properties are not the key ()",
            ],
        );
        check(
            "        primaryKey: true\n",
            "        primaryKey: true\n        primaryKeyPosition: 2\n",
            &[
                "- name: test_case => the positions in the key are not 1, 2, 3, ... [give each part of the key its own `primaryKeyPosition`]",
            ],
        );
        check(
            "{ date: started_on, within: period }",
            "{ from: started_on, to: ended_on }",
            &[
                "- { from: started_on, to: ended_on } => the period rule does not go with the delivery mode [events have a `date`, yearly spells have `from` and `to`]",
            ],
        );
        check(
            "property: retention",
            "property: retentian",
            &[
                "apiVersion: v3.1.0 => the contract has no service level `retention` [add it to `slaProperties`: how long is the retention]",
            ],
        );
        check(
            "physicalName: laji",
            "physicalName: NUMERO",
            &["- name: kind => the column `NUMERO` is given twice"],
        );
    }

    #[test]
    fn checks_must_make_sense() {
        check(
            "id: ended_before_started",
            "id: wrong_period",
            &["- id: wrong_period => the id `wrong_period` is the name of a built-in rule"],
        );
        check(
            "id: rows_present",
            "id: key_unique",
            &["- id: key_unique => two quality checks have the id `key_unique`"],
        );
        check(
            "mustBe: 0",
            "mustBe: 1",
            &["- id: key_unique => a key is either unique or no key [write `mustBe: 0`]"],
        );
        check(
            "ended_on >= started_on",
            "ended_on >= amount",
            &[
                "implementation: { crossField: \"ended_on >= amount\" } => the check `ended_before_started`: a date is compared only with another date",
            ],
        );
        check(
            "separators: [\";\"]",
            "separators: [\",\"]",
            &[
                "value: { separators: [\",\"], decimal: comma, dateFormats: [d.m.yyyy], encodings: [utf-8] } => a comma cannot be both separator and decimal sign [agree on `;` or `tab` as the separator]",
            ],
        );
    }

    #[test]
    fn sql_checks_are_of_the_delivery_as_a_whole() {
        check(
            "mustBe: 0\n        severity: warning",
            "mustBe: 0\n        customProperties: [{ property: severityAction, value: quarantine }]",
            &[
                "- id: one_open_case => the check `one_open_case` is of the whole delivery and cannot quarantine rows [use reject, hold or warn]",
            ],
        );
        check(
            "from {object}\"",
            "from raw.test_case\"",
            &[
                "- id: one_open_case => the query of the check `one_open_case` does not read the delivery [name the delivery's rows `{object}`, as in `select count(*) from {object}`]",
            ],
        );
        check(
            "from {object}\"",
            "from ${object}\"",
            &[
                "- id: one_open_case => the query of the check `one_open_case` has a `$` before a name in braces [write `{object}` and `{property}`, as the standard does since 3.1]",
            ],
        );
        check(
            "from {object}\"",
            "from {object} where {property} is null\"",
            &[
                "- id: one_open_case => the check `one_open_case` is of the schema object and has no `{property}` [name the column, or move the check to its property]",
            ],
        );
        check(
            "query: \"select count(*) from {object}\"",
            "query: \"select count(*) from {object}\"\n        unit: persons",
            &["- id: one_open_case => unknown unit `persons` [known: rows, percent]"],
        );
    }

    #[test]
    fn terms_are_lengths_of_time() {
        for (from, to) in [
            (
                "property: latency, value: 10",
                "property: latency, value: 10.5",
            ),
            (
                "property: latency, value: 10",
                "property: latency, value: -1",
            ),
            (
                "property: frequency, value: 1",
                "property: frequency, value: 0",
            ),
            (
                "property: retention, value: 24",
                "property: retention, value: 1e9",
            ),
        ] {
            let (line, _) = to.split_once(", value").unwrap();
            let line = format!(
                "- {{ {to}, unit: {} }}",
                if line.contains("latency") { "d" } else { "m" }
            );
            let name = to.split([' ', ',']).nth(1).unwrap();
            let expected = format!(
                "{line} => the service level `{name}` is no length of time [write a whole number of days (`d`), months (`m`) or years (`y`)]"
            );
            check(from, to, &[&expected]);
        }
        check(
            "property: latency, value: 10",
            "property: latency, value: 0",
            &[],
        );
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let yaml = CONTRACT
            .replacen("version: 1.0.0", "version: one", 1)
            .replacen("value: events", "value: event", 1)
            .replacen("unit: m }", "unit: months }", 1);
        let problems = Contract::parse("c.yaml", &yaml, &testing::lists()).unwrap_err();
        let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "`one` is not a version",
                "unknown unit `months`",
                "unknown `deliveryMode` `event`"
            ]
        );
        assert!(problems.is_sorted_by_key(|problem| problem.line));
    }

    #[test]
    fn text_that_is_no_contract_is_refused_without_panic() {
        for text in [
            "",
            "x",
            "[]",
            "- a\n- b",
            "a: &x [*x]",
            "{",
            "apiVersion: 3",
            "\0",
            "schema: [1, 2]",
            "schema:\n  - properties: [1, {name: 2}]",
            "%YAML 9",
        ] {
            assert!(
                Contract::parse("c.yaml", text, &testing::lists()).is_err(),
                "{text:?}"
            );
        }
        // Every beginning of a good contract is a bad one or the whole.
        for end in (0..CONTRACT.len()).step_by(37) {
            let _ = Contract::parse("c.yaml", &CONTRACT[..end], &testing::lists());
        }
    }
}
