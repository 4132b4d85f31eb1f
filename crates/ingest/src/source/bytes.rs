//! The bytes of a source file: hashed, recognised by their first bytes, unpacked within bounds.
//!
//! Nothing here knows rows. To add a packing: its magic bytes in [`Packing`], its decoder in
//! [`ByteStream::open`].

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tietopohja_domain::ContentHash;

use crate::error::{FaultAt, SourceFault};
use crate::limits::LandLimits;

/// Bytes asked from the operating system at a time.
const READ_BYTES: usize = 256 << 10;

/// How a file is packed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    pub(crate) fn of(first: &[u8]) -> Packing {
        match first {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            // A zstd file may begin with a skippable frame.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Packing::Zstd,
            _ => Packing::Plain,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Packing::Plain => "plain",
            Packing::Gzip => "gzip",
            Packing::Zstd => "zstd",
        }
    }
}

/// What a file was like before it was hashed and read, so that a change meanwhile is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileMark {
    pub(crate) bytes: u64,
    modified: Option<std::time::SystemTime>,
}

impl FileMark {
    /// What a file is like now.
    pub(crate) fn of_path(path: &Path) -> Result<FileMark, FaultAt> {
        open(path).and_then(|file| FileMark::of(&file).map_err(|error| read_fault(&error)))
    }

    fn of(file: &File) -> io::Result<FileMark> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(FileMark {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }

    /// Refuses a file that is not as it was.
    pub(crate) fn check(&self, path: &Path) -> Result<(), FaultAt> {
        if FileMark::of_path(path)? == *self {
            Ok(())
        } else {
            Err(SourceFault::Changed.into())
        }
    }
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> Result<File, FaultAt> {
    File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SourceFault::NotFound.into(),
        _ => read_fault(&error),
    })
}

/// SHA-256 of the file's bytes as they are on disk.
pub(crate) fn hash_file(path: &Path) -> Result<ContentHash, FaultAt> {
    let mut file = open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0u8; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => digest.update(buffer.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_fault(&error)),
        }
    }
    Ok(ContentHash::new(digest.finalize().into()))
}

pub(crate) fn read_fault(error: &io::Error) -> FaultAt {
    SourceFault::Unreadable(error.kind().to_string()).into()
}

/// Unpacked bytes of a source, one after another.
pub(crate) struct ByteStream {
    inner: Box<dyn Read + Send>,
    packing: Packing,
    /// Packed bytes read so far.
    read: Arc<AtomicU64>,
    unpacked: u64,
    max_unpacked: u64,
    max_ratio: u64,
    grace: u64,
}

impl ByteStream {
    /// Starts reading `source`, whose first bytes are `first`. `read` counts packed bytes.
    pub(crate) fn open(
        source: Box<dyn Read + Send>,
        first: &[u8],
        read: Arc<AtomicU64>,
        limits: &LandLimits,
    ) -> Result<ByteStream, FaultAt> {
        let packing = Packing::of(first);
        let counted = Counted {
            inner: source,
            read: Arc::clone(&read),
        };
        let inner: Box<dyn Read + Send> = match packing {
            Packing::Plain => Box::new(counted),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(
                BufReader::with_capacity(READ_BYTES, counted),
            )),
            Packing::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(
                    READ_BYTES, counted,
                ));
                Box::new(decoder.map_err(|error| read_fault(&error))?)
            }
        };
        Ok(ByteStream {
            inner,
            packing,
            read,
            unpacked: 0,
            max_unpacked: limits.max_unpacked_bytes,
            max_ratio: limits.max_unpack_ratio,
            grace: limits.unpacked_grace_bytes,
        })
    }

    /// Puts bytes that were read to recognise the form back in front.
    pub(crate) fn with_front(self, front: Vec<u8>) -> ByteStream {
        let ByteStream {
            inner,
            packing,
            read,
            unpacked,
            max_unpacked,
            max_ratio,
            grace,
        } = self;
        let unpacked = unpacked.saturating_sub(front.len() as u64);
        let inner = Box::new(io::Cursor::new(front).chain(inner));
        ByteStream {
            inner,
            packing,
            read,
            unpacked,
            max_unpacked,
            max_ratio,
            grace,
        }
    }

    /// Appends bytes to `buffer` until it holds `until` of them or the source ends; false at the end.
    pub(crate) fn fill(&mut self, buffer: &mut Vec<u8>, until: usize) -> Result<bool, FaultAt> {
        while buffer.len() < until {
            let start = buffer.len();
            let piece = (until - start).min(READ_BYTES);
            buffer.resize(start + piece, 0);
            let outcome = self.inner.read(buffer.get_mut(start..).unwrap_or_default());
            let got = match &outcome {
                Ok(got) => *got,
                Err(_) => 0,
            };
            buffer.truncate(start + got);
            match outcome {
                Ok(0) => return Ok(false),
                Ok(_) => self.check_bounds(got as u64)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fault(&error)),
            }
        }
        Ok(true)
    }

    fn check_bounds(&mut self, got: u64) -> Result<(), FaultAt> {
        self.unpacked += got;
        if self.packing == Packing::Plain {
            return Ok(());
        }
        if self.unpacked > self.max_unpacked {
            return Err(SourceFault::UnpackTotal {
                limit: self.max_unpacked,
            }
            .into());
        }
        let packed = self.read.load(Ordering::Relaxed).max(1);
        if self.unpacked > self.grace && self.unpacked / packed >= self.max_ratio {
            return Err(SourceFault::UnpackRatio {
                limit: self.max_ratio,
            }
            .into());
        }
        Ok(())
    }

    fn fault(&self, error: &io::Error) -> FaultAt {
        match (self.packing, error.kind()) {
            (Packing::Plain, _) => read_fault(error),
            (packing, io::ErrorKind::UnexpectedEof) => {
                SourceFault::PackedTruncated(packing.name()).into()
            }
            (
                packing,
                io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::Other,
            ) => SourceFault::PackedDamaged(packing.name()).into(),
            _ => read_fault(error),
        }
    }
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.read.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    fn unpack(bytes: &[u8], limits: &LandLimits) -> Result<Vec<u8>, SourceFault> {
        let source = Box::new(io::Cursor::new(bytes.to_vec()));
        let mut stream =
            ByteStream::open(source, bytes, Arc::default(), limits).map_err(|at| at.fault)?;
        let mut all = Vec::new();
        while stream.fill(&mut all, usize::MAX).map_err(|at| at.fault)? {}
        Ok(all)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn text() -> Vec<u8> {
        let mut state = 1u32;
        let mut bytes = Vec::new();
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            bytes.extend_from_slice(format!("{};{}\n", state >> 8, state >> 20).as_bytes());
        }
        bytes
    }

    #[test]
    fn plain_gzip_and_zstd_give_the_same_bytes() {
        let limits = LandLimits::default();
        let text = text();
        let members = [gzip(&text[..1000]), gzip(&text[1000..])].concat();
        for packed in [
            text.clone(),
            gzip(&text),
            members,
            zstd::encode_all(&text[..], 3).unwrap(),
        ] {
            assert!(unpack(&packed, &limits).unwrap() == text);
        }
    }

    #[test]
    fn a_cut_or_changed_packed_file_is_named_at_every_place() {
        let limits = LandLimits::default();
        let text = text();
        let mut checked = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        checked.include_checksum(true).unwrap();
        checked.write_all(&text).unwrap();
        for (packed, name) in [(gzip(&text), "gzip"), (checked.finish().unwrap(), "zstd")] {
            for cut in [12, packed.len() / 3, packed.len() - 9, packed.len() - 1] {
                assert_eq!(
                    unpack(&packed[..cut], &limits)
                        .map(|text| text.len())
                        .unwrap_err(),
                    SourceFault::PackedTruncated(name),
                    "{name} {cut}"
                );
            }
            let mut changed = packed.clone();
            let middle = changed.len() / 2;
            for byte in &mut changed[middle..middle + 64] {
                *byte = !*byte;
            }
            // A changed byte may end the data early or spoil it; both are named.
            let fault = unpack(&changed, &limits)
                .map(|text| text.len())
                .unwrap_err();
            assert!(
                matches!(fault, SourceFault::PackedDamaged(n) | SourceFault::PackedTruncated(n) if n == name),
                "{fault:?}"
            );
        }
    }

    #[test]
    fn a_bomb_is_stopped_by_ratio_and_by_total() {
        let limits = LandLimits {
            unpacked_grace_bytes: 1 << 20,
            max_unpacked_bytes: 3 << 20,
            ..LandLimits::default()
        };
        let zeros = vec![b'0'; 8 << 20];
        for packed in [gzip(&zeros), zstd::encode_all(&zeros[..], 3).unwrap()] {
            assert_eq!(
                unpack(&packed, &limits).map(|text| text.len()).unwrap_err(),
                SourceFault::UnpackRatio { limit: 200 }
            );
            let generous = LandLimits {
                max_unpack_ratio: u64::MAX,
                ..limits.clone()
            };
            assert_eq!(
                unpack(&packed, &generous)
                    .map(|text| text.len())
                    .unwrap_err(),
                SourceFault::UnpackTotal { limit: 3 << 20 }
            );
        }
    }
}
