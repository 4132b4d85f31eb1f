//! `weighted_model`: a linear model over published means, compared with a reference area.
//!
//! For each sector, need(area, year) = Σ coefficient · mean over the model's variables; the factor
//! is need over the reference area's need, times the area's population share over the reference
//! area's where the sector has one; the total is the weighted sum of the factors. This is the form
//! of THL's service-need model.

use crate::definition::{Context, Parts, check_name, table_columns};
use crate::document::{Field, Section, suggestion};
use crate::expression::Scope;
use crate::indicator::{Formula, Model, ModelStat, Output, Sector, Share};
use crate::words::words;

use super::{output_sections, read_output};

words! {
    enum Statistic {
        Need = "need",
        Factor = "factor",
        Total = "total",
    }
}

/// Reads `[model]` and the outputs.
pub(super) fn read(context: &Context<'_, '_, '_>) -> Option<Parts> {
    if let Some((_, line)) = context.breakdowns.first() {
        context.root.problem(
            *line,
            "a weighted model has no breakdowns",
            Some("leave `[[breakdown]]` out".to_owned()),
        );
    }
    let model_section = context.root.required_section("model");
    let sector_sections = model_section
        .as_ref()
        .map(|s| s.list("sector"))
        .unwrap_or_default();
    let names: Vec<Field<String>> = sector_sections
        .iter()
        .filter_map(|s| s.required_text("name"))
        .collect();
    let (outputs, stats): (Vec<Output>, Vec<ModelStat>) = output_sections(context)
        .iter()
        .filter_map(|section| read_stat(context, section, &names))
        .unzip();
    let model = read_model(context, &model_section?, &sector_sections, stats)?;
    Some(Parts {
        components: Vec::new(),
        formula: Formula::Weighted(model),
        outputs,
    })
}

fn read_stat(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    sectors: &[Field<String>],
) -> Option<(Output, ModelStat)> {
    let output = read_output(context, section);
    let stat = section.required_word::<Statistic>("stat")?;
    if stat.value == Statistic::Total {
        section.finish(&["sector"], "the total is over all sectors");
        return Some((output?, ModelStat::Total));
    }
    let sector = section.required_text("sector");
    section.finish(&[], "");
    let sector = sector?;
    if !sectors.iter().any(|s| s.value == sector.value) {
        section.problem(
            sector.line,
            format!("the model has no sector `{}`", sector.value),
            Some(suggestion(
                &sector.value,
                sectors.iter().map(|s| s.value.as_str()),
            )),
        );
        return None;
    }
    let stat = match stat.value {
        Statistic::Need => ModelStat::Need(sector.value),
        Statistic::Factor | Statistic::Total => ModelStat::Factor(sector.value),
    };
    Some((output?, stat))
}

/// One table of the model: its name and the columns asked for.
fn read_table(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    key: &'static str,
    keys: &[&'static str],
    shared: &[&Option<Field<String>>],
) -> Option<(String, Vec<String>)> {
    let table_section = section.required_section(key)?;
    let table = table_section.required_text("table");
    let fields: Vec<Option<Field<String>>> = keys
        .iter()
        .map(|k| table_section.required_text(k))
        .collect();
    table_section.finish(&[], "");
    let table = table?;
    let columns = table_columns(&table_section, &table, context.input);
    let scope = Scope {
        table: &table.value,
        columns: columns.as_deref(),
    };
    for column in fields.iter().flatten() {
        scope.require(&table_section, column);
    }
    for column in shared.iter().copied().flatten() {
        scope.require(section, column);
    }
    let columns: Vec<String> = fields.into_iter().flatten().map(|f| f.value).collect();
    (columns.len() == keys.len()).then_some((table.value, columns))
}

fn read_model(
    context: &Context<'_, '_, '_>,
    section: &Section<'_, '_>,
    sector_sections: &[Section<'_, '_>],
    stats: Vec<ModelStat>,
) -> Option<Model> {
    let year = section.required_text("year");
    let county = section.required_text("county");
    let variable = section.required_text("variable");
    let reference_area = section.required_text("reference_area");
    let means = read_table(
        context,
        section,
        "means",
        &["value"],
        &[&year, &county, &variable],
    );
    let coefficients = read_table(context, section, "coefficients", &[], &[&variable]);
    let weights = read_table(context, section, "weights", &["sector", "value"], &[&year]);
    section.finish(&[], "");
    if sector_sections.is_empty() {
        section.problem(section.line, "the model has no `[[model.sector]]`", None);
    }
    let coefficient_table = coefficients.as_ref().map(|(t, _)| t.clone());
    let mut sectors = Vec::new();
    for sector in sector_sections {
        let name = sector.required_text("name");
        if let Some(name) = &name {
            check_name(sector, name.line, "a sector", &name.value);
        }
        let coefficient = sector.required_text("coefficient");
        if let (Some(table), Some(coefficient)) = (&coefficient_table, &coefficient) {
            let columns = context.input.tables.columns(table);
            Scope {
                table,
                columns: columns.as_deref(),
            }
            .require(sector, coefficient);
        }
        let share = if sector.has("share") {
            let (table, columns) =
                read_table(context, sector, "share", &["value"], &[&year, &county])?;
            let [column] = <[String; 1]>::try_from(columns).ok()?;
            Some(Share { table, column })
        } else {
            None
        };
        sector.finish(&[], "");
        sectors.push(Sector {
            name: name?.value,
            coefficient: coefficient?.value,
            share,
        });
    }
    let (means, mean_columns) = means?;
    let (weights, weight_columns) = weights?;
    let [mean_column] = <[String; 1]>::try_from(mean_columns).ok()?;
    let [sector_column, weight_column] = <[String; 2]>::try_from(weight_columns).ok()?;
    Some(Model {
        means,
        mean_column,
        coefficients: coefficients?.0,
        variable: variable?.value,
        weights,
        weight_column,
        sector_column,
        county: county?.value,
        year: year?.value,
        reference_area: reference_area?.value,
        sectors,
        stats,
    })
}
