//! The decision on one cell.

use crate::profile::Profile;

/// What is known of a cell before it is published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// The smallest number of persons (or of what the profile counts) behind the value; `None` when
    /// the value is not about them.
    pub contributors: Option<i64>,
    /// What the value was divided by, unscaled.
    pub denominator: Option<f64>,
    /// Whether there is a value: what is missing needs no hiding.
    pub has_value: bool,
}

/// May the cell be published?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes (`conf_status` F).
    Free,
    /// No (`conf_status` C).
    Suppressed(Reason),
}

/// Why a cell is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Fewer contributors than the profile's least count.
    SmallCount,
    /// No contributor, where the profile protects that too.
    Zero,
    /// The group that the contributors are part of is itself that small.
    SmallGroup,
}

impl Decision {
    /// Whether the cell is hidden.
    pub fn is_suppressed(self) -> bool {
        match self {
            Decision::Free => false,
            Decision::Suppressed(_) => true,
        }
    }
}

impl Profile {
    /// Decides on one cell.
    ///
    /// Counts below zero cannot be; they are hidden as small counts, because what is not understood
    /// is not published.
    pub fn decide(&self, cell: &Cell) -> Decision {
        let Some(contributors) = cell.contributors else {
            return Decision::Free;
        };
        if !cell.has_value {
            return Decision::Free;
        }
        if contributors == 0 && self.protects_zero() && self.min_count() > 0 {
            return Decision::Suppressed(Reason::Zero);
        }
        if contributors != 0 && contributors < self.min_count() {
            return Decision::Suppressed(Reason::SmallCount);
        }
        // A count of a small group tells about everyone in it.
        let least = self.min_count() as f64;
        if self.hides_denominator()
            && cell
                .denominator
                .is_some_and(|denominator| denominator > 0.0 && denominator < least)
        {
            return Decision::Suppressed(Reason::SmallGroup);
        }
        Decision::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profiles;

    fn profile(keys: &str) -> Profile {
        let text = format!("schema = \"tietopohja-disclosure/1\"\n[profile.p]\n{keys}\n");
        let profiles = Profiles::parse(&[("p.toml".to_owned(), text)]).unwrap();
        profiles.get("p").unwrap().clone()
    }

    fn cell(contributors: i64) -> Cell {
        Cell {
            contributors: Some(contributors),
            denominator: Some(1000.0),
            has_value: true,
        }
    }

    #[test]
    fn small_counts_are_hidden_and_others_free() {
        let person = profile("min_count = 5");
        for (count, decision) in [
            (-1, Decision::Suppressed(Reason::SmallCount)),
            (0, Decision::Free),
            (1, Decision::Suppressed(Reason::SmallCount)),
            (4, Decision::Suppressed(Reason::SmallCount)),
            (5, Decision::Free),
            (1000, Decision::Free),
        ] {
            assert_eq!(person.decide(&cell(count)), decision, "{count}");
        }
    }

    #[test]
    fn zero_is_hidden_only_where_the_profile_says_so() {
        let strict = profile("min_count = 5\nprotect_zero = true");
        assert_eq!(strict.decide(&cell(0)), Decision::Suppressed(Reason::Zero));
    }

    #[test]
    fn a_small_group_hides_its_parts() {
        let staff = profile("min_count = 10\nalso_denominator = true");
        let in_group = |denominator: f64| Cell {
            denominator: Some(denominator),
            ..cell(0)
        };
        assert_eq!(
            staff.decide(&in_group(9.0)),
            Decision::Suppressed(Reason::SmallGroup)
        );
        assert_eq!(staff.decide(&in_group(10.0)), Decision::Free);
        assert_eq!(staff.decide(&in_group(0.0)), Decision::Free);
        let person = profile("min_count = 5");
        assert_eq!(person.decide(&in_group(3.0)), Decision::Free);
    }

    #[test]
    fn what_is_not_about_persons_or_not_there_is_free() {
        let person = profile("min_count = 5");
        assert_eq!(
            person.decide(&Cell {
                contributors: None,
                ..cell(0)
            }),
            Decision::Free
        );
        assert_eq!(
            person.decide(&Cell {
                has_value: false,
                ..cell(1)
            }),
            Decision::Free
        );
        let money = profile("min_count = 0");
        for count in [0, 1, 4] {
            assert_eq!(money.decide(&cell(count)), Decision::Free);
        }
    }
}
