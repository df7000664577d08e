//! One connection through the proxy: two pumps, one for each direction, and its end.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::sleep,
};

use super::{
    Direction, Shared, Target,
    flow::{Flow, Losses},
};

const BUFFER_BYTES: usize = 16 * 1024;

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both sides have said all they had to say.
    Closed,
    /// It broke, or is to be broken.
    Reset,
}

/// Counts an open connection until it is dropped.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Carries a connection to its end.
pub(super) async fn run(shared: Arc<Shared>, number: u64, mut client: TcpStream) {
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(&shared);
    // Delays are ours to make.
    let _ = client.set_nodelay(true);
    let end = match shared.target() {
        Target::Tcp(address) => match TcpStream::connect(address).await {
            Ok(mut server) => {
                let _ = server.set_nodelay(true);
                let end = carry(&shared, number, &mut client, &mut server).await;
                if end == End::Reset {
                    let _ = server.set_zero_linger();
                }
                end
            }
            Err(_) => End::Reset,
        },
        Target::Unix(path) => match UnixStream::connect(&path).await {
            Ok(mut server) => carry(&shared, number, &mut client, &mut server).await,
            Err(_) => End::Reset,
        },
    };
    if end == End::Reset {
        let _ = client.set_zero_linger();
    }
}

async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    number: u64,
    client: &mut TcpStream,
    server: &mut S,
) -> End {
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = tokio::io::split(server);
    let there = Pump::new(shared, number, Direction::ToServer).run(from_client, to_server);
    let back = Pump::new(shared, number, Direction::ToClient).run(from_server, to_client);
    let mut plan = shared.plan.subscribe();
    tokio::select! {
        both = async { tokio::try_join!(there, back) } => both.map_or(End::Reset, |_| End::Closed),
        _ = plan.wait_for(|plan| number < plan.reset_below) => End::Reset,
    }
}

/// Carries bytes one way.
struct Pump<'a> {
    shared: &'a Shared,
    number: u64,
    direction: Direction,
    losses: Losses,
    /// The bytes that may still pass, and what said so.
    cut: Option<(Flow, u64)>,
}

impl<'a> Pump<'a> {
    fn new(shared: &'a Shared, number: u64, direction: Direction) -> Self {
        let losses = Losses::of(shared.seed, number, direction);
        Self { shared, number, direction, losses, cut: None }
    }

    async fn run(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            self.until_not_silent().await;
            let count = from.read(&mut buffer).await?;
            let mut waiting = &buffer[..count];
            while !waiting.is_empty() {
                // Silence may have fallen after these bytes came: they have not arrived yet.
                let flow = self.until_not_silent().await;
                let piece = self.allowed(flow, flow.piece(waiting.len()))?;
                let duration = flow.duration(piece, &mut self.losses);
                if !duration.is_zero() {
                    sleep(duration).await;
                    self.until_not_silent().await;
                }
                to.write_all(&waiting[..piece]).await?;
                self.shared.passed[self.direction.index()].fetch_add(piece as u64, Ordering::SeqCst);
                waiting = &waiting[piece..];
            }
            if count == 0 {
                self.until_not_silent().await;
                return to.shutdown().await;
            }
        }
    }

    /// The flow that counts once something may pass.
    async fn until_not_silent(&self) -> Flow {
        let (number, direction) = (self.number, self.direction);
        let mut plan = self.shared.plan.subscribe();
        let plan = plan.wait_for(|plan| !plan.is_silent(number, direction)).await;
        plan.expect("the sender lives as long as this").flows[direction.index()]
    }

    /// As much of a piece as the cut leaves; an error when nothing is left.
    fn allowed(&mut self, flow: Flow, piece: usize) -> io::Result<usize> {
        let Some(after) = flow.cut_after else {
            self.cut = None;
            return Ok(piece);
        };
        let left = match self.cut {
            Some((known, left)) if known == flow => left,
            _ => after,
        };
        let allowed = piece.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.cut = Some((flow, left - allowed as u64));
        if allowed == 0 { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(allowed) }
    }
}
