//! `rate`, `proportion`, `ratio`, `per_capita` and `unit_cost`: one number over another.

use crate::definition::{Context, Parts, check_breakdown_sides, parse_ages, read_component};
use crate::document::{Section, suggestion};
use crate::expression::Scope;
use crate::indicator::{
    Component, Denominator, Formula, IntervalMethod, Kind, Measure, Population, PopulationAt,
};

use super::{read_interval, read_scale, single_output};

/// Populations that may be a denominator: name in definitions, relation.
const POPULATIONS: &[(&str, &str)] = &[("fi.statfin.population", "reference.population")];

/// Columns of a population by which it may be divided.
const POPULATION_BREAKDOWNS: &[&str] = &["sex", "whole"];

/// Reads `[numerator]`, `[denominator]`, `[scale]` and `[uncertainty]`.
pub(super) fn read(context: &Context<'_, '_, '_>, annualise: bool) -> Option<Parts> {
    let scale = read_scale(context);
    let outputs = single_output(context, scale.decimals);
    let numerator_section = context.root.required_section("numerator");
    let numerator = numerator_section
        .as_ref()
        .and_then(|s| read_component(context, s, "numerator"));
    let denominator_section = context.root.required_section("denominator");
    let denominator = denominator_section
        .as_ref()
        .and_then(|s| read_denominator(context, s));
    let interval = match context.kind {
        Kind::Rate => read_interval(context, IntervalMethod::ByarExactBelow10),
        Kind::Proportion => read_interval(context, IntervalMethod::Wilson),
        _ => None,
    };
    let ((component, term), (denominator, denominator_component)) = (numerator?, denominator?);
    if let Some(section) = &numerator_section {
        check_kind(
            context,
            section,
            &component,
            &denominator,
            denominator_component.as_ref(),
        );
        if interval.is_some()
            && (term.divide_by != 1
                || matches!(component.measure, Measure::Sum(_) | Measure::Days(_)))
        {
            section.problem(
                section.line,
                "an interval is for counts of events or persons, and the numerator is an amount",
                Some("leave `[uncertainty]` out".to_owned()),
            );
        }
    }
    let mut components = vec![component];
    components.extend(denominator_component);
    Some(Parts {
        components,
        formula: Formula::Fraction {
            numerator: term,
            denominator,
            per: scale.per.value,
            annualise,
            interval,
        },
        outputs,
    })
}

fn read_denominator(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
) -> Option<(Denominator, Option<Component>)> {
    if section.has("population") {
        return Some((
            Denominator::Population(read_population(context, section)?),
            None,
        ));
    }
    let (component, term) = read_component(context, section, "denominator")?;
    Some((Denominator::Term(term), Some(component)))
}

fn read_population(context: &Context<'_, '_, '_>, section: &Section<'_, '_>) -> Option<Population> {
    let name = section.required_text("population");
    let at = section.required_word::<PopulationAt>("at");
    let ages = section
        .text("ages")
        .and_then(|text| parse_ages(section, &text));
    section.finish(
        &[
            "from",
            "agg",
            "expr",
            "key",
            "where",
            "age_at",
            "latest",
            "divide_by",
            "over",
        ],
        "the denominator is a population",
    );
    let name = name?;
    let Some((_, table)) = POPULATIONS.iter().find(|(known, _)| *known == name.value) else {
        section.problem(
            name.line,
            format!("there is no population `{}`", name.value),
            Some(suggestion(
                &name.value,
                POPULATIONS.iter().map(|(known, _)| *known),
            )),
        );
        return None;
    };
    let columns = context.input.tables.columns(table);
    let scope = Scope {
        table,
        columns: columns.as_deref(),
    };
    for column in [
        "year",
        "municipality_code",
        "sex",
        "age",
        "population",
        "obs_status",
    ] {
        if columns.is_none() || scope.column_type(column).is_none() {
            section.problem(
                name.line,
                format!("`{table}` has no column `{column}`"),
                Some("load the reference tables".to_owned()),
            );
        }
    }
    for (breakdown, line) in &context.breakdowns {
        let help = || {
            Some(format!(
                "write `population = \"sex\"` (divide it too) or `population = \"whole\"` in breakdown `{}`",
                breakdown.name
            ))
        };
        match &breakdown.population {
            None => section.problem(
                *line,
                format!(
                    "breakdown `{}` does not say whether it divides the population",
                    breakdown.name
                ),
                help(),
            ),
            Some(column) if !POPULATION_BREAKDOWNS.contains(&column.as_str()) => {
                section.problem(
                    *line,
                    format!("the population is not divided by `{column}`"),
                    help(),
                );
            }
            Some(_) => {}
        }
    }
    Some(Population {
        table,
        at: at?.value,
        ages: ages.map(|a| a.value),
    })
}

fn check_kind(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    component: &Component,
    denominator: &Denominator,
    denominator_component: Option<&Component>,
) {
    let refuse =
        |message: String, help: &str| section.problem(section.line, message, Some(help.to_owned()));
    let population = matches!(denominator, Denominator::Population(_));
    let kind = context.kind;
    match kind {
        Kind::PerCapita if !population => {
            refuse(
                "kind `per_capita` divides by residents".to_owned(),
                "write `population = \"fi.statfin.population\"`, or `kind = \"ratio\"`",
            );
        }
        Kind::Ratio | Kind::UnitCost if population => {
            refuse(
                format!("kind `{kind}` does not divide by residents"),
                "write `kind = \"per_capita\"` or `kind = \"rate\"`",
            );
        }
        Kind::Rate if !matches!(component.measure, Measure::Count) => {
            refuse(
                "a rate counts events".to_owned(),
                "write `agg = \"count\"`, or `kind = \"proportion\"` or `\"ratio\"`",
            );
        }
        Kind::PerCapita if matches!(component.measure, Measure::CareDays) => {}
        Kind::PerCapita | Kind::UnitCost if !matches!(component.measure, Measure::Sum(_)) => {
            refuse(
                format!("kind `{kind}` divides an amount"),
                "write `agg = \"sum\"` and `expr`",
            );
        }
        _ => {}
    }
    if let (Kind::Proportion, Some(whole)) = (kind, denominator_component) {
        let unit = |m: &Measure| match m {
            Measure::Count => "rows",
            Measure::Sum(_) => "an amount",
            Measure::Persons => "persons",
            Measure::Distinct(_) => "distinct keys",
            Measure::Days(_) | Measure::CareDays => "days",
            Measure::Waits(_) | Measure::OverLimit(_) => "waits",
        };
        let (part, whole) = (unit(&component.measure), unit(&whole.measure));
        // Employments that ended are compared with persons by recommendation; amounts are not.
        if part != whole && (part == "an amount" || whole == "an amount") {
            refuse(
                format!("the part is {part} and the whole {whole}"),
                "count the same things on both sides, or write `kind = \"ratio\"`",
            );
        }
    }
    if population {
        return;
    }
    for name in &component.from {
        if let Some(entry) = context.sources.get(name) {
            check_breakdown_sides(context, section, name, entry);
        }
    }
}
