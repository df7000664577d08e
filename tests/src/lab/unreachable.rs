//! An address that never answers a SYN, as behind a firewall that drops packets: connecting to it hangs.
//!
//! It is a listener whose queue is full; the kernel then drops what comes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// Connections that the queue takes at most, whatever the kernel makes of the backlog.
const MOST: usize = 64;
/// On loopback a connection that is not made by then is not going to be made.
const HANGS: Duration = Duration::from_millis(300);

/// The address, for as long as this lives.
#[derive(Debug)]
pub struct Unreachable {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Unreachable {
    /// Takes a port and fills its queue.
    pub async fn start() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(1)?;
        let address = listener.local_addr()?;
        let mut queued = Vec::new();
        while queued.len() < MOST {
            match timeout(HANGS, TcpStream::connect(address)).await {
                Ok(connected) => queued.push(connected?),
                Err(_) => return Ok(Self { listener, _queued: queued }),
            }
        }
        Err(io::Error::other("the kernel queues connections without end"))
    }

    /// Where nobody answers.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound socket has an address")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connecting_hangs() {
        let nobody = Unreachable::start().await.unwrap();
        for _ in 0..3 {
            assert!(timeout(Duration::from_millis(500), TcpStream::connect(nobody.address())).await.is_err());
        }
    }
}
