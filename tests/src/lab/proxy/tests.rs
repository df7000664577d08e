//! The faults, each against an echo server.

use std::time::{Duration, Instant};

use sluice_testkit::{TestDatabase, wait_until};
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

const SOON: Duration = Duration::from_secs(10);
/// Long enough that what has not come is not on its way.
const A_WHILE: Duration = Duration::from_millis(150);

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

struct Line {
    proxy: FaultProxy,
    stream: TcpStream,
}

impl Line {
    async fn new() -> Self {
        let proxy = FaultProxy::start(1, Target::Tcp(echo_server().await)).unwrap();
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        Self { proxy, stream }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn hears(&mut self, bytes: &[u8]) {
        let mut heard = vec![0; bytes.len()];
        timeout(SOON, self.stream.read_exact(&mut heard)).await.expect("an answer in time").unwrap();
        assert_eq!(heard, bytes);
    }

    async fn hears_nothing(&mut self) {
        assert!(timeout(A_WHILE, self.stream.read_u8()).await.is_err());
    }

    async fn is_reset(&mut self) {
        let mut rest = Vec::new();
        let end = timeout(SOON, self.stream.read_to_end(&mut rest)).await.expect("an end in time");
        assert_eq!(end.expect_err("a reset and no end of file").kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn without_a_fault_bytes_pass_and_ends_do_too() {
    let mut line = Line::new().await;
    line.send(b"hello").await;
    line.hears(b"hello").await;
    assert_eq!((line.proxy.passed(Direction::ToServer), line.proxy.passed(Direction::ToClient)), (5, 5));
    line.stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(SOON, line.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    wait_until("the connection to be over", SOON, async || line.proxy.open() == 0).await;
}

#[tokio::test]
async fn a_black_hole_towards_the_server_holds_what_is_sent() {
    let mut line = Line::new().await;
    line.proxy.black_hole(Direction::ToServer);
    line.send(b"hello").await;
    line.hears_nothing().await;
    assert_eq!(line.proxy.passed(Direction::ToServer), 0);
    line.proxy.heal().await;
    line.hears(b"hello").await;
}

#[tokio::test]
async fn a_black_hole_towards_the_client_lets_the_server_hear() {
    let mut line = Line::new().await;
    line.proxy.black_hole(Direction::ToClient);
    line.send(b"hello").await;
    wait_until("the server to hear", SOON, async || line.proxy.passed(Direction::ToServer) == 5).await;
    line.hears_nothing().await;
    line.proxy.heal().await;
    line.hears(b"hello").await;
}

#[tokio::test]
async fn abandoned_connections_stay_silent_and_new_ones_work() {
    let mut line = Line::new().await;
    line.send(b"hello").await;
    line.hears(b"hello").await;
    line.proxy.abandon();
    line.send(b"again").await;
    line.hears_nothing().await;
    line.proxy.heal().await;
    line.hears_nothing().await;
    let stream = TcpStream::connect(line.proxy.address()).await.unwrap();
    let mut other = Line { stream, ..line };
    other.send(b"hello").await;
    other.hears(b"hello").await;
}

#[tokio::test]
async fn a_reset_ends_what_is_open_and_nothing_else() {
    let mut line = Line::new().await;
    line.send(b"hello").await;
    line.hears(b"hello").await;
    line.proxy.reset();
    line.is_reset().await;
    let stream = TcpStream::connect(line.proxy.address()).await.unwrap();
    let mut other = Line { stream, ..line };
    other.send(b"hello").await;
    other.hears(b"hello").await;
}

#[tokio::test]
async fn refused_is_refused_until_it_is_healed() {
    let mut line = Line::new().await;
    // Who is not taken yet goes with the listener.
    line.send(b"first").await;
    line.hears(b"first").await;
    for _ in 0..3 {
        line.proxy.refuse().await;
        let refused = TcpStream::connect(line.proxy.address()).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        line.proxy.heal().await;
        TcpStream::connect(line.proxy.address()).await.unwrap();
    }
    // Whoever was connected has heard nothing of it.
    line.send(b"hello").await;
    line.hears(b"hello").await;
}

#[tokio::test]
async fn a_cut_comes_after_its_bytes() {
    let mut line = Line::new().await;
    line.send(b"hello").await;
    line.hears(b"hello").await;
    line.proxy.cut_after(Direction::ToClient, 3);
    line.send(b"again").await;
    wait_until("the first bytes to pass", SOON, async || line.proxy.passed(Direction::ToClient) == 8).await;
    line.is_reset().await;
    assert_eq!(line.proxy.passed(Direction::ToClient), 8);
}

#[tokio::test]
async fn a_drip_and_a_delay_take_their_time() {
    let mut line = Line::new().await;
    let begun = Instant::now();
    line.proxy.drip(Direction::ToClient, 100);
    line.send(&[7; 20]).await;
    line.hears(&[7; 20]).await;
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
    line.proxy.heal().await;
    line.proxy.delay(Direction::ToServer, Duration::from_millis(200));
    let begun = Instant::now();
    line.send(b"hello").await;
    line.hears(b"hello").await;
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_is_lost_comes_later_and_whole() {
    let mut line = Line::new().await;
    line.proxy.lose(0.5);
    let begun = Instant::now();
    for round in 0..4 {
        line.send(&[round; 3]).await;
        line.hears(&[round; 3]).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_database_is_reached_by_way_of_a_proxy() {
    let database = TestDatabase::new().await;
    let options = database.connect_options();
    let proxy = FaultProxy::before_database(1, &options).await.unwrap();
    let mut connection = PgConnection::connect(&proxy.database_url(&options)).await.unwrap();
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.unwrap();
    assert_eq!(name, database.name());
    assert!(proxy.passed(Direction::ToClient) > 0);
}

#[tokio::test]
async fn an_address_that_moves_leads_new_connections_to_another_server() {
    let proxy = FaultProxy::start(1, Target::Tcp(echo_server().await)).unwrap();
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    let mut line = Line { proxy, stream };
    line.send(b"one").await;
    line.hears(b"one").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    line.proxy.lead_to(Target::Tcp(listener.local_addr().unwrap()));
    line.send(b"still one").await;
    line.hears(b"still one").await;
    line.stream = TcpStream::connect(line.proxy.address()).await.unwrap();
    let (mut other, _) =
        timeout(SOON, listener.accept()).await.expect("it leads to the other server").unwrap();
    other.write_all(b"two").await.unwrap();
    line.hears(b"two").await;
}
