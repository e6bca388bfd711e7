//! Serf's RPC over real sockets: what clients may take, and what goes on behind a reply.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kvgossip_membership::{
    Event, Membership, Options, QueryParams, Text,
    driver::{
        Answer,
        rpc::{self, Host, Level, Logs, Server},
    },
    rpc::{
        AuthKey, Limits, Request,
        message::{
            self, ForceLeave, Keys, LogRecord, MemberEvent, Monitor, QueryEvent, ReplyHeader, Respond,
            SendEvent, Stop, Stream, UserEvent,
        },
    },
};
use kvgossip_testkit::{
    serf::rpc::Client,
    wait::{PATIENCE, eventually, soon},
};
use tokio::{io::AsyncWriteExt, net::TcpSocket};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A member with a log, and a count of clients that had it leave.
#[derive(Clone)]
struct Own {
    member: Membership,
    logs: Logs,
    left: Arc<AtomicUsize>,
}

impl Host for Own {
    fn member(&self) -> Result<Membership, String> {
        Ok(self.member.clone())
    }

    fn check_tag(&self, name: &Text) -> Result<(), String> {
        if *name == "mine" { Err("the tag mine is not yours".into()) } else { Ok(()) }
    }

    fn left(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    fn logs(&self) -> Option<&Logs> {
        Some(&self.logs)
    }
}

async fn member(name: &str) -> Own {
    let mut options = Options::new(name, LOOPBACK);
    options.tags = [("mine".into(), "1".into())].into();
    let (member, mut events) = Membership::start(options).await.expect("starts");
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    Own { member, logs: Logs::default(), left: Arc::default() }
}

fn serve(host: &Own, limits: Limits) -> SocketAddr {
    let server = Server::bind(rpc::Options { limits, ..rpc::Options::new(LOOPBACK) }, host.clone());
    let server = server.expect("a free port");
    let address = server.local_addr();
    tokio::spawn(server.run());
    address
}

fn event(name: &str) -> Request {
    Request::Event(SendEvent { name: name.into(), ..SendEvent::default() })
}

fn stream(kind: &str) -> Request {
    Request::Stream(Stream { kind: kind.into() })
}

fn monitor(level: &str) -> Request {
    Request::Monitor(Monitor { log_level: level.into() })
}

#[tokio::test]
async fn only_loopback_addresses_are_served_without_a_key() {
    let host = member("a").await;
    for open in ["0.0.0.0:0", "[::]:0", "10.1.2.3:7373"] {
        let options = rpc::Options::new(open.parse().expect("an address"));
        let refused = Server::bind(options.clone(), host.clone()).expect_err("it would be open");
        assert!(matches!(&refused, rpc::Error::NotLoopback(_)) && refused.to_string().contains("loopback"));
        let with_key = rpc::Options { auth: AuthKey::new(b"secret"), ..options };
        assert!(with_key.check().is_ok());
    }
    let taken = serve(&host, Limits::default());
    let refused = Server::bind(rpc::Options::new(taken), host).expect_err("it is taken");
    assert!(refused.to_string().contains(&taken.to_string()), "{refused}");
    assert!(AuthKey::new(b"").is_none());
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_its_place_is_free_again_later() {
    let address = serve(&member("a").await, Limits { connections: 2, ..Limits::default() });
    let (first, mut second) = (Client::new(address).await, Client::new(address).await);
    assert_eq!(Client::silent(address).await.greet().await, None);
    drop(first);
    eventually("a place is free", async || Client::silent(address).await.greet().await).await;
    assert_eq!(second.ask(&event("x")).await, "");
}

/// Serf's command line says "client closed" in place of the reason when both come at once.
#[tokio::test]
async fn who_is_refused_has_time_to_read_why_and_goes_first() {
    let host = member("a").await;
    let refused = async |client: &mut Client| {
        client.send(&Request::Stats).await;
        assert!(client.value::<ReplyHeader>().await.error.to_string().contains("Handshake"));
    };
    let limits = Limits { linger: Duration::from_millis(300), ..Limits::default() };
    let mut client = Client::silent(serve(&host, limits.clone())).await;
    let began = tokio::time::Instant::now();
    refused(&mut client).await;
    client.until_closed().await;
    assert!(began.elapsed() >= limits.linger, "{:?}", began.elapsed());

    // Whoever goes frees its place at once.
    let address = serve(&host, Limits { connections: 1, linger: 2 * PATIENCE, ..limits });
    let mut client = Client::silent(address).await;
    refused(&mut client).await;
    drop(client);
    eventually("the place is free", async || Client::silent(address).await.greet().await).await;
}

#[tokio::test]
async fn whoever_is_silent_or_slow_or_loud_is_cut_off_and_whoever_listens_is_not() {
    // Long enough for a handshake on a busy machine.
    let short = Duration::from_millis(1500);
    let limits =
        Limits { open_timeout: short, request_timeout: short, idle_timeout: short, ..Limits::default() };
    let host = member("a").await;
    let address = serve(&host, limits);
    let mut listening = Client::new(address).await;
    assert_eq!(listening.ask(&stream("user")).await, "");
    let seq = listening.seq;

    let silent = async { Client::silent(address).await.until_closed().await };
    let idle = async { Client::new(address).await.until_closed().await };
    let half = async {
        let mut half = Client::new(address).await;
        let bytes = event("never").encode(9);
        half.socket.write_all(&bytes[..bytes.len() - 1]).await.expect("connected");
        half.until_closed().await;
    };
    // A little at a time does not help.
    let slow = async {
        let mut slow = Client::silent(address).await;
        while slow.socket.write_all(&[0x81]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(async { tokio::join!(silent, idle, half, slow) }).await;
    // What is longer than any request is not waited for.
    let mut loud = Client::new(address).await;
    let payload = vec![0; Limits::default().request_bytes].into();
    loud.send(&Request::Event(SendEvent { payload, ..SendEvent::default() })).await;
    loud.until_closed().await;
    let mut other = Client::silent(address).await;
    other.socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("connected");
    other.until_closed().await;

    host.member.user_event("hello", b"", false).await.expect("is sent");
    assert_eq!(listening.record::<UserEvent>(seq).await.name, "hello");
}

#[tokio::test]
async fn whoever_does_not_read_loses_its_place_and_nobody_else_does() {
    let limits = Limits { connections: 1, write_timeout: Duration::from_millis(300), ..Limits::default() };
    let host = member("a").await;
    let address = serve(&host, limits);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    let socket = socket.connect(address).await.expect("it listens");
    let mut deaf = Client::on(socket);
    deaf.greet().await.expect("a place");
    assert_eq!(deaf.ask(&monitor("info")).await, "");
    let line = "x".repeat(4096);
    eventually("it loses its place", async || {
        for _ in 0..100 {
            host.logs.publish(Level::Info, &line);
        }
        Client::silent(address).await.greet().await
    })
    .await;
}

/// Little waits, so that no write does: the system notices that nothing is taken.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn whoever_takes_nothing_loses_its_place_though_little_waits() {
    let stall_timeout = Duration::from_millis(500);
    let limits = Limits { connections: 1, stall_timeout, ..Limits::default() };
    let host = member("a").await;
    let address = serve(&host, limits);
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a size");
    let socket = socket.connect(address).await.expect("it listens");
    let mut deaf = Client::on(socket);
    deaf.greet().await.expect("a place");
    assert_eq!(deaf.ask(&monitor("info")).await, "");
    for _ in 0..16 {
        host.logs.publish(Level::Info, &"x".repeat(4096));
    }
    eventually("it loses its place", async || Client::silent(address).await.greet().await).await;
}

#[tokio::test]
async fn subscriptions_are_counted_and_end_when_they_are_stopped() {
    let limits = Limits { subscriptions: 3, ..Limits::default() };
    let host = member("a").await;
    let mut client = Client::new(serve(&host, limits)).await;
    assert_eq!(client.ask(&stream("user:a")).await, "");
    let events = client.seq;
    assert_eq!(client.ask(&stream("nonsense")).await, "Invalid event filter");
    assert_eq!(client.ask(&monitor("loud")).await, "Unknown log level: LOUD");
    host.logs.publish(Level::Warn, "before");
    assert_eq!(client.ask(&monitor("warn")).await, "");
    let lines = client.seq;
    assert_eq!(client.record::<LogRecord>(lines).await.log, "before");
    assert_eq!(client.ask(&monitor("warn")).await, "Monitor already exists");
    client.seq = events - 1;
    assert_eq!(client.ask(&stream("*")).await, "Stream with given sequence exists");
    client.seq = lines;
    assert_eq!(client.ask(&stream("*")).await, "");
    let all = client.seq;
    assert!(client.ask(&stream("*")).await.contains("at most 3"));

    host.logs.publish(Level::Info, "detail");
    host.logs.publish(Level::Error, "after");
    assert_eq!(client.record::<LogRecord>(lines).await.log, "after");
    for stop in [lines, all, 77] {
        assert_eq!(client.ask(&Request::Stop(Stop { stop })).await, "");
    }
    host.logs.publish(Level::Error, "nobody hears it");
    for name in ["b", "a"] {
        host.member.user_event(name, b"", false).await.expect("is sent");
    }
    let event: UserEvent = client.record(events).await;
    // Clients of Serf's agents are given nil where there is nothing.
    assert_eq!((event.name.to_str(), event.payload.0), (Some("a"), None));
    assert_eq!(client.ask(&monitor("err")).await, "");
}

#[tokio::test]
async fn queries_of_others_are_streamed_and_answered() {
    let (asker, host) = (member("asker").await, member("a").await);
    let mut client = Client::new(serve(&host, Limits { asked: 2, ..Limits::default() })).await;
    assert_eq!(client.ask(&stream("query:uptime,member-join")).await, "");
    let seq = client.seq;
    host.member.join(&[asker.member.local_addr()], true).await.expect("joins");
    let joined: MemberEvent = client.record(seq).await;
    assert!(joined.event == "member-join" && joined.members.as_slice()[0].name == "asker", "{joined:?}");

    let lasting = QueryParams { timeout: Some(PATIENCE), ..QueryParams::default() };
    let mut answers = asker.member.query("uptime", b"?", lasting.clone()).await.expect("is asked");
    let asked: QueryEvent = client.record(seq).await;
    assert_eq!((asked.id, asked.name, asked.payload.0), (1, "uptime".into(), Some(b"?".to_vec())));
    let respond = |id| Request::Respond(Respond { id, payload: b"three days".to_vec().into() });
    assert_eq!(client.ask(&respond(9)).await, "No pending queries matching ID");
    assert_eq!(client.ask(&respond(1)).await, "");
    let answer = Answer::Response { from: "a".into(), payload: b"three days".to_vec() };
    assert_eq!(answers.next().await, Some(answer));
    // Two are remembered.
    for id in 2..=3 {
        asker.member.query("uptime", b"", lasting.clone()).await.expect("is asked");
        let asked: QueryEvent = client.record(seq).await;
        assert_eq!((asked.id, asked.payload.0), (id, None));
    }
    assert_eq!(client.ask(&respond(1)).await, "No pending queries matching ID");
    assert_eq!(client.ask(&respond(2)).await, "");
}

#[tokio::test]
async fn what_is_refused_is_said_and_the_connection_goes_on() {
    let host = member("a").await;
    let mut client = Client::new(serve(&host, Limits::default())).await;
    let nobody = Request::ForceLeave(ForceLeave { node: "nobody".into(), prune: false });
    assert!(client.ask(&nobody).await.contains("nobody"));
    assert!(client.ask(&event(&"x".repeat(600))).await.contains("512"));
    let query = |name: &str| Request::Query(message::Ask { name: name.into(), ..Default::default() });
    assert!(client.ask(&query("_serf_list-keys")).await.contains("'_serf_' prefix"));
    let tags = |set: &[(&str, &str)], delete: &[&str]| {
        let delete_tags = delete.iter().map(|name| Text::from(*name)).collect::<Vec<_>>().into();
        let tags = set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Request::Tags(message::ChangeTags { delete_tags, tags })
    };
    assert_eq!(client.ask(&tags(&[("mine", "2")], &[])).await, "the tag mine is not yours");
    assert_eq!(client.ask(&tags(&[("role", "web")], &["mine"])).await, "the tag mine is not yours");
    assert!(client.ask(&tags(&[("long", &"x".repeat(600))], &[])).await.contains("512"));
    assert_eq!(client.ask(&tags(&[("role", "web"), ("zone", "east")], &[])).await, "");
    assert_eq!(client.ask(&tags(&[("zone", "west")], &["role", "zone", "none"])).await, "");
    let own = host.member.local_member().await.expect("runs").tags;
    assert_eq!(own, [("mine".into(), "1".into()), ("zone".into(), "west".into())].into());
    // Clients wait for the body of a reply, even of one that is an error.
    let seq = client.send(&Request::InstallKey(message::ChangeKey { key: "no base64".into() })).await;
    let header: ReplyHeader = client.value().await;
    assert!(header.seq == seq && header.error.to_string().contains("base64"), "{header:?}");
    assert_eq!(client.value::<Keys>().await, Keys::default());

    assert_eq!(client.ask(&Request::Leave).await, "");
    client.until_closed().await;
    assert_eq!(host.left.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_slow_subscriber_loses_events_alone_and_is_told() {
    let host = member("a").await;
    let is_user = |event: &Event| matches!(event, Event::UserEvent { .. });
    let mut slow = host.member.subscribe(2, is_user).await.expect("room");
    let mut quick = host.member.subscribe(64, is_user).await.expect("room");
    for n in 0..5 {
        host.member.user_event(&n.to_string(), b"", false).await.expect("is sent");
    }
    let name = |event| match event {
        Some(Event::UserEvent { name, .. }) => name.to_string(),
        Some(Event::Lagged { dropped }) => format!("{dropped} dropped"),
        other => panic!("{other:?}"),
    };
    for n in 0..5 {
        assert_eq!(name(quick.recv().await), n.to_string());
    }
    assert_eq!((name(slow.recv().await), name(slow.recv().await)), ("0".into(), "1".into()));
    host.member.user_event("last", b"", false).await.expect("is sent");
    assert_eq!((name(slow.recv().await), name(slow.recv().await)), ("3 dropped".into(), "last".into()));
    assert_eq!(host.member.stats().await.expect("runs").dropped, 3);
}

#[tokio::test]
async fn a_stream_tells_the_last_of_events_that_may_be_merged() {
    let host = member("a").await;
    let mut client = Client::new(serve(&host, Limits::default())).await;
    assert_eq!(client.ask(&stream("user")).await, "");
    let seq = client.seq;
    for n in 0..8 {
        host.member.user_event("deploy", &[n], true).await.expect("fits");
    }
    host.member.user_event("now", b"", false).await.expect("fits");
    let mut told = Vec::new();
    while told.last() != Some(&(Text::from("deploy"), vec![7])) {
        let event: UserEvent = client.record(seq).await;
        told.push((event.name, event.payload.0.unwrap_or_default()));
    }
    // One, unless this machine was so slow that they came in more than one wave.
    let deploys = told.iter().filter(|(name, _)| *name == "deploy").count();
    assert!(deploys <= 4 && told.len() == deploys + 1, "{told:?}");
}
