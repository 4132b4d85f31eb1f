//! Code lists with validity: which codes a source may use on which date.
//!
//! A list is a CSV file `code,name_fi,name_sv,name_en,valid_from,valid_to[,maps_to]`.
//! Validity is half-open: `valid_from` is the first day, `valid_to` the first
//! day no longer; empty is open. One code may stand on several lines with
//! periods that do not overlap. `maps_to` is the word that the conformed model
//! uses. Nothing here reads files. To add a list, add a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use tietopohja_domain::{Date, Problem, did_you_mean};

use crate::days;

/// Every code list of a warehouse, by name.
#[derive(Debug, Clone, Default)]
pub struct CodeLists {
    lists: BTreeMap<Arc<str>, CodeList>,
}

/// The versions of the codes of one list.
#[derive(Debug, Clone)]
pub struct CodeList {
    name: Arc<str>,
    /// Sorted by code, then by first day.
    codes: Vec<Code>,
}

/// One code during one period of validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    code: Arc<str>,
    name_fi: String,
    name_sv: String,
    name_en: String,
    valid_from: Option<Date>,
    valid_to: Option<Date>,
    maps_to: Option<Arc<str>>,
    first_day: i32,
    end_day: i32,
}

/// What a list says of a code on a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The code is valid on the date.
    Valid(&'a Code),
    /// The code was valid, but its last period has ended.
    Expired {
        /// The first day the code was no longer valid.
        valid_to: Date,
    },
    /// The code becomes valid later.
    NotYet {
        /// The first day of validity.
        valid_from: Date,
    },
    /// The list does not know the code.
    Unknown,
}

const HEADER: [&str; 6] = [
    "code",
    "name_fi",
    "name_sv",
    "name_en",
    "valid_from",
    "valid_to",
];

impl CodeLists {
    /// Reads lists given as (list name, CSV text). All problems of all lists
    /// are returned at once; the file named in a problem is `<list>.csv`.
    pub fn parse(files: Vec<(String, String)>) -> Result<CodeLists, Vec<Problem>> {
        let mut lists = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, text) in files {
            let file = format!("{name}.csv");
            let name: Arc<str> = Arc::from(name);
            let list = parse_list(&file, &name, &text, &mut problems);
            if lists.insert(name.clone(), list).is_some() {
                problems.push(Problem::new(
                    file,
                    format!("the code list `{name}` is given twice"),
                ));
            }
        }
        if problems.is_empty() {
            Ok(CodeLists { lists })
        } else {
            Err(problems)
        }
    }

    /// The list with this name.
    pub fn list(&self, name: &str) -> Option<&CodeList> {
        self.lists.get(name)
    }

    /// The names of all lists, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.lists.keys().map(AsRef::as_ref)
    }
}

impl CodeList {
    /// A list without codes, which refuses every code.
    pub(crate) fn empty() -> CodeList {
        CodeList {
            name: Arc::from(""),
            codes: Vec::new(),
        }
    }

    /// The name of the list, such as `county.absence_class`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every version of every code, sorted by code and first day.
    pub fn codes(&self) -> &[Code] {
        &self.codes
    }

    /// What the list says of `code` on the day `on`. The code is compared as
    /// written: no zeros are restored here.
    pub fn lookup(&self, code: &str, on: Date) -> Lookup<'_> {
        let day = days::from_date(on);
        let from = self.codes.partition_point(|c| c.code.as_ref() < code);
        let versions = self
            .codes
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|c| c.code.as_ref() == code);
        let mut ended = None;
        let mut starts = None;
        for version in versions {
            if version.covers(day) {
                return Lookup::Valid(version);
            }
            if version.end_day <= day {
                ended = version.valid_to;
            } else if starts.is_none() {
                starts = version.valid_from;
            }
        }
        match (ended, starts) {
            (Some(valid_to), _) => Lookup::Expired { valid_to },
            (None, Some(valid_from)) => Lookup::NotYet { valid_from },
            (None, None) => Lookup::Unknown,
        }
    }
}

impl Code {
    /// The code as sources write it.
    pub fn code(&self) -> &Arc<str> {
        &self.code
    }

    /// The Finnish name.
    pub fn name_fi(&self) -> &str {
        &self.name_fi
    }

    /// The Swedish name.
    pub fn name_sv(&self) -> &str {
        &self.name_sv
    }

    /// The English name.
    pub fn name_en(&self) -> &str {
        &self.name_en
    }

    /// The first day of validity; `None` when open.
    pub fn valid_from(&self) -> Option<Date> {
        self.valid_from
    }

    /// The first day no longer valid; `None` when open.
    pub fn valid_to(&self) -> Option<Date> {
        self.valid_to
    }

    /// The word of the conformed model; for `fi.municipality` the county code.
    pub fn maps_to(&self) -> Option<&Arc<str>> {
        self.maps_to.as_ref()
    }

    /// Validity as days since 1970-01-01: first day, first day after.
    pub(crate) fn days(&self) -> (i32, i32) {
        (self.first_day, self.end_day)
    }

    fn covers(&self, day: i32) -> bool {
        self.first_day <= day && day < self.end_day
    }
}

fn parse_list(file: &str, name: &Arc<str>, text: &str, problems: &mut Vec<Problem>) -> CodeList {
    let mut records = records(text);
    let mut codes: Vec<(u32, Code)> = Vec::new();
    let with_maps_to = match records.next() {
        Some((line, header)) => check_header(file, line, &header, problems),
        None => {
            problems.push(
                Problem::new(file, "the code list is empty")
                    .help(format!("the first line is `{}`", HEADER.join(","))),
            );
            return CodeList {
                name: name.clone(),
                codes: Vec::new(),
            };
        }
    };
    let width = HEADER.len() + usize::from(with_maps_to);
    for (line, fields) in records {
        if fields.len() != width {
            problems.push(
                Problem::new(
                    file,
                    format!(
                        "the line has {} fields, the header has {width}",
                        fields.len()
                    ),
                )
                .at(line),
            );
            continue;
        }
        let mut fields = fields.into_iter();
        let mut next = || fields.next().unwrap_or_default();
        let code = next();
        let (name_fi, name_sv, name_en) = (next(), next(), next());
        let (from, to) = (next(), next());
        let maps_to = next();
        if code.is_empty() || code.trim() != code {
            problems.push(Problem::new(file, "the code is empty or has spaces around it").at(line));
            continue;
        }
        if name_fi.trim().is_empty() {
            problems.push(
                Problem::new(file, format!("the code `{code}` has no Finnish name")).at(line),
            );
        }
        let (Some(valid_from), Some(valid_to)) = (
            day(file, line, &from, problems),
            day(file, line, &to, problems),
        ) else {
            continue;
        };
        let first_day = valid_from.map_or(i32::MIN, days::from_date);
        let end_day = valid_to.map_or(i32::MAX, days::from_date);
        if end_day <= first_day {
            problems.push(
                Problem::new(file, format!("the code `{code}` ends before it begins"))
                    .at(line)
                    .help("`valid_to` is the first day the code is no longer valid"),
            );
            continue;
        }
        codes.push((
            line,
            Code {
                code: Arc::from(code),
                name_fi,
                name_sv,
                name_en,
                valid_from,
                valid_to,
                maps_to: (!maps_to.is_empty()).then(|| Arc::from(maps_to)),
                first_day,
                end_day,
            },
        ));
    }
    codes.sort_by(|(_, a), (_, b)| a.code.cmp(&b.code).then(a.first_day.cmp(&b.first_day)));
    for pair in codes.windows(2) {
        if let [(first_line, a), (line, b)] = pair
            && a.code == b.code
            && b.first_day < a.end_day
        {
            problems.push(
                Problem::new(
                    file,
                    format!("the code `{}` is valid twice at the same time", b.code),
                )
                .at(*line)
                .help(format!(
                    "end the version of line {first_line} on the day this one begins"
                )),
            );
        }
    }
    CodeList {
        name: name.clone(),
        codes: codes.into_iter().map(|(_, code)| code).collect(),
    }
}

fn check_header(file: &str, line: u32, header: &[String], problems: &mut Vec<Problem>) -> bool {
    let with_maps_to = header.len() == HEADER.len() + 1;
    let expected = HEADER
        .iter()
        .copied()
        .chain(with_maps_to.then_some("maps_to"));
    if header.len() < HEADER.len()
        || !expected.eq(header.iter().take(HEADER.len() + 1).map(String::as_str))
    {
        let wrong = header
            .iter()
            .find(|name| !HEADER.contains(&name.as_str()) && name.as_str() != "maps_to");
        let mut problem = Problem::new(file, "the header is not that of a code list").at(line);
        problem = match wrong.and_then(|name| Some((name, did_you_mean(name, HEADER)?))) {
            Some((name, known)) => problem.help(format!("`{name}`: did you mean `{known}`?")),
            None => problem.help(format!(
                "the header is `{}` and optionally `maps_to`",
                HEADER.join(",")
            )),
        };
        problems.push(problem);
    }
    with_maps_to
}

/// `Some(None)` is an open end, `None` a problem already reported.
fn day(file: &str, line: u32, text: &str, problems: &mut Vec<Problem>) -> Option<Option<Date>> {
    if text.is_empty() {
        return Some(None);
    }
    match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => Some(Some(date)),
        _ => {
            problems.push(
                Problem::new(file, format!("`{text}` is not a date"))
                    .at(line)
                    .help("write dates as 2024-03-31"),
            );
            None
        }
    }
}

/// Lines as fields with their line numbers; quoted fields may hold commas and
/// doubled quotes, not line ends.
fn records(text: &str) -> impl Iterator<Item = (u32, Vec<String>)> + '_ {
    text.strip_prefix('\u{feff}')
        .unwrap_or(text)
        .lines()
        .zip(1u32..)
        .filter(|(line, _)| !line.trim().is_empty())
        .map(|(line, number)| (number, fields(line)))
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const LIST: &str = "code,name_fi,name_sv,name_en,valid_from,valid_to,maps_to\n\
        A,\"Eka, kerta\",Ett,One,,2023-01-01,first\n\
        A,Eka uudestaan,Ett,One,2024-01-01,,again\n\
        B,Toka,Två,Two,2023-06-01,,second\n";

    fn list(text: &str) -> CodeLists {
        CodeLists::parse(vec![("t".to_owned(), text.to_owned())]).unwrap()
    }

    fn check(code: &str, on: &str, expected: &str) {
        let lists = list(LIST);
        let found = match lists.list("t").unwrap().lookup(code, on.parse().unwrap()) {
            Lookup::Valid(code) => code.maps_to().unwrap().to_string(),
            Lookup::Expired { valid_to } => format!("expired {valid_to}"),
            Lookup::NotYet { valid_from } => format!("not yet {valid_from}"),
            Lookup::Unknown => "unknown".to_owned(),
        };
        assert_eq!(found, expected, "{code} on {on}");
    }

    #[test]
    fn a_code_is_looked_up_on_a_date() {
        check("A", "2022-12-31", "first");
        check("A", "2023-01-01", "expired 2023-01-01");
        check("A", "2024-01-01", "again");
        check("B", "2023-05-31", "not yet 2023-06-01");
        check("B", "2023-06-01", "second");
        check("C", "2023-06-01", "unknown");
        check("", "2023-06-01", "unknown");
    }

    #[test]
    fn quoted_names_may_hold_commas() {
        assert_eq!(
            list(LIST).list("t").unwrap().codes()[0].name_fi(),
            "Eka, kerta"
        );
    }

    fn check_problems(text: &str, expected: &[&str]) {
        let problems = CodeLists::parse(vec![("t".to_owned(), text.to_owned())]).unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn all_problems_of_a_list_are_told_at_once() {
        check_problems(
            "code,name_fi,name_sv,name_en,valid_from,valid_to\n\
             ,x,x,x,,\n\
             A,,x,x,,\n\
             B,x,x,x,1.1.2024,\n\
             C,x,x,x,2024-01-01,2023-01-01\n\
             D,x\n\
             E,x,x,x,,\n\
             E,x,x,x,2024-01-01,\n",
            &[
                "t.csv:2: the code is empty or has spaces around it",
                "t.csv:3: the code `A` has no Finnish name",
                "t.csv:4: `1.1.2024` is not a date\n  help: write dates as 2024-03-31",
                "t.csv:5: the code `C` ends before it begins\n  help: `valid_to` is the first day the code is no longer valid",
                "t.csv:6: the line has 2 fields, the header has 6",
                "t.csv:8: the code `E` is valid twice at the same time\n  help: end the version of line 7 on the day this one begins",
            ],
        );
    }

    #[test]
    fn a_wrong_header_gets_a_hint() {
        check_problems(
            "code,name_f,name_sv,name_en,valid_from,valid_to\n",
            &[
                "t.csv:1: the header is not that of a code list\n  help: `name_f`: did you mean `name_fi`?",
            ],
        );
        check_problems(
            "",
            &[
                "t.csv: the code list is empty\n  help: the first line is `code,name_fi,name_sv,name_en,valid_from,valid_to`",
            ],
        );
    }
}
