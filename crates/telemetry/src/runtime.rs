//! The runtime that exporters live on: one thread, apart from the one that works jobs.
//!
//! gRPC and HTTP clients need a reactor wherever they are polled. The SDK polls metric exporters on bare threads of its
//! own, so [`OnRuntime`] gives each poll this runtime's context.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use tokio::{runtime::Handle, sync::oneshot};

/// The thread, running until this is dropped.
pub(crate) struct ExportRuntime {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl ExportRuntime {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("sluice-export".to_owned()).spawn(move || {
            // The sender is dropped and never sends: either way the thread ends.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _stop: stop })
    }

    /// For spawning on it, and for building clients in its context.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// A future that sees the runtime's context wherever it is polled.
pub(crate) struct OnRuntime<'a, T> {
    pub(crate) handle: &'a Handle,
    pub(crate) future: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
}

impl<T> Future for OnRuntime<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let _entered = self.handle.enter();
        self.future.as_mut().poll(cx)
    }
}
