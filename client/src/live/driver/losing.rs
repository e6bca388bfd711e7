//! Leaves agents, temporarily or after a failure.

use super::Driver;
use crate::error::ClientError;
use crate::live::state::Trouble;
use crate::live::streams::StreamId;
use kvgossip_api::FIRST_SYNC;
use std::time::Duration;
use tokio::time::Instant;

/// Pause before an agent that has never been compared with a peer is tried again.
const UNSYNCED_PAUSE: Duration = Duration::from_millis(500);

impl Driver {
    /// Opens stream `id` at the same agent again at once after a gap, comparing digests.
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

    /// Gives up the connected agent for now, and tries the next one.
    pub(super) fn lose(&mut self, error: &ClientError) {
        self.disconnect();
        self.shared.trouble.send_replace(Some(Trouble::of(self.name(self.places.at()), error)));
        if error.code() == FIRST_SYNC {
            // The agent is available, and may complete its first comparison at any moment.
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
