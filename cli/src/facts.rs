//! Signed facts of an agent, read page by page.

use crate::answer::unexpected;
use crate::error::Result;
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::FactRow;
use kvgossip_client::{AgentClient, FactKind, FactsQuery};
use kvgossip_grants::{ClusterId, Fact};

/// Returns all authority facts of an agent, each after those that its chain needs.
pub(crate) async fn authority(client: &AgentClient, cluster: ClusterId) -> Result<Vec<Fact>> {
    let mut query = FactsQuery { kind: FactKind::Authority, filter: Vec::new(), limit: None, after: None };
    let mut facts = Vec::new();
    loop {
        let page = client.facts(&query).await?;
        for row in &page.facts {
            facts.push(read_fact(cluster, row)?);
        }
        if !next_page(&mut query, page.next)? {
            return Ok(facts);
        }
    }
}

/// Advances the query to the next page, if there is one.
pub(crate) fn next_page(query: &mut FactsQuery, next: Option<String>) -> Result<bool> {
    // An agent that returned the same place again would make the command loop forever.
    if next.is_some() && next == query.after {
        return Err(unexpected("pages that do not advance"));
    }
    query.after = next;
    Ok(query.after.is_some())
}

/// Decodes a fact of a page; fails if its id is not the one that the agent claims.
pub(crate) fn read_fact(cluster: ClusterId, row: &FactRow) -> Result<Fact> {
    let record = BASE64_STANDARD.decode(&row.record_b64).ok();
    let fact = record.and_then(|record| Fact::from_record(cluster, &record).ok());
    fact.filter(|fact| fact.id().to_string() == row.id).ok_or_else(|| unexpected("a fact that does not read"))
}
