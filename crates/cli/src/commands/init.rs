//! `tietopohja init DIR`: a warehouse that everything else works in.

use std::path::{Path, PathBuf};

use clap::Args;
use tietopohja_ingest::KeyRing;

use crate::failure::{Failure, chain};
use crate::output::{print, say};
use crate::warehouse::KEY;
use crate::{settings, shipped};

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to make; it may exist, and files in it are kept
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Say what would be made and make nothing
    #[arg(long)]
    dry_run: bool,
}

impl Init {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if self.dry_run {
            let missing = shipped::FILES
                .iter()
                .filter(|(name, _)| !self.folder.join(name).exists())
                .count();
            return print(&format!(
                "would make `{}` with {missing} files, settings, a pseudonym key and an empty lake",
                self.folder.display()
            ));
        }
        let made = make(&self.folder)?;
        print(&format!(
            "warehouse `{}`: {made} files written, {} kept\nnext: tietopohja -C {} status",
            self.folder.display(),
            shipped::FILES.len() + 2 - made,
            self.folder.display()
        ))
    }
}

/// Makes what is missing in a warehouse folder; gives the number of files written. Files that are
/// there are never changed: definitions and SQL belong to the analysts of the warehouse.
pub(crate) fn make(folder: &Path) -> Result<usize, Failure> {
    let problem = |path: &Path, error: std::io::Error| {
        Failure::expected(format!("cannot write `{}`: {error}", path.display()))
    };
    let mut written = 0;
    let mut put = |path: &Path, bytes: &[u8]| -> Result<(), Failure> {
        if path.exists() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| problem(parent, error))?;
        }
        std::fs::write(path, bytes).map_err(|error| problem(path, error))?;
        written += 1;
        Ok(())
    };
    for (name, bytes) in shipped::FILES {
        put(&folder.join(name), bytes)?;
    }
    put(&folder.join(settings::FILE), settings::TEMPLATE.as_bytes())?;
    std::fs::create_dir_all(folder.join("lake")).map_err(|error| problem(folder, error))?;
    let key = folder.join(KEY);
    if !key.exists() {
        if let Some(parent) = key.parent() {
            std::fs::create_dir_all(parent).map_err(|error| problem(parent, error))?;
        }
        KeyRing::create(&key).map_err(|error| Failure::expected(chain(&error)))?;
        say(
            "a new pseudonym key was made: keep a copy of keys/pseudonym.key in a safe place, without it new deliveries cannot be joined to old ones",
        );
        written += 1;
    }
    Ok(written)
}
