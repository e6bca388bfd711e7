//! Measures connections between two replicas on loopback: what a handshake costs in bytes and time, how
//! long an echo takes, how fast frames flow.
//!
//! `cargo run --release -p kvgossip-transport --example measure -- KEY_A.pem KEY_B.pem`

use kvgossip_transport::limits::WRITE_AHEAD;
use kvgossip_transport::{Connection, Endpoint, Limits, Policy, ReplicaKey, TransportError};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

const HANDSHAKES: usize = 200;
const ECHOES: usize = 5_000;
const FRAMES: usize = 4_000;
const FRAME_LEN: usize = 64 << 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let [a, b] = paths.as_slice() else { return Err("two files with replica keys are needed".into()) };
    let (a, b) = (ReplicaKey::from_pem(&std::fs::read(a)?)?, ReplicaKey::from_pem(&std::fs::read(b)?)?);
    let (dialler, dialled) = (bind(&a, &b)?, bind(&b, &a)?);

    let server = dialled.clone();
    tokio::spawn(async move {
        while let Some(connection) = server.accept().await {
            tokio::spawn(answer(connection));
        }
    });
    handshakes(&dialler, &dialled, &b).await?;
    let connection = dialler.connect(dialled.local_addr()?, Some(b.id())).await?;
    echoes(&connection).await?;
    frames(&connection).await?;
    Ok(())
}

fn bind(key: &ReplicaKey, peer: &ReplicaKey) -> Result<Endpoint, TransportError> {
    let policy = Policy::new([peer.id()].into_iter().collect());
    Endpoint::bind(([127, 0, 0, 1], 0).into(), key.clone(), Arc::new(policy), Limits::default())
}

/// Echoes short frames, swallows long ones.
async fn answer(connection: Connection) -> Result<(), TransportError> {
    loop {
        let mut stream = connection.accept_session().await?;
        while let Some(frame) = stream.recv().await? {
            if frame.len() < FRAME_LEN {
                stream.send(frame).await?;
            }
        }
        stream.finish().await?;
    }
}

async fn handshakes(dialler: &Endpoint, dialled: &Endpoint, key: &ReplicaKey) -> Result<(), TransportError> {
    let (mut times, mut sent, mut received) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..HANDSHAKES {
        let connection = dialler.connect(dialled.local_addr()?, Some(key.id())).await?;
        let cost = connection.handshake();
        times.push(cost.time);
        sent.push(cost.sent);
        received.push(cost.received);
    }
    // Above the least stand the first probes for a larger packet size, which QUIC sends meanwhile.
    for (what, mut bytes) in [("sent", sent), ("received", received)] {
        bytes.sort_unstable();
        let (least, median) = (bytes.first(), bytes.get(bytes.len() / 2));
        println!("handshake: {what} by the dialler: least {least:?} B, median {median:?} B (UDP payload)");
    }
    println!("handshake: {}", summary(times));
    Ok(())
}

async fn echoes(connection: &Connection) -> Result<(), TransportError> {
    let mut stream = connection.open_session().await?;
    let mut times = Vec::new();
    for _ in 0..ECHOES {
        let began = Instant::now();
        stream.send(vec![7; 64].into()).await?;
        stream.recv().await?;
        times.push(began.elapsed());
    }
    stream.finish().await?;
    println!("echo of 64 B: {}; QUIC's estimate {:?}", summary(times), connection.rtt());
    Ok(())
}

async fn frames(connection: &Connection) -> Result<(), TransportError> {
    let frame = bytes::Bytes::from(vec![7; FRAME_LEN]);
    let mut stream = connection.open_session().await?;
    let began = Instant::now();
    for _ in 0..FRAMES {
        let (_, writer) = stream.halves();
        writer.queue(frame.clone())?;
        if writer.queued() >= WRITE_AHEAD {
            writer.flush().await?;
        }
    }
    let bytes = stream.finish().await?;
    let rate = bytes.sent as f64 / began.elapsed().as_secs_f64() / 1e6;
    println!("frames of 64 KiB: {rate:.0} MB/s ({} bytes)", bytes.sent);
    Ok(())
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    format!("median {:?}, p99 {:?} of {}", at(50), at(99), times.len())
}
