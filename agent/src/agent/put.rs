//! Taking in facts that others have signed.

use super::Agent;
use crate::clock;
use crate::origin::Origin;
use kvgossip_engine::Failure;
use kvgossip_grants::{Code, Fact, Verdict};

impl Agent {
    /// Takes in what its writer has just signed: facts, or the code of what could not be read as one. A verdict each.
    /// Beyond what [`Agent::offer_facts`] refuses, these are refused: chains that have expired, floors that reach into the
    /// future, and values over the agent's own limit.
    pub async fn put_facts(&self, facts: &[Result<Fact, Code>]) -> Result<Vec<Verdict>, Failure> {
        self.take_in(facts, self.direct()).await
    }

    /// Takes in facts that came whole, such as those of an export; a verdict each. They are judged like a peer's, so that a
    /// replica takes in all that another one holds.
    pub async fn offer_facts(&self, facts: &[Result<Fact, Code>]) -> Result<Vec<Verdict>, Failure> {
        self.take_in(facts, Origin::Relayed).await
    }

    async fn take_in(&self, facts: &[Result<Fact, Code>], origin: Origin) -> Result<Vec<Verdict>, Failure> {
        let mut verdicts = vec![Verdict::Merged; facts.len()];
        let (mut places, mut offered) = (Vec::new(), Vec::new());
        for (place, fact) in facts.iter().enumerate() {
            match fact {
                Err(code) => {
                    self.inner.intake.refusals().note_bytes("put", *code, clock::now());
                    verdicts[place] = Verdict::Refused(*code);
                    self.inner.intake.metrics().facts("put", &verdicts[place..=place]);
                }
                Ok(fact) => {
                    places.push(place);
                    offered.push(fact.clone());
                }
            }
        }
        let taken_in = self.inner.intake.offer_all(offered, "put", origin).await?;
        for (place, verdict) in places.into_iter().zip(taken_in) {
            verdicts[place] = verdict;
        }
        Ok(verdicts)
    }

    /// The origin of facts that their writer puts here.
    pub(super) fn direct(&self) -> Origin {
        Origin::Direct { max_value_bytes: self.inner.max_value_bytes }
    }
}
