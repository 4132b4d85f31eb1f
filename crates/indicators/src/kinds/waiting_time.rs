//! `waiting_time`: quantiles of a duration in days, and the share over a limit in law.

use crate::definition::{Context, Parts, check_breakdown_sides, source, whole_number};
use crate::document::{Field, Section, suggestion};
use crate::indicator::{
    Component, Formula, Interval, IntervalMethod, LimitTest, Measure, Output, Span, WaitingStat,
};
use crate::limits::LimitUnit;
use crate::words::words;

use super::{output_sections, read_interval, read_output};

words! {
    enum Statistic {
        Quantile = "quantile",
        ShareOver = "share_over",
    }
}

/// The `[duration]` of the file.
struct Duration {
    from: String,
    days: crate::expression::Fragment,
    start: String,
    end: String,
    birth_date: Option<String>,
}

/// Reads `[duration]` and the outputs.
pub(super) fn read(context: &Context<'_, '_, '_>) -> Option<Parts> {
    let interval = read_interval(context, IntervalMethod::Wilson);
    let section = context.root.required_section("duration");
    let duration = section.as_ref().and_then(|s| read_duration(context, s));
    let mut outputs = Vec::new();
    let mut stats = Vec::new();
    let mut components = Vec::new();
    if let Some(duration) = &duration {
        components.push(component(
            "waits",
            duration,
            Measure::Waits(duration.days.clone()),
        ));
    }
    for output_section in output_sections(context) {
        if let Some((output, stat, extra)) = read_stat(
            context,
            &output_section,
            duration.as_ref(),
            interval.as_ref(),
        ) {
            outputs.push(output);
            stats.push(stat);
            components.extend(extra);
        }
    }
    duration?;
    Some(Parts {
        components,
        formula: Formula::Waiting {
            waits: "waits".to_owned(),
            stats,
        },
        outputs,
    })
}

fn component(name: &str, duration: &Duration, measure: Measure) -> Component {
    Component {
        name: name.to_owned(),
        from: vec![duration.from.clone()],
        measure,
        filter: None,
        ages: None,
        span: Span::Period,
        latest: None,
        estimates: false,
    }
}

fn read_duration(context: &Context<'_, '_, '_>, section: &Section<'_, '_>) -> Option<Duration> {
    let from = section.required_text("from");
    let days = section.required_text("days");
    let start = section.required_text("start");
    let end = section.required_text("end");
    section.finish(&[], "");
    let from = from?;
    let entry = source(context, section, &from)?;
    if !entry.is_event() {
        section.problem(
            from.line,
            "a duration is counted for events",
            Some("give the source `time`".to_owned()),
        );
    }
    let scope = entry.scope();
    for column in [&start, &end].into_iter().flatten() {
        scope.require(section, column);
    }
    check_breakdown_sides(context, section, &from.value, entry);
    let days = whole_number(section, &days?, entry)?;
    Some(Duration {
        from: from.value,
        days,
        start: start?.value,
        end: end?.value,
        birth_date: entry.source.birth_date.clone(),
    })
}

fn read_stat(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    duration: Option<&Duration>,
    interval: Option<&Interval>,
) -> Option<(Output, WaitingStat, Option<Component>)> {
    let output = read_output(context, section);
    let stat = section.required_word::<Statistic>("stat")?;
    match stat.value {
        Statistic::Quantile => {
            let q = section.fraction("q");
            if !section.has("q") {
                section.problem(
                    section.line,
                    "a quantile needs `q`",
                    Some("write `q = 0.5` for the median".to_owned()),
                );
            }
            section.finish(&["limit", "per"], "a quantile does not use it");
            Some((output?, WaitingStat::Quantile { q: q?.value }, None))
        }
        Statistic::ShareOver => {
            let limit = section.required_text("limit");
            let per = section.integer("per", 1).map_or(100, |p| p.value);
            section.finish(&["q"], "a share over a limit does not use it");
            let test = read_limit_test(context, section, &limit?, duration)?;
            let output = output?;
            let name = output.name.clone();
            let extra = component(&name, duration?, Measure::OverLimit(test));
            Some((
                output,
                WaitingStat::ShareOver {
                    component: name,
                    per,
                    interval: interval.cloned(),
                },
                Some(extra),
            ))
        }
    }
}

fn read_limit_test(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    limit: &Field<String>,
    duration: Option<&Duration>,
) -> Option<LimitTest> {
    let rules: Vec<_> = context
        .limits
        .iter()
        .filter(|l| l.id() == limit.value)
        .cloned()
        .collect();
    let Some(first) = rules.first() else {
        let mut known: Vec<&str> = context
            .limits
            .iter()
            .map(crate::limits::Limit::id)
            .collect();
        known.dedup();
        section.problem(
            limit.line,
            format!("there is no limit `{}`", limit.value),
            Some(suggestion(&limit.value, known)),
        );
        return None;
    };
    if let Some(other) = rules.iter().find(|l| {
        !matches!(
            l.unit(),
            LimitUnit::Day | LimitUnit::Week | LimitUnit::Month
        )
    }) {
        let help = Some("use a limit in days, weeks or months".to_owned());
        section.problem(
            limit.line,
            format!("limit `{}` is in units of `{}`", first.id(), other.unit()),
            help,
        );
        return None;
    }
    let duration = duration?;
    if rules.iter().any(|l| l.ages().is_some()) && duration.birth_date.is_none() {
        let help = Some("name the column in the source: `birth_date = \"birth_date\"`".to_owned());
        section.problem(
            limit.line,
            format!(
                "limit `{}` depends on age, and the source has no `birth_date`",
                first.id()
            ),
            help,
        );
        return None;
    }
    Some(LimitTest {
        rules,
        days: duration.days.clone(),
        from: duration.start.clone(),
        to: duration.end.clone(),
        birth_date: duration.birth_date.clone(),
    })
}
