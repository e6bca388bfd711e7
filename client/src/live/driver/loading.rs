//! How long the connected agent may take to tell all that is wanted.
//!
//! Others are asked once it has; so an agent that never comes to an end would keep a client from what they know.

use super::Driver;
use crate::live::AVOIDANCE;
use crate::live::state::Trouble;
use tokio::time::Instant;

/// The time that an agent is given doubles so often at most, from one agent that did not use it to the next.
const MAX_DOUBLINGS: u32 = 6;

impl Driver {
    /// An agent was connected, and begins to tell.
    pub(super) fn begin_loading(&mut self) {
        let patience = self.settings.silence * 2u32.pow(self.loads_missed);
        // Without another one there is nobody to go to.
        self.load_until = self.places.has_others().then(|| Instant::now() + patience);
    }

    /// The connected agent does not come to an end, honest or not: the next one is tried.
    pub(super) fn give_up_loading(&mut self) {
        self.loads_missed = (self.loads_missed + 1).min(MAX_DOUBLINGS);
        let (place, now) = (self.places.at(), Instant::now());
        let endpoint = self.name(place);
        self.disconnect();
        self.places.avoid(place, now + AVOIDANCE);
        self.places.failed(place, now);
        self.places.advance();
        let message =
            format!("the agent at {endpoint} does not come to tell all that is wanted: another is asked");
        let code = Trouble::BEHIND.to_owned();
        self.shared.trouble.send_replace(Some(Trouble { endpoint, code, message }));
    }
}
