//! Agents that are left, for now or for good.

use super::Driver;
use crate::error::ClientError;
use crate::live::state::Trouble;
use crate::live::streams::StreamId;
use kvgossip_api::FIRST_SYNC;
use std::time::Duration;
use tokio::time::Instant;

/// The pause before an agent is tried again that was never compared with a peer.
const UNSYNCED_PAUSE: Duration = Duration::from_millis(500);

impl Driver {
    /// After a gap the same agent is asked again at once, and digests are compared.
    pub(super) fn reopen(&mut self, id: StreamId) {
        if self.next.as_ref().is_some_and(|next| next.id == id) {
            self.next = None;
            if let Some(core) = &mut self.core {
                core.closed(id);
            }
        } else {
            self.disconnect();
        }
    }

    pub(super) fn disconnect(&mut self) {
        (self.current, self.next, self.opening, self.fetching) = (None, None, None, None);
        self.load_until = None;
        self.lose_first();
        if let Some(core) = &mut self.core {
            core.disconnected();
        }
        self.shared.connected.send_if_modified(|connected| connected.take().is_some());
    }

    /// The agent is given up for now, and the next one is tried.
    pub(super) fn lose(&mut self, error: &ClientError) {
        self.disconnect();
        self.shared.trouble.send_replace(Some(Trouble::of(self.name(self.places.at()), error)));
        if error.code() == FIRST_SYNC {
            // It is there, and may know what the others know at any moment.
            self.places.rest(self.places.at(), Instant::now() + UNSYNCED_PAUSE);
            if let Some(core) = &mut self.core {
                core.unsynced();
            }
        } else {
            self.places.failed(self.places.at(), Instant::now());
        }
        self.places.advance();
    }
}
