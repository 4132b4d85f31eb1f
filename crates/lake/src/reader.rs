//! How the engine's Parquet source reads files of the lake: as the library does, and what goes wrong names
//! the file. What may not live here: which files are read (`scan.rs`).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::DefaultParquetFileReaderFactory;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use crate::LakeError;

/// Readers whose errors name their file.
#[derive(Debug)]
pub(crate) struct NamingReaders {
    readers: DefaultParquetFileReaderFactory,
    store: Arc<dyn ObjectStore>,
}

impl NamingReaders {
    pub(crate) fn of(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            readers: DefaultParquetFileReaderFactory::new(Arc::clone(&store)),
            store,
        }
    }
}

impl ParquetFileReaderFactory for NamingReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.clone();
        let reader = self
            .readers
            .create_reader(partition, file, metadata_size_hint, metrics)?;
        Ok(Box::new(NamingReader {
            reader,
            store: Arc::clone(&self.store),
            path,
        }))
    }
}

struct NamingReader {
    reader: Box<dyn AsyncFileReader + Send>,
    store: Arc<dyn ObjectStore>,
    path: Path,
}

/// The same result, whose error names the file.
fn named<T>(path: &Path, read: parquet::errors::Result<T>) -> parquet::errors::Result<T> {
    read.map_err(|error| ParquetError::External(Box::new(LakeError::data_file(path, error))))
}

impl AsyncFileReader for NamingReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let Self { reader, path, .. } = self;
        async move { named(path, reader.get_bytes(range).await) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        let Self { reader, path, .. } = self;
        async move { named(path, reader.get_byte_ranges(ranges).await) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let Self {
            reader,
            store,
            path,
        } = self;
        async move {
            let read = match reader.get_metadata(options).await {
                // The library tells as text what storage said, so storage is asked again.
                Err(error) => match store.head(path).await {
                    Ok(_) => Err(error),
                    Err(error) => Err(ParquetError::External(Box::new(error))),
                },
                read => read,
            };
            named(path, read)
        }
        .boxed()
    }
}
