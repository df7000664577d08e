//! The ledger's file: JSON lines, appended and fsynced in groups by a thread of its own.
//!
//! Theory: an fsync takes milliseconds, and calls come by the ten thousand a second. So callers hand over their line
//! and wait; the thread writes all lines that are there, syncs once, and wakes everybody. While it syncs, the next
//! group gathers. Ends are handed over too but nobody waits for them.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::JoinHandle,
};

use tokio::sync::oneshot;

use super::{CallArrival, CallEnd, CallRecord, LedgerLine};
use crate::error::SimulatorError;

/// Lines of one group at most, so that the first waiter is not kept for long.
const MAX_GROUP: usize = 4_096;

enum Order {
    Write { line: Vec<u8>, written: Option<oneshot::Sender<()>> },
}

/// An open ledger.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    orders: Option<mpsc::Sender<Order>>,
    writer: Option<JoinHandle<()>>,
}

impl LedgerFile {
    /// Opens or makes the file, cuts off a torn last line, and starts the writer. Gives also the number that the
    /// next call has.
    pub(crate) fn open(path: &Path) -> Result<(Self, u64), SimulatorError> {
        let failed = |source| SimulatorError::Ledger { path: path.to_owned(), source };
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(failed)?;
        cut_torn_line(&mut file).map_err(failed)?;
        let last_call = read_ledger(path)?.last().map_or(0, |record| record.arrival.call);
        let (orders, inbox) = mpsc::channel();
        let path = path.to_owned();
        let writer = std::thread::Builder::new()
            .name("sim-ledger".to_owned())
            .spawn(move || write_groups(&inbox, &mut file, &path))
            .map_err(|source| SimulatorError::Config(format!("start the ledger's thread: {source}")))?;
        Ok((Self { orders: Some(orders), writer: Some(writer) }, last_call + 1))
    }

    /// Writes the line of an arrival and comes back when it is on disk; `false` where it can't be.
    pub(crate) async fn arrive(&self, arrival: CallArrival) -> bool {
        let (written, done) = oneshot::channel();
        self.send(&LedgerLine::Arrived(arrival), Some(written)) && done.await.is_ok()
    }

    /// Has the line of an end written soon.
    pub(crate) fn end(&self, end: CallEnd) {
        self.send(&LedgerLine::Ended(end), None);
    }

    fn send(&self, line: &LedgerLine, written: Option<oneshot::Sender<()>>) -> bool {
        let Ok(mut line) = serde_json::to_vec(line) else { return false };
        line.push(b'\n');
        self.orders.as_ref().is_some_and(|orders| orders.send(Order::Write { line, written }).is_ok())
    }
}

impl Drop for LedgerFile {
    /// Waits until all that was handed over is on disk.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the simulator's ledger thread panicked");
        }
    }
}

/// Runs until every sender is gone, or the file can't be written: then waiters learn it by their dropped channel.
fn write_groups(inbox: &mpsc::Receiver<Order>, file: &mut File, path: &Path) {
    let mut buffer = Vec::new();
    let mut waiters = Vec::new();
    while let Ok(first) = inbox.recv() {
        for Order::Write { line, written } in std::iter::once(first).chain(inbox.try_iter()).take(MAX_GROUP) {
            buffer.extend_from_slice(&line);
            waiters.extend(written);
        }
        if let Err(error) = file.write_all(&buffer).and_then(|()| file.sync_data()) {
            tracing::error!(path = %path.display(), %error, "the simulator's ledger can not be written");
            return;
        }
        buffer.clear();
        for waiter in waiters.drain(..) {
            // Whoever went away has no need to know.
            let _ = waiter.send(());
        }
    }
}

/// Ends the file with its last whole line.
fn cut_torn_line(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut tail = Vec::new();
    // A torn line is shorter than this: lines hold no prompts.
    let start = length.saturating_sub(1024 * 1024);
    file.seek(io::SeekFrom::Start(start))?;
    file.read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(start, |at| start + at as u64 + 1);
    if whole < length {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Reads a ledger's file: every call in order of arrival, joined with how it ended. A torn last line is left out.
pub fn read_ledger(path: impl Into<PathBuf>) -> Result<Vec<CallRecord>, SimulatorError> {
    let path = path.into();
    let bytes =
        std::fs::read(&path).map_err(|source| SimulatorError::Ledger { path: path.clone(), source })?;
    let mut records = BTreeMap::new();
    let mut ends = Vec::new();
    // Each piece ends with a line break but the last, which is what was torn.
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
    while let Some((at, line)) = lines.next().filter(|(_, line)| line.ends_with(b"\n")) {
        let line = serde_json::from_slice(line).map_err(|source| SimulatorError::LedgerLine {
            path: path.clone(),
            line: at + 1,
            source,
        })?;
        match line {
            LedgerLine::Arrived(arrival) => {
                records.insert(arrival.call, CallRecord { arrival, end: None });
            }
            LedgerLine::Ended(end) => ends.push(end),
        }
    }
    for end in ends {
        if let Some(record) = records.get_mut(&end.call) {
            record.end = Some(end);
        }
    }
    Ok(records.into_values().collect())
}
