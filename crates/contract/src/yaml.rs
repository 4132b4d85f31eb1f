//! YAML as a tree that knows its lines, and a strict reader of its mappings.
//!
//! The tree exists so that every problem of a contract can be told at once: a
//! derived reader stops at the first. What the keys mean is in `odcs`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{MergeKeyPolicy, Spanned};
use tietopohja_domain::{Problem, did_you_mean};

/// A value and the line it begins on.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: u32,
    pub(crate) value: Node,
}

/// Reads one YAML document. A document that is not YAML is one problem.
pub(crate) fn parse(file: &str, text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| {
        let problem = Problem::new(
            file,
            format!("not valid YAML: {}", first_line(&error.to_string())),
        );
        match error.location() {
            Some(location) => problem.at(u32::try_from(location.line()).unwrap_or(u32::MAX)),
            None => problem,
        }
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node {
            line: line_of(&spanned),
            value: spanned.value,
        })
    }
}

fn line_of<T>(spanned: &Spanned<T>) -> u32 {
    u32::try_from(spanned.referenced.line()).unwrap_or(u32::MAX)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Integer(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(match i64::try_from(v) {
            Ok(v) => Value::Integer(v),
            Err(_) => Value::Float(v as f64),
        })
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::Text(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Node>()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Node>()?;
            entries.push(Entry {
                line: line_of(&key),
                key: key.value,
                value,
            });
        }
        Ok(Value::Map(entries))
    }
}

impl Value {
    /// The kind of value in the words of a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// The problems found so far in one file.
#[derive(Debug)]
pub(crate) struct Problems<'f> {
    file: &'f str,
    list: Vec<Problem>,
}

impl<'f> Problems<'f> {
    pub(crate) fn new(file: &'f str) -> Self {
        Problems {
            file,
            list: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, line: u32, message: impl Into<String>) {
        self.list.push(Problem::new(self.file, message).at(line));
    }

    pub(crate) fn add_with_help(
        &mut self,
        line: u32,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.list
            .push(Problem::new(self.file, message).at(line).help(help));
    }

    /// A name that is not among the known ones, with the nearest as a hint.
    pub(crate) fn unknown<'a>(
        &mut self,
        line: u32,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) {
        let message = format!("unknown {what} `{name}`");
        match did_you_mean(name, known.clone()) {
            Some(near) => self.add_with_help(line, message, format!("did you mean `{near}`?")),
            None => {
                let known: Vec<&str> = known.into_iter().collect();
                if known.is_empty() {
                    self.add(line, message);
                } else {
                    self.add_with_help(line, message, format!("known: {}", known.join(", ")));
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn into_sorted(mut self) -> Vec<Problem> {
        self.list.sort();
        self.list
    }
}

/// A mapping being read: each key is asked for once, and what was never asked
/// for is unknown.
pub(crate) struct Fields<'a> {
    what: &'a str,
    pub(crate) line: u32,
    entries: &'a [Entry],
    known: Vec<&'a str>,
}

impl<'a> Fields<'a> {
    /// `None` when the node is not a mapping, which is reported.
    pub(crate) fn open(
        what: &'a str,
        node: &'a Node,
        problems: &mut Problems<'_>,
    ) -> Option<Fields<'a>> {
        match &node.value {
            Value::Map(entries) => Some(Fields {
                what,
                line: node.line,
                entries,
                known: Vec::new(),
            }),
            other => {
                problems.add(
                    node.line,
                    format!("{what} must be a mapping, not {}", other.kind()),
                );
                None
            }
        }
    }

    /// The value of a key, if present.
    pub(crate) fn get(&mut self, key: &'a str) -> Option<&'a Node> {
        self.known.push(key);
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.value)
    }

    /// Keys that are valid in the standard but say nothing to this engine.
    pub(crate) fn allow(&mut self, keys: &[&'a str]) {
        self.known.extend_from_slice(keys);
    }

    pub(crate) fn text(&mut self, key: &'a str, problems: &mut Problems<'_>) -> Option<&'a str> {
        let node = self.get(key)?;
        text(key, node, problems)
    }

    pub(crate) fn required_text(
        &mut self,
        key: &'a str,
        problems: &mut Problems<'_>,
    ) -> Option<&'a str> {
        match self.get(key) {
            Some(node) => text(key, node, problems),
            None => {
                self.missing(key, problems);
                None
            }
        }
    }

    pub(crate) fn bool(&mut self, key: &'a str, problems: &mut Problems<'_>) -> Option<bool> {
        let node = self.get(key)?;
        match node.value {
            Value::Bool(value) => Some(value),
            ref other => {
                problems.add(
                    node.line,
                    format!("`{key}` must be true or false, not {}", other.kind()),
                );
                None
            }
        }
    }

    pub(crate) fn integer(&mut self, key: &'a str, problems: &mut Problems<'_>) -> Option<i64> {
        let node = self.get(key)?;
        match node.value {
            Value::Integer(value) => Some(value),
            ref other => {
                problems.add(
                    node.line,
                    format!("`{key}` must be a whole number, not {}", other.kind()),
                );
                None
            }
        }
    }

    /// The items of a list; an absent key is an empty list.
    pub(crate) fn list(&mut self, key: &'a str, problems: &mut Problems<'_>) -> &'a [Node] {
        let Some(node) = self.get(key) else {
            return &[];
        };
        match &node.value {
            Value::List(items) => items,
            other => {
                problems.add(
                    node.line,
                    format!("`{key}` must be a list, not {}", other.kind()),
                );
                &[]
            }
        }
    }

    pub(crate) fn missing(&self, key: &str, problems: &mut Problems<'_>) {
        problems.add(self.line, format!("{} has no `{key}`", self.what));
    }

    /// Reports every key that was not asked for.
    pub(crate) fn finish(self, problems: &mut Problems<'_>) {
        for entry in self.entries {
            if !self.known.contains(&entry.key.as_str()) {
                problems.unknown(
                    entry.line,
                    &format!("key in {}", self.what),
                    &entry.key,
                    self.known.iter().copied(),
                );
            }
        }
    }
}

pub(crate) fn text<'a>(key: &str, node: &'a Node, problems: &mut Problems<'_>) -> Option<&'a str> {
    match &node.value {
        Value::Text(text) if !text.trim().is_empty() => Some(text),
        Value::Text(_) => {
            problems.add(node.line, format!("`{key}` is empty"));
            None
        }
        other => {
            problems.add_with_help(
                node.line,
                format!("`{key}` must be a text, not {}", other.kind()),
                "put the value in quotes",
            );
            None
        }
    }
}

/// Texts of a list node, or the one text of a text node.
pub(crate) fn texts<'a>(key: &str, node: &'a Node, problems: &mut Problems<'_>) -> Vec<&'a str> {
    match &node.value {
        Value::List(items) => items
            .iter()
            .filter_map(|item| text(key, item, problems))
            .collect(),
        _ => text(key, node, problems).into_iter().collect(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_keys_know_their_lines() {
        let node = parse("t.yaml", "a: 1\nb:\n  - x\n  - y: 2.5\n").unwrap();
        let Value::Map(entries) = &node.value else {
            panic!("a mapping")
        };
        let lines: Vec<(&str, u32, u32)> = entries
            .iter()
            .map(|e| (e.key.as_str(), e.line, e.value.line))
            .collect();
        assert_eq!(lines, [("a", 1, 1), ("b", 2, 3)]);
        let Value::List(items) = &entries[1].value.value else {
            panic!("a list")
        };
        assert_eq!(items.iter().map(|n| n.line).collect::<Vec<_>>(), [3, 4]);
    }

    fn check_broken(text: &str, line: u32) {
        let problem = parse("t.yaml", text).unwrap_err();
        assert_eq!(problem.line, Some(line), "{problem}");
    }

    #[test]
    fn broken_yaml_is_one_problem_with_a_line() {
        check_broken("a: 1\nb: [1, 2\nc: 3\n", 3);
        check_broken("a: 1\na: 2\n", 2);
        check_broken("a: !include x\n", 1);
    }

    #[test]
    fn an_unknown_key_gets_the_nearest_known_one() {
        let node = parse("t.yaml", "name: x\nverzion: 1\n").unwrap();
        let mut problems = Problems::new("t.yaml");
        let mut fields = Fields::open("the contract", &node, &mut problems).unwrap();
        assert_eq!(fields.text("name", &mut problems), Some("x"));
        assert_eq!(fields.text("version", &mut problems), None);
        fields.finish(&mut problems);
        let shown: Vec<String> = problems
            .into_sorted()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            shown,
            ["t.yaml:2: unknown key in the contract `verzion`\n  help: did you mean `version`?"]
        );
    }
}
