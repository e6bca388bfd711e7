//! What anybody can send to the port: the endpoint refuses it, says so, and goes on serving others.
#![allow(clippy::unwrap_used)]

mod common;

use common::raw::{self, ClientAuth, Liar, certified, client_config, dial, honest, signing_key};
use common::relay::Relay;
use common::{ANY_PORT, allow, assert_serves, bind, bind_with, fixture, keys, soon, until};
use kvgossip_transport::{Code, Endpoint, Limits, TransportError};
use quinn::ConnectionError;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::net::UdpSocket;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn listener() -> Endpoint {
    let [a, b, ..] = keys();
    bind(&b, allow([&a]))
}

/// The endpoint refuses this client in the handshake, counts that, and serves a good one.
async fn assert_refused(auth: ClientAuth, alpn: &[&[u8]]) -> ConnectionError {
    let endpoint = listener();
    let mut client = quinn::Endpoint::client(ANY_PORT).unwrap();
    client.set_default_client_config(client_config(auth, alpn));
    let error = dial(&client, endpoint.local_addr().unwrap()).await.unwrap_err();
    until(|| endpoint.stats().failed == 1).await;
    assert_eq!(endpoint.stats().accepted, 0);
    assert_serves(&endpoint, &keys()[0]).await;
    error
}

/// The TLS alert that the server closed with.
fn alert(error: &ConnectionError) -> u64 {
    match error {
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code).checked_sub(0x100).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn garbage_datagrams_are_ignored() {
    let endpoint = listener();
    let address = endpoint.local_addr().unwrap();
    let socket = UdpSocket::bind(ANY_PORT).unwrap();
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..2_000 {
        let mut datagram = vec![0; rng.random_range(0..1_500)];
        rng.fill_bytes(&mut datagram);
        socket.send_to(&datagram, address).unwrap();
    }
    for junk in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00", b"\0", b""] {
        socket.send_to(junk, address).unwrap();
    }
    // QUIC version 1 long headers whose insides are random.
    for _ in 0..500 {
        let mut initial = vec![0; 1_200];
        rng.fill_bytes(&mut initial);
        initial[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]);
        initial[14] = 8;
        socket.send_to(&initial, address).unwrap();
    }
    assert_serves(&endpoint, &keys()[0]).await;
    assert_eq!(endpoint.stats().accepted, 1);
}

#[tokio::test]
async fn another_protocol_name_is_refused() {
    for alpn in [&[&b"h3"[..]][..], &[b"kvgossip/1"], &[]] {
        let error = assert_refused(ClientAuth::RawKey(honest("replica-a.pem")), alpn).await;
        assert_eq!(alert(&error), 120, "no_application_protocol");
    }
}

#[tokio::test]
async fn a_client_without_a_key_is_refused() {
    let error = assert_refused(ClientAuth::Nothing, &[kvgossip_transport::ALPN]).await;
    // rustls' client leaves the extension out when it has no key, so the server cannot even ask.
    assert!([40, 116].contains(&alert(&error)), "{error:?}");
}

#[tokio::test]
async fn an_x509_client_is_refused() {
    #[derive(Debug)]
    struct Certificate(Arc<rustls::sign::CertifiedKey>);
    impl rustls::client::ResolvesClientCert for Certificate {
        fn resolve(
            &self,
            _: &[&[u8]],
            _: &[rustls::SignatureScheme],
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let certificate = certified(fixture("x509.der"), signing_key("replica-d.pem"));
    let auth = ClientAuth::X509(Arc::new(Certificate(certificate)));
    assert_eq!(alert(&assert_refused(auth, &[kvgossip_transport::ALPN]).await), 40, "handshake_failure");
}

#[tokio::test]
async fn keys_that_no_replica_may_have_are_refused() {
    let mut keys = vec![
        certified(fixture("x509.der"), signing_key("replica-d.pem")),
        certified(b"\x30\x03\x02\x01\x00".to_vec(), Arc::new(Liar)),
        certified(vec![0x30; 8_000], Arc::new(Liar)),
        // A good key with one byte behind it.
        certified([fixture("replica-a.spki.der"), vec![0]].concat(), signing_key("replica-a.pem")),
        // The key type is honest, the handshake is signed with it, and it has no business here.
        honest("bad-exponent3.pem"),
    ];
    for name in ["rsa1024", "rsa2056", "ed25519", "p256"] {
        keys.push(certified(fixture(&format!("bad-{name}.spki.der")), Arc::new(Liar)));
    }
    for key in keys {
        let error = assert_refused(ClientAuth::RawKey(key), &[kvgossip_transport::ALPN]).await;
        assert_eq!(alert(&error), 42, "bad_certificate");
    }
}

/// An admitted public key is no secret: it is worth nothing without its private half, and the answer does
/// not tell whether it is admitted.
#[tokio::test]
async fn a_key_without_its_private_half_is_refused() {
    let [admitted, _, stranger, _] = keys();
    for key in [admitted, stranger] {
        for liar in [Arc::new(Liar) as Arc<dyn rustls::sign::SigningKey>, signing_key("replica-3072.pem")] {
            let auth = ClientAuth::RawKey(certified(key.spki_der().to_vec(), liar));
            let error = assert_refused(auth, &[kvgossip_transport::ALPN]).await;
            assert_eq!(alert(&error), 42, "bad_certificate");
        }
    }
}

#[tokio::test]
async fn an_endpoint_is_no_place_to_resume_at() {
    let [_, b, ..] = keys();
    let raw_key = kvgossip_transport::ReplicaKey::from_pem(&fixture("replica-a.pem")).unwrap();
    let endpoint = bind(&b, allow([&raw_key]));
    let mut client = quinn::Endpoint::client(ANY_PORT).unwrap();
    let config = client_config(ClientAuth::RawKey(honest("replica-a.pem")), &[kvgossip_transport::ALPN]);
    client.set_default_client_config(config);
    for _ in 0..2 {
        let connecting = client.connect(endpoint.local_addr().unwrap(), "x.invalid").unwrap();
        let Err(connecting) = connecting.into_0rtt() else { panic!("it had a ticket") };
        let connection = soon(connecting).await.unwrap();
        soon(connection.accept_uni()).await.unwrap();
        // A ticket would have come before the acknowledgement of this.
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(&[1, 1]).await.unwrap();
        send.finish().unwrap();
        soon(send.stopped()).await.unwrap();
        assert_eq!(connection.stats().frame_rx.new_token, 0);
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_in_time() {
    let [a, b, ..] = keys();
    let mut limits = Limits::default();
    limits.handshake_timeout = Duration::from_millis(400);
    let endpoint = bind_with(&b, allow([&a]), limits);
    let relay = Relay::to(endpoint.local_addr().unwrap()).await;
    relay.mute(true);
    let client = raw::client(ClientAuth::RawKey(honest("replica-a.pem")));
    let _half_open = client.connect(relay.address, "x.invalid").unwrap();
    until(|| endpoint.stats().pending == 1).await;
    until(|| endpoint.stats().pending == 0).await;
    assert_eq!(endpoint.stats().failed, 1);
    assert_serves(&endpoint, &a).await;
}

#[tokio::test]
async fn many_half_open_handshakes_keep_nobody_out() {
    let [a, b, ..] = keys();
    let endpoint = bind(&b, allow([&a]));
    let relay = Relay::to(endpoint.local_addr().unwrap()).await;
    relay.mute(true);
    let flood = raw::client(ClientAuth::RawKey(honest("replica-a.pem")));
    let half_open: Vec<_> = (0..400).map(|_| flood.connect(relay.address, "x.invalid").unwrap()).collect();
    until(|| endpoint.stats().retried >= 100).await;
    let limits = Limits::default();
    assert!(endpoint.stats().pending <= limits.max_unvalidated_handshakes);
    assert_serves(&endpoint, &a).await;
    drop(half_open);
}

/// These have real addresses: they answer the Retry and stall after it.
#[tokio::test]
async fn half_open_handshakes_from_real_addresses_are_bounded() {
    let [a, b, ..] = keys();
    let mut limits = Limits::default();
    limits.max_pending_handshakes = 8;
    limits.max_unvalidated_handshakes = 0;
    limits.max_handshakes_per_address = 4;
    limits.handshake_timeout = Duration::from_secs(2);
    let endpoint = bind_with(&b, allow([&a]), limits);
    let address = endpoint.local_addr().unwrap();
    let greedy = quinn::Endpoint::client("127.0.0.2:0".parse().unwrap()).unwrap();
    let config = client_config(ClientAuth::RawKey(honest("replica-a.pem")), &[kvgossip_transport::ALPN]);
    // A client that is never polled again after its first flights stalls the handshake: quinn drives
    // connections by tasks of its own, so the stall is made by a relay that goes mute after the Retry.
    let relay = mute_after_first(address).await;
    let half_open: Vec<_> =
        (0..40).map(|_| greedy.connect_with(config.clone(), relay, "x.invalid").unwrap()).collect();
    until(|| endpoint.stats().turned_away > 0).await;
    assert!(endpoint.stats().pending <= 4, "{:?}", endpoint.stats());
    assert_serves(&endpoint, &a).await;
    drop(half_open);
}

/// A relay on another address than the other tests', which lets the first answer to each client through
/// (the Retry) and loses the rest.
async fn mute_after_first(listener: std::net::SocketAddr) -> std::net::SocketAddr {
    let front = Arc::new(tokio::net::UdpSocket::bind("127.0.0.2:0").await.unwrap());
    let back = Arc::new(tokio::net::UdpSocket::bind("127.0.0.2:0").await.unwrap());
    let address = front.local_addr().unwrap();
    let dialler = Arc::new(Mutex::new(None));
    let (out_front, out_back, from) = (Arc::clone(&front), Arc::clone(&back), Arc::clone(&dialler));
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, source)) = out_front.recv_from(&mut buffer).await {
            *from.lock().unwrap() = Some(source);
            let _ = out_back.send_to(&buffer[..len], listener).await;
        }
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, _)) = back.recv_from(&mut buffer).await {
            let dialler = *dialler.lock().unwrap();
            // Long header, type Retry (RFC 9000 section 17.2.5).
            if buffer[0] & 0xf0 == 0xf0
                && let Some(dialler) = dialler
            {
                let _ = front.send_to(&buffer[..len], dialler).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn a_listener_that_never_answers_is_given_up_in_time() {
    let [a, b, ..] = keys();
    let mut limits = Limits::default();
    limits.handshake_timeout = Duration::from_millis(300);
    let dialler = bind_with(&a, allow([&b]), limits);
    let silent = UdpSocket::bind(ANY_PORT).unwrap();
    let began = Instant::now();
    let error = soon(dialler.connect(silent.local_addr().unwrap(), None)).await.unwrap_err();
    assert_eq!(error.code(), Code::HandshakeTimeout);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_listener_that_talks_garbage_is_given_up_in_time() {
    let [a, b, ..] = keys();
    let mut limits = Limits::default();
    limits.handshake_timeout = Duration::from_millis(300);
    let dialler = bind_with(&a, allow([&b]), limits);
    let garbage = tokio::net::UdpSocket::bind(ANY_PORT).await.unwrap();
    let address = garbage.local_addr().unwrap();
    let talk = tokio::spawn(async move {
        let mut buffer = vec![0; 2_000];
        while let Ok((_, source)) = garbage.recv_from(&mut buffer).await {
            let _ = garbage.send_to(b"HTTP/1.1 400 Bad Request\r\n\r\n", source).await;
        }
    });
    assert_eq!(soon(dialler.connect(address, None)).await.unwrap_err().code(), Code::HandshakeTimeout);
    talk.abort();
}

/// The trap of TLS 1.3: the dialler has finished, but nobody has admitted it.
#[tokio::test]
async fn a_listener_that_never_confirms_is_given_up_in_time() {
    let [a, ..] = keys();
    let server_key = kvgossip_transport::ReplicaKey::from_pem(&fixture("replica-3072.pem")).unwrap();
    let mut limits = Limits::default();
    limits.handshake_timeout = Duration::from_millis(500);
    let dialler = bind_with(&a, allow([&server_key]), limits);
    let server = raw::server(honest("replica-3072.pem"));
    let address = server.local_addr().unwrap();
    let serve = tokio::spawn(async move {
        let connection = server.accept().await.unwrap().await.unwrap();
        connection.closed().await
    });
    let error = soon(dialler.connect(address, None)).await.unwrap_err();
    assert_eq!(error.code(), Code::HandshakeTimeout);
    soon(serve).await.unwrap();
}

#[tokio::test]
async fn a_listener_with_a_key_that_no_replica_may_have_is_refused() {
    let [a, b, ..] = keys();
    let dialler = bind(&a, allow([&b]));
    let liar = |spki| certified(spki, Arc::new(Liar) as _);
    for key in [
        liar(fixture("bad-rsa1024.spki.der")),
        liar(fixture("bad-ed25519.spki.der")),
        liar(b.spki_der().to_vec()),
        honest("bad-exponent3.pem"),
    ] {
        let server = raw::server(key);
        let address = server.local_addr().unwrap();
        let serve = tokio::spawn(async move { server.accept().await.unwrap().await.map(drop) });
        let error = soon(dialler.connect(address, None)).await.unwrap_err();
        assert!(matches!(error, TransportError::Refused { code: Code::BadKey, .. }), "{error:?}");
        assert!(soon(serve).await.unwrap().is_err());
    }
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_lost_in_time() {
    let [a, b, ..] = keys();
    let mut limits = Limits::default();
    limits.keep_alive = Duration::from_millis(200);
    limits.idle_timeout = Duration::from_millis(2_000);
    let dialled = bind_with(&b, allow([&a]), limits.clone());
    let dialler = bind_with(&a, allow([&b]), limits);
    let relay = Relay::to(dialled.local_addr().unwrap()).await;
    let (out, inward) =
        soon(async { tokio::join!(dialler.connect(relay.address, None), dialled.accept()) }).await;
    let out = out.unwrap();
    // While packets flow, pings keep an idle connection alive beyond the timeout.
    tokio::time::sleep(Duration::from_millis(4_000)).await;
    assert!(!out.is_closed());
    relay.mute(true);
    assert!(matches!(soon(out.closed()).await, TransportError::Lost(_)));
    assert!(matches!(soon(inward.unwrap().closed()).await, TransportError::Lost(_)));
    assert_serves(&dialled, &a).await;
}

/// However often one dialler is refused in one way, it is one clear line; a second one, a warning, if it goes on for
/// more than five seconds, which sixty attempts may take on a slow machine.
#[test]
fn refusals_are_logged_with_their_code_and_never_flood() {
    let _second = second_listener();
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || Sink(Arc::clone(&sink)))
        .finish();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        runtime.block_on(async {
            let [a, b, c, _] = keys();
            let endpoint = bind(&b, allow([&a]));
            let stranger = bind(&c, allow([&b]));
            for _ in 0..60 {
                let refused = soon(stranger.connect(endpoint.local_addr().unwrap(), None)).await;
                assert_eq!(refused.unwrap_err().code(), Code::NotAdmitted);
            }
            until(|| endpoint.stats().failed == 60).await;
        });
    });
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    let told = |line: &&str| line.contains("a peer that dialled in");
    let lines: Vec<_> = log.lines().filter(told).collect();
    let stranger = keys()[2].id().to_string();
    let parts = ["INFO", "peer.not_admitted", "127.0.0.1", &stranger];
    assert!(parts.iter().all(|part| lines[0].contains(part)), "{}", lines[0]);
    let rest = &lines[1..];
    assert!(rest.len() <= 1 && rest.iter().all(|line| line.contains("WARN")), "no news: {lines:?}");
}

/// While a single listener stands, `tracing` asks the one of the thread that comes to a line first whether the line is of
/// interest, and remembers that for all: a test without a listener would silence it. With two, all are asked.
fn second_listener() -> tracing::Dispatch {
    tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new())
}

/// A dialler that gives up in the handshake speaks the protocol well, and has not been cut off by TLS.
#[tokio::test]
async fn a_dialler_that_gives_up_is_told_apart_from_one_that_is_incompatible() {
    let _second = second_listener();
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || Sink(Arc::clone(&sink)))
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let [a, b, ..] = keys();
    let endpoint = bind(&b, allow([&a]));
    let relay = Relay::to(endpoint.local_addr().unwrap()).await;
    relay.mute(true);
    let client = raw::client(ClientAuth::RawKey(honest("replica-a.pem")));
    let half_open = client.connect(relay.address, "x.invalid").unwrap();
    until(|| endpoint.stats().pending == 1).await;
    drop(half_open);
    until(|| endpoint.stats().failed == 1).await;
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("a peer that dialled in")).expect("a line");
    assert!(line.contains("connection.closed") && line.contains("gave the handshake up"), "{line}");
    assert!(line.contains("INFO") && !line.contains("incompatible"), "{line}");
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
