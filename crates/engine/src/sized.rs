//! Functions that make more than they are given, within bounds.
//!
//! `range(1, 1000000000000)` or `repeat('x', 1000000000)` asks for memory in one step, before any
//! memory pool is asked, and where the machine has none the whole process ends, not the query. Here
//! each such function is put behind a guard that reckons from the arguments how much one call would
//! make, and refuses what no table needs. To guard another, name it in [`rule_of`] with its size.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType, TimeUnit,
};
use datafusion::common::ExprSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use crate::error::EngineError;

/// Most list elements that one call may make over all its rows.
const MOST_ELEMENTS: u128 = 16 << 20;
/// Most bytes of text that one call may make over all its rows.
const MOST_BYTES: u128 = 256 << 20;

/// How much a call makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rule {
    /// A list from start to stop by step.
    Series,
    /// A list of `args[count]` elements.
    Elements { count: usize },
    /// A text of `args[length]` characters.
    Padded { length: usize },
    /// The text, as often as the second argument says.
    Repeated,
    /// The text, each find replaced by the third argument.
    Replaced,
    /// The same, where a pattern may match at every character and bring back what it matched.
    PatternReplaced,
}

fn rule_of(function: &str) -> Option<Rule> {
    match function {
        "range" | "generate_series" => Some(Rule::Series),
        "array_repeat" => Some(Rule::Elements { count: 1 }),
        "array_resize" => Some(Rule::Elements { count: 1 }),
        "lpad" | "rpad" => Some(Rule::Padded { length: 1 }),
        "repeat" => Some(Rule::Repeated),
        "replace" => Some(Rule::Replaced),
        "regexp_replace" => Some(Rule::PatternReplaced),
        _ => None,
    }
}

/// The guarded form of a function; `None` when it makes no more than it is given.
pub(crate) fn guarded(function: &Arc<ScalarUDF>) -> Option<ScalarUDF> {
    let rule = rule_of(function.name())?;
    Some(ScalarUDF::new_from_impl(Guarded {
        inner: ScalarUDF::clone(function),
        rule,
    }))
}

/// A function behind its guard. Everything but the call is the function's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Guarded {
    inner: ScalarUDF,
    rule: Rule,
}

impl ScalarUDFImpl for Guarded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let inner = self.inner.inner().with_updated_config(config)?;
        Some(ScalarUDF::new_from_impl(Guarded {
            inner,
            rule: self.rule,
        }))
    }

    #[expect(
        deprecated,
        reason = "the function behind the guard may still answer by it"
    )]
    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        self.inner.is_nullable(args, schema)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check(self.name(), self.rule, &args)?;
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, context)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        self.inner.evaluate_bounds(inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

fn check(name: &str, rule: Rule, args: &ScalarFunctionArgs) -> Result<()> {
    // A call over constants alone makes one row.
    let rows = match args
        .args
        .iter()
        .any(|arg| matches!(arg, ColumnarValue::Array(_)))
    {
        true => args.number_rows,
        false => 1,
    };
    let most = match rule {
        Rule::Series | Rule::Elements { .. } => MOST_ELEMENTS,
        Rule::Padded { .. } | Rule::Repeated | Rule::Replaced | Rule::PatternReplaced => MOST_BYTES,
    };
    let mut made: u128 = 0;
    for size in sizes(rule, &args.args, rows) {
        made = made.saturating_add(size);
        if made > most {
            return Err(EngineError::Resource {
                message: format!("`{name}` would make more at once than a query may; ask for less, or make it in parts"),
            }
            .into());
        }
    }
    Ok(())
}

/// What each row of a call makes, reckoned high.
fn sizes(rule: Rule, args: &[ColumnarValue], rows: usize) -> Box<dyn Iterator<Item = u128>> {
    let number = |at: usize| {
        args.get(at)
            .map_or(Values::One(0), |arg| Values::numbers(arg, rows))
    };
    let length = |at: usize| {
        args.get(at)
            .map_or(Values::One(0), |arg| Values::lengths(arg, rows))
    };
    match rule {
        Rule::Series => {
            // `range(stop)` begins at zero.
            let (start, stop) = if args.len() < 2 {
                (Values::One(0), number(0))
            } else {
                (number(0), number(1))
            };
            let step = if args.len() < 3 {
                Values::One(1)
            } else {
                number(2)
            };
            Box::new((0..rows).map(move |row| {
                stop.at(row).abs_diff(start.at(row)) / step.at(row).unsigned_abs().max(1) + 1
            }))
        }
        Rule::Elements { count } => {
            let counts = number(count);
            Box::new((0..rows).map(move |row| counts.size_at(row)))
        }
        Rule::Padded { length: at } => {
            let lengths = number(at);
            // A character is at most four bytes.
            Box::new((0..rows).map(move |row| lengths.size_at(row).saturating_mul(4)))
        }
        Rule::Repeated => {
            let (texts, times) = (length(0), number(1));
            Box::new(
                (0..rows).map(move |row| texts.size_at(row).saturating_mul(times.size_at(row))),
            )
        }
        Rule::Replaced => {
            let (texts, finds, news) = (length(0), length(1), length(2));
            Box::new((0..rows).map(move |row| {
                let text = texts.size_at(row);
                let found = text / finds.size_at(row).max(1) + 1;
                text + found.saturating_mul(news.size_at(row))
            }))
        }
        Rule::PatternReplaced => {
            let (texts, news) = (length(0), length(2));
            Box::new((0..rows).map(move |row| {
                let (text, new) = (texts.size_at(row), news.size_at(row));
                // A pattern may match at each character; each character of the replacement may
                // stand for something matched, and all matches together are the text.
                (text + 1)
                    .saturating_mul(new)
                    .saturating_add(text.saturating_mul(new + 1))
            }))
        }
    }
}

/// A whole number for each row, or one for all.
enum Values {
    One(i128),
    Each(Vec<i128>),
}

impl Values {
    fn at(&self, row: usize) -> i128 {
        match self {
            Values::One(value) => *value,
            Values::Each(values) => values.get(row).copied().unwrap_or(0),
        }
    }

    fn size_at(&self, row: usize) -> u128 {
        u128::try_from(self.at(row)).unwrap_or(0)
    }

    /// Numbers as they are; dates, moments and intervals in nanoseconds.
    fn numbers(arg: &ColumnarValue, rows: usize) -> Values {
        Self::of(arg, rows, |array| match array.data_type() {
            DataType::Date32 => whole(array, NANOS_OF_DAY),
            DataType::Timestamp(TimeUnit::Second, _) => whole(array, 1_000_000_000),
            DataType::Timestamp(TimeUnit::Millisecond, _) => whole(array, 1_000_000),
            DataType::Timestamp(TimeUnit::Microsecond, _) => whole(array, 1_000),
            DataType::Interval(unit) => interval_nanos(array, *unit),
            _ => whole(array, 1),
        })
    }

    /// Lengths of texts in bytes.
    fn lengths(arg: &ColumnarValue, rows: usize) -> Values {
        let length = |text: Option<&str>| text.map_or(0, |text| text.len() as i128);
        Self::of(arg, rows, |array| match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().iter().map(length).collect(),
            DataType::LargeUtf8 => array.as_string::<i64>().iter().map(length).collect(),
            DataType::Utf8View => array.as_string_view().iter().map(length).collect(),
            // Another type becomes a text of few characters.
            _ => vec![64; array.len()],
        })
    }

    fn of(arg: &ColumnarValue, rows: usize, read: impl Fn(&dyn Array) -> Vec<i128>) -> Values {
        match arg {
            ColumnarValue::Array(array) => Values::Each(read(array.as_ref())),
            ColumnarValue::Scalar(value) => match value.to_array_of_size(1) {
                Ok(array) => Values::One(read(array.as_ref()).first().copied().unwrap_or(0)),
                // What cannot even be written down counts as more than enough.
                Err(_) => Values::Each(vec![i128::MAX / 2; rows]),
            },
        }
    }
}

const NANOS_OF_DAY: i128 = 86_400_000_000_000;

fn whole(array: &dyn Array, unit: i128) -> Vec<i128> {
    let array = array.slice(0, array.len());
    // A day is 32 bits wide and becomes 64 only by way of them.
    let narrow = if array.data_type() == &DataType::Date32 {
        cast(&array, &DataType::Int32)
    } else {
        Ok(array)
    };
    match narrow.and_then(|array| cast(&array, &DataType::Int64)) {
        Ok(wide) => wide
            .as_primitive::<Int64Type>()
            .iter()
            .map(|value| i128::from(value.unwrap_or(0)) * unit)
            .collect(),
        // A type that is no number is refused by the function itself.
        Err(_) => Vec::new(),
    }
}

/// Months are reckoned as 28 days: a shorter step makes more elements.
fn interval_nanos(array: &dyn Array, unit: IntervalUnit) -> Vec<i128> {
    let days = |days: i32| i128::from(days) * NANOS_OF_DAY;
    match unit {
        IntervalUnit::YearMonth => array
            .as_primitive::<IntervalYearMonthType>()
            .iter()
            .map(|months| days(months.unwrap_or(0)) * 28)
            .collect(),
        IntervalUnit::DayTime => array
            .as_primitive::<IntervalDayTimeType>()
            .iter()
            .map(|value| {
                value.map_or(0, |value| {
                    days(value.days) + i128::from(value.milliseconds) * 1_000_000
                })
            })
            .collect(),
        IntervalUnit::MonthDayNano => array
            .as_primitive::<IntervalMonthDayNanoType>()
            .iter()
            .map(|value| {
                value.map_or(0, |value| {
                    days(value.months) * 28 + days(value.days) + i128::from(value.nanoseconds)
                })
            })
            .collect(),
    }
}
