//! Bytes captured from Serf's own command line and agent, decoded and encoded again.

use super::{
    AuthKey, Command, Limits, Request, Session, Step,
    message::{
        CoordinateReply, Joined, Keys, LogRecord, Members, QueryEvent, QueryRecord, ReplyHeader, Stats,
        UserEvent,
    },
};
use crate::wire::{
    Text,
    field::Field,
    msgpack::{self, Reader},
};

/// A Serf command, with all bytes in both directions.
struct Talk {
    name: &'static str,
    client: Vec<u8>,
    agent: Vec<u8>,
}

fn talks() -> Vec<Talk> {
    let mut talks: Vec<Talk> = Vec::new();
    for line in include_str!("../../tests/fixtures/rpc.hex").lines() {
        match line.split_once(' ') {
            Some(("##", name)) => talks.push(Talk { name, client: Vec::new(), agent: Vec::new() }),
            Some(("C", digits)) => {
                talks.last_mut().expect("a name").client = hex::decode(digits).expect("hex")
            }
            Some(("S", digits)) => {
                talks.last_mut().expect("a name").agent = hex::decode(digits).expect("hex")
            }
            _ => {}
        }
    }
    assert!(talks.len() >= 16, "{}", talks.len());
    talks
}

fn talk(name: &str) -> Talk {
    talks().into_iter().find(|talk| talk.name == name).expect(name)
}

/// Returns all captured bytes of clients, for the mutation tests.
pub(super) fn captured() -> Vec<Vec<u8>> {
    talks().into_iter().map(|talk| talk.client).collect()
}

/// Re-encodes values with all texts as in the first edition of msgpack; short texts of the second edition,
/// `str8`, differ.
fn first_edition(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut reader) = (Vec::new(), Reader::new(bytes));
    while !reader.rest().is_empty() {
        let from = reader.position();
        let (len, _) = reader.step().expect("a value");
        match bytes[from] {
            0xd9 => msgpack::write_raw(&mut out, reader.take(len).expect("text")),
            _ => {
                reader.take(len).expect("the rest of it");
                out.extend_from_slice(&bytes[from..reader.position()]);
            }
        }
    }
    out
}

/// Returns the requests of a captured client, except those that the session handles itself.
fn requests(talk: &Talk) -> Vec<(u64, Request)> {
    let mut session = Session::new(&Limits::default(), AuthKey::new(b"secret"));
    session.push(&talk.client);
    let mut requests = Vec::new();
    while let Some(step) = session.poll().expect(talk.name) {
        if let Step::Request { seq, request } = step {
            requests.push((seq, request));
        }
    }
    assert!(!session.is_partial(), "{}", talk.name);
    requests
}

#[test]
fn requests_of_serfs_command_line_are_read_and_written_alike() {
    let mut commands = std::collections::BTreeSet::new();
    for talk in talks() {
        for (seq, request) in requests(&talk) {
            commands.insert(request.command().name());
            let own = request.encode(seq);
            let captured = first_edition(&talk.client);
            // Here clients write nil for an empty map of filters, and this implementation does not.
            if talk.name != "reachability" || request.command() != Command::Query {
                let found = captured.windows(own.len()).any(|window| window == own);
                assert!(found, "{}: {request:?} is not written as {own:02x?}", talk.name);
            }
        }
    }
    let seen: Vec<_> = commands.into_iter().collect();
    let expected = [
        "event",
        "force-leave",
        "get-coordinate",
        "install-key",
        "join",
        "leave",
        "list-keys",
        "members",
        "members-filtered",
        "monitor",
        "query",
        "stats",
        "stop",
        "stream",
        "tags",
    ];
    assert_eq!(seen, expected);
}

#[test]
fn the_fields_of_requests_are_understood() {
    let only = |name: &str| requests(&talk(name)).remove(0).1;
    let Request::MembersFiltered(wanted) = only("members -status=alive -tag role=w.b -name=gold.*") else {
        panic!("another request");
    };
    assert_eq!((wanted.name.as_str(), wanted.status.as_str()), ("gold.*", "alive"));
    assert_eq!(wanted.tags[b"role".as_slice()], "w.b");
    let Request::Query(ask) = only("query -timeout=1s uptime payload") else { panic!("another request") };
    assert_eq!((ask.name.as_str(), ask.timeout_ns, ask.request_ack), ("uptime", 1_000_000_000, true));
    assert_eq!(ask.payload.0.as_deref(), Some(&b"payload"[..]));
    let Request::Tags(tags) = only("tags -set zone=east -delete role") else { panic!("another request") };
    assert_eq!(
        (tags.tags[b"zone".as_slice()].as_str(), tags.delete_tags.as_slice()),
        ("east", &["role".into()][..])
    );
}

/// Decodes a record of an agent, and requires that encoding it gives the same bytes.
fn again<T: Field + Clone>(name: &str, reader: &mut Reader<'_>, exactly: bool) -> T {
    let before = reader.clone();
    let value = T::decode(reader).expect(name);
    let taken = &before.rest()[..reader.position() - before.position()];
    let mut own = Vec::new();
    value.encode(&mut own);
    if exactly {
        assert_eq!(own, first_edition(taken), "{name}");
    }
    value
}

/// Decodes the replies to the handshake, to `auth`, and to the following request.
fn replied<'a>(talk: &'a Talk) -> Reader<'a> {
    let mut reader = Reader::new(&talk.agent);
    for seq in 1..=3 {
        let header: ReplyHeader = again(talk.name, &mut reader, true);
        assert_eq!((header.seq, header.error.as_str()), (seq, ""), "{}", talk.name);
    }
    reader
}

#[test]
fn replies_of_serfs_agent_are_read_and_written_alike() {
    let members = talk("members");
    let list: Members = again("members", &mut replied(&members), true);
    let golden = &list.members.as_slice()[0];
    assert_eq!((golden.name.as_str(), golden.status.as_str(), golden.port), ("golden", "alive", 7946));
    assert_eq!(golden.addr.0.as_deref(), Some(&[127, 77, 33, 1][..]));

    let info = talk("info");
    let stats: Stats = again("info", &mut replied(&info), false);
    assert_eq!(stats[b"agent".as_slice()][b"name".as_slice()], "golden");
    let keys = talk("keys -list");
    let keys: Keys = again("keys", &mut replied(&keys), true);
    assert_eq!((keys.keys.values().sum::<u64>(), keys.nodes, keys.responses, keys.errors), (1, 1, 1, 0));
    // Nil instead of an empty map.
    let _: Keys = again(
        "keys",
        &mut replied(&talk("keys -install CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=")),
        false,
    );
    let joined: Joined = again("join", &mut replied(&talk("join 127.77.33.1")), true);
    assert_eq!(joined.num, 1);
    let place: CoordinateReply = again("rtt", &mut replied(&talk("rtt golden golden")), true);
    assert!(place.known && place.place.vec.as_slice().len() == 8);
    for name in ["event deploy 1.2.3", "tags -set zone=east -delete role", "leave"] {
        assert!(replied(&talk(name)).rest().is_empty(), "{name}");
    }
}

#[test]
fn records_of_serfs_agent_are_read_and_written_alike() {
    let query = talk("query -timeout=1s uptime payload");
    let mut reader = replied(&query);
    let mut kinds = Vec::new();
    while !reader.rest().is_empty() {
        let _: ReplyHeader = again("query", &mut reader, true);
        let record: QueryRecord = again("query", &mut reader, true);
        kinds.push((record.kind, record.from, record.payload.0));
    }
    let golden = || Text::from("golden");
    let expected = [
        ("ack".into(), golden(), None),
        ("response".into(), golden(), Some(b"three days\n".to_vec())),
        ("done".into(), Text::default(), None),
    ];
    assert_eq!(kinds, expected);

    let monitor = talk("monitor");
    let mut reader = replied(&monitor);
    let _: ReplyHeader = again("monitor", &mut reader, true);
    let _: ReplyHeader = again("monitor", &mut reader, true);
    let line: LogRecord = again("monitor", &mut reader, true);
    assert!(line.log.as_str().contains("[INFO] agent: Serf agent starting"), "{line:?}");
    let _: ReplyHeader = again("monitor", &mut reader, true);
    let asked: QueryEvent = again("monitor", &mut reader, true);
    assert_eq!((asked.event.as_str(), asked.id, asked.name.as_str()), ("query", 1, "hello"));
    let _: ReplyHeader = again("monitor", &mut reader, true);
    let event: UserEvent = again("monitor", &mut reader, true);
    assert_eq!((event.event.as_str(), event.ltime, event.payload.0), ("user", 2, Some(b"world".to_vec())));
}

#[test]
fn refusals_are_those_that_serfs_command_line_knows() {
    // Without the key, and with a wrong one: the client's bytes, and the agent's reply.
    let unknown = talks().into_iter().filter(|talk| talk.name == "members").nth(1).expect("without a key");
    for (talk, error) in
        [(unknown, "Authentication required"), (talk("members wrong"), "Invalid authentication token")]
    {
        let mut session = Session::new(&Limits::default(), AuthKey::new(b"secret"));
        session.push(&talk.client);
        let mut said = Vec::new();
        while let Some(Step::Reply(bytes) | Step::Last(bytes)) = session.poll().expect(talk.name) {
            said.extend(bytes);
        }
        // Serf's agent takes the body of a refused request for another request.
        assert!(talk.agent.starts_with(&said), "{}", talk.name);
        let last = super::reply(2, error);
        assert!(said.ends_with(&last), "{}: {said:02x?}", talk.name);
    }
}
