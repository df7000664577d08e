//! Taking connections, and refusing them: a port that is bound and not listened on refuses, and nobody else can take it.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
    time::sleep,
};

use super::{Shared, connection};

const BACKLOG: u32 = 1024;

/// A socket at an address, or at a free port, that takes nobody yet.
fn bind(address: Option<SocketAddr>) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // The port's earlier connections are still there.
    socket.set_reuseaddr(true)?;
    socket.bind(address.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into()))?;
    Ok(socket)
}

/// A listener at an address, or at a free port.
pub(super) fn listen(address: Option<SocketAddr>) -> io::Result<TcpListener> {
    bind(address)?.listen(BACKLOG)
}

/// Takes connections until the task is dropped.
pub(super) async fn run(shared: Arc<Shared>, first: TcpListener, address: SocketAddr) {
    let mut plan = shared.plan.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = first;
    loop {
        if plan.borrow_and_update().is_refusing {
            drop(listener);
            let reserved = retried(|| bind(Some(address))).await;
            shared.is_listening.send_replace(false);
            // The sender lives as long as `shared`.
            let _ = plan.wait_for(|plan| !plan.is_refusing).await;
            drop(reserved);
            listener = retried(|| listen(Some(address))).await;
            shared.is_listening.send_replace(true);
        }
        tokio::select! {
            accepted = listener.accept() => {
                // An error concerns that one connection.
                if let Ok((client, _)) = accepted {
                    let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
                    connections.spawn(connection::run(Arc::clone(&shared), number, client));
                }
            }
            _ = plan.changed() => {}
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// The port was ours a moment ago; somebody may have got it for a moment as the other end of a connection.
async fn retried<T>(mut act: impl FnMut() -> io::Result<T>) -> T {
    loop {
        match act() {
            Ok(done) => return done,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
