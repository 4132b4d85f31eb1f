//! What each kind of indicator reads from its file: components, formula and outputs.
//!
//! Kinds with the same shape share a file: one number ([`single`]), one number over another
//! ([`fraction`]), statistics of a histogram ([`waiting_time`]), scenarios against each other
//! ([`scenario_comparison`]) and the linear model ([`weighted_model`]). How a formula becomes SQL is
//! in `value`.

mod fraction;
mod scenario_comparison;
mod single;
mod waiting_time;
mod weighted_model;

use std::collections::BTreeMap;

use crate::definition::{Context, Parts, check_name};
use crate::document::{Field, Section};
use crate::indicator::{Interval, IntervalMethod, Kind, Language, Output};

/// Reads the parts of the definition that belong to its kind.
pub(crate) fn read(context: &Context<'_, '_, '_>, annualise: bool) -> Option<Parts> {
    match context.kind {
        Kind::Sum | Kind::Stock | Kind::PersonTime => single::read(context),
        Kind::Rate | Kind::Proportion | Kind::Ratio | Kind::PerCapita | Kind::UnitCost => {
            fraction::read(context, annualise)
        }
        Kind::WaitingTime => waiting_time::read(context),
        Kind::ScenarioComparison => scenario_comparison::read(context),
        Kind::WeightedModel => weighted_model::read(context),
    }
}

/// `[scale]`: multiplier and decimals of the value.
struct Scale {
    per: Field<i64>,
    decimals: u8,
}

fn read_scale(context: &Context<'_, '_, '_>) -> Scale {
    let mut scale = Scale {
        per: Field { value: 1, line: 1 },
        decimals: 1,
    };
    if let Some(section) = context.root.section("scale") {
        if let Some(per) = section.integer("per", 1) {
            scale.per = per;
        }
        scale.decimals = read_decimals(&section).unwrap_or(scale.decimals);
        section.finish(&[], "");
    }
    scale
}

fn read_decimals(section: &Section<'_, '_>) -> Option<u8> {
    let decimals = section.integer("decimals", 0)?;
    let value = u8::try_from(decimals.value).ok().filter(|d| *d <= 10);
    if value.is_none() {
        section.problem(
            decimals.line,
            format!("{} decimals are too many", decimals.value),
            Some("write at most 10".to_owned()),
        );
    }
    value
}

/// The output of a kind that has one.
fn single_output(context: &Context<'_, '_, '_>, decimals: u8) -> Vec<Output> {
    let unit = context.unit.clone().unwrap_or_else(|| {
        context.root.problem(
            1,
            "`[text.fi]` has no `unit`",
            Some("write the unit of the value as it is shown".to_owned()),
        );
        String::new()
    });
    vec![Output {
        name: "value".to_owned(),
        unit,
        decimals,
        labels: BTreeMap::new(),
    }]
}

/// What all outputs of a list have: `name`, `unit`, `decimals`, `label`.
fn read_output(context: &Context<'_, '_, '_>, section: &Section<'_, '_>) -> Option<Output> {
    let name = section.required_text("name");
    if let Some(name) = &name {
        check_name(section, name.line, "an output", &name.value);
    }
    let unit = section
        .text("unit")
        .map(|u| u.value)
        .or_else(|| context.unit.clone());
    if unit.is_none() {
        let help = Some("write `unit` here, or once in `[text.fi]`".to_owned());
        section.problem(section.line, "the output has no `unit`", help);
    }
    let decimals = read_decimals(section).unwrap_or(1);
    let mut labels = BTreeMap::new();
    if let Some(label) = section.section("label") {
        for (key, language) in [
            ("fi", Language::Fi),
            ("sv", Language::Sv),
            ("en", Language::En),
        ] {
            if let Some(text) = label.text(key) {
                labels.insert(language, text.value);
            }
        }
        label.finish(&[], "");
    }
    Some(Output {
        name: name?.value,
        unit: unit?,
        decimals,
        labels,
    })
}

/// The outputs of a kind that has a list of them; an empty list is a problem.
fn output_sections<'d, 'i>(context: &Context<'_, 'd, 'i>) -> Vec<Section<'d, 'i>> {
    let sections = context.root.list("output");
    if sections.is_empty() {
        context.root.problem(
            1,
            "there is no `[[output]]`",
            Some(format!("kind `{}` lists its outputs", context.kind)),
        );
    }
    sections
}

/// `[uncertainty]`, with a method that suits what is counted.
fn read_interval(context: &Context<'_, '_, '_>, suited: IntervalMethod) -> Option<Interval> {
    let section = context.root.section("uncertainty")?;
    let method = section.required_word::<IntervalMethod>("method");
    let level = section.fraction("level");
    if !section.has("level") {
        section.problem(
            section.line,
            "`[uncertainty]` has no `level`",
            Some("write `level = 0.95`".to_owned()),
        );
    }
    section.finish(&[], "");
    let method = method?;
    if method.value != suited {
        section.problem(
            method.line,
            format!("`{}` does not suit kind `{}`", method.value, context.kind),
            Some(format!("write `method = \"{suited}\"`")),
        );
        return None;
    }
    Some(Interval {
        method: method.value,
        level: level?.value,
    })
}
