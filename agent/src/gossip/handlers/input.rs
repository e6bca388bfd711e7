//! What an event handler is given: its environment and its standard input, as Serf's agents have them.

use kvgossip_membership::rpc::Coalesced;
use kvgossip_membership::{Event, Member};

/// The environment variables that tell of the event, and of the member that runs the handler.
pub(super) fn environment(record: &Coalesced, own: &Member) -> Vec<(String, String)> {
    let kind = record.kind().unwrap_or_default();
    let role = own.tags.get("role").cloned().unwrap_or_default();
    let mut all = vec![
        ("SERF_EVENT".to_owned(), kind.to_owned()),
        ("SERF_SELF_NAME".to_owned(), own.name.clone()),
        ("SERF_SELF_ROLE".to_owned(), role),
    ];
    all.extend(own.tags.iter().map(|(name, value)| (format!("SERF_TAG_{}", variable(name)), value.clone())));
    match record {
        Coalesced::Event(Event::UserEvent { name, ltime, .. }) => {
            all.push(("SERF_USER_EVENT".to_owned(), name.clone()));
            all.push(("SERF_USER_LTIME".to_owned(), ltime.to_string()));
        }
        Coalesced::Event(Event::Query(query)) => {
            all.push(("SERF_QUERY_NAME".to_owned(), query.name.clone()));
            all.push(("SERF_QUERY_LTIME".to_owned(), query.id.ltime.to_string()));
        }
        _ => {}
    }
    // No variable can hold that byte.
    all.retain(|(_, value)| !value.contains('\0'));
    all
}

/// A tag's name as part of a variable's.
fn variable(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(fits).collect()
}

/// What the handler reads: a line for each member, with its name, address, role and tags between tabs; of events and queries
/// the payload, ended by a line feed.
pub(super) fn input(record: &Coalesced) -> Vec<u8> {
    match record {
        Coalesced::Members { members, .. } => members.iter().map(line).collect::<String>().into_bytes(),
        Coalesced::Event(Event::UserEvent { payload, .. }) => with_line_feed(payload),
        Coalesced::Event(Event::Query(query)) => with_line_feed(&query.payload),
        _ => Vec::new(),
    }
}

fn line(member: &Member) -> String {
    let role = member.tags.get("role").map_or("", String::as_str);
    let tags: Vec<_> = member.tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let fields = [&*member.name, &member.addr.ip().to_string(), role, &tags.join(",")].map(one_field);
    format!("{}\n", fields.join("\t"))
}

fn one_field(text: &str) -> String {
    text.replace('\t', "\\t").replace('\n', "\\n")
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
        let (name, payload) = (name.to_owned(), payload.to_vec());
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
        let of = |name: &str| all.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        assert_eq!(of("SERF_EVENT"), Some("user"));
        assert_eq!((of("SERF_SELF_NAME"), of("SERF_SELF_ROLE")), (Some("me"), Some("web")));
        assert_eq!((of("SERF_USER_EVENT"), of("SERF_USER_LTIME")), (Some("deploy"), Some("7")));
        assert_eq!((of("SERF_TAG_DATA_CENTER"), of("SERF_TAG_NUL")), (Some("east"), None));
    }
}
