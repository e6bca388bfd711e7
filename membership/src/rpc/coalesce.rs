//! Events for clients, merged as Serf's agents do: a wave of joins is one record, and of user events with the
//! coalesce flag only the last one per name is reported.
//!
//! Member changes wait until none has arrived for one second, at most three seconds. Then the last change of
//! each member is reported, grouped by kind, unless it equals the previously reported one. User events with the
//! flag wait likewise. Queries and all other user events are reported at once.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use crate::{
    core::{Event, Member},
    wire::Text,
};

/// Maximum time that an event waits for others to be merged with.
pub const COALESCE_PERIOD: Duration = Duration::from_secs(3);
/// Time without further events of a group after which the waiting ones are reported.
pub const QUIESCENT_PERIOD: Duration = Duration::from_secs(1);
/// Maximum number of members whose changes wait; at this number all waiting changes are reported at once.
pub const MAX_COALESCED_MEMBERS: usize = 4096;
/// Maximum number of user events that wait; at this number all waiting ones are reported at once.
pub const MAX_COALESCED_EVENTS: usize = 1024;
/// Maximum number of members whose last reported change is remembered. It is forgotten with the member; above
/// the limit all are forgotten.
const MAX_REMEMBERED: usize = 256 * 1024;

/// Record for a subscriber: merged changes of members, one other event, or a report of lost records.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coalesced {
    /// Several members had a change of one kind.
    Members {
        /// Kind of the change, in Serf's terms, such as `member-join`.
        kind: &'static str,
        /// Members that changed, in order of their names.
        members: Vec<Member>,
    },
    /// A user event or a query, by itself.
    Event(Event),
    /// Records were dropped because the subscriber did not take them in time.
    Lagged {
        /// Number of dropped records.
        dropped: u64,
    },
}

impl Coalesced {
    /// Kind of the record's event, in Serf's terms, such as `user`; `None` for lost records.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Members { kind, .. } => Some(kind),
            Self::Event(event) => event_kind(event),
            Self::Lagged { .. } => None,
        }
    }
}

/// Times of the first and the last event of a waiting group; `None` if nothing waits.
#[derive(Debug, Default)]
struct Window(Option<(Duration, Duration)>);

impl Window {
    fn extend(&mut self, now: Duration) {
        let first = self.0.map_or(now, |(first, _)| first);
        self.0 = Some((first, now));
    }

    fn due(&self) -> Option<Duration> {
        self.0.map(|(first, last)| (first + COALESCE_PERIOD).min(last + QUIESCENT_PERIOD))
    }

    fn is_over(&self, now: Duration) -> bool {
        self.due().is_some_and(|due| due <= now)
    }
}

/// Waiting user events of one name, of the greatest Lamport time seen.
#[derive(Debug)]
struct Latest {
    ltime: u64,
    events: Vec<Event>,
}

/// Merges events. Times are durations on any monotonic clock.
#[derive(Debug, Default)]
pub struct Coalescer {
    changes: BTreeMap<Text, (&'static str, Member)>,
    changes_window: Window,
    /// Kind of the last reported change of each member, by name.
    told: HashMap<Text, &'static str>,
    events: BTreeMap<Text, Latest>,
    /// Number of user events in `events`.
    waiting: usize,
    events_window: Window,
    ready: VecDeque<Coalesced>,
}

impl Coalescer {
    /// Processes an event; events of a kind that is not reported to clients are ignored.
    pub fn handle(&mut self, now: Duration, event: &Event) {
        let Some(kind) = event_kind(event) else { return };
        match event {
            Event::MemberJoined(member)
            | Event::MemberUpdated(member)
            | Event::MemberFailed(member)
            | Event::MemberLeft(member)
            | Event::MemberReaped(member) => {
                self.changes.insert(member.name.clone(), (kind, member.clone()));
                self.changes_window.extend(now);
                if self.changes.len() >= MAX_COALESCED_MEMBERS {
                    self.flush_changes();
                }
            }
            Event::UserEvent { ltime, name, coalesce: true, .. } => self.keep(now, *ltime, name, event),
            _ => self.ready.push_back(Coalesced::Event(event.clone())),
        }
    }

    fn keep(&mut self, now: Duration, ltime: u64, name: &Text, event: &Event) {
        self.events_window.extend(now);
        let latest = self.events.entry(name.clone()).or_insert_with(|| Latest { ltime, events: Vec::new() });
        if latest.ltime < ltime {
            self.waiting -= latest.events.len();
            *latest = Latest { ltime, events: Vec::new() };
        }
        // Events with equal times both count as the last.
        if latest.ltime == ltime {
            latest.events.push(event.clone());
            self.waiting += 1;
        }
        if self.waiting >= MAX_COALESCED_EVENTS {
            self.flush_events();
        }
    }

    /// Returns the next record that is ready; `None` if none is.
    pub fn poll(&mut self) -> Option<Coalesced> {
        self.ready.pop_front()
    }

    /// Time when [`Coalescer::handle_timeout`] is due next; `None` if no event waits.
    pub fn poll_timeout(&self) -> Option<Duration> {
        [&self.changes_window, &self.events_window].into_iter().filter_map(Window::due).min()
    }

    /// Makes records of the events that have waited long enough.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.changes_window.is_over(now) {
            self.flush_changes();
        }
        if self.events_window.is_over(now) {
            self.flush_events();
        }
    }

    /// Makes records of all waiting events at once, at the end.
    pub fn flush(&mut self) {
        self.flush_changes();
        self.flush_events();
    }

    fn flush_changes(&mut self) {
        self.changes_window = Window::default();
        let mut records: Vec<(&'static str, Vec<Member>)> = Vec::new();
        for (name, (kind, member)) in std::mem::take(&mut self.changes) {
            // A member that failed and came back within the window is not reported; tags may have changed
            // again.
            if self.told.get(&name) == Some(&kind) && kind != "member-update" {
                continue;
            }
            if kind == "member-reap" {
                self.told.remove(&name);
            } else {
                self.told.insert(name, kind);
            }
            match records.iter_mut().find(|(of, _)| *of == kind) {
                Some((_, members)) => members.push(member),
                None => records.push((kind, vec![member])),
            }
        }
        if self.told.len() > MAX_REMEMBERED {
            self.told.clear();
        }
        self.ready.extend(records.into_iter().map(|(kind, members)| Coalesced::Members { kind, members }));
    }

    fn flush_events(&mut self) {
        self.events_window = Window::default();
        self.waiting = 0;
        let latest = std::mem::take(&mut self.events).into_values();
        self.ready.extend(latest.flat_map(|latest| latest.events).map(Coalesced::Event));
    }
}

/// Kind of an event as clients read it, such as `member-join`; `None` for events that are not reported to
/// clients.
pub(super) fn event_kind(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::MemberJoined(_) => "member-join",
        Event::MemberUpdated(_) => "member-update",
        Event::MemberFailed(_) => "member-failed",
        Event::MemberLeft(_) => "member-leave",
        Event::MemberReaped(_) => "member-reap",
        Event::UserEvent { .. } => "user",
        Event::Query(_) => "query",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Answered, Status};

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn member(name: &str) -> Member {
        Member {
            name: name.into(),
            addr: ([127, 0, 0, 1], 7946).into(),
            tags: Default::default(),
            status: Status::Alive,
            suspect: false,
            incarnation: 1,
            versions: [1, 5, 2, 2, 5, 5],
            rtt: None,
            answered: Answered::Never,
        }
    }

    fn user(ltime: u64, name: &str, payload: &str, coalesce: bool) -> Event {
        Event::UserEvent { ltime, name: name.into(), payload: payload.into(), coalesce }
    }

    /// Returns the ready records of a coalescer in short form.
    fn told(coalescer: &mut Coalescer) -> Vec<String> {
        let short = |record| match record {
            Coalesced::Members { kind, members } => {
                let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
                format!("{kind} {}", names.join(","))
            }
            Coalesced::Event(Event::UserEvent { name, payload, .. }) => {
                format!("{name} {}", String::from_utf8_lossy(&payload))
            }
            other => format!("{other:?}"),
        };
        std::iter::from_fn(|| coalescer.poll()).map(short).collect()
    }

    #[test]
    fn a_wave_of_joins_is_one_record() {
        let mut coalescer = Coalescer::default();
        for (at, name) in [(0, "c"), (900, "a"), (1_800, "b")] {
            coalescer.handle_timeout(ms(at));
            coalescer.handle(ms(at), &Event::MemberJoined(member(name)));
        }
        coalescer.handle(ms(1_900), &Event::MemberFailed(member("d")));
        coalescer.handle_timeout(ms(2_899));
        assert_eq!((told(&mut coalescer), coalescer.poll_timeout()), (vec![], Some(ms(2_900))));
        coalescer.handle_timeout(ms(2_900));
        assert_eq!(told(&mut coalescer), ["member-join a,b,c", "member-failed d"]);
        assert_eq!(coalescer.poll_timeout(), None);
    }

    #[test]
    fn a_wave_without_an_end_is_told_after_three_seconds() {
        let mut coalescer = Coalescer::default();
        let mut records = Vec::new();
        for n in 0..70 {
            let now = ms(n * 100);
            coalescer.handle_timeout(now);
            coalescer.handle(now, &Event::MemberJoined(member(&format!("{n:02}"))));
            coalescer.handle(now, &user(n, "deploy", &n.to_string(), true));
            records.extend(told(&mut coalescer).into_iter().map(|record| (n, record)));
        }
        let deploys: Vec<_> = records.iter().filter(|(_, record)| record.starts_with("deploy")).collect();
        assert_eq!(deploys, [&(30, "deploy 29".into()), &(60, "deploy 59".into())]);
        let joins = records.iter().filter(|(_, record)| record.starts_with("member-join"));
        assert_eq!(
            joins.map(|(n, record)| (*n, record.split(',').count())).collect::<Vec<_>>(),
            [(30, 30), (60, 30)]
        );
    }

    #[test]
    fn a_member_that_is_back_before_it_was_told_gone_is_told_nothing() {
        let mut coalescer = Coalescer::default();
        let mut tell = |events: &[Event]| {
            let now = coalescer.poll_timeout().unwrap_or_default();
            events.iter().for_each(|event| coalescer.handle(now, event));
            coalescer.flush();
            told(&mut coalescer)
        };
        let [joined, updated, failed, left, reaped] = [
            Event::MemberJoined,
            Event::MemberUpdated,
            Event::MemberFailed,
            Event::MemberLeft,
            Event::MemberReaped,
        ]
        .map(|kind| kind(member("a")));
        assert_eq!(tell(std::slice::from_ref(&joined)), ["member-join a"]);
        assert_eq!(tell(&[failed.clone(), joined.clone()]), [""; 0]);
        assert_eq!(tell(&[joined.clone(), failed.clone()]), ["member-failed a"]);
        assert_eq!(tell(&[joined.clone(), updated.clone()]), ["member-update a"], "the last counts");
        assert_eq!(tell(&[updated]), ["member-update a"], "and tags may change again");
        assert_eq!(tell(&[left]), ["member-leave a"]);
        assert_eq!(tell(&[reaped]), ["member-reap a"]);
        assert_eq!(tell(&[joined]), ["member-join a"]);
    }

    #[test]
    fn the_last_user_event_of_a_name_is_told_and_others_wait_for_nothing() {
        let mut coalescer = Coalescer::default();
        for n in [3, 5, 4, 1] {
            coalescer.handle(ms(0), &user(n, "deploy", &n.to_string(), true));
        }
        coalescer.handle(ms(0), &user(5, "deploy", "five, too", true));
        coalescer.handle(ms(0), &user(2, "build", "2", true));
        coalescer.handle(ms(0), &user(6, "deploy", "now", false));
        assert_eq!(told(&mut coalescer), ["deploy now"]);
        coalescer.handle_timeout(ms(1_000));
        assert_eq!(told(&mut coalescer), ["build 2", "deploy 5", "deploy five, too"]);
    }

    #[test]
    fn what_waits_is_bounded_and_nothing_is_lost_by_that() {
        let mut coalescer = Coalescer::default();
        for n in 0..MAX_COALESCED_EVENTS {
            coalescer.handle(ms(0), &user(7, &n.to_string(), "", true));
        }
        for n in 0..=MAX_COALESCED_MEMBERS {
            coalescer.handle(ms(0), &Event::MemberJoined(member(&n.to_string())));
        }
        let told = told(&mut coalescer);
        assert_eq!(told.len(), MAX_COALESCED_EVENTS + 1);
        assert_eq!(coalescer.changes.len(), 1);
    }
}
