//! Signing in the command, and delivery of the signed facts to an agent or a file.

use crate::answer::unexpected;
use crate::clocks::Apart;
use crate::codes;
use crate::error::{Exit, Failure, Result};
use crate::factfile::FactFile;
use crate::files::{self, Readers};
use crate::output::{self, say, short};
use crate::survey::Source;
use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Args;
use kvgossip_api::{FactRow, VerdictRow};
use kvgossip_client::AgentClient;
use kvgossip_grants::{
    AuthorityBody, ClusterId, EntityId, EntryDraft, EntryFact, Fact, PublicKey, SignError, Signed, Signer,
    SigningKey, Verdict,
};
use std::path::{Path, PathBuf};

/// With which key to sign, for which cluster, and where to.
#[derive(Clone, Debug, Args)]
pub(crate) struct SignArgs {
    /// Sign with the RSA private key in this PEM file; it stays in this process [env: KVGOSSIP_IDENTITY]. The command
    /// asks the agent which grant to cite. An agent that was never compared with a peer cannot answer (sync.first):
    /// use --from with a file instead.
    #[arg(long, value_name = "K.pem", help_heading = "Signing")]
    identity: Option<PathBuf>,
    /// Write the signed facts to a new file, one JSON object a line, and send nothing; `-` is standard output.
    #[arg(long, value_name = "FILE", help_heading = "Signing")]
    pub(crate) out: Option<PathBuf>,
    /// Look grants and entries up in this file of facts, such as an export, instead of asking an agent. Needs --root,
    /// unless the file is an export and root itself signs.
    #[arg(long, value_name = "FILE", help_heading = "Signing")]
    pub(crate) from: Option<PathBuf>,
    /// Sign only for the cluster of this root key. With --out, root itself then needs no agent.
    #[arg(long, value_name = "PUB.pem", help_heading = "Signing")]
    root: Option<PathBuf>,
    /// Sign even if the agent's clock and this machine's differ by more than 2 minutes.
    #[arg(long, help_heading = "Signing")]
    ignore_clock: bool,
    /// Sign only for the cluster with this id, like --root.
    #[arg(long, value_name = "ID", value_parser = cluster_id, help_heading = "Signing")]
    cluster: Option<ClusterId>,
}

fn cluster_id(text: &str) -> Result<ClusterId, crate::text::TextFault> {
    text.parse().map_err(|_| {
        let reason = "write all 64 digits, 0-9 and a-f, of the cluster's id";
        crate::text::TextFault::whole(codes::ID_MALFORMED, "a cluster's id", reason, text)
    })
}

impl SignArgs {
    /// Whether the command itself signs.
    pub(crate) fn signs(&self) -> bool {
        self.identity_file().is_some()
    }

    fn identity_file(&self) -> Option<PathBuf> {
        self.identity.clone().or_else(|| files::from_env("KVGOSSIP_IDENTITY"))
    }

    /// Compares the agent's clock with this machine's, before anything is signed with the agent's time.
    pub(crate) fn check_clock(&self, apart: Apart) -> Result<()> {
        apart.check(self.ignore_clock)
    }

    /// Whether the key comes from standard input.
    pub(crate) fn takes_stdin(&self) -> bool {
        self.identity_file().is_some_and(|path| files::is_dash(&path))
    }

    /// Returns the source of grants and entries: the file of --from, or else the agent. `identity`: the signer, if
    /// this process signs.
    pub(crate) fn source<'a>(
        &'a self,
        identity: Option<&Identity>,
        client: &'a AgentClient,
    ) -> Result<Lookup<'a>> {
        let Some(path) = &self.from else { return Ok(Lookup::Agent(client)) };
        let root = match (&self.root, identity.filter(|identity| identity.known_root().is_some())) {
            (Some(root), _) => files::root_key(root)?,
            (None, Some(identity)) => identity.key.public().clone(),
            (None, None) => {
                let text =
                    "--from needs --root PUB.pem: without an agent nothing else tells whose grants count";
                return Err(Failure::new(codes::USAGE, text));
            }
        };
        Ok(Lookup::File(path, root))
    }

    /// Returns the cluster that the command line names.
    fn expected(&self) -> Result<Option<ClusterId>> {
        let expected = match &self.root {
            Some(path) => Some(files::root_key(path)?.cluster()),
            None => None,
        };
        match (expected, self.cluster) {
            (Some(root), Some(cluster)) if root != cluster => {
                Err(Failure::new(codes::CLUSTER_MISMATCH, "--root and --cluster name different clusters"))
            }
            _ => Ok(expected.or(self.cluster)),
        }
    }

    /// Parses the id of the agent's cluster; fails if the command line names another one.
    pub(crate) fn check_expected(&self, text: &str) -> Result<ClusterId> {
        check_cluster(self.expected()?, text)
    }

    /// Creates the file that --out names, if any.
    pub(crate) fn out_file(&self) -> Result<Option<OutFile>> {
        self.out.as_deref().map(OutFile::begin).transpose()
    }

    /// Returns the first of --identity, --out and --from that is given: they have no meaning for a command that signs
    /// nothing. `None` if none is given.
    pub(crate) fn signing_option(&self) -> Option<&'static str> {
        let given = [
            (self.identity.is_some(), "--identity"),
            (self.out.is_some(), "--out"),
            (self.from.is_some(), "--from"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, option)| option)
    }

    /// Fails if --out is given, for a command without a signing key.
    pub(crate) fn check_unsigned(&self) -> Result<()> {
        if self.out.is_none() {
            return Ok(());
        }
        Err(Failure::new(
            codes::USAGE,
            "--out needs --identity: the agent hands out no signed fact of its own",
        ))
    }

    /// Returns the signer; `verb` is the name of the command.
    pub(crate) fn identity(&self, verb: &str) -> Result<Identity> {
        let Some(path) = self.identity_file() else {
            let text = format!("`{verb}` signs: name your private key with --identity or KVGOSSIP_IDENTITY");
            return Err(Failure::new(codes::USAGE, text));
        };
        let key = files::signing_key(&path)?;
        let expected = match self.expected()? {
            Some(cluster) => Some(cluster),
            None => self.cluster_of_export()?.filter(|cluster| key.public().cluster() == *cluster),
        };
        Ok(Identity { expected, key })
    }

    /// Returns the cluster that an export names: the holder of its root key needs no other statement of the cluster.
    fn cluster_of_export(&self) -> Result<Option<ClusterId>> {
        self.from.as_deref().map_or(Ok(None), FactFile::cluster_named)
    }

    /// Sends facts to the agent, or writes them to the file that `--out` names.
    pub(crate) async fn deliver(&self, client: &AgentClient, facts: &[Fact]) -> Result<()> {
        match &self.out {
            Some(_) => self.write_out(facts),
            None => send(client, facts).await,
        }
    }

    /// Writes facts to the file that `--out` names.
    pub(crate) fn write_out(&self, facts: &[Fact]) -> Result<()> {
        let mut out = OutFile::begin(self.out.as_deref().unwrap_or(Path::new("-")))?;
        facts.iter().try_for_each(|fact| out.push(fact))?;
        out.finish()
    }
}

/// Source of grants and entries, with an owned root key.
pub(crate) enum Lookup<'a> {
    Agent(&'a AgentClient),
    File(&'a Path, PublicKey),
}

impl Lookup<'_> {
    /// Returns the source for a survey.
    pub(crate) fn as_source(&self) -> Source<'_> {
        match self {
            Self::Agent(client) => Source::Agent(client),
            Self::File(path, root) => Source::File(path, root),
        }
    }
}

/// A signer in this process.
#[derive(Debug)]
pub(crate) struct Identity {
    key: SigningKey,
    /// Cluster that the command line names; `None` if it names none.
    expected: Option<ClusterId>,
}

impl Identity {
    /// Returns the entity of the signer.
    pub(crate) fn entity(&self) -> EntityId {
        self.key.public().entity()
    }

    /// Whether the signer is the root of `cluster`.
    pub(crate) fn is_root_of(&self, cluster: ClusterId) -> bool {
        self.key.public().cluster() == cluster
    }

    /// Returns the cluster that the command line names; `None` if it names none.
    pub(crate) fn expected(&self) -> Option<ClusterId> {
        self.expected
    }

    /// Returns the cluster that the command line names, if the signer is its root; then signing needs no agent.
    pub(crate) fn known_root(&self) -> Option<ClusterId> {
        self.expected.filter(|cluster| self.is_root_of(*cluster))
    }

    /// Parses the id of the agent's cluster; fails if the command line names another one.
    pub(crate) fn check_cluster(&self, text: &str) -> Result<ClusterId> {
        check_cluster(self.expected, text)
    }

    /// Signs a grant, revocation or floor.
    pub(crate) fn sign<B: AuthorityBody>(&self, cluster: ClusterId, body: B) -> Result<Signed<B>> {
        Signed::sign(cluster, body, &self.key).map_err(|error| signing_failed(&error))
    }

    /// Signs an entry.
    pub(crate) fn sign_entry(&self, cluster: ClusterId, draft: EntryDraft) -> Result<EntryFact> {
        EntryFact::sign(cluster, draft, &self.key).map_err(|error| signing_failed(&error))
    }
}

fn check_cluster(expected: Option<ClusterId>, text: &str) -> Result<ClusterId> {
    let cluster: ClusterId = text.parse().map_err(|_| unexpected("a cluster id that is none"))?;
    match expected {
        Some(expected) if expected != cluster => Err(Failure::new(
            codes::CLUSTER_MISMATCH,
            format!(
                "the agent belongs to cluster {}, not to {}: nothing was signed; check --agent, --root and --cluster",
                cluster.short(),
                expected.short()
            ),
        )),
        _ => Ok(cluster),
    }
}

fn signing_failed(error: &SignError) -> Failure {
    Failure::new(codes::INTERNAL, format!("cannot sign: {error}"))
}

/// Returns sixteen random bytes.
pub(crate) fn nonce() -> Result<[u8; 16]> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)
        .map_err(|error| Failure::new(codes::INTERNAL, format!("the system gives no randomness: {error}")))?;
    Ok(nonce)
}

fn line_of(fact: &Fact) -> Result<String> {
    let key = match fact {
        Fact::Entry(entry) => Some(entry.entry().key.to_string()),
        _ => None,
    };
    let row = FactRow {
        id: fact.id().to_string(),
        kind: fact.kind().to_owned(),
        key,
        record_b64: BASE64_STANDARD.encode(fact.to_record()),
    };
    let line = serde_json::to_string(&row);
    line.map(|line| line + "\n")
        .map_err(|error| Failure::new(codes::INTERNAL, format!("cannot write JSON: {error}")))
}

/// A new file of signed facts, one JSON object per line. If dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct OutFile {
    /// The file; `None`: standard output.
    file: Option<files::New>,
}

impl OutFile {
    fn begin(path: &Path) -> Result<Self> {
        let file = if files::is_dash(path) { None } else { Some(files::New::begin(path, Readers::Umask)?) };
        Ok(Self { file })
    }

    /// Appends a fact to the file.
    pub(crate) fn push(&mut self, fact: &Fact) -> Result<()> {
        let line = line_of(fact)?;
        match &mut self.file {
            Some(file) => file.write(line.as_bytes()),
            None => output::text(&line),
        }
    }

    /// Makes the file durable and keeps it.
    pub(crate) fn finish(self) -> Result<()> {
        self.file.map_or(Ok(()), files::New::finish)
    }
}

/// Sends newly signed facts to the agent; fails with the first refusal.
async fn send(client: &AgentClient, facts: &[Fact]) -> Result<()> {
    let verdicts = client.put_facts(facts).await?;
    let failed = facts.iter().zip(&verdicts).find_map(|(fact, row)| Some((fact, refusal(row)?)));
    let Some((fact, (code, exit, message))) = failed else {
        for (fact, row) in facts.iter().zip(&verdicts).filter(|(_, row)| row.verdict == MOOT) {
            say_that_it_changed_nothing(fact, row);
        }
        return Ok(());
    };
    let text =
        format!("the agent did not take the {} {}: {message}", fact.kind(), short(&fact.id().to_string()));
    let mut failure = Failure::with_exit(code, text, exit);
    for (fact, row) in facts.iter().zip(&verdicts).filter(|_| facts.len() > 1) {
        failure = failure.note(format!("  {} {} {}", row.verdict, fact.kind(), fact.id()));
    }
    Err(failure)
}

/// Verdict of a fact that changes nothing.
const MOOT: &str = "moot";

fn say_that_it_changed_nothing(fact: &Fact, row: &VerdictRow) {
    let id = short(&fact.id().to_string()).to_owned();
    let why = row.code.as_deref().and_then(codes::help).unwrap_or_default();
    say(&format!("the {} {id} changes nothing: {why}", fact.kind()));
}

/// Returns the code, exit code and message of a refused fact; `None` if it was merged, or nothing had to be done.
pub(crate) fn refusal(row: &VerdictRow) -> Option<(String, Exit, String)> {
    if row.verdict == Verdict::Merged.as_str() {
        return None;
    }
    let code = row.code.clone().unwrap_or_else(|| row.verdict.clone());
    let by_verdict = if matches!(row.verdict.as_str(), "refused" | "unjustified") {
        Exit::NotAuthorised
    } else {
        Exit::Error
    };
    let exit = codes::exit(&code).unwrap_or(by_verdict);
    let help = || codes::help(&code).unwrap_or_else(|| row.verdict.clone());
    let message = row.message.clone().unwrap_or_else(help);
    (exit != Exit::Ok).then_some((code, exit, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_grants::Code;

    fn exit_of(verdict: &str, code: &str) -> Option<Exit> {
        let row = VerdictRow { id: None, verdict: verdict.into(), code: Some(code.into()), message: None };
        refusal(&row).map(|(_, exit, _)| exit)
    }

    #[test]
    fn a_verdict_decides_the_exit_code() {
        assert_eq!(exit_of("merged", ""), None);
        assert_eq!(exit_of("moot", Code::Known.as_str()), None);
        assert_eq!(exit_of("moot", Code::RevocationSuperseded.as_str()), None);
        assert_eq!(exit_of("moot", Code::Dominated.as_str()), Some(Exit::Conflict));
        assert_eq!(exit_of("moot", Code::GrantRevoked.as_str()), Some(Exit::NotAuthorised));
        assert_eq!(exit_of("not_yet", Code::NotYet.as_str()), Some(Exit::Error));
        assert_eq!(exit_of("unjustified", Code::GrantUnknown.as_str()), Some(Exit::NotAuthorised));
        assert_eq!(exit_of("refused", Code::BadSignature.as_str()), Some(Exit::Integrity));
        assert_eq!(exit_of("refused", "unheard_of.reason"), Some(Exit::NotAuthorised));
        assert_eq!(exit_of("later", "unheard_of.reason"), Some(Exit::Error));
    }
}
