//! How far a query has come, as its scans tell.
//!
//! The scans are the leaves of a plan. What a scan has given of the rows that its files hold is known,
//! and so is how many pieces of files it is through with: whichever tells more counts, since a scan that
//! leaves rows out gives fewer than there are. A scan whose rows nobody can know before, such as a
//! series of numbers, counts once it has ended, and rows that lie in memory not at all. What happens above
//! the scans is not told: a long sort stands at its end. Who is told, and when, is not decided
//! here.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricValue;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};

/// How far the runs of one statement have come. Clones are the same.
#[derive(Clone, Default)]
pub struct QueryProgress {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Runs that have begun.
    begun: usize,
    /// The scans of the last of them.
    scans: Vec<Scan>,
    furthest: f64,
}

struct Scan {
    leaf: Arc<dyn ExecutionPlan>,
    /// Rows that it will give, as far as that is known.
    rows: Option<usize>,
    /// Pieces of files that it reads; none when it reads no files.
    pieces: Option<usize>,
    partitions: usize,
}

/// One scan at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Seen {
    rows_expected: Option<usize>,
    rows: usize,
    pieces_expected: Option<usize>,
    pieces: usize,
    partitions: usize,
    ended: usize,
}

impl fmt::Debug for QueryProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryProgress").finish_non_exhaustive()
    }
}

impl QueryProgress {
    /// From 0 to 1, never less than it was before: how far a statement of so many runs has come.
    pub fn share(&self, runs: usize) -> f64 {
        let mut inner = self.lock();
        let seen: Vec<Seen> = inner.scans.iter().filter_map(Scan::look).collect();
        let before = inner.begun.saturating_sub(1) as f64;
        let share = (before + together(&seen)) / runs.max(1) as f64;
        inner.furthest = share.clamp(inner.furthest, 1.0);
        inner.furthest
    }

    /// A run of the statement begins, with this plan.
    pub(crate) fn watch(&self, plan: &Arc<dyn ExecutionPlan>) {
        let mut scans = Vec::new();
        let walked = plan.apply(|node| {
            if node.children().is_empty() {
                scans.extend(Scan::of(node));
            }
            Ok(TreeNodeRecursion::Continue)
        });
        if walked.is_err() {
            scans.clear();
        }
        let mut inner = self.lock();
        inner.begun += 1;
        inner.scans = scans;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scan {
    /// None for rows that lie in memory.
    fn of(leaf: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let files = match leaf.downcast_ref::<DataSourceExec>() {
            None => None,
            Some(source) => Some(source.data_source().downcast_ref::<FileScanConfig>()?),
        };
        let pieces = files.map(|files| files.file_groups.iter().map(|group| group.len()).sum());
        let statistics = StatisticsContext::new().compute(leaf.as_ref(), &StatisticsArgs::new());
        Some(Self {
            leaf: Arc::clone(leaf),
            rows: statistics
                .ok()
                .and_then(|statistics| statistics.num_rows.get_value().copied()),
            pieces,
            partitions: leaf.properties().partitioning.partition_count(),
        })
    }

    /// None for what counts nothing, such as the one row of a `SELECT` without a table.
    fn look(&self) -> Option<Seen> {
        let metrics = self.leaf.metrics()?;
        let rows = metrics.output_rows();
        if rows.is_none() && self.pieces.is_none() {
            return None;
        }
        let pieces = metrics.sum_by_name("files_processed");
        let ended = metrics.iter().filter(|metric| match metric.value() {
            MetricValue::EndTimestamp(at) => at.value().is_some(),
            _ => false,
        });
        Some(Seen {
            rows_expected: self.rows,
            rows: rows.unwrap_or(0),
            pieces_expected: self.pieces,
            pieces: pieces.map_or(0, |pieces| pieces.as_usize()),
            partitions: self.partitions,
            ended: ended.count(),
        })
    }
}

impl Seen {
    fn share(&self) -> f64 {
        if self.ended >= self.partitions {
            return 1.0;
        }
        let of = |done: usize, all: Option<usize>| match all {
            None | Some(0) => None,
            Some(all) => Some((done as f64 / all as f64).min(1.0)),
        };
        let rows = of(self.rows, self.rows_expected);
        let pieces = of(self.pieces, self.pieces_expected);
        let known = rows.into_iter().chain(pieces).reduce(f64::max);
        known.unwrap_or(self.ended as f64 / self.partitions as f64)
    }
}

/// All scans together, each by its rows; one of which they are not known has as many as the others on
/// average.
fn together(scans: &[Seen]) -> f64 {
    let known: Vec<f64> = scans
        .iter()
        .filter_map(|scan| scan.rows_expected)
        .map(|rows| rows as f64)
        .collect();
    let average = match known.len() {
        0 => 1.0,
        count => (known.iter().sum::<f64>() / count as f64).max(1.0),
    };
    let weight = |scan: &Seen| scan.rows_expected.map_or(average, |rows| rows as f64);
    let all: f64 = scans.iter().map(weight).sum();
    if all <= 0.0 {
        return 0.0;
    }
    let done: f64 = scans.iter().map(|scan| weight(scan) * scan.share()).sum();
    (done / all).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scan of `expected` rows that has given `rows`.
    fn rows(rows: usize, expected: usize) -> Seen {
        Seen {
            rows_expected: Some(expected),
            rows,
            partitions: 2,
            ..Seen::default()
        }
    }

    #[test]
    fn a_scan_has_come_as_far_as_its_rows_or_its_pieces_of_files_tell() {
        let unknown = Seen {
            partitions: 4,
            ..Seen::default()
        };
        let cases = [
            (rows(0, 10), 0.0),
            (rows(4, 10), 0.4),
            // More rows than were expected are no more than all.
            (rows(40, 10), 1.0),
            // Three of four files hold few of the wanted rows.
            (
                Seen {
                    pieces_expected: Some(4),
                    pieces: 3,
                    ..rows(1, 10)
                },
                0.75,
            ),
            // It has ended, with fewer rows than expected.
            (
                Seen {
                    ended: 2,
                    ..rows(4, 10)
                },
                1.0,
            ),
            // One of two partitions has ended: the rows tell.
            (
                Seen {
                    ended: 1,
                    ..rows(4, 10)
                },
                0.4,
            ),
            (
                Seen {
                    rows: 1_000_000,
                    ..unknown
                },
                0.0,
            ),
            (
                Seen {
                    ended: 1,
                    ..unknown
                },
                0.25,
            ),
            (rows(0, 0), 0.0),
        ];
        for (scan, share) in cases {
            assert_eq!(scan.share(), share, "{scan:?}");
        }
    }

    #[test]
    fn scans_count_by_their_rows() {
        let unknown = |ended| Seen {
            partitions: 1,
            ended,
            ..Seen::default()
        };
        let cases = [
            (vec![], 0.0),
            (vec![rows(0, 0)], 0.0),
            (vec![rows(1, 2)], 0.5),
            (vec![rows(10, 10), rows(0, 90)], 0.1),
            (vec![unknown(1), unknown(0)], 0.5),
            (vec![rows(6, 6), rows(2, 2), unknown(0)], 8.0 / 12.0),
            (vec![rows(6, 6), rows(2, 2), unknown(1)], 1.0),
        ];
        for (scans, share) in cases {
            assert_eq!(together(&scans), share, "{scans:?}");
        }
    }

    #[test]
    fn nothing_is_told_before_a_run_begins_and_less_is_never_told() {
        let progress = QueryProgress::default();
        assert_eq!(progress.share(3), 0.0);
        // Runs without scans tell only that those before them are over.
        for (begun, share) in [(1, 0.0), (2, 1.0 / 3.0), (3, 2.0 / 3.0), (0, 2.0 / 3.0)] {
            progress.lock().begun = begun;
            assert_eq!(progress.share(3), share, "{begun}");
        }
    }
}
