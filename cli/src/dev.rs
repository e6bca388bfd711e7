//! `kvgossip agent --dev`: a temporary cluster of one agent, deleted when it stops.

use crate::codes;
use crate::error::{Failure, Result};
use crate::files::{self, Readers};
use crate::keys::generate;
use kvgossip_agent::{Agent, now};
use kvgossip_grants::{Fact, Grant, KeyGlob, Signed, Signer, SigningKey};
use std::path::PathBuf;
use tempfile::TempDir;

/// Size of the generated keys, in bits.
const BITS: usize = 2048;

/// A root key, an identity that may write all keys, and a temporary directory for both, deleted on drop.
pub(crate) struct Dev {
    dir: TempDir,
    root: SigningKey,
    identity: SigningKey,
}

impl Dev {
    /// Generates the keys of root and the identity, and the directory.
    pub(crate) fn make() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("kvgossip-dev-").tempdir().map_err(|error| {
            Failure::new(codes::FILE_WRITE, format!("no temporary directory can be made: {error}"))
        })?;
        let make = |name: &str| -> Result<SigningKey> {
            let (key, pem) = generate(BITS)?;
            files::create(&dir.path().join(name), Readers::Owner, pem.as_bytes())?;
            Ok(key)
        };
        let (root, identity) = (make("root.pem")?, make("identity.pem")?);
        files::create(&dir.path().join("root.pub"), Readers::Umask, root.public().to_pem().as_bytes())?;
        Ok(Self { dir, root, identity })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the agent's data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// Returns the path of root's public key.
    pub(crate) fn root_path(&self) -> PathBuf {
        self.path("root.pub")
    }

    /// Returns the path of the identity's private key.
    pub(crate) fn identity_path(&self) -> PathBuf {
        self.path("identity.pem")
    }

    /// Grants all keys to the identity.
    pub(crate) async fn grant(&self, agent: &Agent) -> Result<()> {
        let fault = |what: String| Failure::new(codes::INTERNAL, what);
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| fault(format!("no random bytes: {error}")))?;
        let grant = Grant {
            issuer: self.root.public().entity(),
            grantee: self.identity.public().clone(),
            pattern: KeyGlob::parse("/**").map_err(|error| fault(error.to_string()))?,
            subgrant: true,
            parent: None,
            issued_at: now(),
            expires_at: None,
            nonce,
        };
        let signed = Signed::sign(self.root.public().cluster(), grant, &self.root);
        let signed = signed.map_err(|_| fault("signing failed".into()))?;
        let verdicts = agent.put_facts(&[Ok(Fact::Grant(signed))]).await;
        let verdicts = verdicts.map_err(|error| Failure::new(error.code(), error.to_string()))?;
        match verdicts.first().and_then(|verdict| verdict.code()) {
            None => Ok(()),
            Some(code) => Err(Failure::new(code.as_str(), code.help())),
        }
    }

    /// Returns commands to paste into another terminal.
    pub(crate) fn hint(&self) -> String {
        format!(
            "\
A throw-away cluster of one. In another terminal:

    export KVGOSSIP_DATA_DIR={}
    export KVGOSSIP_IDENTITY={}
    kvgossip set /hello world
    kvgossip get /hello
    kvgossip status

Root's private key is {}.
Ctrl-C stops it, and everything is gone.
",
            self.data_dir().display(),
            self.identity_path().display(),
            self.path("root.pem").display()
        )
    }
}
