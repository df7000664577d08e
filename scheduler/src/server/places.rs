//! How many connections there are at once, and which give way when there are as many as may be: those on which nothing is asked,
//! the longest first. So clients that connect and say nothing, or a head letter by letter, shut out nobody.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use super::admission::Peer;

/// After a failed accept, such as for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The places of a server.
pub(super) struct Places {
    free: Arc<Semaphore>,
    idle: Arc<Idle>,
}

/// The connections on which nothing is asked.
#[derive(Default)]
struct Idle {
    queue: Mutex<IdleQueue>,
    /// One was added.
    added: Notify,
}

#[derive(Default)]
struct IdleQueue {
    next: u64,
    /// The longest idle first.
    waiting: BTreeMap<u64, CancellationToken>,
}

/// A connection's place, until this is dropped.
pub(super) struct Place {
    _free: OwnedSemaphorePermit,
    used: ConnectionUse,
}

/// Whether something is asked on a connection. Clones are of the same connection.
#[derive(Clone)]
pub(super) struct ConnectionUse(Arc<UseParts>);

struct UseParts {
    idle: Arc<Idle>,
    given_up: CancellationToken,
    /// Where it stands among the idle.
    seat: Mutex<Option<u64>>,
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), idle: Arc::default() }
    }

    /// The next connection, when there is a place for it; `None` after a failure.
    pub(super) async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, Peer, Place)> {
        match listener.accept().await {
            Ok((stream, peer)) => Some((stream, Peer(peer), self.place().await?)),
            Err(error) => {
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                None
            }
        }
    }

    /// Never `None`, as the semaphore is never closed.
    async fn place(&self) -> Option<Place> {
        let free = loop {
            if let Ok(free) = Arc::clone(&self.free).try_acquire_owned() {
                break free;
            }
            let added = self.idle.added.notified();
            let next = Arc::clone(&self.free).acquire_owned();
            if self.idle.give_up_longest() {
                break next.await.ok()?;
            }
            // On all of them something is asked.
            tokio::select! {
                free = next => break free.ok()?,
                () = added => {}
            }
        };
        let idle = Arc::clone(&self.idle);
        let parts = UseParts { idle, given_up: CancellationToken::new(), seat: Mutex::default() };
        let used = ConnectionUse(Arc::new(parts));
        used.rest();
        Some(Place { _free: free, used })
    }
}

impl Idle {
    fn add(&self, given_up: CancellationToken) -> u64 {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.next += 1;
        let seat = queue.next;
        queue.waiting.insert(seat, given_up);
        drop(queue);
        self.added.notify_one();
        seat
    }

    fn remove(&self, seat: u64) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&seat);
    }

    /// Says whether there was one.
    fn give_up_longest(&self) -> bool {
        let longest = self.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting.pop_first();
        longest.inspect(|(_, given_up)| given_up.cancel()).is_some()
    }
}

impl Place {
    /// What requests on it are marked by.
    pub(super) fn used(&self) -> ConnectionUse {
        self.used.clone()
    }

    /// Runs a connection to its end, or until it has to give way.
    pub(super) async fn until_given_up<T>(&self, connection: impl Future<Output = T>) -> Option<T> {
        self.used.0.given_up.run_until_cancelled(connection).await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.used.begin();
    }
}

impl ConnectionUse {
    /// From here on it gives way to nobody.
    pub(super) fn begin(&self) {
        let seat = self.0.seat.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(seat) = seat {
            self.0.idle.remove(seat);
        }
    }

    fn rest(&self) {
        let seat = self.0.idle.add(self.0.given_up.clone());
        *self.0.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(seat);
    }
}

/// Something is asked, until this is dropped.
struct Asked(ConnectionUse);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// Marks a request's connection as used until its answer has been sent or has broken off.
pub(super) async fn mark(request: Request, next: Next) -> Response {
    let Some(used) = request.extensions().get::<ConnectionUse>().cloned() else {
        return next.run(request).await;
    };
    used.begin();
    let asked = Asked(used);
    next.run(request).await.map(|body| Body::new(Answer { body, _asked: asked }))
}

/// An answer's body, with what it keeps.
struct Answer {
    body: Body,
    _asked: Asked,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
