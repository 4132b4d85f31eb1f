//! `scenario_comparison`: actual, budget and forecast against each other.

use std::collections::BTreeMap;

use crate::definition::{Context, Parts, check_name, read_component};
use crate::document::{Field, Section, suggestion};
use crate::indicator::{Comparison, Formula, Output, ScenarioStat};

use super::{output_sections, read_output};

/// Reads the named components and the outputs that compare them.
pub(super) fn read(context: &Context<'_, '_, '_>) -> Option<Parts> {
    let mut components = Vec::new();
    let mut terms = BTreeMap::new();
    let sections = context.root.named_sections("component");
    if sections.len() < 2 {
        let help = Some("write `[component.actual]` and `[component.budget]`".to_owned());
        context
            .root
            .problem(1, "a comparison needs two components", help);
    }
    for (name, section) in &sections {
        check_name(section, section.line, "a component", name);
        if let Some((component, term)) = read_component(context, section, name) {
            components.push(component);
            terms.insert(name.clone(), term);
        }
    }
    let known: Vec<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
    let (outputs, stats): (Vec<Output>, Vec<ScenarioStat>) = output_sections(context)
        .iter()
        .filter_map(|section| read_stat(context, section, &known))
        .unzip();
    for (name, section) in &sections {
        if !stats.is_empty() && !stats.iter().any(|s| s.of == *name || s.to == *name) {
            section.problem(
                section.line,
                format!("`[component.{name}]` is not used"),
                Some("leave it out".to_owned()),
            );
        }
    }
    if terms.len() != sections.len() {
        return None;
    }
    Some(Parts {
        components,
        formula: Formula::Scenario { terms, stats },
        outputs,
    })
}

fn read_stat(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    known: &[&str],
) -> Option<(Output, ScenarioStat)> {
    let output = read_output(context, section);
    let stat = section.required_word::<Comparison>("stat");
    let of = section.required_text("of");
    let to = section.required_text("to");
    let per = section.integer("per", 1);
    let divide_by = section.integer("divide_by", 1);
    section.finish(&[], "");
    let name = |field: Option<Field<String>>| {
        let field = field?;
        if !known.contains(&field.value.as_str()) {
            section.problem(
                field.line,
                format!("there is no `[component.{}]`", field.value),
                Some(suggestion(&field.value, known.iter().copied())),
            );
            return None;
        }
        Some(field.value)
    };
    let (of, to) = (name(of), name(to));
    let stat = stat?.value;
    match (stat, &per, &divide_by) {
        (Comparison::Difference, Some(per), _) => {
            section.problem(
                per.line,
                "a difference has no `per`",
                Some("change the unit with `divide_by`".to_owned()),
            );
        }
        (Comparison::Ratio | Comparison::RelativeDifference, _, Some(divide_by)) => {
            section.problem(
                divide_by.line,
                "a ratio has no `divide_by`",
                Some("multiply it with `per`".to_owned()),
            );
        }
        _ => {}
    }
    let stat = ScenarioStat {
        stat,
        of: of?,
        to: to?,
        per: per.map_or(1, |p| p.value),
        divide_by: divide_by.map_or(1, |d| d.value),
    };
    Some((output?, stat))
}
