//! One problem in a file that a person wrote: where, what, and the next step.

use std::fmt;

/// A problem in a definition, contract, code list or SQL file. Checks report all of them at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as the user knows it, relative to the warehouse.
    pub file: String,
    /// The line, 1-based, when it is known.
    pub line: Option<u32>,
    /// What is wrong: lower case, no final period, user text in backticks.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
}

impl Problem {
    /// A problem of a whole file.
    pub fn new(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: None,
            message: message.into(),
            help: None,
        }
    }

    /// The same problem at a line.
    #[must_use]
    pub fn at(mut self, line: u32) -> Self {
        self.line = Some(line);
        self
    }

    /// The same problem with a next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message)?,
            None => write!(f, "{}: {}", self.file, self.message)?,
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {help}"),
            None => Ok(()),
        }
    }
}

/// Every problem on its own lines, in the order of file and line.
pub fn render_problems(problems: &[Problem]) -> String {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort();
    sorted
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The known name closest to `wrong`, when it is close enough to be a slip of the hand: at most a
/// third of its letters differ.
pub fn did_you_mean<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (edit_distance(wrong, name), name))
        .filter(|(distance, name)| *distance <= (name.chars().count().max(3)) / 3)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance over characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (place, y) in row.iter_mut().skip(1).zip(&b) {
            let cost = diagonal + usize::from(x != *y);
            diagonal = *place;
            left = cost.min(diagonal + 1).min(left + 1);
            *place = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_is_recognised() {
        let known = ["wait_days", "municipality", "received_on"];
        assert_eq!(did_you_mean("wait_day", known), Some("wait_days"));
        assert_eq!(did_you_mean("recieved_on", known), Some("received_on"));
        assert_eq!(did_you_mean("colour", known), None);
    }

    #[test]
    fn problems_are_shown_in_file_and_line_order_with_help() {
        let text = render_problems(&[
            Problem::new("b.toml", "second").at(3),
            Problem::new("a.toml", "first").at(9).help("do this"),
        ]);
        assert_eq!(text, "a.toml:9: first\n  help: do this\nb.toml:3: second");
    }

    #[test]
    fn edit_distance_counts_changes() {
        for (a, b, distance) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ä", "a", 1),
        ] {
            assert_eq!(edit_distance(a, b), distance);
        }
    }
}
