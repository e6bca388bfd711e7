//! The examples run as they are described: they are built beside this test.

use kvgossip_agent::{Agent, now};
use kvgossip_grants::Signer;
use kvgossip_testkit::agents::*;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

struct Example {
    child: Child,
    lines: Receiver<String>,
    _dir: tempfile::TempDir,
}

impl Example {
    fn start(name: &str, args: impl Fn(String) -> Vec<String>, envs: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root.pub");
        std::fs::write(&root, root_pem()).expect("a file");
        let mut child = Command::new(program(name))
            .args(args(root.display().to_string()))
            .envs(envs.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)))
        });
        Self { child, lines, _dir: dir }
    }

    /// Waits for a line that contains a text.
    #[track_caller]
    fn says(&self, what: &str) {
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line.contains(what) => return,
                Ok(line) => heard.push(line),
                Err(_) => panic!("in vain: {what}; it said {heard:#?}"),
            }
        }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn root_pem() -> String {
    root().public().to_pem()
}

/// Examples lie beside the directory of the tests; the script in the sources.
fn program(name: &str) -> PathBuf {
    if name.ends_with(".sh") {
        return PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    }
    let test = std::env::current_exe().expect("this program");
    let built = test.parent().and_then(|deps| deps.parent()).expect("target").join("examples").join(name);
    assert!(built.exists(), "{} is built by `cargo test -p kvgossip-client`", built.display());
    built
}

async fn set(agent: &Agent, key: &str, value: &str) {
    put(agent, entry(key, value.as_bytes(), now(), root(), None)).await;
}

fn url(agent: &Agent) -> String {
    format!("http://{}", agent.http_address().expect("TCP"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_reloads_its_configuration() {
    let agent = start(config(0)).await;
    let service = Example::start("config_service", |root| vec![root, url(&agent)], &[]);
    service.says("running with Config { greeting: \"hello\", workers: 4 }");
    set(&agent, "/app/web/greeting", "good morning").await;
    service.says("greeting: \"good morning\", workers: 4");
    set(&agent, "/app/web/workers", "8").await;
    service.says("workers: 8");
    let address = agent.http_address();
    agent.stop().await;
    service.says("this may not be the latest: disconnected");
    let mut again = config(0);
    again.http = address;
    let agent = start(again).await;
    set(&agent, "/app/web/workers", "9").await;
    service.says("workers: 9");
    drop(service);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_is_read_and_followed() {
    let agent = start(config(0)).await;
    let reader = Example::start("feature_flags", |root| vec![root, url(&agent), "/flags/x".into()], &[]);
    reader.says("/flags/x is off");
    set(&agent, "/flags/x", "on").await;
    reader.says("/flags/x is on");
    set(&agent, "/flags/x", "off").await;
    reader.says("/flags/x is off");
    drop(reader);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_follows_a_key() {
    let agent = start(config(0)).await;
    set(&agent, "/k", "first").await;
    let script = Example::start(
        "watch.sh",
        |_| vec![url(&agent), "/k".into()],
        &[("WATCH_ONCE", "1"), ("WATCH_SECONDS", "60")],
    );
    script.says("current first");
    set(&agent, "/k", "second").await;
    script.says("written second");
    drop(script);
    agent.stop().await;
}
