//! `SHOW` and `DESCRIBE`: questions about the catalog, answered as queries of `information_schema`.
//!
//! The query engine knows only some of them, and not their `FROM` and `LIKE`. Each is written here
//! as the query that it stands for, so that preparing, describing and running it goes the way of
//! every query, and shows a principal no more than `information_schema` does. To add one: an arm in
//! [`question`], its verb in `statement.rs`, and a line in the tests.

use datafusion::sql::sqlparser::ast::{
    DescribeAlias, Ident, ObjectName, ShowCreateObject, ShowStatementFilter,
    ShowStatementFilterPosition, ShowStatementIn, ShowStatementInParentType, ShowStatementOptions,
    Statement as Sql,
};
use tietopohja_policy::INFORMATION_SCHEMA;

use crate::error::{EngineError, Result};
use crate::{CATALOG, DEFAULT_SCHEMA};

/// A question as a query.
pub(crate) struct Question {
    pub(crate) sql: String,
    pub(crate) about: About,
}

/// What a question is about. It must exist, as for a query of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum About {
    /// Everything there is.
    Nothing,
    /// A table, as SQL text names it.
    Table(String),
    /// A schema.
    Schema(String),
}

/// The query that a statement stands for, if it is a question about the catalog.
///
/// # Errors
/// [`EngineError::UserSql`] for a form that is not answered.
pub(crate) fn question(statement: &Sql) -> Result<Option<Question>> {
    let question = match statement {
        Sql::ShowCatalogs { show_options, .. } | Sql::ShowDatabases { show_options, .. } => {
            let conditions = conditions(show_options, "database_name")?;
            if let Some(inside) = &show_options.show_in {
                return Err(refused(&inside.to_string()));
            }
            let distinct = "SELECT DISTINCT catalog_name AS database_name";
            let from = format!("({distinct} FROM {INFORMATION_SCHEMA}.schemata) AS shown");
            conditions.query("*", &from, "database_name", About::Nothing)
        }
        Sql::ShowSchemas { show_options, .. } => {
            let mut conditions = conditions(show_options, "schema_name")?;
            match parent(show_options)?.as_slice() {
                [] => {}
                [catalog] => conditions.equal("catalog_name", catalog),
                _ => return Err(refused("FROM")),
            }
            let from = format!("{INFORMATION_SCHEMA}.schemata");
            conditions.query("schema_name", &from, "schema_name", About::Nothing)
        }
        Sql::ShowTables {
            terse: false,
            history: false,
            extended: false,
            full: _,
            external: false,
            show_options,
        } => tables(show_options, None)?,
        Sql::ShowTables { .. } => return Err(refused("TERSE, HISTORY, EXTENDED or EXTERNAL")),
        Sql::ShowViews {
            materialized: false,
            terse: false,
            show_options,
        } => tables(show_options, Some("VIEW"))?,
        Sql::ShowViews { .. } => return Err(refused("TERSE or MATERIALIZED")),
        Sql::ShowColumns {
            extended,
            full,
            show_options,
        } => {
            let mut conditions = conditions(show_options, "column_name")?;
            let name = match &show_options.show_in {
                Some(ShowStatementIn {
                    parent_type: None | Some(ShowStatementInParentType::Table),
                    parent_name: Some(name),
                    ..
                }) => name,
                _ => {
                    return Err(user(
                        "`SHOW COLUMNS` needs a table: write `FROM schema.table`",
                    ));
                }
            };
            conditions.table(name)?;
            let columns = if *extended || *full {
                "*"
            } else {
                "table_catalog, table_schema, table_name, column_name, data_type, is_nullable"
            };
            let about = About::Table(name.to_string());
            let from = format!("{INFORMATION_SCHEMA}.columns");
            conditions.query(columns, &from, "ordinal_position", about)
        }
        Sql::ExplainTable {
            describe_alias: DescribeAlias::Describe | DescribeAlias::Desc,
            table_name,
            ..
        } => {
            let mut conditions = Conditions::default();
            conditions.table(table_name)?;
            let about = About::Table(table_name.to_string());
            let from = format!("{INFORMATION_SCHEMA}.columns");
            let columns = "column_name, data_type, is_nullable, column_comment";
            conditions.query(columns, &from, "ordinal_position", about)
        }
        Sql::ShowCreate {
            obj_type: ShowCreateObject::Table | ShowCreateObject::View,
            obj_name,
        } => {
            let mut conditions = Conditions::default();
            conditions.table(obj_name)?;
            let about = About::Table(obj_name.to_string());
            let from = format!("{INFORMATION_SCHEMA}.views");
            let columns = "table_catalog, table_schema, table_name, view_definition AS definition";
            conditions.query(columns, &from, "table_name", about)
        }
        _ => return Ok(None),
    };
    Ok(Some(question))
}

fn tables(options: &ShowStatementOptions, kind: Option<&str>) -> Result<Question> {
    let mut conditions = conditions(options, "table_name")?;
    let about = match parent(options)?.as_slice() {
        [] => About::Nothing,
        [schema] => {
            conditions.equal("table_schema", schema);
            About::Schema(schema.clone())
        }
        _ => return Err(refused("FROM")),
    };
    if let Some(kind) = kind {
        conditions.equal("table_type", kind);
    }
    let from = format!("{INFORMATION_SCHEMA}.tables");
    let columns = "table_catalog, table_schema, table_name, table_type";
    Ok(conditions.query(columns, &from, "table_schema, table_name", about))
}

#[derive(Default)]
struct Conditions(Vec<String>);

impl Conditions {
    fn equal(&mut self, column: &str, value: &str) {
        self.0.push(format!("{column} = {}", quoted(value)));
    }

    /// The table that a name means.
    fn table(&mut self, name: &ObjectName) -> Result<()> {
        let parts = parts(name)?;
        let (schema, table) = match parts.as_slice() {
            [table] => (DEFAULT_SCHEMA, table.as_str()),
            // Another catalog has no tables; looking for the table says so.
            [schema, table] | [_, schema, table] => (schema.as_str(), table.as_str()),
            _ => return Err(user(format!("`{name}` is not the name of a table"))),
        };
        self.equal("table_schema", schema);
        self.equal("table_name", table);
        Ok(())
    }

    fn query(&self, columns: &str, from: &str, order: &str, about: About) -> Question {
        let filter = if self.0.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", self.0.join(" AND "))
        };
        Question {
            sql: format!("SELECT {columns} FROM {from}{filter} ORDER BY {order}"),
            about,
        }
    }
}

/// `LIKE` and `WHERE` of a question; `column` is what a pattern is compared with.
fn conditions(options: &ShowStatementOptions, column: &str) -> Result<Conditions> {
    let ShowStatementOptions {
        show_in: _,
        starts_with,
        limit,
        limit_from,
        filter_position,
    } = options;
    if starts_with.is_some() || limit.is_some() || limit_from.is_some() {
        return Err(refused("STARTS WITH or LIMIT"));
    }
    let filter = match filter_position {
        None => return Ok(Conditions::default()),
        Some(
            ShowStatementFilterPosition::Infix(filter)
            | ShowStatementFilterPosition::Suffix(filter),
        ) => filter,
    };
    let condition = match filter {
        ShowStatementFilter::Like(pattern) | ShowStatementFilter::NoKeyword(pattern) => {
            format!("{column} LIKE {}", quoted(pattern))
        }
        ShowStatementFilter::ILike(pattern) => format!("{column} ILIKE {}", quoted(pattern)),
        ShowStatementFilter::Where(condition) => format!("({condition})"),
    };
    Ok(Conditions(vec![condition]))
}

/// The parts of the name after `FROM` or `IN`, the catalog left out where it is ours.
fn parent(options: &ShowStatementOptions) -> Result<Vec<String>> {
    let Some(inside) = &options.show_in else {
        return Ok(Vec::new());
    };
    let fits = match inside.parent_type {
        None | Some(ShowStatementInParentType::Database | ShowStatementInParentType::Schema) => {
            true
        }
        Some(
            ShowStatementInParentType::Account
            | ShowStatementInParentType::Table
            | ShowStatementInParentType::View,
        ) => false,
    };
    let Some(name) = inside.parent_name.as_ref().filter(|_| fits) else {
        return Err(refused(&inside.to_string()));
    };
    let mut parts = parts(name)?;
    if parts.first().is_some_and(|first| first == CATALOG) {
        parts.remove(0);
    }
    Ok(parts)
}

/// The parts of a name as the catalog writes them: without quotes in lower case.
fn parts(name: &ObjectName) -> Result<Vec<String>> {
    let part = |ident: &Ident| match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    };
    name.0
        .iter()
        .map(|piece| {
            piece
                .as_ident()
                .map(part)
                .ok_or_else(|| user(format!("`{name}` is not a name")))
        })
        .collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn refused(what: &str) -> EngineError {
    user(format!(
        "`{what}` is not known in this `SHOW`: it takes FROM, LIKE and WHERE; query \
         `{INFORMATION_SCHEMA}` for more"
    ))
}

fn user(message: impl Into<String>) -> EngineError {
    EngineError::UserSql {
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::statement::parse;

    use super::*;

    fn shown(sql: &str) -> (String, About) {
        let parsed = parse(sql, 50).unwrap_or_else(|error| panic!("{sql}: {error}"));
        (parsed.tree.to_string(), parsed.about)
    }

    #[test]
    fn a_question_is_the_query_that_it_stands_for() {
        let cases = [
            (
                "SHOW SCHEMAS",
                "SELECT schema_name FROM information_schema.schemata ORDER BY schema_name",
                About::Nothing,
            ),
            (
                "SHOW TABLES FROM Reference LIKE 'it''s%'",
                "SELECT table_catalog, table_schema, table_name, table_type FROM \
                 information_schema.tables WHERE table_name LIKE 'it''s%' AND table_schema = \
                 'reference' ORDER BY table_schema, table_name",
                About::Schema("reference".to_owned()),
            ),
            (
                "SHOW TABLES IN tietopohja.reference",
                "SELECT table_catalog, table_schema, table_name, table_type FROM \
                 information_schema.tables WHERE table_schema = 'reference' ORDER BY \
                 table_schema, table_name",
                About::Schema("reference".to_owned()),
            ),
            (
                "DESCRIBE indicator_value",
                "SELECT column_name, data_type, is_nullable, column_comment FROM \
                 information_schema.columns WHERE table_schema = 'published' AND table_name = \
                 'indicator_value' ORDER BY ordinal_position",
                About::Table("indicator_value".to_owned()),
            ),
            (
                "SHOW COLUMNS FROM \"reference\".\"A b\"",
                "SELECT table_catalog, table_schema, table_name, column_name, data_type, \
                 is_nullable FROM information_schema.columns WHERE table_schema = 'reference' AND \
                 table_name = 'A b' ORDER BY ordinal_position",
                About::Table("\"reference\".\"A b\"".to_owned()),
            ),
        ];
        for (sql, query, about) in cases {
            assert_eq!(shown(sql), (query.to_owned(), about), "{sql}");
        }
    }

    #[test]
    fn what_is_not_answered_is_refused_in_words() {
        for (sql, part) in [
            ("SHOW TABLES LIMIT 3", "STARTS WITH or LIMIT"),
            ("SHOW DATABASES FROM x", "FROM x"),
            ("SHOW TABLES FROM a.b.c", "FROM"),
            ("SHOW COLUMNS", "needs a table"),
            ("SHOW PROCESSLIST", "SHOW takes DATABASES"),
            ("SHOW MATERIALIZED VIEWS", "MATERIALIZED"),
        ] {
            let told = parse(sql, 50).map(|_| ()).unwrap_err().to_string();
            assert!(told.contains(part), "{sql}: {told}");
        }
    }
}
