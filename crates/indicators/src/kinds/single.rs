//! `sum`, `stock` and `person_time`: the value is one component's number.

use crate::definition::{Context, Parts, read_component};
use crate::indicator::{Formula, Kind, Measure, Span};

use super::{read_scale, single_output};

/// Reads `[numerator]`, and checks that what it counts is a flow, a level or time, as the kind says.
pub(super) fn read(context: &Context<'_, '_, '_>) -> Option<Parts> {
    let scale = read_scale(context);
    if scale.per.value != 1 {
        let help = Some("leave `per` out; divide stored units with `divide_by`".to_owned());
        context.root.problem(
            scale.per.line,
            format!("kind `{}` has no denominator to multiply for", context.kind),
            help,
        );
    }
    let outputs = single_output(context, scale.decimals);
    let section = context.root.required_section("numerator")?;
    let (component, term) = read_component(context, &section, "numerator")?;
    let refuse = |message: &str, help: &str| {
        section.problem(section.line, message, Some(help.to_owned()));
    };
    match (context.kind, &component.measure) {
        (Kind::Sum, Measure::CareDays) if term.over.is_some() => refuse(
            "kind `sum` does not divide by days",
            "leave `over` out, or write `kind = \"person_time\"`",
        ),
        (Kind::Sum, Measure::Count | Measure::Sum(_) | Measure::CareDays)
            if component.span == Span::Period => {}
        (Kind::Sum, _) => refuse(
            "kind `sum` adds up the events of a period",
            "write `agg = \"count\"`, `\"sum\"` or `\"care_days\"`, or `kind = \"stock\"`",
        ),
        (Kind::PersonTime, Measure::Days(_) | Measure::CareDays) => {
            if term.over.is_none() {
                refuse(
                    "the person-time is not divided by days",
                    "write `over = \"year_days\"` or `over = \"period_days\"`",
                );
            }
        }
        (Kind::PersonTime, _) => refuse(
            "kind `person_time` counts days of spells",
            "write `agg = \"days\"` or `\"care_days\"`",
        ),
        (_, Measure::Days(_) | Measure::CareDays) => refuse(
            "days of spells are not a stock",
            "write `kind = \"person_time\"`, or `kind = \"sum\"` for days of persons",
        ),
        _ => {}
    }
    Some(Parts {
        components: vec![component],
        formula: Formula::Single(term),
        outputs,
    })
}
