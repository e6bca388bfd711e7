//! Naming an entity: by its id or by a file with its key.

use crate::error::Result;
use crate::files;
use crate::ids::{IdPrefix, id_prefix};
use crate::sign::unexpected;
use kvgossip_client::AgentClient;
use kvgossip_grants::{EntityId, PublicKey};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// An entity as the command line names it.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// The beginning of its id, or all of it.
    Id(IdPrefix),
    /// A PEM file with its public or private key.
    File(PathBuf),
}

/// Reads a [`Who`]: what looks like an id is one; a file of such a name is reached as `./NAME`.
pub(crate) fn who(text: &str) -> Result<Who, Infallible> {
    Ok(id_prefix(text).map_or_else(|_| Who::File(text.into()), Who::Id))
}

/// The key of a file; where there is none, an id may have been meant.
fn key_of(path: &Path) -> Result<PublicKey> {
    files::public_key(path).map_err(|failure| match path.exists() {
        true => failure,
        false => failure
            .note("an entity is named by its id, 8 digits or more of it, or by a PEM file with its key"),
    })
}

impl Who {
    /// The whole id. A part of one is looked up among the entities that the agent knows of.
    pub(crate) async fn resolve(&self, client: &AgentClient) -> Result<EntityId> {
        let prefix = match self {
            Self::File(path) => return Ok(key_of(path)?.entity()),
            Self::Id(prefix) => prefix,
        };
        if let Ok(id) = prefix.as_str().parse() {
            return Ok(id);
        }
        let status = client.status().await?;
        let grants = client.grants().await?;
        let named = grants.grants.iter().flat_map(|grant| [grant.grantee.as_str(), grant.issuer.as_str()]);
        let ended = grants.revocations.iter().map(|revocation| revocation.grantee.as_str());
        let all = named.chain(ended).chain([status.root.as_str()]).chain(status.identity.as_deref());
        prefix.find("entity", all)?.parse().map_err(|_| unexpected("an entity's id that is none"))
    }
}
