//! An object store that holds a chosen write or read back until it is told to go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::Semaphore;

/// Passes everything on to a store, but the first write to a place, or read from it, waits.
#[derive(Debug)]
pub struct PausingStore {
    inner: Arc<dyn ObjectStore>,
    place: String,
    reads: bool,
    paused: AtomicBool,
    reached: Semaphore,
    released: Semaphore,
}

impl PausingStore {
    /// Holds back the first write to an object whose path ends with `place`.
    pub fn new(inner: Arc<dyn ObjectStore>, place: impl Into<String>) -> Self {
        Self {
            inner,
            place: place.into(),
            reads: false,
            paused: AtomicBool::new(false),
            reached: Semaphore::new(0),
            released: Semaphore::new(0),
        }
    }

    /// Holds back the first read of an object whose path contains `place`.
    pub fn reading(inner: Arc<dyn ObjectStore>, place: impl Into<String>) -> Self {
        Self {
            reads: true,
            ..Self::new(inner, place)
        }
    }

    async fn pause(&self) {
        if !self.paused.swap(true, Ordering::SeqCst) {
            self.reached.add_permits(1);
            let _ = self.released.acquire().await;
        }
    }

    /// Waits until the write or read is asked for.
    pub async fn reached(&self) {
        // A semaphore that is never closed gives a permit.
        let _ = self.reached.acquire().await;
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.released.add_permits(1);
    }
}

impl std::fmt::Display for PausingStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pausing({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for PausingStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if !self.reads && location.as_ref().ends_with(&self.place) {
            self.pause().await;
        }
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.reads && location.as_ref().contains(&self.place) {
            self.pause().await;
        }
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
