//! Environment and standard input of an event handler, compatible with Serf's agents. Names and tags are passed as
//! the bytes received. A value that contains a NUL byte is left out, because environment variables cannot hold it.

use kvgossip_membership::rpc::Coalesced;
use kvgossip_membership::{Event, Member, Text};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Returns the environment variables that describe the event and the member that runs the handler.
pub(super) fn environment(record: &Coalesced, own: &Member) -> Vec<(OsString, OsString)> {
    let mut all: Vec<(OsString, OsString)> = Vec::new();
    let mut set = |name: &str, value: &[u8]| {
        if !value.contains(&0) {
            all.push((name.into(), OsString::from_vec(value.to_vec())));
        }
    };
    set("SERF_EVENT", record.kind().unwrap_or_default().as_bytes());
    set("SERF_SELF_NAME", &own.name);
    set("SERF_SELF_ROLE", role(own));
    for (name, value) in &own.tags {
        set(&format!("SERF_TAG_{}", variable(name)), value);
    }
    match record {
        Coalesced::Event(Event::UserEvent { name, ltime, .. }) => {
            set("SERF_USER_EVENT", name);
            set("SERF_USER_LTIME", ltime.to_string().as_bytes());
        }
        Coalesced::Event(Event::Query(query)) => {
            set("SERF_QUERY_NAME", &query.name);
            set("SERF_QUERY_LTIME", query.id.ltime.to_string().as_bytes());
        }
        _ => {}
    }
    all
}

fn role(member: &Member) -> &[u8] {
    member.tags.get(b"role".as_slice()).map_or(b"", Text::as_bytes)
}

/// Converts a tag name to a part of a variable name: each character that is not an ASCII letter, digit or underscore,
/// and each byte that is not UTF-8, becomes an underscore.
fn variable(name: &Text) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let chunks = name.utf8_chunks();
    chunks
        .flat_map(|chunk| chunk.valid().chars().map(fits).chain(chunk.invalid().iter().map(|_| '_')))
        .collect()
}

/// Returns the standard input of a handler's command. For member events: one line per member with name, address, role
/// and tags, separated by tabs. For user events and queries: the payload, terminated by a line feed.
pub(super) fn input(record: &Coalesced) -> Vec<u8> {
    match record {
        Coalesced::Members { members, .. } => members.iter().flat_map(line).collect(),
        Coalesced::Event(Event::UserEvent { payload, .. }) => with_line_feed(payload),
        Coalesced::Event(Event::Query(query)) => with_line_feed(&query.payload),
        _ => Vec::new(),
    }
}

fn line(member: &Member) -> Vec<u8> {
    let ip = member.addr.ip().to_string();
    let tags: Vec<_> = member.tags.iter().map(|(name, value)| [name, &b"="[..], value].concat()).collect();
    let fields = [&member.name, ip.as_bytes(), role(member), &tags.join(&b","[..])].map(one_field);
    [fields.join(&b"\t"[..]), b"\n".to_vec()].concat()
}

fn one_field(bytes: &[u8]) -> Vec<u8> {
    let escaped = |byte: &u8| match byte {
        b'\t' => b"\\t".to_vec(),
        b'\n' => b"\\n".to_vec(),
        other => vec![*other],
    };
    bytes.iter().flat_map(escaped).collect()
}

fn with_line_feed(payload: &[u8]) -> Vec<u8> {
    let mut all = payload.to_vec();
    if !all.is_empty() && !all.ends_with(b"\n") {
        all.push(b'\n');
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_membership::Status;
    use kvgossip_membership::core::Answered;
    use std::os::unix::ffi::OsStrExt;

    fn member(name: &str, tags: &[(&str, &str)]) -> Member {
        Member {
            name: name.into(),
            addr: ([10, 0, 0, 7], 7946).into(),
            tags: tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            status: Status::Alive,
            suspect: false,
            incarnation: 1,
            versions: [1, 5, 2, 2, 5, 5],
            rtt: None,
            answered: Answered::Yes,
        }
    }

    fn user(name: &str, ltime: u64, payload: &[u8]) -> Coalesced {
        let (name, payload) = (name.into(), payload.to_vec());
        Coalesced::Event(Event::UserEvent { ltime, name, payload, coalesce: true })
    }

    #[test]
    fn each_member_is_a_line_and_its_name_cannot_write_others() {
        let members = vec![member("db\t1\nx", &[("role", "db"), ("zone", "a\nb")]), member("y", &[])];
        let told = input(&Coalesced::Members { kind: "member-failed", members });
        let lines = "db\\t1\\nx\t10.0.0.7\tdb\trole=db,zone=a\\nb\ny\t10.0.0.7\t\t\n";
        assert_eq!(String::from_utf8(told).expect("text"), lines);
    }

    #[test]
    fn payloads_end_with_one_line_feed() {
        let event = |payload: &[u8]| input(&user("n", 1, payload));
        assert_eq!(event(b"a"), b"a\n");
        assert_eq!(event(b"a\n"), b"a\n");
        assert_eq!(event(b""), b"");
    }

    #[test]
    fn the_environment_tells_of_the_event_and_of_the_member() {
        let own = member("me", &[("role", "web"), ("data-center", "east"), ("nul", "a\0b")]);
        let all = environment(&user("deploy", 7, b""), &own);
        let of = |name: &str| all.iter().find(|(own, _)| own == name).and_then(|(_, value)| value.to_str());
        assert_eq!(of("SERF_EVENT"), Some("user"));
        assert_eq!((of("SERF_SELF_NAME"), of("SERF_SELF_ROLE")), (Some("me"), Some("web")));
        assert_eq!((of("SERF_USER_EVENT"), of("SERF_USER_LTIME")), (Some("deploy"), Some("7")));
        assert_eq!((of("SERF_TAG_DATA_CENTER"), of("SERF_TAG_NUL")), (Some("east"), None));
    }

    #[test]
    fn bytes_that_are_no_text_reach_the_handler_as_they_came() {
        let mut own = member("", &[]);
        own.name = b"caf\xe9"[..].into();
        own.tags = [
            (b"role"[..].into(), b"\xff"[..].into()),
            (b"a\xe9\xc3\xa9\xe2\x82b"[..].into(), b"\xfe"[..].into()),
        ]
        .into();
        let event =
            Event::UserEvent { ltime: 1, name: b"\xe9"[..].into(), payload: Vec::new(), coalesce: false };
        let all = environment(&Coalesced::Event(event), &own);
        let of = |name: &str| all.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_bytes());
        assert_eq!(of("SERF_SELF_NAME"), Some(&b"caf\xe9"[..]));
        assert_eq!((of("SERF_SELF_ROLE"), of("SERF_USER_EVENT")), (Some(&b"\xff"[..]), Some(&b"\xe9"[..])));
        // One underscore per byte that is not UTF-8, and one for the letter.
        assert_eq!(of("SERF_TAG_A____B"), Some(&b"\xfe"[..]));
        let told = input(&Coalesced::Members { kind: "member-join", members: vec![own] });
        assert_eq!(told, b"caf\xe9\t10.0.0.7\t\xff\ta\xe9\xc3\xa9\xe2\x82b=\xfe,role=\xff\n");
    }
}
