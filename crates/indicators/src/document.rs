//! Reading a TOML document section by section, so that every problem is found in one pass.
//!
//! A [`Section`] remembers which keys it was asked for; [`Section::finish`] reports the others, with
//! the nearest known key as help. Accessors never stop the reading: a wrong value becomes a
//! [`Problem`] with its line, and `None`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use tietopohja_domain::{Date, Problem, did_you_mean};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use crate::words::Word;

/// A value and the line it stands on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field<T> {
    pub(crate) value: T,
    pub(crate) line: u32,
}

/// One file being read: its name, its lines, and the problems found so far.
pub(crate) struct Document<'a> {
    file: &'a str,
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Document<'a> {
    /// Parses the syntax. Syntax errors become problems; what could be read is returned.
    pub(crate) fn parse(file: &'a str, text: &'a str) -> (Self, Spanned<DeTable<'a>>) {
        let line_starts = std::iter::once(0).chain(
            text.bytes()
                .enumerate()
                .filter(|(_, b)| *b == b'\n')
                .map(|(at, _)| at + 1),
        );
        let document = Self {
            file,
            line_starts: line_starts.collect(),
            problems: RefCell::new(Vec::new()),
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(1, |span| document.line_at(span.start));
            document.problem(line, format!("not valid TOML: {}", error.message()), None);
        }
        (document, table)
    }

    /// The whole file as a section.
    pub(crate) fn root<'d, 'i>(&'d self, table: &'d DeTable<'i>) -> Section<'d, 'i> {
        Section {
            document: self,
            name: String::new(),
            line: 1,
            table,
            asked: RefCell::new(BTreeSet::new()),
        }
    }

    pub(crate) fn problem(&self, line: u32, message: impl Into<String>, help: Option<String>) {
        let mut problem = Problem::new(self.file, message).at(line);
        problem.help = help;
        self.problems.borrow_mut().push(problem);
    }

    /// The problems found.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    pub(crate) fn problem_count(&self) -> usize {
        self.problems.borrow().len()
    }

    fn line_at(&self, offset: usize) -> u32 {
        u32::try_from(self.line_starts.partition_point(|start| *start <= offset))
            .unwrap_or(u32::MAX)
    }
}

/// A table of the document.
pub(crate) struct Section<'d, 'i> {
    pub(crate) document: &'d Document<'d>,
    /// The path as written in the file (`source.visits`); empty for the file itself.
    pub(crate) name: String,
    pub(crate) line: u32,
    table: &'d DeTable<'i>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'d, 'i> Section<'d, 'i> {
    /// Reports a problem at a line of this document.
    pub(crate) fn problem(&self, line: u32, message: impl Into<String>, help: Option<String>) {
        self.document.problem(line, message, help);
    }

    fn get(&self, key: &'static str) -> Option<(u32, &'d DeValue<'i>)> {
        self.asked.borrow_mut().insert(key);
        self.entry(key)
    }

    fn entry(&self, key: &str) -> Option<(u32, &'d DeValue<'i>)> {
        self.table
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == key)
            .map(|(name, value)| (self.document.line_at(name.span().start), value.get_ref()))
    }

    /// Whether the key is there; counts as asked.
    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    fn wrong_type(&self, key: &str, line: u32, wanted: &str, value: &DeValue<'_>) {
        let found = value.type_str();
        self.problem(
            line,
            format!(
                "`{}` must be {wanted}, not {}",
                self.path(key),
                article(found)
            ),
            None,
        );
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }

    /// A text, if there is one. An empty text is a problem.
    pub(crate) fn text(&self, key: &'static str) -> Option<Field<String>> {
        let (line, value) = self.get(key)?;
        match value {
            DeValue::String(text) if text.trim().is_empty() => {
                self.problem(
                    line,
                    format!("`{}` is empty", self.path(key)),
                    Some("write a text or leave the key out".to_owned()),
                );
                None
            }
            DeValue::String(text) => Some(Field {
                value: text.trim().to_owned(),
                line,
            }),
            other => {
                self.wrong_type(key, line, "a text", other);
                None
            }
        }
    }

    /// A text that must be there.
    pub(crate) fn required_text(&self, key: &'static str) -> Option<Field<String>> {
        if self.get(key).is_none() {
            self.missing(key);
        }
        self.text(key)
    }

    fn missing(&self, key: &str) {
        let place = if self.name.is_empty() {
            "the file".to_owned()
        } else {
            format!("`[{}]`", self.name)
        };
        self.problem(self.line, format!("{place} has no `{key}`"), None);
    }

    /// A word of a closed set, if the key is there.
    pub(crate) fn word<W: Word>(&self, key: &'static str) -> Option<Field<W>> {
        let text = self.text(key)?;
        self.to_word(key, &text)
    }

    /// A word of a closed set that must be there.
    pub(crate) fn required_word<W: Word>(&self, key: &'static str) -> Option<Field<W>> {
        let text = self.required_text(key)?;
        self.to_word(key, &text)
    }

    fn to_word<W: Word>(&self, key: &str, text: &Field<String>) -> Option<Field<W>> {
        let word = W::of(&text.value);
        if word.is_none() {
            self.problem(
                text.line,
                format!(
                    "`{}` is `{}`, which is not a known word",
                    self.path(key),
                    text.value
                ),
                Some(suggestion(&text.value, W::ALL.iter().map(|w| w.word()))),
            );
        }
        word.map(|value| Field {
            value,
            line: text.line,
        })
    }

    /// A list of words, or one word. Repeated words are a problem.
    pub(crate) fn words<W: Word + PartialEq>(&self, key: &'static str) -> Vec<Field<W>> {
        let mut words: Vec<Field<W>> = Vec::new();
        for text in self.texts(key) {
            if let Some(word) = self.to_word::<W>(key, &text) {
                if words.iter().any(|w| w.value == word.value) {
                    self.problem(
                        word.line,
                        format!("`{}` names `{}` twice", self.path(key), text.value),
                        None,
                    );
                } else {
                    words.push(word);
                }
            }
        }
        words
    }

    /// A list of texts, or one text.
    pub(crate) fn texts(&self, key: &'static str) -> Vec<Field<String>> {
        let Some((line, value)) = self.get(key) else {
            return Vec::new();
        };
        match value {
            DeValue::String(text) => vec![Field {
                value: text.trim().to_owned(),
                line,
            }],
            DeValue::Array(items) => items
                .iter()
                .filter_map(|item| {
                    let line = self.document.line_at(item.span().start);
                    if let DeValue::String(text) = item.get_ref() {
                        Some(Field {
                            value: text.trim().to_owned(),
                            line,
                        })
                    } else {
                        self.wrong_type(key, line, "a list of texts", item.get_ref());
                        None
                    }
                })
                .collect(),
            other => {
                self.wrong_type(key, line, "a text or a list of texts", other);
                Vec::new()
            }
        }
    }

    /// A whole number of at least `min`.
    pub(crate) fn integer(&self, key: &'static str, min: i64) -> Option<Field<i64>> {
        let (line, value) = self.get(key)?;
        match owned(value) {
            Some(Value::Integer(number)) if number >= min => Some(Field {
                value: number,
                line,
            }),
            Some(Value::Integer(number)) => {
                self.problem(
                    line,
                    format!(
                        "`{}` is {number}, but must be at least {min}",
                        self.path(key)
                    ),
                    None,
                );
                None
            }
            _ => {
                self.wrong_type(key, line, "a whole number", value);
                None
            }
        }
    }

    /// A number between 0 and 1, ends excluded, in its shortest form.
    pub(crate) fn fraction(&self, key: &'static str) -> Option<Field<String>> {
        let (line, value) = self.get(key)?;
        match owned(value) {
            Some(Value::Float(number)) if number > 0.0 && number < 1.0 => Some(Field {
                value: number.to_string(),
                line,
            }),
            Some(Value::Float(_) | Value::Integer(_)) => {
                self.problem(
                    line,
                    format!("`{}` must be between 0 and 1", self.path(key)),
                    None,
                );
                None
            }
            _ => {
                self.wrong_type(key, line, "a number", value);
                None
            }
        }
    }

    /// A number of at least 0, in its shortest form.
    pub(crate) fn number(&self, key: &'static str) -> Option<Field<String>> {
        let (line, value) = self.get(key)?;
        match owned(value) {
            Some(Value::Float(number)) if number.is_finite() && number >= 0.0 => Some(Field {
                value: number.to_string(),
                line,
            }),
            Some(Value::Integer(number)) if number >= 0 => Some(Field {
                value: number.to_string(),
                line,
            }),
            _ => {
                self.wrong_type(key, line, "a number of at least 0", value);
                None
            }
        }
    }

    /// True or false.
    pub(crate) fn boolean(&self, key: &'static str) -> Option<Field<bool>> {
        let (line, value) = self.get(key)?;
        if let DeValue::Boolean(value) = value {
            Some(Field {
                value: *value,
                line,
            })
        } else {
            self.wrong_type(key, line, "true or false", value);
            None
        }
    }

    /// A date without a clock time.
    pub(crate) fn date(&self, key: &'static str) -> Option<Field<Date>> {
        let (line, value) = self.get(key)?;
        if let DeValue::Datetime(found) = value
            && let (Some(date), None, None) = (found.date, found.time, found.offset)
            && let (Ok(year), Ok(month), Ok(day)) = (
                i16::try_from(date.year),
                i8::try_from(date.month),
                i8::try_from(date.day),
            )
            && let Ok(date) = Date::new(year, month, day)
        {
            return Some(Field { value: date, line });
        }
        self.wrong_type(key, line, "a date (2024-01-31, without quotes)", value);
        None
    }

    /// A table of this section.
    pub(crate) fn section(&self, key: &'static str) -> Option<Section<'d, 'i>> {
        let (line, value) = self.get(key)?;
        self.to_section(self.path(key), line, value)
    }

    /// A table that must be there.
    pub(crate) fn required_section(&self, key: &'static str) -> Option<Section<'d, 'i>> {
        if self.get(key).is_none() {
            self.problem(
                self.line,
                format!("there is no `[{}]`", self.path(key)),
                None,
            );
        }
        self.section(key)
    }

    fn to_section(
        &self,
        name: String,
        line: u32,
        value: &'d DeValue<'i>,
    ) -> Option<Section<'d, 'i>> {
        if let DeValue::Table(table) = value {
            Some(Section {
                document: self.document,
                name,
                line,
                table,
                asked: RefCell::new(BTreeSet::new()),
            })
        } else {
            self.problem(
                line,
                format!(
                    "`{name}` must be a table, not {}",
                    article(value.type_str())
                ),
                None,
            );
            None
        }
    }

    /// The tables named by the author below a key (`[source.visits]`, `[source.days]`), in the order
    /// of the file.
    pub(crate) fn named_sections(&self, key: &'static str) -> Vec<(String, Section<'d, 'i>)> {
        let Some(parent) = self.section(key) else {
            return Vec::new();
        };
        let mut sections: Vec<(String, Section<'d, 'i>)> = parent
            .table
            .iter()
            .filter_map(|(name, value)| {
                let line = self.document.line_at(name.span().start);
                let name = name.get_ref().as_ref();
                let section =
                    self.to_section(format!("{}.{name}", parent.name), line, value.get_ref())?;
                Some((name.to_owned(), section))
            })
            .collect();
        sections.sort_by_key(|(_, section)| section.line);
        sections
    }

    /// The texts named by the author below a key (`breakdown = { production = "…" }`).
    pub(crate) fn named_texts(&self, key: &'static str) -> Vec<(String, Field<String>)> {
        let Some(parent) = self.section(key) else {
            return Vec::new();
        };
        parent
            .table
            .iter()
            .filter_map(|(name, value)| {
                let line = self.document.line_at(name.span().start);
                let name = name.get_ref().as_ref();
                if let DeValue::String(text) = value.get_ref() {
                    Some((
                        name.to_owned(),
                        Field {
                            value: text.trim().to_owned(),
                            line,
                        },
                    ))
                } else {
                    parent.wrong_type(name, line, "a text", value.get_ref());
                    None
                }
            })
            .collect()
    }

    /// The tables of a list (`[[breakdown]]`).
    pub(crate) fn list(&self, key: &'static str) -> Vec<Section<'d, 'i>> {
        let Some((line, value)) = self.get(key) else {
            return Vec::new();
        };
        let DeValue::Array(items) = value else {
            self.problem(
                line,
                format!(
                    "`{0}` must be a list of tables; write `[[{0}]]`",
                    self.path(key)
                ),
                None,
            );
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| {
                // The span of a table from a `[[header]]` starts at the header.
                let line = self.document.line_at(item.span().start);
                self.to_section(self.path(key), line, item.get_ref())
            })
            .collect()
    }

    /// Lets keys be there unread, when what they mean cannot be known.
    pub(crate) fn leave_unread(&self, keys: &[&'static str]) {
        self.asked.borrow_mut().extend(keys);
    }

    /// Reports keys that nothing asked for. `elsewhere` are keys that other definitions may have,
    /// with the reason why this one may not.
    pub(crate) fn finish(&self, elsewhere: &[&str], reason: &str) {
        let asked = self.asked.borrow();
        for (name, _) in self.table {
            let key = name.get_ref().as_ref();
            if asked.contains(key) {
                continue;
            }
            let line = self.document.line_at(name.span().start);
            if elsewhere.contains(&key) {
                self.problem(
                    line,
                    format!("`{}` has no place here: {reason}", self.path(key)),
                    Some("leave it out".to_owned()),
                );
            } else {
                self.problem(
                    line,
                    format!("unknown key `{}`", self.path(key)),
                    Some(suggestion(key, asked.iter().copied())),
                );
            }
        }
    }
}

/// A help line: the nearest known name, else all of them.
pub(crate) fn suggestion<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    if let Some(name) = did_you_mean(wrong, known.iter().copied()) {
        return format!("did you mean `{name}`?");
    }
    match known.as_slice() {
        [] => return "there is nothing to choose from yet".to_owned(),
        [only] => return format!("use `{only}`"),
        _ => {}
    }
    let mut help = String::from("use one of");
    for (at, name) in known.iter().enumerate() {
        let _ = write!(help, "{} `{name}`", if at == 0 { "" } else { "," });
    }
    help
}

fn article(type_name: &str) -> String {
    match type_name {
        "integer" | "array" => format!("an {type_name}"),
        other => format!("a {other}"),
    }
}

/// The plain value of a number.
fn owned(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::Integer(number) => {
            i64::from_str_radix(&number.as_str().replace('_', ""), number.radix())
                .ok()
                .map(Value::Integer)
        }
        DeValue::Float(number) => number
            .as_str()
            .replace('_', "")
            .parse()
            .ok()
            .map(Value::Float),
        _ => None,
    }
}
