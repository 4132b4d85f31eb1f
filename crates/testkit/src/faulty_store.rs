//! An object store that fails at a chosen write, before or after the write took effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// How the chosen write fails, and what becomes of those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was written, and nothing will be.
    Before,
    /// It was written, and the answer was lost. Nothing more will be written.
    After,
    /// It was written, and the answer was lost. Later writes work.
    Once,
}

/// Passes everything on to a store, but the chosen write fails.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    fails_at: usize,
    fault: Fault,
    writes: AtomicUsize,
}

impl FaultyStore {
    /// Fails at write number `fails_at` (from 0).
    pub fn new(inner: Arc<dyn ObjectStore>, fails_at: usize, fault: Fault) -> Self {
        Self {
            inner,
            fails_at,
            fault,
            writes: AtomicUsize::new(0),
        }
    }

    /// The number of writes asked for so far.
    pub fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    fn lost(&self) -> object_store::Error {
        object_store::Error::Generic {
            store: "faulty",
            source: "the connection was lost on purpose".into(),
        }
    }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let number = self.writes.fetch_add(1, Ordering::SeqCst);
        let never = match self.fault {
            Fault::Before => number >= self.fails_at,
            Fault::After => number > self.fails_at,
            Fault::Once => false,
        };
        if never {
            return Err(self.lost());
        }
        let done = self.inner.put_opts(location, payload, opts).await?;
        if number == self.fails_at {
            Err(self.lost())
        } else {
            Ok(done)
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
