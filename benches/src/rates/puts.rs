//! Rate of durable puts through the HTTP API by many concurrent writers.

use super::rig::{Rig, key};
use super::{Rates, Turn, measured};
use anyhow::{Result, ensure};
use bytes::Bytes;
use kvgossip_client::{AgentClient, Endpoint};
use kvgossip_grants::{Fact, Signer};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Number of concurrent writers.
const WRITERS: usize = 64;
/// Bytes that the bare operation appends before each flush: a put with its overhead.
const APPEND_BYTES: usize = 800;
const VALUE_BYTES: usize = 300;

/// Measures pre-signed facts, verified by the agent, against appending to a file with a flush for each.
pub fn presigned(dir: &Path, turns: usize, count: usize, flushes: usize) -> Result<Rates> {
    let (rig, runtime) = (Rig::new()?, Runtime::new()?);
    let place = tempfile::tempdir_in(dir)?;
    let agent = runtime.block_on(rig.agent(0, place.path(), |_| {}))?;
    let client = client(place.path())?;
    runtime.block_on(client.post_facts(&[Fact::Grant(rig.grant.clone())]))?;
    let mut done = Vec::new();
    for turn in 0..turns {
        let facts = Arc::new(rig.entries(turn * count, count, VALUE_BYTES)?);
        let bare = measured(flushes, || append(place.path(), flushes))?;
        let client = client.clone();
        let put = move |number: usize| {
            let (client, facts) = (client.clone(), facts.clone());
            async move {
                let verdicts = client.post_facts(&facts[number..=number]).await?;
                ensure!(verdicts[0].verdict == "merged", "{:?}", verdicts[0]);
                Ok(())
            }
        };
        let agent = measured(count, || runtime.block_on(by_writers(count, put)))?;
        done.push(Turn { bare, agent });
    }
    runtime.block_on(agent.stop());
    Ok(Rates { name: "pre-signed puts / appends with fsync", target: 2.5, turns: done })
}

/// Measures puts that the agent signs against signing alone on two threads.
pub fn signed_by_the_agent(dir: &Path, turns: usize, count: usize) -> Result<Rates> {
    let (rig, runtime) = (Rig::new()?, Runtime::new()?);
    let place = tempfile::tempdir_in(dir)?;
    let agent = runtime.block_on(rig.agent(0, place.path(), |_| {}))?;
    let client = client(place.path())?;
    runtime.block_on(client.post_facts(&[Fact::Grant(rig.grant.clone())]))?;
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let mut done = Vec::new();
    for turn in 0..turns {
        let bare = measured(count, || sign(&rig, count))?;
        let (client, value) = (client.clone(), value.clone());
        let put = move |number: usize| {
            let (client, value) = (client.clone(), value.clone());
            async move {
                client.put(&key(turn * count + number)?, value, None).await?;
                Ok(())
            }
        };
        let agent = measured(count, || runtime.block_on(by_writers(count, put)))?;
        done.push(Turn { bare, agent });
    }
    runtime.block_on(agent.stop());
    Ok(Rates { name: "puts signed by the agent / signing on two threads", target: 0.5, turns: done })
}

fn client(dir: &Path) -> Result<AgentClient> {
    let endpoint: Endpoint = format!("unix:{}", dir.join("agent.sock").display()).parse()?;
    Ok(AgentClient::new(endpoint))
}

/// Performs `count` puts, at most [`WRITERS`] at a time.
async fn by_writers<F>(count: usize, put: impl Fn(usize) -> F + Send + Sync + 'static) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let shared = Arc::new((AtomicUsize::new(0), put));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let shared = shared.clone();
        writers.spawn(async move {
            let (next, put) = &*shared;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(());
                }
                put(number).await?;
            }
        });
    }
    writers.join_all().await.into_iter().collect()
}

fn append(dir: &Path, flushes: usize) -> Result<()> {
    let mut file = File::create(dir.join("appended"))?;
    for _ in 0..flushes {
        file.write_all(&[7; APPEND_BYTES])?;
        file.sync_data()?;
    }
    Ok(())
}

fn sign(rig: &Rig, count: usize) -> Result<()> {
    let make = |count: usize| -> Result<()> {
        for number in 0..count {
            rig.writer.sign(&number.to_le_bytes())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| make(count / 2));
        make(count - count / 2)?;
        other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
