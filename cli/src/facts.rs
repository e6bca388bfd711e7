//! Signed facts from an agent, page by page.

use crate::error::{Failure, Result};
use crate::sign::unexpected;
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::FactRow;
use kvgossip_client::{AgentClient, ClientError, FactKind, FactsQuery};
use kvgossip_grants::{ClusterId, Fact};

/// How often a list that changes while it is read is begun again.
const MAX_ATTEMPTS: usize = 16;

/// Every authority fact of an agent, each behind those that its chain needs.
pub(crate) async fn authority(client: &AgentClient, cluster: ClusterId) -> Result<Vec<Fact>> {
    for _ in 1..MAX_ATTEMPTS {
        match authority_once(client, cluster).await {
            Err(Fault::Changed) => {}
            Err(Fault::Other(failure)) => return Err(failure),
            Ok(facts) => return Ok(facts),
        }
    }
    match authority_once(client, cluster).await {
        Err(Fault::Changed) => {
            Err(Failure::new("http.page_gone", "the agent's grants change faster than they can be read"))
        }
        Err(Fault::Other(failure)) => Err(failure),
        Ok(facts) => Ok(facts),
    }
}

enum Fault {
    /// The list changed while it was read in pages.
    Changed,
    Other(Failure),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

async fn authority_once(client: &AgentClient, cluster: ClusterId) -> Result<Vec<Fact>, Fault> {
    let mut query = FactsQuery { kind: FactKind::Authority, filter: Vec::new(), limit: None, after: None };
    let mut facts = Vec::new();
    loop {
        let page = match client.facts(&query).await {
            Err(ClientError::Refused { code, .. }) if code == "http.page_gone" => return Err(Fault::Changed),
            Err(error) => return Err(Fault::Other(error.into())),
            Ok(page) => page,
        };
        for row in &page.facts {
            facts.push(read_fact(cluster, row)?);
        }
        if !next_page(&mut query, page.next)? {
            return Ok(facts);
        }
    }
}

/// Goes on to the next page, if there is one.
pub(crate) fn next_page(query: &mut FactsQuery, next: Option<String>) -> Result<bool> {
    // An agent that gave the same place twice would keep the command going for ever.
    if next.is_some() && next == query.after {
        return Err(unexpected("pages that do not advance"));
    }
    query.after = next;
    Ok(query.after.is_some())
}

/// Reads a fact of a page and makes sure that it is the one that the agent says it is.
pub(crate) fn read_fact(cluster: ClusterId, row: &FactRow) -> Result<Fact> {
    let record = BASE64_STANDARD.decode(&row.record_b64).ok();
    let fact = record.and_then(|record| Fact::from_record(cluster, &record).ok());
    fact.filter(|fact| fact.id().to_string() == row.id).ok_or_else(|| unexpected("a fact that does not read"))
}
