//! Offering facts that others have signed.

use super::Agent;
use crate::clock;
use crate::origin::Origin;
use kvgossip_engine::Failure;
use kvgossip_grants::{Code, Fact, Verdict};

impl Agent {
    /// Offers facts that their writer has just signed. Each item is a fact, or the code of bytes that could not be
    /// decoded as one. Returns one verdict per item. In addition to what [`Agent::offer_facts`] refuses, it refuses
    /// expired chains, floors in the future, and values above the agent's own limit.
    pub async fn put_facts(&self, facts: &[Result<Fact, Code>]) -> Result<Vec<Verdict>, Failure> {
        self.take_in(facts, self.direct()).await
    }

    /// Offers facts from another source, such as an export, and returns one verdict per item. They are judged like a
    /// peer's, so that a replica accepts everything that another one holds.
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

    /// Returns the origin of facts that their writer puts at this agent, with the agent's limit on the size of values.
    pub(super) fn direct(&self) -> Origin {
        Origin::Direct { max_value_bytes: self.inner.max_value_bytes }
    }
}
