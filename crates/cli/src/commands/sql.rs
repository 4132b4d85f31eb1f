//! `tietopohja sql`: one query, a file of queries, or a shell.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Context, Editor, Helper, Highlighter, Hinter, Validator};
use tietopohja_domain::Clock;
use tietopohja_engine::{Principal, Session, TableInfo};
use tietopohja_policy::Role;

use crate::clock::{SystemClock, seconds_since};
use crate::failure::Failure;
use crate::output::{Form, print, say, text_grid, write_stream};
use crate::warehouse::Warehouse;

/// Arguments of `sql`.
#[derive(Debug, Args)]
pub(crate) struct Sql {
    /// The query; without one a shell opens
    query: Option<String>,
    /// Read queries from a file, or from standard input with `-`
    #[arg(
        short = 'f',
        long = "file",
        conflicts_with = "query",
        value_name = "FILE"
    )]
    file: Option<PathBuf>,
    /// The form of the result
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
    /// Read as somebody with this role: admin, analyst or reader
    #[arg(long = "as", value_name = "ROLE", default_value = "admin")]
    role: String,
}

impl Sql {
    pub(crate) async fn run(self, folder: &Path) -> Result<(), Failure> {
        let warehouse = Warehouse::open(folder)?;
        let role = Role::ALL
            .into_iter()
            .find(|role| role.as_str() == self.role)
            .ok_or_else(|| {
                Failure::usage(format!(
                    "`{}` is not a role: use admin, analyst or reader",
                    self.role
                ))
            })?;
        let principal = if role == Role::Admin {
            Principal::local_admin()
        } else {
            Principal::new("local", role).map_err(|error| Failure::internal(error.to_string()))?
        };
        let engine = warehouse.engine().await?;
        let session = Box::pin(engine.session(&principal)).await?;
        let text = match (&self.query, &self.file) {
            (Some(query), _) => query.clone(),
            (None, Some(path)) if path.as_os_str() == "-" => standard_input()?,
            (None, Some(path)) => std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("cannot read `{}`: {error}", path.display()))
            })?,
            (None, None) if std::io::stdin().is_terminal() => {
                return Box::pin(
                    Shell {
                        engine,
                        principal,
                        session,
                        form: self.output,
                        timing: false,
                    }
                    .run(&warehouse.folder),
                )
                .await;
            }
            (None, None) => standard_input()?,
        };
        for statement in statements(&text) {
            Box::pin(answer(&session, &statement, self.output)).await?;
        }
        Ok(())
    }
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

async fn answer(session: &Session, statement: &str, form: Form) -> Result<usize, Failure> {
    let rows = Box::pin(session.query(statement)).await?;
    let schema = rows.schema();
    let rows = futures::StreamExt::map(rows, |batch| {
        batch.map_err(tietopohja_engine::EngineError::from_datafusion)
    });
    Box::pin(write_stream(schema, rows, form)).await
}

/// The statements of a text: cut at semicolons that are not in a string, name or comment.
fn statements(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut quote: Option<char> = None;
    let mut comment = false;
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let statement = match found.last_mut() {
            Some(statement) => statement,
            None => break,
        };
        match (quote, comment, char) {
            (_, true, '\n') => comment = false,
            (_, true, _) => continue,
            (None, false, '-') if chars.peek() == Some(&'-') => {
                comment = true;
                continue;
            }
            (None, false, '\'' | '"') => quote = Some(char),
            (Some(open), false, close) if open == close => quote = None,
            (None, false, ';') => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        statement.push(char);
    }
    found.retain(|statement| !statement.trim().is_empty());
    found
}

struct Shell {
    engine: Arc<tietopohja_engine::Engine>,
    principal: Principal,
    session: Session,
    form: Form,
    timing: bool,
}

/// Completes keywords, tables and columns.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Words(Vec<String>);

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = line.get(..position).unwrap_or_default();
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
            .map_or(0, |place| place + 1);
        let typed = before.get(start..).unwrap_or_default().to_lowercase();
        let pairs = self
            .0
            .iter()
            .filter(|word| !typed.is_empty() && word.to_lowercase().starts_with(&typed))
            .map(|word| Pair {
                display: word.clone(),
                replacement: word.clone(),
            });
        Ok((start, pairs.collect()))
    }
}

const KEYWORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "JOIN",
    "EXPLAIN",
    "SHOW TABLES",
    "DESCRIBE",
    "COUNT",
    "SUM",
    "AVG",
    "DISTINCT",
];

const HELP: &str = "\
End a query with `;`.  Tab completes keywords, tables and columns.
  \\d            tables         \\d TABLE   columns of a table
  \\timing       show seconds   \\o FORM    table, csv, json, ndjson, markdown
  \\refresh      see new data   \\q         leave";

impl Shell {
    async fn run(mut self, folder: &Path) -> Result<(), Failure> {
        let tables = Box::pin(self.session.tables()).await?;
        let mut editor: Editor<Words, DefaultHistory> =
            Editor::new().map_err(|error| Failure::internal(error.to_string()))?;
        editor.set_helper(Some(Words(words(&tables))));
        let history = folder.join(".sql_history");
        let _ = editor.load_history(&history);
        say("tietopohja SQL; \\? helps, \\q leaves");
        let mut pending = String::new();
        loop {
            let prompt = if pending.is_empty() {
                "tietopohja> "
            } else {
                "        ... "
            };
            let line = match editor.readline(prompt) {
                Ok(line) => line,
                Err(ReadlineError::Interrupted) => {
                    pending.clear();
                    continue;
                }
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(Failure::internal(error.to_string())),
            };
            let trimmed = line.trim();
            if pending.is_empty() && trimmed.starts_with('\\') {
                let _ = editor.add_history_entry(trimmed);
                if matches!(trimmed, "\\q" | "\\quit") {
                    break;
                }
                if let Err(failure) = Box::pin(self.meta(trimmed)).await {
                    say(&failure.to_string());
                }
                continue;
            }
            pending.push_str(&line);
            pending.push('\n');
            if !trimmed.ends_with(';') {
                continue;
            }
            let query = std::mem::take(&mut pending);
            let _ = editor.add_history_entry(query.trim());
            for statement in statements(&query) {
                let started = SystemClock.now();
                let answered = tokio::select! {
                    answered = Box::pin(answer(&self.session, &statement, self.form)) => answered,
                    _ = tokio::signal::ctrl_c() => { say("cancelled"); break }
                };
                match answered {
                    Ok(rows) if self.timing => {
                        say(&format!("({rows} rows, {:.3} s)", seconds_since(started)))
                    }
                    Ok(rows) => say(&format!("({rows} rows)")),
                    Err(failure) => say(&failure.to_string()),
                }
            }
        }
        if editor.save_history(&history).is_err() {
            say("the history could not be kept");
        }
        Ok(())
    }

    async fn meta(&mut self, command: &str) -> Result<(), Failure> {
        let (name, argument) = command
            .split_once(' ')
            .map_or((command, ""), |(name, argument)| (name, argument.trim()));
        match (name, argument) {
            ("\\?" | "\\h", _) => print(HELP),
            ("\\timing", _) => {
                self.timing = !self.timing;
                print(if self.timing {
                    "timing is on"
                } else {
                    "timing is off"
                })
            }
            ("\\refresh", _) => {
                self.session = Box::pin(self.engine.session(&self.principal)).await?;
                print("the session sees the newest data")
            }
            ("\\o", form) => match <Form as clap::ValueEnum>::from_str(form, true) {
                Ok(Form::Parquet | Form::Arrow) | Err(_) => {
                    Err(Failure::usage("use table, csv, json, ndjson or markdown"))
                }
                Ok(form) => {
                    self.form = form;
                    Ok(())
                }
            },
            ("\\d", table) => {
                let tables = Box::pin(self.session.tables()).await?;
                print(&described(&tables, table)?)
            }
            _ => Err(Failure::usage(format!(
                "there is no command `{name}`: \\? lists them"
            ))),
        }
    }
}

fn words(tables: &[TableInfo]) -> Vec<String> {
    let mut words: Vec<String> = KEYWORDS.iter().map(|word| (*word).to_owned()).collect();
    for table in tables {
        words.push(format!("{}.{}", table.schema, table.name));
        words.extend(
            table
                .columns
                .fields()
                .iter()
                .map(|field| field.name().clone()),
        );
    }
    words.sort();
    words.dedup();
    words
}

fn described(tables: &[TableInfo], wanted: &str) -> Result<String, Failure> {
    let (names, rows): (Vec<&str>, Vec<Vec<String>>) = if wanted.is_empty() {
        let rows = tables.iter().map(|table| {
            vec![
                table.schema.clone(),
                table.name.clone(),
                table.kind.as_str().to_owned(),
                table.comment.clone().unwrap_or_default(),
            ]
        });
        (
            vec!["schema", "table", "kind", "one row is"],
            rows.collect(),
        )
    } else {
        let table = tables
            .iter()
            .find(|table| {
                format!("{}.{}", table.schema, table.name) == wanted || table.name == wanted
            })
            .ok_or_else(|| {
                Failure::expected(format!("there is no table `{wanted}`: \\d lists them"))
            })?;
        let rows = table
            .columns
            .fields()
            .iter()
            .map(|field| vec![field.name().clone(), field.data_type().to_string()]);
        (vec!["column", "type"], rows.collect())
    };
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let mut text = Vec::new();
    text_grid(&mut text, &names, &[], &rows, false)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_cut_at_semicolons_outside_strings_and_comments() {
        for (text, expected) in [
            ("select 1; select 2", vec!["select 1", "select 2"]),
            ("select ';' as a;", vec!["select ';' as a"]),
            ("select 1 -- one; not two\n;", vec!["select 1"]),
            ("  ;;  ", vec![]),
            ("select \"a;b\"", vec!["select \"a;b\""]),
        ] {
            let found: Vec<String> = statements(text)
                .iter()
                .map(|statement| statement.trim().to_owned())
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }
}
