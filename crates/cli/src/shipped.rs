//! The files that every warehouse begins with, embedded in the binary.

/// Name (with `/`) and content of each file below `definitions`, `sql` and `reference`.
pub(crate) static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/shipped.in"));

/// The text of a shipped file.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    let (_, bytes) = FILES.iter().find(|(found, _)| *found == name)?;
    std::str::from_utf8(bytes).ok()
}
