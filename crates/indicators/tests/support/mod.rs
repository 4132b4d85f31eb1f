//! The warehouse that test definitions refer to, and the comparison with golden files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tietopohja_domain::Problem;
use tietopohja_indicators::{Catalogue, CatalogueInput, TableColumns};

pub(crate) fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn repository() -> PathBuf {
    crate_dir().join("../..")
}

#[derive(Default)]
pub(crate) struct Warehouse {
    tables: BTreeMap<String, Vec<(String, String)>>,
    code_lists: Vec<String>,
    contracts: Vec<String>,
    profiles: Vec<String>,
}

impl TableColumns for Warehouse {
    fn columns(&self, table: &str) -> Option<Vec<(String, String)>> {
        self.tables.get(table).cloned()
    }

    fn tables(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }
}

impl Warehouse {
    pub(crate) fn read() -> Warehouse {
        let mut warehouse = Warehouse::default();
        for line in fs::read_to_string(crate_dir().join("testdata/warehouse.txt"))
            .unwrap()
            .lines()
        {
            let Some((what, rest)) = line.split_once(' ') else {
                continue;
            };
            match what {
                "table" => {
                    let (name, columns) = rest.split_once(": ").unwrap();
                    let columns = columns
                        .split(", ")
                        .map(|c| {
                            c.split_once(' ')
                                .map(|(n, t)| (n.to_owned(), t.to_owned()))
                                .unwrap()
                        })
                        .collect();
                    warehouse.tables.insert(name.to_owned(), columns);
                }
                "code_list" => warehouse.code_lists.push(rest.to_owned()),
                "contract" => warehouse.contracts.push(rest.to_owned()),
                "profile" => warehouse.profiles.push(rest.to_owned()),
                _ => {}
            }
        }
        warehouse
    }

    pub(crate) fn load(
        &self,
        definitions: &[(String, String)],
        limits: &[(String, String)],
    ) -> Result<Catalogue, Vec<Problem>> {
        Catalogue::load(&CatalogueInput {
            definitions,
            limits,
            code_lists: &self.code_lists,
            contracts: &self.contracts,
            disclosure_profiles: &self.profiles,
            tables: self,
        })
    }
}

/// The TOML files of a folder: name, text.
pub(crate) fn toml_files(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no definitions in {}", folder.display());
    files
}

/// Compares a text with a golden file; `BLESS=1` writes it instead. Read the diff of a blessing.
pub(crate) fn check_golden(path: &Path, actual: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    let name = path.strip_prefix(crate_dir()).unwrap_or(path).display();
    if let Some((line, (was, is))) = expected
        .lines()
        .zip(actual.lines())
        .enumerate()
        .find(|(_, (was, is))| was != is)
    {
        panic!(
            "{name}:{}: expected\n  {was}\nfound\n  {is}\nrun with BLESS=1 and read the diff",
            line + 1
        );
    }
    assert!(
        expected == actual,
        "{name} has other lines at its end; run with BLESS=1 and read the diff"
    );
}
