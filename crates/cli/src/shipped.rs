//! The files that every warehouse begins with, embedded in the binary.

/// Name (with `/`) and content of each file below `definitions`, `sql` and `reference`.
pub(crate) static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/shipped.in"));

/// The text of a shipped file.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    let (_, bytes) = FILES.iter().find(|(found, _)| *found == name)?;
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_embedded_is_what_lies_in_the_folders() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (name, bytes) in FILES {
            let file = std::fs::read(root.join(name)).unwrap_or_default();
            assert!(file == *bytes, "{name} is embedded as it was before");
        }
        for folder in ["definitions", "sql", "reference"] {
            let mut waiting = vec![root.join(folder)];
            while let Some(place) = waiting.pop() {
                for entry in std::fs::read_dir(place).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        waiting.push(path);
                        continue;
                    }
                    let name = path.strip_prefix(&root).unwrap().display().to_string();
                    let is_embedded = FILES.iter().any(|(embedded, _)| *embedded == name);
                    assert!(is_embedded, "{name} is not embedded");
                }
            }
        }
    }
}
