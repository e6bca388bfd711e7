//! Ten members on real sockets, in real time.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use kvgossip_membership::{Event, Membership, Options, Status, Text};
use tokio::{sync::mpsc, time::Instant};

const MEMBERS: usize = 10;
/// Ten times what the slowest step takes.
const PATIENCE: Duration = Duration::from_secs(120);

struct Running {
    name: Text,
    member: Membership,
    events: mpsc::Receiver<Event>,
    failed: BTreeSet<Text>,
    heard: usize,
}

impl Running {
    fn take_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::MemberFailed(other) => {
                    self.failed.insert(other.name);
                }
                Event::UserEvent { name, .. } if name == "deploy" => self.heard += 1,
                _ => {}
            }
        }
    }

    async fn sees(&self, status: Status) -> usize {
        let members = self.member.members().await.expect("runs");
        members.iter().filter(|other| other.status == status).count()
    }
}

async fn start(number: usize, join: Option<SocketAddr>) -> Running {
    let name = Text::from(format!("member-{number}"));
    let options = Options::new(&name, SocketAddr::from(([127, 0, 0, 1], 0)));
    let (member, events) = Membership::start(options).await.expect("starts");
    if let Some(first) = join {
        member.join(&[first], true).await.expect("joins");
    }
    Running { name, member, events, failed: BTreeSet::new(), heard: 0 }
}

/// Waits until it holds for all; gives how long that took.
async fn for_all(what: &str, members: &mut [Running], holds: impl AsyncFn(&Running) -> bool) -> Duration {
    let began = Instant::now();
    'again: loop {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        members.iter_mut().for_each(Running::take_events);
        for member in &*members {
            if !holds(member).await {
                continue 'again;
            }
        }
        return began.elapsed();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_members_events_and_three_deaths() {
    let mut members = vec![start(0, None).await];
    let first = members[0].member.local_addr();
    for number in 1..MEMBERS {
        members.push(start(number, Some(first)).await);
    }
    let complete = async |member: &Running| member.sees(Status::Alive).await == MEMBERS - 1;
    let took = for_all("complete views", &mut members, complete).await;
    println!("complete views after {took:?}");

    members[4].member.user_event("deploy", b"1.2.3", false).await.expect("is sent");
    let took = for_all("the event is everywhere", &mut members, async |member| member.heard > 0).await;
    println!("an event was everywhere after {took:?}");

    // Dropping the last handle ends a member as a crash does.
    let dead: BTreeSet<Text> = [2, 5, 8].map(|number| format!("member-{number}").into()).into();
    members.retain(|member| !dead.contains(&member.name));
    // Its event may come a moment after the list says it.
    let seen = async |member: &Running| {
        member.failed.len() >= dead.len() && member.sees(Status::Failed).await == dead.len()
    };
    let took = for_all("the dead are seen", &mut members, seen).await;
    println!("three deaths were seen by all after {took:?}");
    for member in &members {
        assert_eq!(member.failed, dead, "{}: exactly the dead have failed", member.name);
        assert_eq!(member.sees(Status::Alive).await, MEMBERS - 1 - dead.len());
        assert_eq!(member.heard, 1, "an event is reported once");
    }
}
