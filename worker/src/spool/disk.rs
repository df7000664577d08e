//! Acts on a disk that may hang: a network file system whose server is gone, a device that does not answer. A thread that
//! waits for such a disk can't be ended, and nothing else may wait for that thread.
//!
//! An act runs on a thread of its own and is waited for only so long. While one that was given up has not come back, the
//! disk counts as stuck, and whoever can do without it does: a thread is lost to each act on it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

/// How long an act is waited for. A group is flushed in milliseconds; the rest is for disks that are overloaded.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a disk.
#[derive(Debug)]
pub(super) struct Disk {
    patience: Duration,
    /// Acts that were given up and have not come back.
    hanging: AtomicUsize,
}

impl Default for Disk {
    fn default() -> Self {
        Self::with_patience(PATIENCE)
    }
}

impl Disk {
    /// A disk whose acts are waited for so long.
    pub(super) fn with_patience(patience: Duration) -> Self {
        Self { patience, hanging: AtomicUsize::new(0) }
    }

    /// Whether an act that was given up has not come back.
    pub(super) fn is_stuck(&self) -> bool {
        self.hanging.load(Ordering::Acquire) > 0
    }

    /// Has `act` done, and waits for it while there is patience; while the disk is stuck, there is none. `None`: it hangs,
    /// or it panicked. If it comes back when nobody waits any more, `undo` gets what it brought.
    pub(super) async fn act<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce() -> T + Send + 'static,
        undo: impl FnOnce(T) + Send + 'static,
    ) -> Option<T> {
        let patience = if self.is_stuck() { Duration::ZERO } else { self.patience };
        let (sender, mut receiver) = oneshot::channel();
        let course = Arc::new(Course { stage: Mutex::new(Stage::UnderWay), disk: Arc::clone(self) });
        let ending = EndsWith(Arc::clone(&course));
        tokio::task::spawn_blocking(move || {
            let _ending = ending;
            // With `undo`, so that whatever that holds is let go of by who is answered and not some time after.
            if let Err((brought, undo)) = sender.send((act(), undo)) {
                undo(brought);
            }
        });
        if let Ok(answered) = timeout(patience, &mut receiver).await {
            return answered.ok().map(|(brought, _)| brought);
        }
        course.give_up();
        receiver.close();
        // It may have come back at the last moment.
        receiver.try_recv().ok().map(|(brought, _)| brought)
    }
}

/// How far an act is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    UnderWay,
    GivenUp,
    Over,
}

#[derive(Debug)]
struct Course {
    stage: Mutex<Stage>,
    disk: Arc<Disk>,
}

impl Course {
    fn give_up(&self) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *stage == Stage::UnderWay {
            *stage = Stage::GivenUp;
            self.disk.hanging.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn end(&self) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *stage == Stage::GivenUp {
            self.disk.hanging.fetch_sub(1, Ordering::AcqRel);
        }
        *stage = Stage::Over;
    }
}

/// Ends an act, also one that panics.
struct EndsWith(Arc<Course>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use sluice_testkit::wait_until;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn an_act_that_hangs_is_given_up_and_undone_when_it_comes_back() {
        let disk = Arc::new(Disk::with_patience(Duration::from_millis(20)));
        let (release, hangs) = mpsc::channel::<()>();
        let (undone, is_undone) = mpsc::channel();
        let act = move || {
            let _ = hangs.recv();
            7
        };
        assert_eq!(disk.act(act, move |brought| undone.send(brought).unwrap()).await, None);
        assert!(disk.is_stuck());
        assert_eq!(disk.act(|| std::thread::sleep(Duration::from_millis(50)), |()| ()).await, None);
        drop(release);
        wait_until("the acts to come back", SOON, async || !disk.is_stuck()).await;
        assert_eq!(is_undone.recv(), Ok(7));
        wait_until("an act to be done in time", SOON, async || disk.act(|| 8, |_| ()).await == Some(8)).await;
    }

    #[tokio::test]
    async fn an_act_whose_caller_has_gone_is_undone_and_the_disk_is_not_stuck() {
        let disk = Arc::new(Disk::default());
        let (undone, is_undone) = mpsc::channel();
        let (release, waits) = mpsc::channel::<()>();
        let act = disk.act(move || waits.recv().is_err(), move |brought| undone.send(brought).unwrap());
        assert!(timeout(Duration::from_millis(20), act).await.is_err());
        drop(release);
        let brought = tokio::task::spawn_blocking(move || is_undone.recv()).await.unwrap();
        assert_eq!((brought, disk.is_stuck()), (Ok(true), false));
    }
}
