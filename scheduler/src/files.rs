//! The bytes of files, in and out, a chunk at a time: nobody ever holds a whole file.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::Stream;
use sluice_domain::{FileId, StoredFile, TenantName};
use sluice_store::{NewFile, Store, StoreError, WrittenFile};
use tokio::time::timeout;

/// The size of a chunk. Of the order of what TCP carries in a round trip, and small beside what a statement costs.
const CHUNK_BYTES: usize = 1024 * 1024;
/// How long a statement about one chunk may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long files are kept that say nothing about it: as OpenAI keeps the files of batches.
pub(crate) const USUAL_LIFE: Duration = Duration::from_hours(30 * 24);

/// Writes a file. One that is dropped before its end is deleted.
pub(crate) struct FileWriter {
    store: Store,
    tenant: TenantName,
    id: FileId,
    buffer: BytesMut,
    bytes: u64,
    chunks: u32,
    is_finished: bool,
}

impl FileWriter {
    /// Begins a file.
    pub(crate) async fn begin(store: &Store, file: &NewFile) -> Result<Self, StoreError> {
        within(store.file_begin(file)).await?;
        Ok(Self {
            store: store.clone(),
            tenant: file.tenant.clone(),
            id: file.id,
            buffer: BytesMut::new(),
            bytes: 0,
            chunks: 0,
            is_finished: false,
        })
    }

    /// How much was written.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.bytes += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= CHUNK_BYTES {
            let chunk = self.buffer.split_to(CHUNK_BYTES);
            self.write_chunk(&chunk).await?;
        }
        Ok(())
    }

    /// Writes what is left. The file is still to be shown.
    pub(crate) async fn finish(mut self) -> Result<WrittenFile, StoreError> {
        let rest = self.buffer.split();
        if !rest.is_empty() {
            self.write_chunk(&rest).await?;
        }
        self.is_finished = true;
        Ok(WrittenFile { id: self.id, bytes: self.bytes, chunks: self.chunks })
    }

    async fn write_chunk(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        within(self.store.file_chunk_write(self.id, self.chunks, chunk)).await?;
        self.chunks += 1;
        Ok(())
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        // Outside of a runtime the process ends; then it is swept after a day.
        if !self.is_finished
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (store, tenant, id) = (self.store.clone(), self.tenant.clone(), self.id);
            runtime.spawn(async move {
                if let Err(error) = within(store.file_delete(&tenant, id)).await {
                    tracing::debug!(error = %error, "an unfinished file is left to be swept");
                }
            });
        }
    }
}

/// The bytes of a file.
pub(crate) fn content(
    store: Store,
    file: &StoredFile,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + use<> {
    let (id, chunks) = (file.id, file.chunks);
    futures::stream::unfold((store, 0), move |(store, number)| async move {
        if number >= chunks {
            return None;
        }
        let chunk = match within(store.file_chunk(id, number)).await {
            Ok(Some(chunk)) => Ok(Bytes::from(chunk)),
            Ok(None) => Err(StoreError::UnknownValue(format!("{id} was deleted while it was read"))),
            Err(error) => Err(error),
        };
        let next = if chunk.is_ok() { number + 1 } else { chunks };
        Some((chunk, (store, next)))
    })
}

async fn within<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    timeout(PATIENCE, question).await.unwrap_or_else(|_| Err(StoreError::timed_out()))
}
