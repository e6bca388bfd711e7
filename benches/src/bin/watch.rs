//! Measures the cost of watching: the time from an acknowledged write to its subscribers, and the memory of idle
//! watchers.
//!
//! `latency`: two connected agents with stores on a disk. Half of the subscriptions are at each agent, one per key and
//! agent. Signed entries are posted over HTTP to the first agent at a steady rate. The time runs from the end of the
//! response to the moment when the subscriber's task is woken, in one process, so that one clock is used. A value that
//! arrives before the response counts as 0.
//!
//! `memory`: an agent in a separate process, and connections that each watch a key. The result is the growth of the
//! agent's resident memory divided by the number of connections.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::{Parser, Subcommand};
use kvgossip_agent::{Agent, Config, PeerTarget};
use kvgossip_client::{AgentClient, Client, Endpoint};
use kvgossip_engine::{FjallStorage, MemoryStorage, Storage};
use kvgossip_grants::{EntryDraft, EntryFact, EntryId, Fact, Key, Signer, SigningKey};
use kvgossip_transport::ReplicaKey;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The allocator that the program uses.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Number of subscriptions of one client.
const PER_CLIENT: usize = 100;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Time from acknowledgement to subscriber.
    Latency {
        /// Directory for the stores; report the disk with the results.
        #[arg(long)]
        dir: PathBuf,
        #[arg(long, default_value_t = 1000)]
        subscriptions: usize,
        /// Writes per second.
        #[arg(long, default_value_t = 500)]
        rate: usize,
        #[arg(long, default_value_t = 20)]
        seconds: usize,
    },
    /// Memory of idle watchers.
    Memory {
        #[arg(long, default_value_t = 10_000)]
        watchers: usize,
    },
    /// Runs the agent that `memory` measures.
    #[command(hide = true)]
    Serve,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match Args::parse().what {
        What::Latency { dir, subscriptions, rate, seconds } => {
            runtime.block_on(latency(&dir, subscriptions, rate, seconds))
        }
        What::Memory { watchers } => memory(watchers),
        What::Serve => runtime.block_on(serve()),
    }
}

fn make_key() -> Result<(SigningKey, String)> {
    let fill = &mut |bytes: &mut [u8]| {
        getrandom::fill(bytes).unwrap_or_else(|error| panic!("no randomness: {error}"))
    };
    Ok(SigningKey::generate(2048, fill)?)
}

fn config(root: &SigningKey, replicas: &[String], number: usize) -> Result<Config> {
    let replica = |pem: &String| ReplicaKey::from_pem(pem.as_bytes());
    let mut config = Config::new(root.public().clone(), replica(&replicas[number])?);
    config.allowed =
        replicas.iter().map(|pem| Ok(replica(pem)?.id())).collect::<Result<Vec<_>>>()?.into_iter().collect();
    Ok(config)
}

fn open(dir: &Path, root: &SigningKey) -> Result<Box<dyn Storage>> {
    std::fs::create_dir_all(dir)?;
    Ok(Box::new(FjallStorage::open(dir, root.public().cluster())?))
}

type Acks = Arc<Mutex<HashMap<EntryId, Instant>>>;

async fn latency(dir: &Path, subscriptions: usize, rate: usize, seconds: usize) -> Result<()> {
    let dir = tempfile::tempdir_in(dir)?;
    let (root, _) = make_key()?;
    let replicas = (0..2).map(|_| Ok(make_key()?.1)).collect::<Result<Vec<_>>>()?;
    let a = Agent::start(config(&root, &replicas, 0)?, open(&dir.path().join("a"), &root)?).await?;
    let mut second = config(&root, &replicas, 1)?;
    second.peers = vec![PeerTarget { address: a.peers().address().into(), id: Some(a.peers().id()) }];
    let b = Agent::start(second, open(&dir.path().join("b"), &root)?).await?;

    let keys: Vec<Key> = (0..subscriptions.div_ceil(2))
        .map(|n| Key::parse(&format!("/bench/{n}")))
        .collect::<Result<_, _>>()?;
    let mut subscribers = Vec::new();
    let mut clients = Vec::new();
    for (place, agent) in [&a, &b].into_iter().enumerate() {
        for keys in keys.chunks(PER_CLIENT) {
            let client = Client::builder().endpoint(endpoint(agent)?).root(root.public().clone()).build()?;
            for key in keys {
                let mut sub = client.subscribe(key);
                sub.ready().await?;
                subscribers.push(tokio::spawn(async move {
                    let mut seen = Vec::new();
                    while let Ok(state) = sub.changed().await {
                        let now = Instant::now();
                        seen.extend(state.value.entry().map(|entry| (place, entry.id, now)));
                    }
                    seen
                }));
            }
            clients.push(client);
        }
    }
    eprintln!(
        "{} subscriptions of {} clients; signing {} entries",
        subscribers.len(),
        clients.len(),
        rate * seconds
    );
    let facts = sign(&root, &keys, rate * seconds)?;
    let acks = write(&AgentClient::new(endpoint(&a)?), facts, rate).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(clients);

    let acks = std::mem::take(&mut *acks.lock());
    let mut waits = [Vec::new(), Vec::new()];
    for subscriber in subscribers {
        for (place, entry, at) in subscriber.await? {
            if let Some(acked) = acks.get(&entry) {
                waits[place].push(at.saturating_duration_since(*acked));
            }
        }
    }
    for (name, waits) in ["same agent", "other agent"].into_iter().zip(&mut waits) {
        waits.sort_unstable();
        let at = |share: f64| {
            waits.get(((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1)))
        };
        let ms = |share| at(share).map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e3);
        println!(
            "{name}: {} of {} writes seen as such; p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
            waits.len(),
            acks.len(),
            ms(0.5),
            ms(0.99),
            ms(1.0)
        );
    }
    a.stop().await;
    b.stop().await;
    Ok(())
}

fn endpoint(agent: &Agent) -> Result<Endpoint> {
    Ok(format!("http://{}", agent.http_address().context("TCP")?).parse()?)
}

/// Signs entries in ascending order of their times, cycling through the keys.
fn sign(root: &SigningKey, keys: &[Key], count: usize) -> Result<Vec<Fact>> {
    let (cluster, now) = (root.public().cluster(), kvgossip_agent::now());
    let sign = |number: usize| {
        let draft = EntryDraft {
            key: keys[number % keys.len()].clone(),
            value: Some(Bytes::from(number.to_string())),
            timestamp: now.saturating_add(number as u64),
            grant: None,
        };
        Ok(Fact::Entry(EntryFact::sign(cluster, draft, root)?))
    };
    (0..count).map(sign).collect()
}

async fn write(agent: &AgentClient, facts: Vec<Fact>, rate: usize) -> Result<Acks> {
    let (acks, began) = (Acks::default(), Instant::now());
    let mut posts = Vec::new();
    for (number, fact) in facts.into_iter().enumerate() {
        let due = began + Duration::from_secs_f64(number as f64 / rate as f64);
        tokio::time::sleep_until(due.into()).await;
        let (agent, acks) = (agent.clone(), acks.clone());
        posts.push(tokio::spawn(async move {
            let id = EntryId(fact.id().0);
            let verdicts = agent.post_facts(&[fact]).await?;
            let acked = Instant::now();
            ensure!(verdicts[0].verdict == "merged", "{verdicts:?}");
            acks.lock().insert(id, acked);
            Ok(())
        }));
    }
    let mut failed = 0;
    for post in posts {
        failed += usize::from(post.await?.is_err());
    }
    eprintln!("written in {:.1} s; {failed} not taken", began.elapsed().as_secs_f64());
    Ok(acks)
}

async fn serve() -> Result<()> {
    let (root, _) = make_key()?;
    let mut config = config(&root, &[make_key()?.1], 0)?;
    config.http_limits.tcp_connections = 20_000;
    let agent = Agent::start(config, Box::new(MemoryStorage::new())).await?;
    println!("{}", agent.http_address().context("TCP")?);
    // Runs until standard input is closed.
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await??;
    eprintln!("{} watchers at the end", agent.hub().watchers());
    Ok(())
}

fn memory(watchers: usize) -> Result<()> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().context("a pipe")?).read_line(&mut line)?;
    let address: SocketAddr = line.trim().parse()?;
    // One-time allocations are made before the measurement.
    let warm = (0..100).map(|number| watch(address, number)).collect::<Result<Vec<_>>>()?;
    let before = resident_kib(server.id())?;
    let open = (100..100 + watchers).map(|number| watch(address, number)).collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_secs(2));
    let after = resident_kib(server.id())?;
    println!(
        "{watchers} idle watchers: {:.1} KiB each ({before} KiB before, {after} KiB after)",
        (after.saturating_sub(before)) as f64 / watchers as f64
    );
    drop(server.stdin.take());
    server.wait()?;
    drop((warm, open));
    Ok(())
}

/// Opens a watch and reads until `synced` arrives.
fn watch(address: SocketAddr, number: usize) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let request =
        format!("GET /v1/watch?key=/bench/{number}&heartbeat_ms=60000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut text, mut bytes) = (Vec::new(), [0; 2048]);
    while !String::from_utf8_lossy(&text).contains("event: synced") {
        let read = stream.read(&mut bytes)?;
        ensure!(read > 0, "the agent ended the stream: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&bytes[..read]);
    }
    Ok(stream)
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
