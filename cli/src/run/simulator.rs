//! The simulator in this process, on a runtime and threads of its own, so that it stands apart as an upstream does.

use std::{sync::mpsc, thread};

use sluice_simulator::SimulatorConfig;
use tokio::sync::oneshot;

use crate::exit::{CliError, causes};

/// Calls that it keeps in memory: nobody asks for them here.
const CALLS_KEPT: usize = 1_000;

/// A running simulator; it stops when it is dropped.
pub struct SimulatorThread {
    /// Where it listens.
    pub base_url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl SimulatorThread {
    /// Starts it on a free port of the loopback interface.
    pub fn start() -> Result<Self, CliError> {
        let (ready, is_ready) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("simulator".to_owned())
            .spawn(move || serve(&ready, stopped))
            .map_err(|error| failed(&error))?;
        let base_url = is_ready
            .recv()
            .map_err(|_| CliError::unreachable("failed to start the simulator: its thread ended"))??;
        Ok(Self { base_url, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for SimulatorThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed already.
            let _ = thread.join();
        }
    }
}

fn serve(ready: &mpsc::SyncSender<Result<String, CliError>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("simulator")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(failed(&error)));
            return;
        }
    };
    runtime.block_on(async {
        let config =
            SimulatorConfig { require_key: false, max_calls_kept: CALLS_KEPT, ..SimulatorConfig::default() };
        match sluice_simulator::start(config).await {
            Err(error) => {
                let _ = ready.send(Err(failed(&error)));
            }
            Ok(simulator) => {
                let _ = ready.send(Ok(simulator.base_url()));
                // Ends when the sender is dropped, too.
                let _ = stopped.await;
                drop(simulator);
            }
        }
    });
    runtime.shutdown_background();
}

fn failed(error: &dyn std::error::Error) -> CliError {
    CliError::unreachable(format!("failed to start the simulator: {}", causes(error)))
}
