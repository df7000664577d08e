//! Where log lines go: a bounded queue and a thread that writes them.
//!
//! A terminal that is stopped, a full disk or a pipe that nobody reads blocks that thread and no other. When the
//! queue is full, lines are dropped and counted, and the next line that gets through is followed by one that says how
//! many are missing.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait: about 2 MiB at the usual length.
const QUEUED_LINES: usize = 8192;

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// A writer for log lines that never blocks its caller.
#[derive(Clone)]
pub struct LogSink {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl LogSink {
    /// Starts the thread that writes to `target`. It ends when the last clone of the sink is gone.
    pub fn start(target: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUED_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        std::thread::Builder::new()
            .name("sluice-log".to_owned())
            .spawn(move || write_lines(&receiver, target, &count))?;
        Ok(Self { sender, dropped })
    }

    /// Lines dropped since the start.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was logged so far is written, at most `within`; says whether it was.
    pub fn flush(&self, within: Duration) -> bool {
        let (done, is_done) = sync_channel(1);
        // A full queue belongs to a sink that is blocked: waiting for room could last for ever.
        self.sender.try_send(Message::Flush(done)).is_ok() && is_done.recv_timeout(within).is_ok()
    }
}

fn write_lines(receiver: &Receiver<Message>, mut target: impl Write, dropped: &AtomicU64) {
    let mut reported = 0;
    for message in receiver {
        // A log that can't be written has nowhere to say so.
        match message {
            Message::Line(line) => {
                let _ = target.write_all(&line);
                let now_dropped = dropped.load(Ordering::Relaxed);
                if now_dropped > reported {
                    let _ = writeln!(target, "{}", missing_lines(&line, now_dropped - reported));
                    reported = now_dropped;
                }
            }
            Message::Flush(done) => {
                let _ = target.flush();
                let _ = done.try_send(());
            }
        }
    }
}

/// The note about dropped lines, in the form of the line before it.
fn missing_lines(line: &[u8], count: u64) -> String {
    let text = format!("{count} log lines were dropped because the log is written more slowly than it grows");
    if line.starts_with(b"{") {
        serde_json::json!({ "level": "WARN", "message": text, "log.dropped_lines": count }).to_string()
    } else {
        text
    }
}

/// One event's line on its way to the queue.
pub struct LineWriter<'a> {
    sink: &'a LogSink,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sink.sender.try_send(Message::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.sink.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { sink: self }
    }
}
