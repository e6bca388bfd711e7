//! Members on real sockets, among themselves.

use std::{net::SocketAddr, time::Duration};

use kvgossip_membership::{Error, Event, Membership, Options, QueryParams, Status, driver::Answer};
use kvgossip_testkit::wait::{eventually, soon};
use tokio::sync::mpsc;

fn options(name: &str) -> Options {
    Options::new(name, SocketAddr::from(([127, 0, 0, 1], 0)))
}

async fn start(name: &str) -> (Membership, mpsc::Receiver<Event>) {
    Membership::start(options(name)).await.expect("starts")
}

/// Waits for an event that `pick` takes.
async fn wait<T>(events: &mut mpsc::Receiver<Event>, pick: impl Fn(Event) -> Option<T>) -> T {
    let next = async {
        loop {
            if let Some(value) = pick(events.recv().await.expect("the member runs")) {
                return value;
            }
        }
    };
    soon(next).await
}

#[tokio::test]
async fn a_join_that_cannot_work_says_why() {
    let (member, _events) = start("a").await;
    // A port that was just free, and that nobody listens at.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let error = member.join(&[free], false).await.expect_err("nobody is there");
    assert!(matches!(&error, Error::Join(failures) if failures.len() == 1), "{error}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    let (other, _other_events) = start("b").await;
    assert_eq!(member.join(&[free, other.local_addr()], false).await.expect("one is there"), 1);
    let taken = Options::new("c", member.local_addr());
    assert!(
        matches!(Membership::start(taken).await, Err(Error::Bind { addr, .. }) if addr == member.local_addr())
    );
    let nameless = Membership::start(options("")).await;
    assert!(matches!(nameless, Err(Error::Config(_))));
}

#[tokio::test]
async fn a_slow_application_loses_the_newest_events_and_is_told() {
    let small = Options { event_capacity: 4, ..options("slow") };
    let (member, mut events) = Membership::start(small).await.expect("starts");
    for n in 0..10 {
        member.user_event(&n.to_string(), b"", false).await.expect("is sent");
    }
    let name = |event| match event {
        Event::UserEvent { name, .. } => name.to_string(),
        Event::Lagged { dropped } => format!("{dropped} dropped"),
        other => panic!("{other:?}"),
    };
    // A command's answer comes after what came before it.
    member.stats().await.expect("runs");
    for n in 0..4 {
        assert_eq!(events.recv().await.map(name), Some(n.to_string()));
    }
    member.user_event("last", b"", false).await.expect("is sent");
    assert_eq!(events.recv().await.map(name).as_deref(), Some("6 dropped"));
    assert_eq!(events.recv().await.map(name).as_deref(), Some("last"));
}

#[tokio::test]
async fn members_among_themselves() {
    let (first, mut first_events) = start("first").await;
    let (second, mut second_events) = start("second").await;
    let (third, _third_events) = start("third").await;
    for member in [&second, &third] {
        member.join(&[first.local_addr()], false).await.expect("joins");
    }
    for name in ["second", "third"] {
        wait(&mut first_events, |e| matches!(e, Event::MemberJoined(m) if m.name == name).then_some(()))
            .await;
    }
    second.set_tags([("role".into(), "db".into())].into()).await.expect("fits");
    let updated = |e| match e {
        Event::MemberUpdated(member) => Some(member.tags),
        _ => None,
    };
    assert_eq!(wait(&mut first_events, updated).await, [("role".into(), "db".into())].into());

    let params =
        QueryParams { tags: vec![("role".into(), "db".into())], request_ack: true, ..Default::default() };
    let mut answers = first.query("who", b"", params).await.expect("is sent");
    let query = wait(&mut second_events, |e| match e {
        Event::Query(query) => Some(query),
        _ => None,
    });
    let query = query.await;
    second.respond(&query, b"me").await.expect("in time");
    let mut heard = Vec::new();
    while let Some(answer) = answers.next().await {
        heard.push(answer);
    }
    let response = Answer::Response { from: "second".into(), payload: b"me".to_vec() };
    assert_eq!(heard, [Answer::Ack("second".into()), response]);

    // Leaving is not failing; a stopped member is not heard any more.
    second.leave().await.expect("leaves");
    drop(second);
    wait(&mut first_events, |e| matches!(e, Event::MemberLeft(m) if m.name == "second").then_some(())).await;
    drop(third);
    wait(&mut first_events, |e| matches!(e, Event::MemberFailed(m) if m.name == "third").then_some(())).await;
    let members = first.members().await.expect("runs");
    let mut all: Vec<_> = members.iter().map(|m| (m.name.to_string(), m.status)).collect();
    all.sort();
    assert_eq!(all, [("second".to_owned(), Status::Left), ("third".to_owned(), Status::Failed)]);
}

/// Connections that say nothing are closed, and do not keep others out for ever.
#[tokio::test]
async fn idle_connections_are_closed() {
    use tokio::io::AsyncReadExt;
    let mut quick = options("quick");
    quick.timing.stream_timeout = Duration::from_millis(1500);
    let (member, _events) = Membership::start(quick).await.expect("starts");
    let mut idle = Vec::new();
    for _ in 0..80 {
        idle.push(tokio::net::TcpStream::connect(member.local_addr()).await.expect("connects"));
    }
    let closed = async {
        for stream in &mut idle {
            // The end, or a reset.
            let _ = stream.read(&mut [0; 1]).await;
        }
    };
    soon(closed).await;
    let (other, _other_events) = start("other").await;
    assert_eq!(other.join(&[member.local_addr()], false).await.expect("there is room again"), 1);
    assert!(member.stats().await.expect("runs").rejected >= 16, "80 are more than the member takes");
}

/// Whoever asks for the whole state and does not read it takes memory here: all of them together have a budget.
#[tokio::test]
async fn replies_that_nobody_reads_are_bounded() {
    use kvgossip_membership::{
        Framing,
        wire::{
            memberlist::{NodeState, PushPull, VSN, ip_bytes},
            stream::{self, StreamMessage},
        },
    };
    use rand::{SeedableRng, rngs::StdRng};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut big = Options { event_capacity: 128 * 1024, ..options("big") };
    big.framing.compress = false;
    let (member, _events) = Membership::start(big).await.expect("starts");
    let ask = async |nodes: Vec<NodeState>| {
        let message = StreamMessage::PushPull(PushPull { nodes, ..PushPull::default() });
        let bytes = stream::encode(&Framing::default(), &message, &mut StdRng::seed_from_u64(1));
        let mut socket = tokio::net::TcpStream::connect(member.local_addr()).await.expect("connects");
        socket.write_all(&bytes.expect("encodes")).await.expect("is read");
        socket
    };
    let node = |number: u16| NodeState {
        addr: ip_bytes(std::net::Ipv4Addr::LOCALHOST.into()),
        incarnation: 1,
        meta: Some(vec![7; 512]),
        name: format!("{:0200}", number).into(),
        port: number,
        vsn: Some(VSN.to_vec()),
        ..NodeState::default()
    };
    // A state of some 16 MB.
    let mut first = ask((1..20_000).map(node).collect()).await;
    first.read_to_end(&mut Vec::new()).await.expect("an answer");
    let dropped = async || member.stats().await.expect("runs").dropped;
    let before = dropped().await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(ask(Vec::new()).await);
    }
    eventually("some of them are not answered", async || dropped().await >= before + 4).await;
    // When they are gone there is room again.
    drop(silent);
    let answered = async || {
        let mut answer = Vec::new();
        ask(Vec::new()).await.read_to_end(&mut answer).await.is_ok_and(|len| len > 10_000_000)
    };
    eventually("somebody is answered again", answered).await;
}
