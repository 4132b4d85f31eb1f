//! Disclosure profiles: `definitions/disclosure/*.toml`, format `tietopohja-disclosure/1`.
//!
//! ```toml
//! schema = "tietopohja-disclosure/1"
//!
//! [profile.person_count]
//! description = "Contributors are clients, patients or employees."
//! min_count = 5            # 1 to 4 contributors are hidden; 0 hides nothing
//! protect_zero = false     # is "nobody" hidden too?
//!
//! [profile.staff_health]
//! extends = "person_count" # what is not said here is as there
//! min_count = 10
//! also_denominator = true  # a group below the count is hidden whole, with its size
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use tietopohja_domain::{Problem, did_you_mean};
use toml::Spanned;

const SCHEMA: &str = "tietopohja-disclosure/1";

/// Most that a least count may be: a larger one is a slip of the hand.
const MOST: i64 = 1_000;

/// How cells of an indicator are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    name: String,
    description: String,
    min_count: i64,
    protect_zero: bool,
    also_denominator: bool,
}

impl Profile {
    /// Its name in definitions.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who or what the contributors are, in words.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The least number of contributors that may be shown.
    pub fn min_count(&self) -> i64 {
        self.min_count
    }

    /// Whether "nobody" is hidden.
    pub fn protects_zero(&self) -> bool {
        self.protect_zero
    }

    /// Whether a hidden cell hides its denominator, and a small denominator its cell.
    pub fn hides_denominator(&self) -> bool {
        self.also_denominator
    }
}

/// Every profile of a warehouse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profiles(BTreeMap<String, Profile>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: Spanned<String>,
    #[serde(default)]
    profile: BTreeMap<Spanned<String>, Written>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Written {
    description: Option<String>,
    extends: Option<Spanned<String>>,
    min_count: Option<Spanned<i64>>,
    protect_zero: Option<bool>,
    also_denominator: Option<bool>,
}

/// A profile as it stands in a file.
struct Place {
    file: String,
    line: u32,
    lines: Vec<usize>,
    written: Written,
}

impl Place {
    fn problem(&self, at: Option<usize>, message: String) -> Problem {
        let line = at.map_or(self.line, |offset| line_at(&self.lines, offset));
        Problem::new(self.file.clone(), message).at(line)
    }
}

impl Profiles {
    /// Reads profile files (path as the user knows it, text).
    ///
    /// # Errors
    /// Every problem of every file.
    pub fn parse(files: &[(String, String)]) -> Result<Profiles, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut places: BTreeMap<String, Place> = BTreeMap::new();
        for (file, text) in files {
            read(file, text, &mut places, &mut problems);
        }
        let profiles = places
            .keys()
            .filter_map(|name| {
                resolve(name, &places, &mut problems).map(|profile| (name.clone(), profile))
            })
            .collect();
        if problems.is_empty() {
            Ok(Profiles(profiles))
        } else {
            problems.sort();
            Err(problems)
        }
    }

    /// The profile of a name.
    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.0.get(name)
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

fn read(file: &str, text: &str, places: &mut BTreeMap<String, Place>, problems: &mut Vec<Problem>) {
    let lines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let document: Document = match toml::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            let problem = Problem::new(file, error.message().trim_end_matches('.').to_owned());
            problems.push(match error.span() {
                Some(span) => problem.at(line_at(&lines, span.start)),
                None => problem,
            });
            return;
        }
    };
    if document.schema.get_ref() != SCHEMA {
        let problem = Problem::new(
            file,
            format!("unknown schema `{}`", document.schema.get_ref()),
        )
        .at(line_at(&lines, document.schema.span().start))
        .help(format!("write `schema = \"{SCHEMA}\"`"));
        problems.push(problem);
    }
    for (name, written) in document.profile {
        let line = line_at(&lines, name.span().start);
        let name = name.into_inner();
        let place = Place {
            file: file.to_owned(),
            line,
            lines: lines.clone(),
            written,
        };
        if let Some(first) = places.get(&name) {
            let message = format!("the profile `{name}` is already defined in {}", first.file);
            problems.push(place.problem(None, message));
        } else {
            places.insert(name, place);
        }
    }
}

/// The profile with what it takes from those it extends.
fn resolve(
    name: &str,
    places: &BTreeMap<String, Place>,
    problems: &mut Vec<Problem>,
) -> Option<Profile> {
    let own = places.get(name)?;
    let (mut min_count, mut protect_zero, mut also_denominator) = (None, None, None);
    let mut seen = vec![name];
    let mut place = own;
    loop {
        let Written {
            description: _,
            extends,
            min_count: count,
            protect_zero: zero,
            also_denominator: also,
        } = &place.written;
        min_count = min_count.or_else(|| count.as_ref().map(|count| *count.get_ref()));
        protect_zero = protect_zero.or(*zero);
        also_denominator = also_denominator.or(*also);
        let Some(parent) = extends else { break };
        let parent_name = parent.get_ref().as_str();
        if seen.contains(&parent_name) {
            problems.push(own.problem(None, format!("the profile `{name}` extends itself")));
            return None;
        }
        seen.push(parent_name);
        match places.get(parent_name) {
            Some(next) => place = next,
            None => {
                // Told once, where it is written.
                if std::ptr::eq(place, own) {
                    let problem = place.problem(
                        Some(parent.span().start),
                        format!("there is no profile `{parent_name}`"),
                    );
                    let near = did_you_mean(parent_name, places.keys().map(String::as_str));
                    problems.push(match near {
                        Some(near) => problem.help(format!("did you mean `{near}`?")),
                        None => problem,
                    });
                }
                return None;
            }
        }
    }
    if let Some(count) = &own.written.min_count
        && !(0..=MOST).contains(count.get_ref())
    {
        let message = format!(
            "`min_count` of `{name}` is {}, not 0 to {MOST}",
            count.get_ref()
        );
        problems.push(own.problem(Some(count.span().start), message));
        return None;
    }
    let Some(min_count) = min_count else {
        let problem = own.problem(None, format!("the profile `{name}` has no `min_count`"));
        problems
            .push(problem.help("say how many persons a shown cell has at least; 0 hides nothing"));
        return None;
    };
    Some(Profile {
        name: name.to_owned(),
        description: own.written.description.clone().unwrap_or_default(),
        min_count,
        protect_zero: protect_zero.unwrap_or(false),
        also_denominator: also_denominator.unwrap_or(false),
    })
}

fn line_at(line_ends: &[usize], offset: usize) -> u32 {
    let before = line_ends.partition_point(|end| *end < offset);
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        match Profiles::parse(&[("d.toml".to_owned(), text.to_owned())]) {
            Ok(profiles) => vec![profiles.names().join(",")],
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    const HEAD: &str = "schema = \"tietopohja-disclosure/1\"\n";

    #[test]
    fn a_profile_takes_from_another_what_it_does_not_say() {
        let text = format!(
            "{HEAD}[profile.person_count]\nmin_count = 5\nprotect_zero = true\n[profile.staff_health]\nextends = \"person_count\"\nmin_count = 10\nalso_denominator = true\n"
        );
        let profiles = Profiles::parse(&[("d.toml".to_owned(), text)]).unwrap();
        let staff = profiles.get("staff_health").unwrap();
        assert_eq!(
            (
                staff.min_count(),
                staff.protects_zero(),
                staff.hides_denominator()
            ),
            (10, true, true)
        );
        let person = profiles.get("person_count").unwrap();
        assert_eq!(
            (
                person.min_count(),
                person.hides_denominator(),
                person.name()
            ),
            (5, false, "person_count")
        );
    }

    #[test]
    fn every_problem_is_told_with_its_line() {
        let text = format!(
            "{HEAD}[profile.a]\nmin_count = -1\n[profile.b]\nextends = \"aa\"\n[profile.c]\nextends = \"d\"\n[profile.d]\nextends = \"c\"\n[profile.e]\nprotect_zero = true\n"
        );
        assert_eq!(
            told(&text),
            [
                "d.toml:3: `min_count` of `a` is -1, not 0 to 1000",
                "d.toml:5: there is no profile `aa`\n  help: did you mean `a`?",
                "d.toml:6: the profile `c` extends itself",
                "d.toml:8: the profile `d` extends itself",
                "d.toml:10: the profile `e` has no `min_count`\n  help: say how many persons a shown cell has at least; 0 hides nothing",
            ]
        );
    }

    #[test]
    fn an_unknown_key_and_another_schema_are_errors() {
        let told_key = told(&format!("{HEAD}[profile.a]\nfloor = 1\n"));
        assert!(
            told_key[0].starts_with("d.toml:3: unknown field `floor`"),
            "{told_key:?}"
        );
        assert_eq!(
            told("schema = \"x\"\n"),
            ["d.toml:1: unknown schema `x`\n  help: write `schema = \"tietopohja-disclosure/1\"`"]
        );
    }

    #[test]
    fn one_name_is_one_profile() {
        let text = format!("{HEAD}[profile.a]\nmin_count = 5\n");
        let files = [
            ("a.toml".to_owned(), text.clone()),
            ("b.toml".to_owned(), text),
        ];
        let problems = Profiles::parse(&files).unwrap_err();
        assert_eq!(
            problems[0].to_string(),
            "b.toml:2: the profile `a` is already defined in a.toml"
        );
    }
}
