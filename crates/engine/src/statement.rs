//! What a statement may be: one query, or a question about tables and plans.
//!
//! The text is parsed here once. Everything that would change data, settings or the catalog is
//! refused before it is planned; the session checks the finished plan a second time, because a
//! query can also hide a change inside itself. To allow another statement, add it to [`verdict`]
//! with a test, and ask first what it shows to a reader.

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, ResetStatement, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    Expr, LimitClause, ObjectName, Query, Set, SetExpr, Statement as Sql, Value, ValueWithSpan,
    VisitMut, VisitorMut, visit_expressions_mut,
};

use crate::depth::refuse_deep;
use crate::error::{EngineError, Result};
use crate::show::{self, About, Question};

/// A parsed statement that may be planned.
pub(crate) struct Statement {
    /// The tree for the planner, `?` placeholders numbered.
    pub(crate) tree: Parsed,
    /// What the result is.
    pub(crate) kind: StatementKind,
    /// What must exist for the statement to mean anything, beyond what its tree names.
    pub(crate) about: About,
}

/// What the rows of the result are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementKind {
    /// Rows of tables.
    Rows,
    /// The text of a plan; file paths in it are the warehouse's own business.
    Plan,
    /// The text of a plan with measured counts and times.
    MeasuredPlan,
}

/// Reads one statement.
///
/// # Errors
/// [`EngineError::UserSql`] for text that is not SQL, for none or several statements, and for a
/// statement that is neither a query nor a question about one.
pub(crate) fn parse(sql: &str, recursion_limit: usize) -> Result<Statement> {
    let mut tree = one(sql, recursion_limit)?;
    let kind = verdict(&tree)?;
    let about = match question(&tree)? {
        None => About::Nothing,
        Some(Question { sql, about }) => {
            tree = one_query(&sql, recursion_limit)?;
            about
        }
    };
    number_placeholders(&mut tree);
    Ok(Statement { tree, kind, about })
}

/// The tree of the one statement of a text, whatever it is.
pub(crate) fn one(sql: &str, recursion_limit: usize) -> Result<Parsed> {
    let mut statements = DFParserBuilder::new(sql)
        .with_recursion_limit(recursion_limit)
        .build()
        .and_then(|mut parser| parser.parse_statements())?;
    let Some(mut tree) = statements.pop_front() else {
        return Err(refused(
            "there is no statement in the text; write a query such as `SELECT 1`",
        ));
    };
    if !statements.is_empty() {
        return Err(refused(
            "the text has several statements; run them one at a time",
        ));
    }
    fetch_as_limit(&mut tree);
    Ok(tree)
}

/// `FETCH FIRST n ROWS ONLY`, as the SQL standard says and tools write, is `LIMIT n`, which the planner
/// knows. With ties, or of a share of the rows, it stays for the planner to refuse.
fn fetch_as_limit(tree: &mut Parsed) {
    struct Fetches;

    impl VisitorMut for Fetches {
        type Break = ();

        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            let Some(fetch) = &query.fetch else {
                return ControlFlow::Continue(());
            };
            if fetch.with_ties || fetch.percent {
                return ControlFlow::Continue(());
            }
            let one = || Expr::Value(Value::Number("1".to_owned(), false).into());
            let rows = Some(fetch.quantity.clone().unwrap_or_else(one));
            match &mut query.limit_clause {
                Some(LimitClause::LimitOffset {
                    limit: limit @ None,
                    ..
                }) => *limit = rows,
                clause @ None => {
                    *clause = Some(LimitClause::LimitOffset {
                        limit: rows,
                        offset: None,
                        limit_by: Vec::new(),
                    });
                }
                // Both say how many: the planner refuses that.
                Some(_) => return ControlFlow::Continue(()),
            }
            query.fetch = None;
            ControlFlow::Continue(())
        }
    }

    match tree {
        Parsed::Statement(sql) => {
            let _: ControlFlow<()> = sql.visit(&mut Fetches);
        }
        Parsed::Explain(explain) => fetch_as_limit(&mut explain.statement),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => {}
    }
}

/// The query that a question about the catalog stands for.
fn question(tree: &Parsed) -> Result<Option<Question>> {
    match tree {
        Parsed::Statement(sql) => show::question(sql),
        _ => Ok(None),
    }
}

fn one_query(sql: &str, recursion_limit: usize) -> Result<Parsed> {
    DFParserBuilder::new(sql)
        .with_recursion_limit(recursion_limit)
        .build()
        .and_then(|mut parser| parser.parse_statements())?
        .pop_front()
        .ok_or_else(|| refused("there is no statement in the text"))
}

/// The words in front of the name of every setting of a session.
const SETTINGS: &str = "tietopohja.";

/// A statement that changes or shows a setting of the client's session, and no table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionCommand {
    /// `SET tietopohja.<name> = value`.
    Set {
        /// Without the words in front.
        name: String,
        /// As it was written, without quotes.
        value: String,
    },
    /// `RESET tietopohja.<name>`.
    Reset {
        /// Without the words in front.
        name: String,
    },
    /// `SHOW tietopohja.<name>`.
    Show {
        /// Without the words in front.
        name: String,
    },
}

/// Reads a statement about a setting of the session; `None` for every other text, readable or not.
///
/// # Errors
/// [`EngineError::UserSql`] when such a statement has another value than one word, text or number.
pub fn session_command(sql: &str) -> Result<Option<SessionCommand>> {
    // Most statements are none, and need not be read twice.
    let verb = sql.trim_start().get(..5).unwrap_or_default();
    let verbs = ["SET", "RESET", "SHOW"];
    if !verbs.iter().any(|known| {
        verb.get(..known.len())
            .is_some_and(|verb| verb.eq_ignore_ascii_case(known))
    }) {
        return Ok(None);
    }
    if refuse_deep(sql).is_err() {
        return Ok(None);
    }
    let parsed = DFParserBuilder::new(sql)
        .with_recursion_limit(50)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    let Ok(mut statements) = parsed else {
        return Ok(None);
    };
    let (Some(tree), true) = (statements.pop_front(), statements.is_empty()) else {
        return Ok(None);
    };
    let command = match tree {
        Parsed::Reset(ResetStatement::Variable(name)) => {
            setting(&name).map(|name| SessionCommand::Reset { name })
        }
        Parsed::Statement(sql) => match *sql {
            Sql::ShowVariable { variable } => {
                let name = variable.iter().map(|part| part.value.as_str());
                setting_of(&name.collect::<Vec<_>>().join("."))
                    .map(|name| SessionCommand::Show { name })
            }
            Sql::Set(Set::SingleAssignment {
                variable, values, ..
            }) => match setting(&variable) {
                None => None,
                Some(name) => Some(SessionCommand::Set {
                    value: setting_value(&values).ok_or_else(|| {
                        refused(format!(
                            "`{SETTINGS}{name}` takes one value: write `SET {SETTINGS}{name} = 'value'`"
                        ))
                    })?,
                    name,
                }),
            },
            _ => None,
        },
        _ => None,
    };
    Ok(command)
}

fn setting(name: &ObjectName) -> Option<String> {
    let parts = name.0.iter().filter_map(|part| part.as_ident());
    setting_of(
        &parts
            .map(|part| part.value.as_str())
            .collect::<Vec<_>>()
            .join("."),
    )
}

fn setting_of(name: &str) -> Option<String> {
    Some(name.to_ascii_lowercase().strip_prefix(SETTINGS)?.to_owned())
}

fn setting_value(values: &[Expr]) -> Option<String> {
    let [value] = values else {
        return None;
    };
    match value {
        Expr::Identifier(word) => Some(word.value.clone()),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => Some(text.clone()),
            Value::Number(number, _) => Some(number.clone()),
            Value::Boolean(flag) => Some(flag.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// The statement with a `?` for every value in it, for logs: what was asked, and of whom not. A text
/// that cannot be read, or is too deep to be planned, has none.
pub fn outline(sql: &str) -> Option<String> {
    struct Hide;
    impl VisitorMut for Hide {
        type Break = ();
        fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
            value.value = Value::Placeholder("?".to_owned());
            ControlFlow::Continue(())
        }
    }
    // A tree that is too deep to be planned is too deep to be written down.
    refuse_deep(sql).ok()?;
    let mut statements = DFParserBuilder::new(sql)
        .with_recursion_limit(50)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .ok()?;
    let mut tree = statements.pop_front()?;
    let mut inner = &mut tree;
    loop {
        match inner {
            Parsed::Explain(explain) => inner = explain.statement.as_mut(),
            Parsed::Statement(sql) => {
                let _: ControlFlow<()> = VisitMut::visit(sql.as_mut(), &mut Hide);
                break;
            }
            // A name is all that there is in it.
            Parsed::Reset(_) => break,
            // These are refused, and their texts may hold places of files.
            Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) => return None,
        }
    }
    Some(tree.to_string())
}

fn refused(message: impl Into<String>) -> EngineError {
    EngineError::UserSql {
        message: message.into(),
    }
}

fn verdict(tree: &Parsed) -> Result<StatementKind> {
    match tree {
        Parsed::Statement(sql) => sql_verdict(sql),
        Parsed::Explain(explain) => {
            match verdict(&explain.statement)? {
                StatementKind::Rows => {}
                StatementKind::Plan | StatementKind::MeasuredPlan => {
                    return Err(refused("`EXPLAIN` explains a query, not another `EXPLAIN`"));
                }
            }
            Ok(if explain.options.analyze {
                StatementKind::MeasuredPlan
            } else {
                StatementKind::Plan
            })
        }
        Parsed::CreateExternalTable(_) => Err(not_allowed("CREATE EXTERNAL TABLE")),
        Parsed::CopyTo(_) => Err(not_allowed("COPY")),
        Parsed::Reset(_) => Err(not_allowed("RESET")),
    }
}

fn sql_verdict(sql: &Sql) -> Result<StatementKind> {
    match sql {
        Sql::Query(query) => query_verdict(query).map(|()| StatementKind::Rows),
        Sql::ShowDatabases { .. }
        | Sql::ShowCatalogs { .. }
        | Sql::ShowSchemas { .. }
        | Sql::ShowTables { .. }
        | Sql::ShowViews { .. }
        | Sql::ShowColumns { .. }
        | Sql::ShowFunctions { .. }
        | Sql::ShowVariable { .. }
        | Sql::ShowCreate { .. }
        | Sql::ExplainTable { .. } => Ok(StatementKind::Rows),
        Sql::Explain {
            analyze, statement, ..
        } => match sql_verdict(statement)? {
            StatementKind::Rows if *analyze => Ok(StatementKind::MeasuredPlan),
            StatementKind::Rows => Ok(StatementKind::Plan),
            StatementKind::Plan | StatementKind::MeasuredPlan => {
                Err(refused("`EXPLAIN` explains a query, not another `EXPLAIN`"))
            }
        },
        other => {
            let text = other.to_string();
            let verb: String = text
                .chars()
                .take_while(|c| c.is_ascii_alphabetic())
                .collect::<String>();
            Err(not_allowed(&verb.to_uppercase()))
        }
    }
}

/// A query may carry a change in its body (`WITH … INSERT`).
fn query_verdict(query: &Query) -> Result<()> {
    match query.body.as_ref() {
        SetExpr::Insert(_) => Err(not_allowed("INSERT")),
        SetExpr::Update(_) => Err(not_allowed("UPDATE")),
        SetExpr::Delete(_) => Err(not_allowed("DELETE")),
        SetExpr::Merge(_) => Err(not_allowed("MERGE")),
        SetExpr::Query(inner) => query_verdict(inner),
        SetExpr::Select(select) if select.into.is_some() => Err(not_allowed("SELECT INTO")),
        SetExpr::Select(_)
        | SetExpr::SetOperation { .. }
        | SetExpr::Values(_)
        | SetExpr::Table(_) => Ok(()),
    }
}

fn not_allowed(verb: &str) -> EngineError {
    if verb == "SHOW" {
        return refused(
            "this is not known here: SHOW takes DATABASES, SCHEMAS, TABLES, VIEWS, COLUMNS, CREATE \
             TABLE, FUNCTIONS, ALL or the name of a setting",
        );
    }
    let help = match verb {
        "SET" | "RESET" | "USE" => "settings belong to the warehouse, not to a query",
        "COPY" | "UNLOAD" => {
            "to write a file, use `tietopohja sql -o csv` or another output format"
        }
        _ => {
            "tables change only by landing deliveries and by `tietopohja calc`; your own are those of \
             the schema `workspace`"
        }
    };
    let verb = if verb.is_empty() {
        "this statement"
    } else {
        verb
    };
    refused(format!(
        "`{verb}` is not allowed here: use SELECT, EXPLAIN, SHOW or DESCRIBE; {help}"
    ))
}

/// Numbers `?` placeholders from left to right, as ODBC and JDBC mean them: `?` becomes `$1`, `$2`.
pub(crate) fn number_placeholders(tree: &mut Parsed) {
    match tree {
        Parsed::Statement(sql) => number(sql.as_mut()),
        Parsed::Explain(explain) => number_placeholders(&mut explain.statement),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => {}
    }
}

fn number(sql: &mut Sql) {
    let mut next = 0usize;
    let _: ControlFlow<()> = visit_expressions_mut(sql, |expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &mut value.value
            && name == "?"
        {
            next += 1;
            *name = format!("${next}");
        }
        ControlFlow::Continue(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(sql: &str) -> Result<StatementKind, String> {
        parse(sql, 50)
            .map(|statement| statement.kind)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn queries_and_questions_are_allowed() {
        for sql in [
            "SELECT 1",
            "select * from indicator_value where value > 1;",
            "WITH a AS (SELECT 1) SELECT * FROM a UNION ALL SELECT 2",
            "VALUES (1), (2)",
            "(SELECT 1)",
            "SHOW TABLES",
            "SHOW COLUMNS FROM published.indicator_value",
            "SHOW DATABASES",
            "SHOW SCHEMAS LIKE 'p%'",
            "SHOW VIEWS IN reference",
            "DESCRIBE published.indicator_value",
            "SHOW datafusion.execution.batch_size",
        ] {
            assert_eq!(kind(sql), Ok(StatementKind::Rows), "{sql}");
        }
        for sql in [
            "EXPLAIN SELECT 1",
            "EXPLAIN VERBOSE SELECT 1",
            "EXPLAIN FORMAT TREE SELECT 1",
        ] {
            assert_eq!(kind(sql), Ok(StatementKind::Plan), "{sql}");
        }
        for sql in [
            "EXPLAIN ANALYZE SELECT 1",
            "explain analyze verbose select 1",
        ] {
            assert_eq!(kind(sql), Ok(StatementKind::MeasuredPlan), "{sql}");
        }
    }

    #[test]
    fn everything_that_changes_something_is_refused() {
        for (sql, verb) in [
            ("CREATE TABLE t (a INT)", "CREATE"),
            ("CREATE VIEW v AS SELECT 1", "CREATE"),
            (
                "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
                "CREATE EXTERNAL TABLE",
            ),
            ("CREATE FUNCTION f(INT) RETURNS INT RETURN $1", "CREATE"),
            ("COPY (SELECT 1) TO 'x.csv'", "COPY"),
            ("COPY t TO 'x.csv' STORED AS CSV", "COPY"),
            ("INSERT INTO t VALUES (1)", "INSERT"),
            ("UPDATE t SET a = 1", "UPDATE"),
            ("DELETE FROM t", "DELETE"),
            ("DROP TABLE t", "DROP"),
            ("TRUNCATE TABLE t", "TRUNCATE"),
            ("SET datafusion.execution.batch_size = 1", "SET"),
            ("RESET datafusion.execution.batch_size", "RESET"),
            ("BEGIN", "BEGIN"),
            ("COMMIT", "COMMIT"),
            ("PREPARE p AS SELECT 1", "PREPARE"),
            ("EXECUTE p", "EXECUTE"),
            ("EXPLAIN INSERT INTO t VALUES (1)", "INSERT"),
            ("EXPLAIN COPY (SELECT 1) TO 'x.csv'", "COPY"),
            ("SELECT 1 INTO t", "SELECT INTO"),
        ] {
            let told = kind(sql).unwrap_err();
            assert!(
                told.contains(&format!("`{verb}` is not allowed here")),
                "{sql}: {told}"
            );
        }
    }

    #[test]
    fn settings_of_a_session_are_recognised() {
        let set = |name: &str, value: &str| SessionCommand::Set {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        for (sql, command) in [
            (
                "SET tietopohja.as_of = '2026-03-01T12:00:00Z'",
                Some(set("as_of", "2026-03-01T12:00:00Z")),
            ),
            (
                "set Tietopohja.Timestamps to helsinki;",
                Some(set("timestamps", "helsinki")),
            ),
            ("  SET tietopohja.rows = 10", Some(set("rows", "10"))),
            (
                "RESET tietopohja.as_of",
                Some(SessionCommand::Reset {
                    name: "as_of".to_owned(),
                }),
            ),
            (
                "SHOW tietopohja.as_of",
                Some(SessionCommand::Show {
                    name: "as_of".to_owned(),
                }),
            ),
            ("SET datafusion.execution.batch_size = 1", None),
            ("SHOW TABLES", None),
            ("SET tietopohja.as_of = 'a'; SELECT 1", None),
            ("SETTLE", None),
            ("SELECT 1", None),
            ("SE", None),
            ("ää", None),
        ] {
            assert_eq!(session_command(sql).unwrap(), command, "{sql}");
        }
        let told = session_command("SET tietopohja.as_of = 1 + 1").unwrap_err();
        assert!(told.to_string().contains("takes one value"), "{told}");
    }

    #[test]
    fn an_outline_holds_no_values() {
        for (sql, shown) in [
            (
                "select a from t where name = 'Aino' and day > date '2026-01-01' limit 5",
                "SELECT a FROM t WHERE name = ? AND day > DATE ? LIMIT ?",
            ),
            ("SELECT 1, 'x', NULL, X'00', TRUE", "SELECT ?, ?, ?, ?, ?"),
            (
                "EXPLAIN SELECT * FROM t WHERE a IN (1, 2) -- secret",
                "EXPLAIN SELECT * FROM t WHERE a IN (?, ?)",
            ),
            (
                "SELECT * FROM (VALUES (1, 'a')) v WHERE b LIKE 'x%' AND c BETWEEN $1 AND ?",
                "SELECT * FROM (VALUES (?, ?)) v WHERE b LIKE ? AND c BETWEEN ? AND ?",
            ),
        ] {
            assert_eq!(outline(sql).as_deref(), Some(shown), "{sql}");
        }
        let reset = "RESET tietopohja.as_of";
        assert_eq!(outline(reset).as_deref(), Some(reset));
        assert_eq!(outline("SELEC 'secret'"), None);
        assert_eq!(outline(""), None);
    }

    #[test]
    fn one_statement_at_a_time() {
        assert!(kind("").unwrap_err().contains("no statement"));
        assert!(
            kind("  -- only a comment\n")
                .unwrap_err()
                .contains("no statement")
        );
        assert!(
            kind("SELECT 1; SELECT 2")
                .unwrap_err()
                .contains("several statements")
        );
        assert!(kind("SELEC 1").unwrap_err().contains("could not be read"));
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(kind(&deep).is_err());
    }

    #[test]
    fn question_marks_are_numbered_from_left_to_right() {
        let shown = |sql: &str| parse(sql, 50).unwrap().tree.to_string();
        assert_eq!(
            shown("SELECT a FROM t WHERE b = ? AND c IN (?, ?) LIMIT ?"),
            "SELECT a FROM t WHERE b = $1 AND c IN ($2, $3) LIMIT $4"
        );
        assert_eq!(shown("SELECT '?' WHERE a = $2"), "SELECT '?' WHERE a = $2");
    }
}
