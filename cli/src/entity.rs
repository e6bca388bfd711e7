//! Entities on the command line: by id, or by a key file.

use crate::answer::unexpected;
use crate::error::Result;
use crate::files;
use crate::ids::{IdPrefix, id_prefix};
use kvgossip_client::AgentClient;
use kvgossip_grants::{EntityId, PublicKey};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

/// An entity as written on the command line.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    /// Id of the entity, or its first digits, at least eight.
    Id(IdPrefix),
    /// Path of a PEM file with the entity's public or private key.
    File(PathBuf),
}

/// Parses an entity. A text that looks like an id is taken for one; write `./NAME` for a file of such a name.
pub(crate) fn who(text: &str) -> Result<Who, Infallible> {
    Ok(id_prefix(text).map_or_else(|_| Who::File(text.into()), Who::Id))
}

/// Reads the entity's key from a file. If the file is missing, the error says that an id may have been meant.
fn key_of(path: &Path) -> Result<PublicKey> {
    files::public_key(path).map_err(|failure| match path.exists() {
        true => failure,
        false => failure
            .note("an entity is named by its id, 8 digits or more of it, or by a PEM file with its key"),
    })
}

impl Who {
    /// Returns the whole id of the entity. An abbreviated one is completed from the entities that the agent knows.
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
