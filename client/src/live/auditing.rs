//! The driver's part of the audit: asks the other agents, hands the connected one what it lacks, and leaves it
//! if it withholds facts.

use super::AVOIDANCE;
use super::asking::{Message, Said};
use super::audit::{Fault, Order};
use super::driver::Driver;
use super::others::Answer;
use super::state::Trouble;
use kvgossip_grants::{Fact, FactId};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

impl Driver {
    /// Time since the client started.
    pub(super) fn since(&self) -> Duration {
        self.began.elapsed()
    }

    /// Carries out all actions of the audit that are due.
    pub(super) fn compare(&mut self) {
        loop {
            let (now, Some(core)) = (self.began.elapsed(), &mut self.core) else { return };
            match self.audit.poll(now, &core.lacked()) {
                None => return,
                Some(Order::Ask(place)) => self.ask(place),
                Some(Order::Hand(place, facts)) => self.hand(place, &facts),
                Some(Order::Leave(place, fault)) => self.leave(place, fault),
            }
        }
    }

    /// Updates the audit after the connected agent was lost or replaced.
    pub(super) fn lose_first(&mut self) {
        self.audit.lost();
        self.asking.forget_hand();
    }

    fn ask(&mut self, place: usize) {
        let (Some(core), Some(agent)) = (&self.core, self.places.agent(place)) else { return };
        let asked = core.question(&agent.endpoint().to_string());
        self.asking.ask(place, agent, asked, self.settings.silence);
    }

    fn hand(&mut self, place: usize, ids: &BTreeSet<FactId>) {
        let (Some(core), Some(agent)) = (&self.core, self.places.agent(place)) else { return };
        let facts: Vec<(Fact, bool)> = core.facts_to_hand(ids);
        let handed = facts.iter().filter(|(_, asked)| *asked).map(|(fact, _)| fact.id()).collect();
        self.audit.handing(place, handed);
        self.asking.hand(place, agent, facts);
    }

    /// Reports the fault of the agent at index `place` and marks the agent to be avoided. The client switches
    /// as soon as an agent without known fault answers.
    fn leave(&mut self, place: usize, fault: Fault) {
        let (endpoint, now) = (self.name(place), Instant::now());
        let Some(core) = &mut self.core else { return };
        match fault {
            Fault::Withheld(id) => {
                core.report_withheld(&endpoint, id);
                self.report();
            }
            Fault::Behind(_) => {
                core.drop_lacked();
                self.places.avoid(place, now + AVOIDANCE);
                let (code, message) = (
                    Trouble::BEHIND.to_owned(),
                    format!(
                        "the agent at {endpoint} lacks what another one told, and does not take it or does not come to tell it: another is asked"
                    ),
                );
                self.shared.trouble.send_replace(Some(Trouble { endpoint, code, message }));
            }
        }
    }

    /// Processes an answer of another agent, or the connected agent's response to a handover.
    pub(super) fn hear_message(&mut self, message: Message) {
        let (place, now) = (message.place, self.since());
        if let Said::Handed(taken, commit) = &message.said {
            if self.asking.is_of_last_hand(&message) {
                self.audit.handed(place, taken, *commit, now);
            }
            return;
        }
        let (Some(core), Some(question)) = (&mut self.core, self.asking.question(&message)) else { return };
        core.set_now(self.settings.clock.now());
        let answer = match &message.said {
            Said::Events(events) => {
                let mut answer = Ok(Answer::More);
                for event in events {
                    answer = core
                        .hear_other(question, &event.name, &event.data)
                        .map_err(|error| error.to_string());
                    if answer != Ok(Answer::More) {
                        break;
                    }
                }
                answer
            }
            Said::Failed(error) => Err(error.to_string()),
            Said::Handed(..) => return,
        };
        if answer != Ok(Answer::More) {
            self.asking.end(place);
            self.audit.answered(place, now, random());
        }
        self.report();
    }

    /// Ends all questions to other agents, because nothing is subscribed.
    pub(super) fn end_questions(&mut self) {
        let now = self.since();
        for place in self.asking.end_all() {
            self.audit.answered(place, now, random());
        }
    }
}

fn random() -> u8 {
    let mut byte = [0; 1];
    // Without randomness every agent is asked after the full interval.
    if getrandom::fill(&mut byte).is_ok() { byte[0] } else { u8::MAX }
}
