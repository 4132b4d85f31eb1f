//! What a statement may be: one query, or a question about tables and plans.
//!
//! The text is parsed here once. Everything that would change data, settings or the catalog is
//! refused before it is planned; the session checks the finished plan a second time, because a
//! query can also hide a change inside itself. To allow another statement, add it to [`verdict`]
//! with a test, and ask first what it shows to a reader.

use std::ops::ControlFlow;

use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    Expr, Query, SetExpr, Statement as Sql, Value, visit_expressions_mut,
};

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
        _ => "tables change only by landing deliveries and by `tietopohja calc`",
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
fn number_placeholders(tree: &mut Parsed) {
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
