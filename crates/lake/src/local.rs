//! This machine's file system as a store: what the system has in memory is read where it is wanted.
//!
//! The store of the library hands every opening and every read to another thread and waits for it. A lake
//! has hundreds of small files, most of which were read or written a moment ago: to copy one takes
//! microseconds, and two threads that wait for each other take many times that. Where the system can say
//! that neither opening nor reading will wait for a disk (Linux: `RESOLVE_CACHED`, `RWF_NOWAIT`), both are
//! done at once. Whatever would wait, is large, or is asked for under conditions is left to the library, and
//! so is every change. What may not live here: what files mean.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path as FilePath;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};

/// What is larger is not copied by who may not wait.
const AT_ONCE: u64 = 1 << 20;

/// Asks for a file as such, to read parts of it later: an extension of [`GetOptions`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsFile;

/// The file system, from its root.
#[derive(Debug, Default)]
pub(crate) struct LocalStore(LocalFileSystem);

impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl LocalStore {
    /// A file that is opened without waiting; `None` where that is not known to be possible.
    fn opened(&self, location: &Path) -> Result<Option<Opened>> {
        let path = self.0.path_to_filesystem(location)?;
        let file = match opened_at_once(&path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(error) => {
                return Err(Error::NotFound {
                    path: path.display().to_string(),
                    source: Box::new(error),
                });
            }
        };
        // What is no file after all is the library's to tell of.
        let Ok(metadata) = file.metadata() else {
            return Ok(None);
        };
        let (true, Ok(modified)) = (metadata.is_file(), metadata.modified()) else {
            return Ok(None);
        };
        let meta = ObjectMeta {
            location: location.clone(),
            last_modified: modified.into(),
            size: metadata.len(),
            e_tag: None,
            version: None,
        };
        Ok(Some(Opened { file, meta }))
    }
}

struct Opened {
    file: File,
    meta: ObjectMeta,
}

impl Opened {
    /// What a range asks of it; `None` where it asks for more than there is.
    fn within(&self, range: Option<&GetRange>) -> Option<Range<u64>> {
        let size = self.meta.size;
        let found = match range {
            None => return Some(0..size),
            Some(GetRange::Bounded(range)) => range.start..range.end.min(size),
            Some(GetRange::Offset(from)) => *from..size,
            Some(GetRange::Suffix(bytes)) => size.saturating_sub(*bytes)..size,
        };
        (found.start < found.end).then_some(found)
    }

    fn bytes(&self, range: &Range<u64>) -> Option<Bytes> {
        let length = range.end.checked_sub(range.start)?;
        let length = usize::try_from(length).ok().filter(|_| length <= AT_ONCE)?;
        let mut bytes = vec![0; length];
        read_at_once(&self.file, &mut bytes, range.start).ok()?;
        Some(bytes.into())
    }
}

/// Whether nothing is asked but an object or a part of it.
fn are_plain(options: &GetOptions) -> bool {
    let GetOptions {
        if_match,
        if_none_match,
        if_modified_since,
        if_unmodified_since,
        range: _,
        version,
        head: _,
        extensions: _,
    } = options;
    let matches = if_match.is_none() && if_none_match.is_none();
    matches && if_modified_since.is_none() && if_unmodified_since.is_none() && version.is_none()
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let opened = match are_plain(&options) {
            true => self.opened(location)?,
            false => None,
        };
        let found = opened.and_then(|opened| {
            let range = opened.within(options.range.as_ref())?;
            Some((opened, range))
        });
        let Some((opened, range)) = found else {
            return self.0.get_opts(location, options).await;
        };
        let is_file = options.head || options.extensions.get::<AsFile>().is_some();
        let bytes = match is_file {
            true => None,
            false => opened.bytes(&range),
        };
        let Opened { file, meta } = opened;
        let payload = match bytes {
            Some(bytes) => GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed()),
            None => GetResultPayload::File(file, self.0.path_to_filesystem(location)?),
        };
        Ok(GetResult {
            payload,
            meta,
            range,
            attributes: Attributes::default(),
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let lengths = ranges
            .iter()
            .map(|range| range.end.saturating_sub(range.start));
        let opened = match lengths.fold(0, u64::saturating_add) <= AT_ONCE {
            true => self.opened(location)?,
            false => None,
        };
        let found = opened.and_then(|opened| {
            let is_there = |range: &&Range<u64>| range.end <= opened.meta.size;
            let bytes = ranges.iter().map(|range| {
                let range = Some(range).filter(is_there)?;
                opened.bytes(range)
            });
            bytes.collect::<Option<Vec<Bytes>>>()
        });
        match found {
            Some(found) => Ok(found),
            None => self.0.get_ranges(location, ranges).await,
        }
    }

    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.0.rename_opts(from, to, options).await
    }
}

/// A file whose folders the system has in memory; `None` where it would have to look for them.
///
/// # Errors
/// When there is no such file.
#[cfg(target_os = "linux")]
fn opened_at_once(path: &FilePath) -> io::Result<Option<File>> {
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
    use rustix::io::Errno;

    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Err(Errno::NOENT.into()),
        Err(_) => Ok(None),
    }
}

/// Reads a part of a file that the system has in memory, which takes no longer than to copy it.
///
/// # Errors
/// When it would have to wait for a disk, or the file ends before.
#[cfg(target_os = "linux")]
pub(crate) fn read_at_once(file: &File, mut bytes: &mut [u8], mut from: u64) -> io::Result<()> {
    use rustix::io::{ReadWriteFlags, preadv2};
    use std::io::{ErrorKind, IoSliceMut};

    while !bytes.is_empty() {
        let parts = &mut [IoSliceMut::new(bytes)];
        match preadv2(file, parts, from, ReadWriteFlags::NOWAIT)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => {
                from += read as u64;
                bytes = bytes.get_mut(read..).unwrap_or_default();
            }
        }
    }
    Ok(())
}

/// Other systems do not tell what is in memory.
#[cfg(not(target_os = "linux"))]
fn opened_at_once(_path: &FilePath) -> io::Result<Option<File>> {
    Ok(None)
}

/// Other systems do not tell what is in memory.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read_at_once(_file: &File, _bytes: &mut [u8], _from: u64) -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStoreExt;

    use super::*;

    /// What a store answers, in words that do not depend on the store.
    async fn told(store: &dyn ObjectStore, place: &Path, options: GetOptions) -> String {
        let is_head = options.head;
        let found = match store.get_opts(place, options).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return "not found".to_owned(),
            Err(_) => return "refused".to_owned(),
        };
        let (meta, range) = (found.meta.clone(), found.range.clone());
        assert_eq!(meta.location, *place);
        let bytes = match is_head {
            true => Bytes::new(),
            false => found.bytes().await.unwrap(),
        };
        let modified = meta.last_modified;
        format!("{} {modified} {range:?} {bytes:?}", meta.size)
    }

    #[tokio::test]
    async fn it_answers_as_the_library_does() {
        let folder = tempfile::tempdir().unwrap();
        let library: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new());
        let own: Arc<dyn ObjectStore> = Arc::new(LocalStore::default());
        let root = Path::from_absolute_path(folder.path()).unwrap();
        let contents = [
            ("empty", 0),
            ("one", 1),
            ("small", 5_000),
            ("large", AT_ONCE as usize + 10),
        ];
        for (name, size) in contents {
            let bytes: Vec<u8> = (0..size).map(|place| (place % 251) as u8).collect();
            own.put(&root.clone().join(name), bytes.into())
                .await
                .unwrap();
        }
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let ranges = [
            None,
            Some(GetRange::Bounded(0..1)),
            Some(GetRange::Bounded(1..400)),
            Some(GetRange::Bounded(4_990..9_000)),
            Some(GetRange::Bounded(3..3)),
            Some(GetRange::Bounded(9_000_000..9_000_001)),
            Some(GetRange::Offset(0)),
            Some(GetRange::Offset(4_999)),
            Some(GetRange::Offset(u64::MAX)),
            Some(GetRange::Suffix(3)),
            Some(GetRange::Suffix(9_000_000)),
            Some(GetRange::Suffix(0)),
        ];
        let names = contents.map(|(name, _)| name).into_iter();
        for name in names.chain(["folder", "nothing", "folder/nothing", "one/nothing"]) {
            let place: Path = name
                .split('/')
                .fold(root.clone(), |all, part| all.join(part));
            for range in &ranges {
                for head in [false, true] {
                    let options = GetOptions {
                        range: range.clone(),
                        head,
                        ..GetOptions::default()
                    };
                    let wanted = told(&*library, &place, options.clone()).await;
                    let found = told(&*own, &place, options).await;
                    assert_eq!(found, wanted, "{name} {range:?} {head}");
                }
            }
            for ranges in [
                vec![],
                vec![0..1],
                vec![2..70, 0..5],
                vec![0..700_000, 1..600_000],
                vec![0..6_000_000],
            ] {
                let wanted = library.get_ranges(&place, &ranges).await.ok();
                let found = own.get_ranges(&place, &ranges).await.ok();
                assert_eq!(found, wanted, "{name} {ranges:?}");
            }
        }
    }

    #[tokio::test]
    async fn conditions_are_left_to_the_library() {
        let folder = tempfile::tempdir().unwrap();
        let own = LocalStore::default();
        let place = Path::from_absolute_path(folder.path()).unwrap().join("one");
        own.put(&place, PutPayload::from_static(b"1"))
            .await
            .unwrap();
        let options = GetOptions {
            if_match: Some("other".to_owned()),
            ..GetOptions::default()
        };
        let found = own.get_opts(&place, options).await;
        assert!(matches!(found, Err(Error::Precondition { .. })));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn what_was_written_is_read_at_once_and_given_as_a_file_where_that_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let own = LocalStore::default();
        let place = Path::from_absolute_path(folder.path()).unwrap().join("one");
        own.put(&place, PutPayload::from_static(b"1234"))
            .await
            .unwrap();
        let mut options = GetOptions::new().with_range(Some(1..3));
        let found = own.get_opts(&place, options.clone()).await.unwrap();
        assert!(matches!(found.payload, GetResultPayload::Stream(_)));
        assert_eq!(found.bytes().await.unwrap().as_ref(), b"23");
        options.extensions.insert(AsFile);
        let found = own.get_opts(&place, options).await.unwrap();
        assert!(matches!(found.payload, GetResultPayload::File(..)));
    }
}
