//! Time limit for the connected agent to send everything that is requested.
//!
//! Other agents are asked only after that, so an agent that never finishes would keep their facts from the
//! client.

use super::Driver;
use crate::live::AVOIDANCE;
use crate::live::state::Trouble;
use tokio::time::Instant;

/// Maximum number of doublings of the time limit, from one agent that missed it to the next.
const MAX_DOUBLINGS: u32 = 6;

impl Driver {
    /// Starts the time limit after an agent was connected.
    pub(super) fn begin_loading(&mut self) {
        let patience = self.settings.silence * 2u32.pow(self.loads_missed);
        // Without another agent there is no alternative.
        self.load_until = self.places.has_others().then(|| Instant::now() + patience);
    }

    /// Gives up the connected agent, honest or not, because it missed the time limit, and tries the next one.
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
