//! Where extracts go: the folder, the names of files, the entries of the manifest, and which
//! defects a file takes.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tietopohja_domain::County;

use crate::days::{Day, Month, civil, day};
use crate::defects::{Defect, Surroundings};
use crate::draw::mix;
use crate::error::SynthError;
use crate::extract::{Dataset, Extract, Planted};
use crate::inputs::Reference;
use crate::manifest::FileEntry;
use crate::population::tag;
use crate::set_defects::SetDefect;

/// Called after each file; `Break` stops the generation.
pub(crate) type Progress<'a> = &'a (dyn Fn(&FileEntry) -> ControlFlow<()> + Sync);

/// The period of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Period {
    Month(Month),
    Year(i32),
}

impl Period {
    pub(crate) fn number(self) -> i32 {
        match self {
            Period::Month(month) => month.number(),
            Period::Year(year) => year * 100,
        }
    }

    /// True when the period has ended before the day, and so can be delivered.
    pub(crate) fn is_over(self, today: Day) -> bool {
        self.bounds().1 < today
    }

    fn bounds(self) -> (Day, Day) {
        match self {
            Period::Month(month) => (month.first, month.last),
            Period::Year(year) => (day(year, 1, 1), day(year, 12, 31)),
        }
    }
}

/// Collects the files of a generation. Shared by the threads.
pub(crate) struct Sink<'a> {
    pub(crate) out: &'a Path,
    pub(crate) seed: u64,
    pub(crate) defects: bool,
    pub(crate) today: Day,
    pub(crate) first_year: i32,
    pub(crate) progress: Progress<'a>,
    pub(crate) entries: Mutex<Vec<FileEntry>>,
    pub(crate) folders: Mutex<BTreeSet<PathBuf>>,
}

impl Sink<'_> {
    /// True when the period is over and so can be delivered.
    pub(crate) fn is_over(&self, period: Period) -> bool {
        period.is_over(self.today)
    }

    /// Starts a file of a county.
    pub(crate) fn extract(
        &self,
        reference: &Reference,
        dataset: &'static Dataset,
        county: County,
        period: Period,
    ) -> Result<Extract, SynthError> {
        let (first, last) = period.bounds();
        let (year, _, _) = civil(first);
        let ended_municipality = reference.ended_municipality(year);
        let surroundings = Surroundings {
            first,
            last,
            today: self.today,
            ended_municipality,
        };
        let key = mix(
            self.seed,
            &[
                tag::DEFECT,
                county.number() as u64,
                period.number() as u64,
                name_hash(dataset.name),
            ],
        );
        let planted = if self.defects {
            Planted {
                of_rows: self.choose(dataset, county, period),
                gap: 3 + key % 17,
                of_set: self.choose_of_set(dataset, county, period),
            }
        } else {
            Planted::default()
        };
        let entry = self.entry(dataset.name, county, period);
        let path = self.path(&entry.path)?;
        Extract::create(path, dataset, entry, surroundings, planted)
    }

    /// The defects of a file: consecutive files of a dataset take the next ones of its list, and
    /// counties begin at different places.
    fn choose(
        &self,
        dataset: &'static Dataset,
        county: County,
        period: Period,
    ) -> Vec<&'static Defect> {
        let count = dataset.defects_per_file.min(dataset.defects.len());
        if count == 0 {
            return Vec::new();
        }
        let start = county.number() as usize * 5 + self.turn(period) * count;
        (start..start + count)
            .map(|n| &dataset.defects[n % dataset.defects.len()])
            .collect()
    }

    /// The defects of the rows as a set that a file takes.
    fn choose_of_set(
        &self,
        dataset: &'static Dataset,
        county: County,
        period: Period,
    ) -> Vec<&'static SetDefect> {
        let turn = county.number() as usize + self.turn(period);
        dataset
            .set_defects
            .iter()
            .filter(|defect| turn.is_multiple_of(defect.every))
            .collect()
    }

    /// The place of a file among those of its dataset and county.
    fn turn(&self, period: Period) -> usize {
        let turn = match period {
            Period::Month(month) => month.index() - self.first_year * 12,
            Period::Year(year) => year - self.first_year,
        };
        usize::try_from(turn).unwrap_or_default()
    }

    /// An entry with the path that the file's name asks for.
    pub(crate) fn entry(&self, dataset: &str, county: County, period: Period) -> FileEntry {
        let code = county.code();
        FileEntry {
            path: format!("{code}/{dataset}_{code}_{}.csv", period.number()),
            dataset: dataset.to_owned(),
            county: code,
            period: period.number(),
            ..FileEntry::default()
        }
    }

    /// The full path of an entry, its folder made.
    pub(crate) fn path(&self, relative: &str) -> Result<PathBuf, SynthError> {
        let path = self.out.join(relative);
        if let Some(folder) = path.parent() {
            let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
            if !folders.contains(folder) {
                fs::create_dir_all(folder).map_err(|source| SynthError::Write {
                    path: folder.to_owned(),
                    source,
                })?;
                folders.insert(folder.to_owned());
            }
        }
        Ok(path)
    }

    /// Closes a file and tells of it.
    pub(crate) fn finish(&self, extract: Extract) -> Result<(), SynthError> {
        self.finished(extract.finish()?)
    }

    /// Notes a file that is complete.
    pub(crate) fn finished(&self, entry: FileEntry) -> Result<(), SynthError> {
        let go_on = (self.progress)(&entry);
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(entry);
        match go_on {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SynthError::Stopped),
        }
    }
}

fn name_hash(name: &str) -> u64 {
    name.bytes()
        .fold(0, |hash, byte| mix(hash, &[u64::from(byte)]))
}
