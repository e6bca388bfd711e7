//! Signed facts from an agent, page by page.

use crate::error::Result;
use crate::sign::unexpected;
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::FactRow;
use kvgossip_client::{AgentClient, FactKind, FactsQuery};
use kvgossip_grants::{ClusterId, Fact};

/// Every authority fact of an agent, each behind those that its chain needs.
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
