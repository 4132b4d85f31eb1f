//! Scalar SQL fragments of definitions: parsed, checked against the columns of their table, and
//! printed again in one form.
//!
//! What is allowed is a closed list; everything else is refused by name, so that a definition can
//! neither read another table nor depend on the clock or on chance. Types are checked only as far
//! as they can be known here; the engine's planner has the last word.

use std::collections::BTreeSet;

use sqlparser::ast::{
    BinaryOperator, CaseWhen, DataType, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArguments, Ident, UnaryOperator, Value,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;

use crate::document::{Field, Section, suggestion};

/// Functions that give the same result for the same row, wherever and whenever they run.
const FUNCTIONS: &[&str] = &[
    "abs",
    "age_years",
    "ceil",
    "coalesce",
    "date_part",
    "date_trunc",
    "floor",
    "greatest",
    "least",
    "left",
    "length",
    "lower",
    "nullif",
    "right",
    "round",
    "substr",
    "trim",
    "upper",
];

/// Functions that people try and that would make a value depend on when or how it is computed.
const VOLATILE: &[&str] = &[
    "clock_timestamp",
    "current_date",
    "current_time",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "now",
    "random",
    "today",
    "uuid",
];

/// Aggregates, which belong to `agg`.
const AGGREGATES: &[&str] = &[
    "approx_distinct",
    "array_agg",
    "avg",
    "count",
    "first_value",
    "last_value",
    "max",
    "median",
    "min",
    "row_number",
    "stddev",
    "string_agg",
    "sum",
];

/// A checked scalar expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// The expression in the printer's form: one line, no comments.
    pub(crate) sql: String,
    /// The columns it reads.
    pub(crate) columns: BTreeSet<String>,
}

/// What an expression must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A condition.
    Condition,
    /// A whole number, to be added up exactly.
    WholeNumber,
    /// A text: the member of a breakdown.
    Text,
    /// A day.
    Date,
}

/// What is known of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Boolean,
    Whole,
    Fractional,
    Text,
    Date,
    Timestamp,
    Binary,
    Null,
    Unknown,
}

impl Type {
    /// From the name of an Arrow or SQL type.
    pub(crate) fn named(name: &str) -> Type {
        let name = name.to_ascii_uppercase();
        let starts = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
        if starts(&["BOOL"]) {
            Type::Boolean
        } else if starts(&["INT", "UINT", "BIGINT", "SMALLINT", "TINYINT"])
            && !starts(&["INTERVAL"])
        {
            Type::Whole
        } else if starts(&["DEC", "FLOAT", "DOUBLE", "REAL", "NUMERIC"]) {
            Type::Fractional
        } else if starts(&["UTF8", "LARGEUTF8", "VARCHAR", "TEXT", "CHAR", "STRING"]) {
            Type::Text
        } else if starts(&["DATE"]) {
            Type::Date
        } else if starts(&["TIMESTAMP"]) {
            Type::Timestamp
        } else if starts(&[
            "BINARY",
            "LARGEBINARY",
            "FIXEDSIZEBINARY",
            "BYTEA",
            "VARBINARY",
        ]) {
            Type::Binary
        } else {
            Type::Unknown
        }
    }

    fn name(self) -> &'static str {
        match self {
            Type::Boolean => "a condition",
            Type::Whole => "a whole number",
            Type::Fractional => "a fractional number",
            Type::Text => "a text",
            Type::Date => "a date",
            Type::Timestamp => "a timestamp",
            Type::Binary => "a binary value",
            Type::Null => "null",
            Type::Unknown => "unknown",
        }
    }

    fn is_number(self) -> bool {
        matches!(self, Type::Whole | Type::Fractional)
    }

    fn is_open(self) -> bool {
        matches!(self, Type::Null | Type::Unknown)
    }

    /// Whether two values may be compared without a silent conversion.
    fn compares_with(self, other: Type) -> bool {
        self == other
            || self.is_open()
            || other.is_open()
            || (self.is_number() && other.is_number())
    }
}

/// The table a fragment may read.
pub(crate) struct Scope<'a> {
    /// Qualified name, for messages.
    pub(crate) table: &'a str,
    /// Name and type of each column; `None` when the table is unknown and reported elsewhere.
    pub(crate) columns: Option<&'a [(String, String)]>,
}

impl Scope<'_> {
    /// Whether the scope has the column; an unknown table has every column.
    pub(crate) fn column_type(&self, name: &str) -> Option<Type> {
        match self.columns {
            None => Some(Type::Unknown),
            Some(columns) => columns
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, ty)| Type::named(ty)),
        }
    }

    /// Whether the column holds a person's pseudonym.
    pub(crate) fn is_person(name: &str) -> bool {
        name.ends_with("_pid")
    }

    /// Reports a column that does not exist; returns its type otherwise.
    pub(crate) fn require(
        &self,
        section: &Section<'_, '_>,
        column: &Field<String>,
    ) -> Option<Type> {
        let found = self.column_type(&column.value);
        if found.is_none() {
            section.problem(
                column.line,
                format!("`{}` has no column `{}`", self.table, column.value),
                Some(self.suggest(&column.value)),
            );
        }
        found
    }

    fn suggest(&self, name: &str) -> String {
        suggestion(
            name,
            self.columns
                .unwrap_or_default()
                .iter()
                .map(|(n, _)| n.as_str()),
        )
    }
}

/// Parses and checks a fragment. Every problem in it is reported.
pub(crate) fn read(
    section: &Section<'_, '_>,
    text: &Field<String>,
    scope: &Scope<'_>,
    wanted: Wanted,
) -> Option<Fragment> {
    let expr = match parse(&text.value) {
        Ok(expr) => expr,
        Err((message, help)) => {
            section.problem(text.line, message, Some(help));
            return None;
        }
    };
    let mut checker = Checker {
        section,
        line: text.line,
        scope,
        wanted,
        columns: BTreeSet::new(),
        sound: true,
    };
    let found = checker.check(&expr);
    checker.check_result(found);
    let Checker { columns, sound, .. } = checker;
    sound.then(|| Fragment {
        sql: expr.to_string(),
        columns,
    })
}

fn parse(text: &str) -> Result<Expr, (String, String)> {
    let scalar = || "write one scalar expression over the columns of the source".to_owned();
    let dialect = GenericDialect {};
    let mut parser = Parser::new(&dialect)
        .try_with_sql(text)
        .map_err(|e| (format!("the expression cannot be read: {e}"), scalar()))?;
    if let Token::Word(word) = &parser.peek_token().token
        && matches!(
            word.value.to_ascii_lowercase().as_str(),
            "select" | "with" | "insert" | "update" | "delete" | "drop"
        )
    {
        let help =
            "a source that needs a query is a relation of its own under sql/conformed".to_owned();
        return Err((format!("`{}` is not a scalar expression", word.value), help));
    }
    let expr = parser
        .parse_expr()
        .map_err(|e| (format!("the expression cannot be read: {e}"), scalar()))?;
    let next = parser.next_token().token;
    match next {
        Token::EOF => Ok(expr),
        Token::SemiColon => Err(("more than one statement".to_owned(), scalar())),
        other => Err((format!("the expression ends before `{other}`"), scalar())),
    }
}

struct Checker<'c, 's, 'd, 'i> {
    section: &'c Section<'d, 'i>,
    line: u32,
    scope: &'c Scope<'s>,
    wanted: Wanted,
    columns: BTreeSet<String>,
    sound: bool,
}

impl Checker<'_, '_, '_, '_> {
    fn refuse(&mut self, message: impl Into<String>, help: impl Into<String>) -> Type {
        self.section.problem(self.line, message, Some(help.into()));
        self.sound = false;
        Type::Unknown
    }

    fn check_result(&mut self, found: Type) {
        match (self.wanted, found) {
            (_, Type::Unknown) => {}
            (Wanted::Condition, Type::Boolean)
            | (Wanted::WholeNumber, Type::Whole)
            | (Wanted::Text, Type::Text)
            | (Wanted::Date, Type::Date) => {}
            (Wanted::Condition, other) => {
                self.refuse(
                    format!("the expression is {}, not a condition", other.name()),
                    "compare it with something: `column = 'value'`",
                );
            }
            (Wanted::WholeNumber, Type::Fractional) => {
                self.refuse(
                    "the expression is a fractional number, and sums of those depend on their order",
                    "add whole numbers (cents, basis points, days) and divide with `divide_by`",
                );
            }
            (Wanted::WholeNumber, other) => {
                self.refuse(
                    format!("the expression is {}, not a whole number", other.name()),
                    "sum a column of whole numbers",
                );
            }
            (Wanted::Date, other) => {
                self.refuse(
                    format!("the expression is {}, not a date", other.name()),
                    "name a column of dates",
                );
            }
            (Wanted::Text, other) => {
                self.refuse(
                    format!("the expression is {}, not a text", other.name()),
                    "a breakdown is a text: `CASE WHEN … THEN 'word' ELSE 'other' END`",
                );
            }
        }
    }

    fn column(&mut self, ident: &Ident) -> Type {
        // The engine reads unquoted names in lower case.
        let name = if ident.quote_style.is_some() {
            ident.value.clone()
        } else {
            ident.value.to_lowercase()
        };
        if VOLATILE.contains(&name.as_str()) {
            return self.volatile(&name);
        }
        let Some(found) = self.scope.column_type(&name) else {
            let help = self.scope.suggest(&name);
            return self.refuse(
                format!("`{}` has no column `{name}`", self.scope.table),
                help,
            );
        };
        if Scope::is_person(&name) && self.wanted != Wanted::Condition {
            return self.refuse(
                format!("`{name}` is a person and may not become a number or a breakdown"),
                "count persons with `agg = \"persons\"`",
            );
        }
        self.columns.insert(name);
        found
    }

    fn volatile(&mut self, name: &str) -> Type {
        self.refuse(
            format!("`{name}` would give another value another day"),
            "a value depends on its period only; compare with a column or a date in quotes",
        )
    }

    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) -> Vec<Type> {
        exprs.into_iter().map(|e| self.check(e)).collect()
    }

    fn comparable(&mut self, left: Type, right: Type) {
        if !left.compares_with(right) {
            self.refuse(
                format!("{} is compared with {}", left.name(), right.name()),
                "write both sides in one type; nothing is converted silently",
            );
        }
    }

    fn condition(&mut self, expr: &Expr) {
        let found = self.check(expr);
        if !matches!(found, Type::Boolean | Type::Null | Type::Unknown) {
            self.refuse(
                format!("`{expr}` is {}, not a condition", found.name()),
                "compare it with something",
            );
        }
    }

    fn check(&mut self, expr: &Expr) -> Type {
        match expr {
            Expr::Identifier(ident) => self.column(ident),
            Expr::CompoundIdentifier(parts) => {
                let column = parts.last().map(|i| i.value.clone()).unwrap_or_default();
                self.refuse(format!("`{expr}` names a table"), format!("write the column alone: `{column}`"))
            }
            Expr::Value(value) => self.literal(&value.value),
            Expr::TypedString(text) => match text.data_type {
                DataType::Date => Type::Date,
                DataType::Timestamp(..) => Type::Timestamp,
                _ => {
                    self.refuse(format!("`{expr}` is not allowed here"), "use a text, a number or `DATE '2024-01-31'`")
                }
            },
            Expr::Interval(_) => Type::Unknown,
            Expr::Nested(inner) => self.check(inner),
            Expr::IsNull(inner) | Expr::IsNotNull(inner) => {
                self.check(inner);
                Type::Boolean
            }
            Expr::IsTrue(inner) | Expr::IsNotTrue(inner) | Expr::IsFalse(inner) | Expr::IsNotFalse(inner) => {
                self.condition(inner);
                Type::Boolean
            }
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                let (left, right) = (self.check(left), self.check(right));
                self.comparable(left, right);
                Type::Boolean
            }
            Expr::InList { expr, list, .. } => {
                let of = self.check(expr);
                for item in self.all(list) {
                    self.comparable(of, item);
                }
                Type::Boolean
            }
            Expr::Between { expr, low, high, .. } => {
                let of = self.check(expr);
                for end in [low, high] {
                    let end = self.check(end);
                    self.comparable(of, end);
                }
                Type::Boolean
            }
            Expr::Like { any: false, expr, pattern, .. } | Expr::ILike { any: false, expr, pattern, .. } => {
                for side in [expr, pattern] {
                    let side = self.check(side);
                    self.comparable(side, Type::Text);
                }
                Type::Boolean
            }
            Expr::UnaryOp { op, expr } => match op {
                UnaryOperator::Not => {
                    self.condition(expr);
                    Type::Boolean
                }
                UnaryOperator::Minus | UnaryOperator::Plus => self.check(expr),
                other => {
                    self.refuse(format!("the operator `{other}` is not allowed here"), "use arithmetic or comparison")
                }
            },
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            Expr::Cast { expr, data_type, .. } => {
                self.check(expr);
                Type::named(&data_type.to_string())
            }
            Expr::Extract { expr, .. } => {
                self.check(expr);
                Type::Whole
            }
            Expr::Ceil { expr, .. } | Expr::Floor { expr, .. } => self.check(expr),
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                self.check(expr);
                self.all(substring_from.iter().chain(substring_for).map(AsRef::as_ref));
                Type::Text
            }
            Expr::Trim { expr, .. } => {
                self.check(expr);
                Type::Text
            }
            Expr::Function(function) => self.function(function),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => self.refuse(
                "a query inside an expression is not allowed",
                "use `with` or `without` of the source, or a relation of its own under sql/conformed",
            ),
            other => self.refuse(
                format!("`{other}` is not allowed here"),
                "use columns, literals, comparison, arithmetic, CASE and the plain functions",
            ),
        }
    }

    fn literal(&mut self, value: &Value) -> Type {
        match value {
            Value::Number(text, _) if text.contains(['.', 'e', 'E']) => Type::Fractional,
            Value::Number(..) => Type::Whole,
            Value::SingleQuotedString(_) => Type::Text,
            Value::Boolean(_) => Type::Boolean,
            Value::Null => Type::Null,
            other => self.refuse(
                format!("`{other}` is not allowed here"),
                "write texts in single quotes",
            ),
        }
    }

    fn binary(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Type {
        match op {
            BinaryOperator::And | BinaryOperator::Or => {
                self.condition(left);
                self.condition(right);
                Type::Boolean
            }
            BinaryOperator::Eq
            | BinaryOperator::NotEq
            | BinaryOperator::Lt
            | BinaryOperator::LtEq
            | BinaryOperator::Gt
            | BinaryOperator::GtEq => {
                let (left, right) = (self.check(left), self.check(right));
                self.comparable(left, right);
                Type::Boolean
            }
            BinaryOperator::StringConcat => {
                self.all([left, right]);
                Type::Text
            }
            BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo => match (self.check(left), self.check(right)) {
                (Type::Text, _) | (_, Type::Text) => self.refuse(
                    format!("`{left} {op} {right}` calculates with a text"),
                    "nothing is converted silently; use a column of numbers",
                ),
                (Type::Whole, Type::Whole) => Type::Whole,
                (a, b) if a.is_number() && b.is_number() => Type::Fractional,
                (Type::Date, Type::Date) if *op == BinaryOperator::Minus => Type::Whole,
                (Type::Date, _) => Type::Date,
                _ => Type::Unknown,
            },
            other => self.refuse(
                format!("the operator `{other}` is not allowed here"),
                "use arithmetic or comparison",
            ),
        }
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        conditions: &[CaseWhen],
        otherwise: Option<&Expr>,
    ) -> Type {
        let operand = operand.map(|o| self.check(o));
        let mut result = Type::Null;
        for CaseWhen {
            condition,
            result: then,
        } in conditions
        {
            match operand {
                Some(of) => {
                    let found = self.check(condition);
                    self.comparable(of, found);
                }
                None => self.condition(condition),
            }
            let found = self.check(then);
            result = self.unite(result, found);
        }
        let found = otherwise.map_or(Type::Null, |e| self.check(e));
        self.unite(result, found)
    }

    /// The type of a value that is one or the other.
    fn unite(&mut self, a: Type, b: Type) -> Type {
        self.comparable(a, b);
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => other,
            (Type::Fractional, Type::Whole) | (Type::Whole, Type::Fractional) => Type::Fractional,
            (a, b) if a == b => a,
            _ => Type::Unknown,
        }
    }

    fn function(&mut self, function: &Function) -> Type {
        let name = function.name.to_string().to_lowercase();
        if VOLATILE.contains(&name.as_str()) {
            return self.volatile(&name);
        }
        if AGGREGATES.contains(&name.as_str())
            || function.over.is_some()
            || function.filter.is_some()
        {
            return self.refuse(
                format!("`{name}` works on many rows, and the expression is about one"),
                "say how rows are put together with `agg`",
            );
        }
        if !FUNCTIONS.contains(&name.as_str()) {
            return self.refuse(
                format!("unknown function `{name}`"),
                suggestion(&name, FUNCTIONS.iter().copied()),
            );
        }
        let mut types = Vec::new();
        if let FunctionArguments::List(list) = &function.args {
            for arg in &list.args {
                match arg {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                        types.push(self.check(expr))
                    }
                    other => {
                        self.refuse(
                            format!("`{other}` is not allowed as an argument"),
                            "give plain expressions",
                        );
                    }
                }
            }
        }
        match name.as_str() {
            "abs" | "ceil" | "floor" | "round" | "nullif" => {
                types.first().copied().unwrap_or(Type::Unknown)
            }
            "coalesce" | "greatest" | "least" => {
                let mut result = Type::Null;
                for found in types {
                    result = self.unite(result, found);
                }
                result
            }
            "age_years" | "date_part" | "length" => Type::Whole,
            "left" | "lower" | "right" | "substr" | "trim" | "upper" => Type::Text,
            _ => Type::Unknown,
        }
    }
}

/// Whether a name can stand as a column without quotes.
pub(crate) fn is_plain_identifier(name: &str) -> bool {
    matches!(parse(name), Ok(Expr::Identifier(ident)) if ident.quote_style.is_none())
}
