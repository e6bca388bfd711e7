//! Room for sessions that peers begin.

use kvgossip_transport::Access;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many sessions run at a time; a peer that asks for one more hears `session.busy`.
pub(super) const MAX_SESSIONS: usize = 32;
/// Of these, how many may be those of strangers that only pull: however many come, members find room.
pub(super) const MAX_STRANGERS_SESSIONS: usize = 8;

/// Who may begin a session now.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// Room for one session, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _strangers: Option<OwnedSemaphorePermit>,
}

impl Places {
    pub(super) fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_SESSIONS)),
            strangers: Arc::new(Semaphore::new(MAX_STRANGERS_SESSIONS)),
        }
    }

    /// A place, unless all that such a peer may have are taken.
    pub(super) fn take(&self, access: Access) -> Option<Place> {
        let strangers = match access {
            Access::Full => None,
            Access::PullOnly => Some(self.strangers.clone().try_acquire_owned().ok()?),
        };
        Some(Place { _all: self.all.clone().try_acquire_owned().ok()?, _strangers: strangers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_leave_room_for_members() {
        let places = Places::new();
        let strangers: Vec<_> = std::iter::from_fn(|| places.take(Access::PullOnly)).collect();
        assert_eq!(strangers.len(), MAX_STRANGERS_SESSIONS);
        let members: Vec<_> = std::iter::from_fn(|| places.take(Access::Full)).collect();
        assert_eq!(members.len(), MAX_SESSIONS - MAX_STRANGERS_SESSIONS);
        drop(strangers);
        assert!(places.take(Access::Full).is_some() && places.take(Access::PullOnly).is_some());
        assert_eq!(places.all.available_permits(), MAX_STRANGERS_SESSIONS, "what is dropped is free again");
    }
}
