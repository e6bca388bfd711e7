//! HTTPS: whose certificate is accepted, and what is said of each file that does not fit.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_testkit::desk::{Desk, Ran, ran, until};
use kvgossip_testkit::process::{Launch, status};
use kvgossip_testkit::served::{Served, Setup};
use kvgossip_testkit::wait::wait_until;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const PAIR: (&str, &str) = ("tls-server.pem", "tls-server.key");

#[test]
fn a_certificate_of_the_authority_is_accepted_and_nothing_else() {
    let token = Some("s3cret");
    let setup = Setup { identity: Some("root.pem"), token, tls: Some(PAIR), ..Setup::default() };
    let served = Served::start(PROGRAM, setup);
    std::fs::write(served.path("token"), "s3cret").unwrap();
    let port = served.url().rsplit(':').next().unwrap().to_owned();
    let run = |host: &str, args: &[&str]| -> Ran {
        served.desk.run(&[args, &["--agent", &format!("https://{host}:{port}")]].concat())
    };
    let ca = ["--ca", "tls-ca.pem"];
    // The certificate is for both spellings.
    for host in ["127.0.0.1", "localhost"] {
        run(host, &[&["set", "/a", host, "--token-file", "token"], &ca[..]].concat()).exits(0);
        assert_eq!(run(host, &[&["get", "/a"], &ca[..]].concat()).exits(0).text(), host);
    }
    run("127.0.0.1", &["get", "/a"]).fails(5, "agent.tls");
    run("127.0.0.1", &["get", "/a", "--ca", "tls-other.pem"]).fails(5, "agent.tls");
    run("127.0.0.1", &["get", "/a", "--ca", "root.pem"]).fails(1, "tls.authority");
    run("127.0.0.1", &["get", "/a", "--ca", "nothing"]).fails(1, "file.unreadable");
    // In clear on the port of TLS, and the other way round.
    served.desk.run(&["get", "/a", "--agent", &format!("http://127.0.0.1:{port}")]).fails(5, "http.tls");
    let plain = Served::start(PROGRAM, Setup::default());
    let url = plain.url().replace("http://", "https://");
    let in_clear = plain.desk.run(&["status", "--agent", &url, "--ca", "tls-ca.pem"]).fails(5, "agent.tls");
    assert!(in_clear.err.contains("does not speak TLS, as an agent at http://"), "{in_clear:?}");
    // The socket needs none of this.
    assert_eq!(served.run(&["get", "/a"]).exits(0).text(), "localhost");
}

#[test]
fn a_certificate_for_another_name_is_not_accepted() {
    let served = Served::start(
        PROGRAM,
        Setup { tls: Some(("tls-elsewhere.pem", "tls-elsewhere.key")), ..Setup::default() },
    );
    let url = served.url().replace("http://", "https://");
    let ran = served.desk.run(&["status", "--agent", &url, "--ca", "tls-ca.pem"]).fails(5, "agent.tls");
    assert!(ran.err.contains("127.0.0.1"), "{}", ran.err);
}

#[test]
fn an_agent_names_the_file_that_does_not_fit() {
    let desk = Desk::new(PROGRAM);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let agent = |tls: &[&str]| {
        let args =
            ["agent", "--data-dir", "data", "--root", "root.pub.pem", "--http", &free, "--sync", &free];
        desk.run(&[&args[..], tls].concat())
    };
    let with = |cert, key| agent(&["--tls-cert", cert, "--tls-key", key]);
    with("tls-server.pem", "tls-elsewhere.key").fails(1, "tls.mismatch");
    with("root.pem", "tls-server.key").fails(1, "tls.certificate");
    with("tls-server.pem", "tls-server.pem").fails(1, "tls.key");
    with("nothing", "tls-server.key").fails(1, "file.unreadable");
    with("tls-server.pem", "nothing").fails(1, "file.unreadable");
    agent(&["--tls-cert", "tls-server.pem"]).fails(2, "usage");
    let open =
        ["agent", "--data-dir", "data", "--root", "root.pub.pem", "--http", "0.0.0.0:0", "--sync", &free];
    desk.run(&open).fails(2, "agent.http_not_loopback");
    assert!(!desk.path("data").exists(), "nothing was made");
}

#[test]
fn without_a_certificate_of_its_own_the_systems_authorities_count() {
    let served =
        Served::start(PROGRAM, Setup { identity: Some("root.pem"), tls: Some(PAIR), ..Setup::default() });
    served.run(&["set", "/a", "1"]).exits(0);
    let url = served.url().replace("http://", "https://");
    let ask = |authorities: &str, args: &[&str]| -> Ran {
        let mut command = served.desk.command(&[args, &["--agent", &url]].concat());
        command.env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
        ran(command.output().unwrap())
    };
    let get = ["get", "/a"];
    assert_eq!(ask("tls-ca.pem", &get).exits(0).text(), "1");
    // A client that keeps values current asks the same way.
    let watched = ask("tls-ca.pem", &["watch", "/a", "--count", "1"]).exits(0);
    assert!(watched.text().starts_with("current  /a  "), "{watched:?}");
    let refused = ask("tls-other.pem", &get).fails(5, "agent.tls");
    assert!(refused.err.contains("UnknownIssuer") && refused.err.contains("--ca"), "{refused:?}");
    let none = ask("nothing.pem", &get).fails(5, "agent.tls");
    assert!(none.err.contains("the system has no authorities' certificates: "), "{none:?}");
    // What is given counts alone.
    ask("tls-ca.pem", &["get", "/a", "--ca", "tls-other.pem"]).fails(5, "agent.tls");
    assert_eq!(ask("nothing.pem", &["get", "/a", "--ca", "tls-ca.pem"]).exits(0).text(), "1");
}

#[test]
fn a_renewed_certificate_is_taken_on_sighup_and_a_broken_one_is_not() {
    let desk = Desk::new(PROGRAM);
    let copy = |from: &str, to: &str| fs::copy(desk.path(from), desk.path(to)).unwrap();
    let install = |name: &str| {
        copy(&format!("{name}.pem"), "cert");
        copy(&format!("{name}.key"), "key");
    };
    install("tls-elsewhere");
    let agent = Launch::new(&desk, "data", "replica-a.pem")
        .with(&["--tls-cert", "cert", "--tls-key", "key"])
        .start(&desk);
    let address = status(&desk, "data")["http_address"].as_str().unwrap().to_owned();
    let url = format!("https://{address}");
    let ask = || desk.run(&["status", "--agent", &url, "--ca", "tls-ca.pem"]);
    let reload = || {
        let pid = agent.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    };
    let told = |what: &str| wait_until(what, || desk.read("data.log").contains(what));
    ask().fails(5, "agent.tls");
    install("tls-server");
    ask().fails(5, "agent.tls");
    reload();
    until(ask, |ran| ran.code == 0).exits(0);
    told("the certificate was read again");
    // A key that is not the certificate's: the old pair goes on being served.
    copy("tls-elsewhere.key", "key");
    reload();
    told("the certificate stays as it was");
    ask().exits(0);
    fs::remove_file(desk.path("cert")).unwrap();
    reload();
    told("cannot be read");
    ask().exits(0);
    assert!(agent.stop().success());
}

const CLIENT: [&str; 4] = ["--client-cert", "tls-client.pem", "--client-key", "tls-client.key"];
const CA: [&str; 2] = ["--ca", "tls-ca.pem"];

/// Reading by a token and by a certificate, with every command that reads; writing by neither.
#[test]
fn a_guarded_agent_is_read_with_its_read_token_or_a_certificate_and_not_without() {
    let served = Served::start(
        PROGRAM,
        Setup {
            identity: Some("root.pem"),
            token: Some("writer"),
            read_token: Some("reader"),
            tls: Some(PAIR),
            client_ca: Some("tls-clients-ca.pem"),
            ..Setup::default()
        },
    );
    for name in ["writer", "reader", "other"] {
        fs::write(served.path(name), name).unwrap();
    }
    served.run(&["set", "/a", "1"]).exits(0);
    let url = served.url().replace("http://", "https://");
    let run = |args: &[&str], by: &[&str]| -> Ran {
        served.desk.run(&[args, by, &["--agent", &url], &CA].concat())
    };
    let get = ["get", "/a"];
    for by in [&["--token-file", "reader"][..], &["--token-file", "writer"], &CLIENT] {
        assert_eq!(run(&get, by).exits(0).text(), "1", "{by:?}");
        run(&["status"], by).exits(0);
        let watched = run(&["watch", "/a", "--count", "1"], by).exits(0);
        assert!(watched.text().starts_with("current  /a  "), "{by:?} {watched:?}");
        let set = run(&["set", "/a", "1"], by);
        if by.contains(&"writer") {
            set.exits(0)
        } else {
            set.fails(4, "http.token")
        };
    }
    for by in [&[][..], &["--token-file", "other"]] {
        let code = if by.is_empty() { "http.read_right" } else { "http.wrong_token" };
        let ran = run(&get, by).fails(4, code);
        assert!(ran.err.contains("--token-file"), "{ran:?}");
        assert_eq!(ran.err.contains("--client-cert"), by.is_empty(), "{ran:?}");
    }
    // A file is rendered by who may read alone; the code says what is missing.
    fs::write(served.path("template"), "{{ get('/a', 'none') }}").unwrap();
    let render = ["render", "template", "-o", "file", "--once", "--timeout", "2s"];
    run(&render, &[]).fails(4, "http.read_right");
    run(&render, &["--token-file", "other"]).fails(4, "http.wrong_token");
    let stranger = ["--client-cert", "tls-stranger.pem", "--client-key", "tls-stranger.key"];
    run(&render, &stranger).fails(4, "agent.client_certificate");
    assert!(!served.path("file").exists(), "nothing was rendered");
    run(&render, &CLIENT).exits(0);
    assert_eq!(fs::read_to_string(served.path("file")).unwrap(), "1");
    // By the environment, as the other options.
    let mut command = served.desk.command(&["get", "/a", "--agent", &url]);
    command.env("KVGOSSIP_CA", "tls-ca.pem");
    command.env("KVGOSSIP_CLIENT_CERT", "tls-client.pem").env("KVGOSSIP_CLIENT_KEY", "tls-client.key");
    assert_eq!(ran(command.output().unwrap()).exits(0).text(), "1");
    // Another authority's certificate ends the handshake, whatever token comes with it.
    // It is said so each time, whichever of the two is the faster.
    for _ in 0..10 {
        let refused = run(&get, &[&stranger[..], &["--token-file", "reader"]].concat());
        assert!(refused.fails(4, "agent.client_certificate").err.contains("--tls-client-ca"));
    }
    // Files that do not fit are named.
    let with = |cert, key| run(&get, &["--client-cert", cert, "--client-key", key]);
    let mismatch = with("tls-client.pem", "tls-stranger.key").fails(1, "tls.client_certificate");
    assert!(mismatch.err.contains("tls-stranger.key"), "{mismatch:?}");
    let none = with("tls-client.key", "tls-client.key").fails(1, "tls.client_certificate");
    assert!(none.err.contains("tls-client.key: no certificate"), "{none:?}");
    run(&get, &["--client-cert", "tls-client.pem"]).fails(2, "usage");
    // The socket needs nothing.
    assert_eq!(served.run(&get).exits(0).text(), "1");
}

/// Beyond loopback nothing is handed to everybody without that being said; other options do not mean it.
#[test]
fn beyond_loopback_reading_is_guarded_or_open_out_loud() {
    let desk = Desk::new(PROGRAM);
    fs::write(desk.path("token"), "s3cret").unwrap();
    let tls = ["--tls-cert", "tls-server.pem", "--tls-key", "tls-server.key"];
    let agent = |http: &str, more: &[&str]| {
        // The root's key is missing: what is looked at before it was fine.
        let args = ["agent", "--data-dir", "data", "--root", "missing", "--sync", "127.0.0.1:0"];
        desk.run(&[&args[..], &["--http", http], more].concat())
    };
    let open = |more: &[&str]| agent("0.0.0.0:0", &[&tls[..], more].concat());
    for more in [&[][..], &["--token-file", "token"]] {
        let refused = open(more).fails(2, "agent.http_open");
        for advice in ["--read-token-file", "--tls-client-ca", "--open-http"] {
            assert!(refused.err.contains(advice), "{refused:?}");
        }
    }
    for guard in
        [&["--read-token-file", "token"][..], &["--tls-client-ca", "tls-clients-ca.pem"], &["--open-http"]]
    {
        open(guard).fails(1, "file.unreadable");
        // In clear there is no guard.
        let in_clear = agent("0.0.0.0:0", guard);
        let code = if guard[0] == "--tls-client-ca" { "usage" } else { "agent.http_not_loopback" };
        in_clear.fails(2, code);
    }
    assert!(open(&["--open-http"]).err.contains("to whoever reaches it"), "it is in the log");
    open(&["--open-http", "--read-token-file", "token"]).fails(2, "usage");
    open(&["--tls-client-ca", "root.pem"]).fails(1, "tls.client_authority");
    open(&["--read-token-file", "nothing"]).fails(1, "file.unreadable");
    agent("127.0.0.1:0", &[]).fails(1, "file.unreadable");
    agent("127.0.0.1:0", &["--http-host", "kv:7948"]).fails(2, "usage");
}

/// A client that loses its right loses it with the next reading of the authority; and a service is asked by its own name.
#[test]
fn the_clients_authority_is_read_again_and_names_of_services_are_taken() {
    let desk = Desk::new(PROGRAM);
    let copy = |from: &str| fs::copy(desk.path(from), desk.path("clients")).unwrap();
    copy("tls-clients-ca.pem");
    let tls = ["--tls-cert", "tls-server.pem", "--tls-key", "tls-server.key", "--tls-client-ca", "clients"];
    let launch = Launch::new(&desk, "data", "replica-a.pem");
    let agent = launch.with(&tls).with(&["--http-host", "store.internal"]).start(&desk);
    agent.ask(&desk, &["set", "/a", "1"]).exits(0);
    let address = status(&desk, "data")["http_address"].as_str().unwrap().to_owned();
    let url = format!("https://{address}");
    let get = || desk.run(&[&["get", "/a", "--agent", &url], &CA[..], &CLIENT].concat());
    get().exits(0);
    copy("tls-other.pem");
    agent.signal("HUP");
    until(get, |ran| ran.code != 0).fails(4, "agent.client_certificate");
    assert!(agent.stop().success());

    let agent =
        Launch::new(&desk, "data", "replica-a.pem").with(&["--http-host", "store.internal"]).start(&desk);
    let address = status(&desk, "data")["http_address"].as_str().unwrap().to_owned();
    for (host, expected) in [("store.internal", "200"), ("STORE.internal:80", "200"), ("elsewhere", "403")] {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{host}: {answer}");
    }
    assert!(agent.stop().success());
}

/// Somebody who begins a handshake and goes no further loses the connection; nobody else waits for that.
#[test]
fn a_handshake_that_stalls_is_closed_and_keeps_nobody_out() {
    let limit = Duration::from_secs(3);
    let served =
        Served::start(PROGRAM, Setup { tls: Some(PAIR), tls_timeout: Some(limit), ..Setup::default() });
    let url = served.url().replace("http://", "https://");
    let address = url.strip_prefix("https://").unwrap();
    // Nothing; the head of a record; a hello that is announced and never comes.
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    let stalled: Vec<_> = [&hello[..0], &hello[..3], &hello]
        .into_iter()
        .cycle()
        .take(30)
        .map(|part| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(part).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream
        })
        .collect();
    // Asked while they stall.
    served.desk.run(&["status", "--agent", &url, "--ca", "tls-ca.pem"]).exits(0);
    for mut stream in stalled {
        // Its end, or an alert and its end; a reset is as good.
        let mut told = Vec::new();
        if let Err(error) = stream.read_to_end(&mut told) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
}

/// The same the other way round: what accepts connections and says nothing is no agent, and is given up in time.
#[test]
fn an_agent_that_stalls_in_the_handshake_is_given_up() {
    let desk = Desk::new(PROGRAM);
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", mute.local_addr().unwrap());
    let began = Instant::now();
    let ran = desk.run(&["status", "--agent", &url, "--ca", "tls-ca.pem"]).fails(5, "agent.unreachable");
    assert!(ran.err.contains(&url) && began.elapsed() < Duration::from_secs(50), "{ran:?}");
}
