//! Commands that ask several agents: what one of them keeps back, or does not know, another one tells.
#![cfg(unix)]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::process::{Launch, Process, ask, status};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// Two agents of one cluster that do not know each other.
fn strangers(desk: &Desk) -> (Process, Process) {
    let a = Launch::new(desk, "a", "replica-a.pem").start(desk);
    let b = Launch::new(desk, "b", "replica-b.pem").start(desk);
    (a, b)
}

const BOTH: [&str; 4] = ["--agent", "unix:a/agent.sock", "--agent", "unix:b/agent.sock"];

#[test]
fn several_agents_are_asked_and_the_newest_valid_entry_counts() {
    let desk = Desk::new(PROGRAM);
    let (_a, b) = strangers(&desk);
    ask(&desk, "a", &["set", "/k", "old"]).exits(0);
    ask(&desk, "b", &["set", "/k", "new"]).exits(0);
    let run = |args: &[&str]| desk.run(&[args, &BOTH].concat());
    assert_eq!(desk.run(&["get", "/k", "--agent", "unix:a/agent.sock"]).exits(0).text(), "old");
    let verified = ["get", "/k", "--agents", "2", "--root", "root.pub.pem"];
    assert_eq!(run(&verified).exits(0).text(), "new");
    assert_eq!(run(&["get", "/k", "--agents", "2"]).exits(0).text(), "new");
    let json =
        run(&["get", "/k", "--agents", "2", "--root", "root.pub.pem", "--output", "json"]).exits(0).json();
    assert_eq!((json[0]["value"].as_str(), json[0]["key"].as_str()), (Some("new"), Some("/k")));
    run(&["get", "/none", "--agents", "2", "--root", "root.pub.pem"]).fails(3, "key.unset");
    // One agent is enough to verify what it says, and a wrong root key lets nothing pass.
    let one = ["get", "/k", "--agent", "unix:a/agent.sock", "--root"];
    assert_eq!(desk.run(&[&one[..], &["root.pub.pem"]].concat()).exits(0).text(), "old");
    desk.run(&[&one[..], &["team.pub.pem"]].concat()).fails(7, "client.too_few");

    // A grant that one of them knows.
    let grant = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/team/**", "--identity", "root.pem"];
    ask(&desk, "b", &grant).exits(0);
    let explain = ["explain", "/team/x", "--as", "team.pub.pem"];
    ask(&desk, "a", &explain).exits(4);
    run(&[&explain[..], &["--agents", "2", "--root", "root.pub.pem"]].concat()).exits(0);

    // How many are meant has to be clear.
    run(&["get", "/k"]).fails(2, "usage");
    run(&["set", "/k", "v"]).fails(2, "usage");
    run(&["get", "/k", "--agents", "3"]).fails(2, "usage");
    run(&["get", "/k", "--agents", "0"]).fails(2, "usage");

    // One replica that is named twice, at two of its doors, is one.
    let door = format!("http://{}", status(&desk, "a")["http_address"].as_str().expect("TCP"));
    let twice = ["--agent", "unix:a/agent.sock", "--agent", &door];
    let refused = desk.run(&[&verified[..], &twice].concat()).fails(7, "client.too_few");
    assert!(refused.err.contains("a replica that has answered already"), "{refused:?}");
    let thrice = [&verified[..], &twice, &["--agent", "unix:b/agent.sock"]].concat();
    assert_eq!(desk.run(&thrice).exits(0).text(), "new", "the third one counts");

    // Too few answer.
    b.stop();
    run(&verified).fails(7, "client.too_few");
    assert_eq!(run(&["get", "/k", "--agents", "1", "--root", "root.pub.pem"]).exits(0).text(), "old");
}

/// With the limits that a client has unless told otherwise.
#[test]
fn watch_shows_what_the_first_agent_withholds_and_names_it() {
    let desk = Desk::new(PROGRAM);
    let (_a, _b) = strangers(&desk);
    let grant = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/team/**", "--identity", "root.pem"];
    ask(&desk, "a", &grant).exits(0);
    ask(&desk, "a", &["set", "/team/x", "stolen", "--identity", "team.pem"]).exits(0);
    ask(&desk, "a", &["export", "-o", "facts"]).exits(0);
    ask(&desk, "b", &["import", "facts"]).exits(0);
    let listed = ask(&desk, "b", &["grant", "ls", "--output", "json"]).exits(0).json();
    let grant = listed[0]["id"].as_str().expect("a grant");
    ask(&desk, "b", &["grant", "revoke", grant, "--identity", "root.pem"]).exits(0);

    let proxy = swallowing(status(&desk, "a")["http_address"].as_str().expect("TCP").to_owned());
    let args =
        ["watch", "/team/x", "--root", "root.pub.pem", "--agent", &proxy, "--agent", "unix:b/agent.sock"];
    let mut child =
        desk.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let began = Instant::now();
    let (out, err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let find = |what: &'static str, lines: Box<dyn Read + Send>| {
        thread::spawn(move || {
            BufReader::new(lines).lines().map_while(Result::ok).find(|line| line.contains(what))
        })
    };
    let (truth, named) = (find("/team/x  -", Box::new(out)), find("[agent.withheld]", Box::new(err)));
    // In vain, it is ended, and its pipes with it.
    while !(truth.is_finished() && named.is_finished()) && began.elapsed() < Duration::from_secs(350) {
        thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("a child of ours");
    child.wait().expect("it ends");
    truth.join().expect("no panic").expect("the revocation shows");
    let named = named.join().expect("no panic").expect("it is named");
    assert!(named.contains(&proxy) && named.contains("withheld"), "{named}");
}

/// An agent's address at which offered facts are said to be merged, and dropped; all else passes.
fn swallowing(agent: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let agent = agent.clone();
            thread::spawn(move || serve(near, &agent));
        }
    });
    url
}

fn serve(mut near: TcpStream, agent: &str) -> Option<()> {
    let mut head = vec![0; 65_536];
    let read = near.read(&mut head).ok().filter(|read| *read > 0)?;
    head.truncate(read);
    if head.starts_with(b"POST /v1/facts ") {
        let length =
            |text: &str| text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let body = loop {
            let text = String::from_utf8_lossy(&head).into_owned();
            let whole = text.split_once("\r\n\r\n").filter(|(_, body)| length(&text) == Some(body.len()));
            if let Some((_, body)) = whole {
                break body.to_owned();
            }
            let mut more = [0; 65_536];
            let read = near.read(&mut more).ok().filter(|read| *read > 0)?;
            head.extend_from_slice(&more[..read]);
        };
        let facts: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let row = serde_json::json!({ "id": null, "verdict": "merged", "code": null, "message": null });
        let rows = vec![row; facts["records_b64"].as_array().expect("facts").len()];
        let json = serde_json::json!({ "verdicts": rows }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{json}", json.len());
        return near.write_all(head.as_bytes()).ok();
    }
    let mut far = TcpStream::connect(agent).ok()?;
    far.write_all(&head).ok()?;
    let (mut near_in, mut far_out) = (near.try_clone().ok()?, far.try_clone().ok()?);
    thread::spawn(move || std::io::copy(&mut near_in, &mut far_out));
    std::io::copy(&mut far, &mut near).ok().map(drop)
}
