//! Records of statements as files: one line of JSON each, one file a month, in `audit/` of the
//! warehouse.
//!
//! A record says who asked what of which tables, when, and how it ended; the statement has `?` in place
//! of its values, and the hash of the whole text shows whether two were the same. Lines are only ever
//! appended. What a record holds is decided in the server.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tietopohja_domain::Timestamp;
use tietopohja_server::{Audit, StatementRecord};

use crate::failure::Failure;

/// Appends every record to a file of its month in `audit/` of the warehouse.
///
/// # Errors
/// The folder cannot be made.
pub(crate) fn to_folder(warehouse: &Path) -> Result<Audit, Failure> {
    let folder = warehouse.join("audit");
    std::fs::create_dir_all(&folder).map_err(|error| {
        Failure::expected(format!(
            "the folder `audit` cannot be made: {error}\n  help: make it writable, or set `audit = \
             false` under [serve]"
        ))
    })?;
    let open: Mutex<Option<(String, File)>> = Mutex::new(None);
    Ok(Arc::new(move |record: &StatementRecord| {
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = append(&folder, &mut open, record) {
            // The next record tries again with the file opened anew.
            *open = None;
            tracing::error!(%error, "a record could not be appended to the audit");
        }
    }))
}

fn append(
    folder: &Path,
    open: &mut Option<(String, File)>,
    record: &StatementRecord,
) -> std::io::Result<()> {
    let moment = record.ended_at.unwrap_or(record.asked_at).to_string();
    let month = moment.get(..7).unwrap_or("unknown").to_owned();
    if open.as_ref().is_none_or(|(of, _)| *of != month) {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(file_of(folder, &month))?;
        *open = Some((month, file));
    }
    let mut line = line(record).to_string();
    line.push('\n');
    match open {
        // One write, so that lines of two processes do not mix.
        Some((_, file)) => file.write_all(line.as_bytes()),
        None => Ok(()),
    }
}

fn file_of(folder: &Path, month: &str) -> PathBuf {
    folder.join(format!("statements-{month}.jsonl"))
}

fn line(record: &StatementRecord) -> serde_json::Value {
    let at = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());
    serde_json::json!({
        "asked_at": record.asked_at.to_string(),
        "started_at": at(record.started_at),
        "ended_at": at(record.ended_at),
        "principal": record.principal,
        "role": record.role,
        "session": record.session,
        "client": record.client,
        "trace_id": record.trace.map(|trace| trace.trace_id()),
        "state": record.state.as_str(),
        "code": record.code,
        "statement": record.statement,
        "statement_hash": record.statement_hash,
        "tables": record.tables,
        "release": record.release,
        "rows": record.rows,
        "bytes": record.bytes,
        "memory_peak_bytes": record.memory_peak_bytes,
    })
}

#[cfg(test)]
mod tests {
    use tietopohja_server::StatementState;

    use super::*;

    fn record(asked_at: &str) -> StatementRecord {
        StatementRecord {
            number: 1,
            principal: "aino".to_owned(),
            role: "analyst".to_owned(),
            session: None,
            client: Some("test".to_owned()),
            trace: None,
            asked_at: asked_at.parse().unwrap(),
            started_at: None,
            ended_at: None,
            state: StatementState::Failed,
            statement: Some("SELECT ?".to_owned()),
            statement_hash: "00".to_owned(),
            tables: vec!["published.indicator_value".to_owned()],
            release: None,
            rows: 0,
            bytes: 0,
            memory_peak_bytes: 0,
            code: Some("INTERNAL"),
        }
    }

    #[test]
    fn each_month_has_a_file_and_each_record_a_line() {
        let warehouse = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            // A server that starts again appends.
            let audit = to_folder(warehouse.path()).unwrap();
            for asked_at in [
                "2026-01-31T23:59:59Z",
                "2026-02-01T00:00:00Z",
                "2026-02-02T00:00:00Z",
            ] {
                audit(&record(asked_at));
            }
        }
        for (month, lines) in [("2026-01", 2), ("2026-02", 4)] {
            let path = file_of(&warehouse.path().join("audit"), month);
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(text.lines().count(), lines);
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["principal"], "aino");
                assert_eq!(line["code"], "INTERNAL");
            }
        }
    }
}
