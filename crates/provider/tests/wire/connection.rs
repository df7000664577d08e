//! What counts as sent: connections that fail before, while and after they take the request.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sluice_domain::ErrorClass;
use sluice_policy::retry::Ending;
use sluice_provider::{
    CallRequest, Client, Credential, Dialect, MayBegin, NotSentReason, ProviderError, Secret, Waited,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tokio_util::sync::CancellationToken;

use crate::{
    COMPLETION, JSON, PLAIN, answered, assert_not_sent, assert_unknown, call, request,
    server::{Server, Step, answer, every_tenth, open_head},
    upstream,
};

#[tokio::test]
async fn a_server_that_closes_after_reading_sees_exactly_one_request() {
    let server = Server::start(vec![Step::Read]).await;
    let report = call(upstream(&server.url()), PLAIN).await;
    assert_unknown(&report, ErrorClass::ConnectionLost);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_used_connection_that_closes_after_reading_sees_no_second_request() {
    let first = Step::Send(answer("200 OK", JSON, COMPLETION.as_bytes()));
    let server = Server::start(vec![Step::Read, first, Step::Read]).await;
    let client = Client::new(upstream(&server.url())).unwrap();
    let cancel = CancellationToken::new();
    assert_eq!(client.call(request(PLAIN), &cancel).await.ending(), Ending::Succeeded);
    assert_unknown(&client.call(request(PLAIN), &cancel).await, ErrorClass::ConnectionLost);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let report = call(upstream(&format!("http://127.0.0.1:{port}")), PLAIN).await;
    assert_not_sent(&report, NotSentReason::Refused);
    assert_eq!(report.ending(), Ending::NotSent(ErrorClass::NotSent));
}

#[tokio::test]
async fn a_black_hole_sent_nothing() {
    let (address, _listening) = black_hole().await;
    let report = call(upstream(&format!("http://{address}")), PLAIN).await;
    assert_not_sent(&report, NotSentReason::ConnectTimeout);
}

#[tokio::test]
async fn no_byte_of_a_body_goes_to_a_bad_certificate() {
    // Made for this test: nobody trusts it, and nothing else uses it.
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handshake = tokio::spawn(async move {
        let (connection, _) = listener.accept().await.unwrap();
        acceptor.accept(connection).await.map(drop)
    });
    let mut upstream = upstream(&format!("https://{address}"));
    upstream.timeouts.connect = Duration::from_secs(5);
    let report = call(upstream, PLAIN).await;
    assert_not_sent(&report, NotSentReason::Tls);
    assert!(handshake.await.unwrap().is_err());
}

#[tokio::test]
async fn a_server_without_tls_was_sent_nothing() {
    let server = Server::start(vec![Step::Send(b"220 hello\r\n".to_vec()), Step::Hang]).await;
    let report = call(upstream(&format!("https://{}", server.address)), PLAIN).await;
    assert!(!report.was_sent(), "{report:?}");
}

#[tokio::test]
async fn a_close_while_the_body_is_sent_is_unknown() {
    let server = Server::start(vec![Step::ReadHead]).await;
    let body = format!(r#"{{"model":"deepseek-flash","prompt":"{}"}}"#, "x".repeat(8_000_000));
    let report = call(upstream(&server.url()), &body).await;
    assert_unknown(&report, ErrorClass::ConnectionLost);
}

#[tokio::test]
async fn a_server_that_stops_reading_is_stalled() {
    let server = Server::start(vec![Step::ReadHead, Step::Wait(Duration::from_secs(4))]).await;
    let body = format!(r#"{{"model":"deepseek-flash","prompt":"{}"}}"#, "x".repeat(30_000_000));
    let report = call(upstream(&server.url()), &body).await;
    assert_unknown(&report, ErrorClass::Stalled);
    assert!(report.duration.unwrap() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_counts() {
    let too_large = answer("413 Payload Too Large", "connection: close\r\n", b"");
    let server = Server::start(vec![Step::ReadHead, Step::Send(too_large), Step::Hang]).await;
    let body = format!(r#"{{"model":"deepseek-flash","prompt":"{}"}}"#, "x".repeat(8_000_000));
    let report = call(upstream(&server.url()), &body).await;
    assert_eq!(answered(&report).failure, Some(ErrorClass::InvalidRequest));
}

#[tokio::test]
async fn a_cut_at_any_place_after_the_request_is_unknown() {
    let whole = answer("200 OK", JSON, COMPLETION.as_bytes());
    for cut in [1, 20, whole.len() - COMPLETION.len(), whole.len() - 1] {
        let server = Server::start(vec![Step::Read, Step::Send(whole[..cut].to_vec())]).await;
        let report = call(upstream(&server.url()), PLAIN).await;
        assert_unknown(&report, ErrorClass::ConnectionLost);
        assert_eq!(server.requests().len(), 1, "cut at {cut}");
    }
}

#[tokio::test]
async fn silence_is_a_stall_before_and_within_an_answer() {
    let whole = answer("200 OK", JSON, COMPLETION.as_bytes());
    for (cut, at_least_ms) in [(0, 700), (whole.len() - COMPLETION.len(), 700), (whole.len() - 5, 300)] {
        let server = Server::start(vec![Step::Read, Step::Send(whole[..cut].to_vec()), Step::Hang]).await;
        let report = call(upstream(&server.url()), PLAIN).await;
        assert_unknown(&report, ErrorClass::Stalled);
        let took = report.duration.unwrap();
        assert!((at_least_ms - 50..1_500).contains(&(took.as_millis() as u64)), "cut at {cut}: {took:?}");
    }
}

#[tokio::test]
async fn one_byte_at_a_time_ends_with_the_total_time() {
    let drip = every_tenth(30, Step::Send(b"x".to_vec()));
    let steps = [vec![Step::Read, Step::Send(open_head(JSON))], drip].concat();
    let server = Server::start(steps).await;
    let mut upstream = upstream(&server.url());
    upstream.timeouts.total = Duration::from_secs(1);
    assert_unknown(&call(upstream, PLAIN).await, ErrorClass::CallTimeout);
}

#[tokio::test]
async fn what_is_no_http_or_has_a_giant_head_can_not_be_known() {
    for bytes in [
        b"GARBAGE\r\n\r\n".to_vec(),
        [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 1_000_000], b"\r\n\r\n".to_vec()].concat(),
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
    ] {
        let server = Server::start(vec![Step::Read, Step::Send(bytes), Step::Hang]).await;
        assert_unknown(&call(upstream(&server.url()), PLAIN).await, ErrorClass::MalformedAnswer);
    }
}

#[tokio::test]
async fn a_cancelled_call_says_whether_it_was_sent() {
    let server = Server::start(vec![Step::Read, Step::Hang]).await;
    let client = Client::new(upstream(&server.url())).unwrap();
    let cancel = CancellationToken::new();
    let cancel_when_read = async {
        server.request_read().await;
        cancel.cancel();
    };
    let (report, ()) = tokio::join!(client.call(request(PLAIN), &cancel), cancel_when_read);
    assert_unknown(&report, ErrorClass::Cancelled);
    let report = client.call(request(PLAIN), &cancel).await;
    assert_not_sent(&report, NotSentReason::Cancelled);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_body_that_is_no_object_is_not_sent() {
    let server = Server::start(vec![Step::Read]).await;
    let report = call(upstream(&server.url()), "[1]").await;
    assert_not_sent(&report, NotSentReason::InvalidBody);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_request_carries_what_it_should_and_no_more() {
    let server =
        Server::start(vec![Step::Read, Step::Send(answer("200 OK", JSON, COMPLETION.as_bytes()))]).await;
    for dialect in [Dialect::DeepSeek, Dialect::OpenAi] {
        let mut upstream = upstream(&server.url());
        upstream.dialect = dialect;
        let client = Client::new(upstream).unwrap();
        let mut request = request(r#"{"model":"other","n":1.10}"#);
        request.traceparent = Some("00-1-2-01\r\nx-evil: 1".to_owned());
        let call_id = request.call_id;
        client.call(request.clone(), &CancellationToken::new()).await;
        let sent = server.requests().pop().unwrap();
        assert!(sent.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{sent}");
        for header in ["authorization: Bearer sk-test", "content-length: 35", "accept-encoding: gzip"] {
            assert!(sent.contains(header), "{header}: {sent}");
        }
        assert!(sent.contains(&format!("x-request-id: {call_id}")));
        assert!(sent.contains("user-agent: sluice/"));
        assert_eq!(sent.contains("idempotency-key: "), dialect == Dialect::OpenAi);
        assert!(!sent.contains("evil") && !sent.contains("transfer-encoding"));
        assert!(sent.ends_with(r#"{"model":"deepseek-flash","n":1.10}"#), "{sent}");
    }
}

#[tokio::test]
async fn probes_ask_for_models_and_balance() {
    let models = answer("200 OK", JSON, br#"{"object":"list","data":[{"id":"a"},{"id":"b"}]}"#);
    let balance = br#"{"is_available":true,"balance_infos":[{"currency":"USD","total_balance":"1.50"}]}"#;
    let balance = answer("200 OK", JSON, balance);
    let no_key = answer("401 Unauthorized", JSON, b"{}");
    let server = Server::start(vec![
        Step::Read,
        Step::Send(models),
        Step::Read,
        Step::Send(balance),
        Step::Read,
        Step::Send(no_key),
    ])
    .await;
    let client = Client::new(upstream(&server.url())).unwrap();
    assert_eq!(client.models().await.unwrap(), ["a", "b"]);
    assert_eq!(client.balance().await.unwrap().currencies[0].total_balance, "1.50");
    assert!(matches!(client.models().await, Err(ProviderError::Refused { status_code: 401, .. })));
    assert!(server.requests()[1].starts_with("GET /user/balance "));
}

#[tokio::test]
async fn a_key_that_no_header_can_hold_is_refused_and_not_shown() {
    let mut upstream = upstream("http://127.0.0.1:1");
    upstream.credential = Credential::Bearer(Secret::new("sk-secret\r\nx: y"));
    let error = Client::new(upstream).err().unwrap();
    assert!(!format!("{error} {error:?}").contains("secret"));
}

#[tokio::test]
async fn what_may_not_begin_once_it_is_authorised_is_not_sent() {
    let server = Server::start(vec![Step::Read]).await;
    let client = Client::new(upstream(&server.url())).unwrap();
    let may_begin = MayBegin::if_so(|waited| waited != Waited::Authorized);
    let late = CallRequest { may_begin, ..request(PLAIN) };
    let report = client.call(late, &CancellationToken::new()).await;
    assert_not_sent(&report, NotSentReason::NotBegun);
    assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test]
async fn what_may_not_begin_any_more_waits_for_no_connection() {
    let (address, _listening) = black_hole().await;
    let mut patient = upstream(&format!("http://{address}"));
    patient.timeouts.connect = Duration::from_mins(1);
    let client = Client::new(patient).unwrap();
    let begun = Instant::now();
    let may_begin = MayBegin::if_so(move |_| begun.elapsed() < Duration::from_millis(600));
    let late = CallRequest { may_begin, ..request(PLAIN) };
    let report = timeout(Duration::from_secs(20), client.call(late, &CancellationToken::new())).await;
    assert_not_sent(&report.expect("it asks meanwhile"), NotSentReason::NotBegun);
}

/// A full backlog: the kernel drops further attempts to connect, as a black hole would.
async fn black_hole() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    while let Ok(Ok(filler)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        fillers.push(filler);
    }
    (address, (listener, fillers))
}
