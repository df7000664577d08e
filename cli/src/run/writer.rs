//! Writes results to OUT on a thread of its own: each batch reaches the system at once, the disk every second.

use std::{
    fs::File,
    io::{self, Write},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Batches that may wait; further ones hold up the collector, and the database keeps the results meanwhile.
const QUEUED_BATCHES: usize = 64;

/// Takes batches of whole lines.
pub struct ResultWriter {
    batches: mpsc::Sender<Vec<u8>>,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl ResultWriter {
    /// Starts the thread; it appends to `file` where that stands.
    pub fn start(file: File) -> io::Result<Self> {
        let (batches, received) = mpsc::channel(QUEUED_BATCHES);
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name("results".to_owned()).spawn(move || {
            // Nobody listens any more when the run was given up.
            let _ = end.send(write_all(file, received));
        })?;
        Ok(Self { batches, ended })
    }

    /// Hands over lines. An empty batch asks for what was written to be brought to the disk. `false` when the writer
    /// has failed: [`Self::finish`] says why.
    pub async fn write(&self, lines: Vec<u8>) -> bool {
        self.batches.send(lines).await.is_ok()
    }

    /// Waits until all is on the disk.
    pub async fn finish(self) -> io::Result<()> {
        drop(self.batches);
        self.ended.await.unwrap_or_else(|_| Err(io::Error::other("the writing thread ended early")))
    }
}

fn write_all(mut file: File, mut batches: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    let mut synced_at = Instant::now();
    let mut is_dirty = false;
    while let Some(lines) = batches.blocking_recv() {
        file.write_all(&lines)?;
        is_dirty |= !lines.is_empty();
        if is_dirty && synced_at.elapsed() >= SYNC_EVERY {
            sync(&file)?;
            (synced_at, is_dirty) = (Instant::now(), false);
        }
    }
    sync(&file)
}

/// Pipes and terminals can't be synced, and need not.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        result => result,
    }
}
