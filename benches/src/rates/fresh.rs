//! Rate at which a fresh replica receives everything from another one, over QUIC, verified and durable.

use super::rig::Rig;
use super::{Rates, Turn, measured};
use anyhow::{Result, ensure};
use kvgossip_agent::{Agent, PeerTarget};
use kvgossip_grants::{Fact, Signer, Verdict};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Size of values in bytes; with key, ids and signature an entry has 700 bytes.
const VALUE_BYTES: usize = 330;
/// Number of facts that are offered to the full replica at once.
const FILL: usize = 4_000;
const GIVE_UP: Duration = Duration::from_secs(300);

/// Measures transfers in turns with the bare operation; each side has all cores of the machine in its turn.
pub fn fresh(dir: &Path, turns: usize, count: usize) -> Result<Rates> {
    let (rig, runtime) = (Rig::new()?, Runtime::new()?);
    let full_place = tempfile::tempdir_in(dir)?;
    let facts = rig.entries(0, count, VALUE_BYTES)?;
    let full = runtime.block_on(async {
        let full = rig.agent(0, full_place.path(), |_| {}).await?;
        full.intake().offer(vec![Fact::Grant(rig.grant.clone())], "bench").await?;
        for part in facts.chunks(FILL) {
            let verdicts = full.intake().offer(part.to_vec(), "bench").await?;
            ensure!(verdicts.iter().all(|verdict| *verdict == Verdict::Merged), "all are taken in");
        }
        anyhow::Ok(full)
    })?;
    let mean = facts.iter().map(|fact| fact.to_record().len()).sum::<usize>() / count;
    eprintln!("{count} entries of {mean} bytes");
    let mut done = Vec::new();
    for _ in 0..turns {
        let messages = messages(&facts);
        let bare = measured(count, || verify(&rig, &messages))?;
        let place = tempfile::tempdir_in(dir)?;
        let mut fresh = None;
        let agent = measured(count, || {
            fresh = Some(runtime.block_on(take(&rig, &full, place.path()))?);
            Ok(())
        })?;
        runtime.block_on(async {
            if let Some(fresh) = fresh {
                fresh.stop().await
            }
        });
        done.push(Turn { bare, agent });
    }
    runtime.block_on(full.stop());
    Ok(Rates { name: "a fresh replica / verifying on two threads", target: 0.5, turns: done })
}

/// Starts an empty agent and waits until it has the state of the full one.
async fn take(rig: &Rig, full: &Agent, dir: &Path) -> Result<Agent> {
    let peer = PeerTarget { address: full.peers().address().into(), id: Some(full.peers().id()) };
    let began = Instant::now();
    let fresh = rig.agent(1, dir, |config| config.peers = vec![peer]).await?;
    let (root, mut batches) = (full.store().view().root(), fresh.store().batches());
    while fresh.store().view().root() != root {
        ensure!(began.elapsed() < GIVE_UP, "it does not come to an end");
        tokio::time::timeout(GIVE_UP, batches.changed()).await??;
    }
    Ok(fresh)
}

/// A signed message and its signature.
type Message<'a> = (Vec<u8>, &'a [u8]);

fn messages(facts: &[Fact]) -> Vec<Message<'_>> {
    let entries = facts.iter().filter_map(|fact| match fact {
        Fact::Entry(entry) => Some(entry.signed()),
        _ => None,
    });
    entries.map(|entry| (entry.preimage(), entry.signature())).collect()
}

/// The bare operation: verifies one signature per entry, by a key that is already parsed.
fn verify(rig: &Rig, messages: &[Message<'_>]) -> Result<()> {
    let key = rig.writer.public();
    let all = |part: &[Message<'_>]| part.iter().all(|(message, signature)| key.verify(message, signature));
    let (first, second) = messages.split_at(messages.len() / 2);
    let holds = thread::scope(|scope| {
        let other = scope.spawn(|| all(second));
        let first = all(first);
        first && other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    ensure!(holds, "the signatures verify");
    Ok(())
}
