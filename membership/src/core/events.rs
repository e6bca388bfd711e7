//! User events: each member reports each event once.

use super::{CommandError, Core, Event, queue::Class, stats::Unwanted};
use crate::wire::{
    field::List,
    serf::{BufferedEvent, EventSlot, Message, UserEvent},
};

/// Number of Lamport times whose events are remembered; events older than these are ignored.
pub(super) const EVENT_BUFFER: u64 = 512;
/// Maximum number of different events accepted for one Lamport time.
pub(super) const MAX_EVENTS_PER_TIME: usize = 64;

/// Maximum size of a received event's name and payload together, in bytes; Serf's limit, which cannot be
/// configured.
const HARD_LIMIT: usize = 9 * 1024;
/// Maximum total size of the names and payloads of all remembered events, in bytes; beyond it the oldest events
/// are forgotten.
const MAX_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Events of the latest [`EVENT_BUFFER`] Lamport times, for detecting repetitions.
#[derive(Debug)]
pub(super) struct EventBuffer {
    slots: Vec<Option<(u64, Vec<BufferedEvent>)>>,
    min_time: u64,
    /// Latest Lamport time of a reported event.
    told: u64,
    bytes: usize,
}

impl Default for EventBuffer {
    fn default() -> Self {
        Self { slots: vec![None; EVENT_BUFFER as usize], min_time: 0, told: 0, bytes: 0 }
    }
}

impl EventBuffer {
    /// Ignores events whose Lamport time is below `ltime`, from now on.
    pub(super) fn ignore_before(&mut self, ltime: u64) {
        self.min_time = self.min_time.max(ltime);
    }

    /// Lamport time up to which events were reported or are ignored, so that a later run need not receive them.
    pub(super) fn heard_up_to(&self) -> u64 {
        self.told.max(self.min_time.saturating_sub(1))
    }

    /// Adds an event. Fails if the event is known, too old, too long, or one too many of its time. `clock` is
    /// the Lamport time that this member's next event would have.
    fn insert(&mut self, clock: u64, event: &UserEvent) -> Result<(), Unwanted> {
        if event.ltime < self.min_time || event.ltime.saturating_add(EVENT_BUFFER) < clock {
            return Err(Unwanted::Repeated);
        }
        let entry = BufferedEvent { name: event.name.clone(), payload: event.payload.clone() };
        let len = size(&entry);
        if len > HARD_LIMIT {
            return Err(Unwanted::Excess);
        }
        let at = (event.ltime % EVENT_BUFFER) as usize;
        let slot = self.slots.get_mut(at).ok_or(Unwanted::Excess)?;
        match slot {
            Some((ltime, events)) if *ltime == event.ltime => {
                if events.iter().any(|known| same(known, &entry)) {
                    return Err(Unwanted::Repeated);
                }
                if events.len() >= MAX_EVENTS_PER_TIME {
                    return Err(Unwanted::Excess);
                }
                events.push(entry);
            }
            _ => {
                let old = slot.replace((event.ltime, vec![entry]));
                self.bytes -= old.iter().flat_map(|(_, events)| events).map(size).sum::<usize>();
            }
        }
        self.bytes += len;
        self.told = self.told.max(event.ltime);
        self.shrink();
        Ok(())
    }

    /// Forgets the oldest events while the total exceeds [`MAX_BUFFER_BYTES`], and ignores events of the
    /// forgotten times from then on.
    fn shrink(&mut self) {
        while self.bytes > MAX_BUFFER_BYTES {
            let times = self.slots.iter().enumerate().filter_map(|(at, slot)| Some((slot.as_ref()?.0, at)));
            let Some((ltime, at)) = times.min() else { return };
            let old = self.slots.get_mut(at).and_then(Option::take);
            self.bytes -= old.iter().flat_map(|(_, events)| events).map(size).sum::<usize>();
            self.ignore_before(ltime + 1);
        }
    }

    pub(super) fn to_wire(&self) -> List<Option<Box<EventSlot>>> {
        let slot = |(ltime, events): &(u64, Vec<BufferedEvent>)| {
            Box::new(EventSlot { events: events.clone().into(), ltime: *ltime })
        };
        self.slots.iter().map(|s| s.as_ref().map(slot)).collect::<Vec<_>>().into()
    }
}

fn size(event: &BufferedEvent) -> usize {
    event.name.len() + event.payload.as_ref().map_or(0, Vec::len)
}

/// Returns whether two events have equal names and payloads; nil and empty payloads count as equal.
fn same(a: &BufferedEvent, b: &BufferedEvent) -> bool {
    let payload = |event: &BufferedEvent| event.payload.clone().unwrap_or_default();
    a.name == b.name && payload(a) == payload(b)
}

impl Core {
    /// Sends an event to all members, this one included. Both the name and payload together, and the encoded
    /// message, are limited by [`Limits`](super::Limits). If too many events wait to be sent, the oldest is
    /// dropped.
    pub fn user_event(
        &mut self,
        name: impl AsRef<[u8]>,
        payload: &[u8],
        coalesce: bool,
    ) -> Result<(), CommandError> {
        self.check_staying()?;
        let (name, limit) = (name.as_ref(), self.config.limits.user_event);
        let len = name.len() + payload.len();
        if len > limit {
            return Err(CommandError::TooLarge { what: "the event", len, limit });
        }
        let event = UserEvent {
            coalesce,
            ltime: self.clocks.event.time(),
            name: name.into(),
            payload: Some(payload.to_vec()),
        };
        let bytes = Message::UserEvent(event.clone()).encode();
        if bytes.len() > limit {
            let what = "the event, encoded,";
            return Err(CommandError::TooLarge { what, len: bytes.len(), limit });
        }
        self.spread(Class::Event, &bytes)?;
        self.clocks.event.tick();
        self.on_user_event(event);
        Ok(())
    }

    /// Processes an event received from another member or in a state exchange. Returns whether to pass it on to
    /// other members.
    pub(super) fn on_user_event(&mut self, event: UserEvent) -> bool {
        if !self.clocks.event.witness(event.ltime) {
            self.stats.rejected += 1;
            return false;
        }
        if let Err(why) = self.user_events.insert(self.clocks.event.time(), &event) {
            self.stats.unwanted(why);
            return false;
        }
        let UserEvent { coalesce, ltime, name, payload } = event;
        self.emit(Event::UserEvent { ltime, name, payload: payload.unwrap_or_default(), coalesce });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::viewer;

    /// Serf's agents limit both the name and payload, and the encoded message.
    #[test]
    fn an_event_has_as_many_bytes_as_one_of_serfs() {
        let mut core = viewer();
        let mut send = |name: &str, len: usize| core.user_event(name, &vec![7; len], false);
        let over = |len| Err(CommandError::TooLarge { what: "the event", len, limit: 512 });
        assert_eq!(send("e", 512), over(513));
        let encoded = |len| Err(CommandError::TooLarge { what: "the event, encoded,", len, limit: 512 });
        // 1 byte for the kind, 1 for the map, 22 for the field names, 1 + 1 for the flag and a small Lamport
        // time, 2 for a short name, 3 for the payload's header.
        assert_eq!(send("e", 482), encoded(513));
        assert_eq!(send("e", 481), Ok(()));
        // A long name has a longer header.
        assert_eq!(send(&"n".repeat(40), 441), encoded(513));
        assert_eq!(send(&"n".repeat(40), 440), Ok(()));
        assert_eq!(core.queue_depths().events, 2);
        // The Lamport time takes bytes too.
        for _ in 0..130 {
            core.user_event("e", b"", false).expect("fits");
        }
        assert_eq!(core.user_event("e", &[7; 481], false), encoded(513));
    }

    fn event(ltime: u64, name: &str) -> UserEvent {
        UserEvent { coalesce: false, ltime, name: name.into(), payload: None }
    }

    #[test]
    fn each_event_once() {
        let mut buffer = EventBuffer::default();
        assert_eq!(buffer.insert(6, &event(5, "a")), Ok(()));
        assert_eq!(buffer.insert(6, &event(5, "a")), Err(Unwanted::Repeated));
        let nil = UserEvent { payload: Some(Vec::new()), ..event(5, "a") };
        assert_eq!(buffer.insert(6, &nil), Err(Unwanted::Repeated));
        assert_eq!(buffer.insert(6, &event(5, "b")), Ok(()));
        assert_eq!(buffer.insert(6, &event(4, "a")), Ok(()), "another time is another event");
        assert_eq!(buffer.insert(518, &event(517, "c")), Ok(()), "takes the slot of 5");
        assert_eq!(buffer.insert(518, &event(5, "a")), Err(Unwanted::Repeated), "too old");
        buffer.ignore_before(600);
        assert_eq!(buffer.insert(601, &event(599, "d")), Err(Unwanted::Repeated));
        assert_eq!(buffer.to_wire().as_slice().iter().flatten().count(), 2);
        assert_eq!(buffer.to_wire().as_slice().len(), 512);
        let mut big = EventBuffer::default();
        for ltime in 1..=600 {
            for n in 0..3 {
                let payload = Some(vec![n; 9000]);
                assert!(big.insert(ltime + 1, &UserEvent { payload, ..event(ltime, "big") }).is_ok());
                assert!(big.bytes <= MAX_BUFFER_BYTES);
            }
        }
        let kept: usize = big.slots.iter().flatten().flat_map(|(_, events)| events).map(size).sum();
        assert_eq!(kept, big.bytes);
        assert!(big.min_time > 400);
        let forgotten = event(big.min_time - 1, "forgotten");
        assert_eq!(big.insert(601, &forgotten), Err(Unwanted::Repeated));
        let too_big = UserEvent { payload: Some(vec![0; 9217]), ..event(600, "too big") };
        assert_eq!(big.insert(601, &too_big), Err(Unwanted::Excess));
        for n in 0..100 {
            let taken = buffer.insert(701, &event(700, &n.to_string()));
            assert_eq!(taken, if n < MAX_EVENTS_PER_TIME { Ok(()) } else { Err(Unwanted::Excess) });
        }
    }
}
