//! HTTPS: whose certificate is accepted, and what is said of each file that does not fit.

mod support;

use std::net::TcpListener;
use support::agent::{Served, Setup};
use support::{Desk, Ran};

const PAIR: (&str, &str) = ("tls-server.pem", "tls-server.key");

#[test]
fn a_certificate_of_the_authority_is_accepted_and_nothing_else() {
    let token = Some("s3cret");
    let setup = Setup { identity: Some("root.pem"), token, tls: Some(PAIR), ..Setup::default() };
    let served = Served::start(setup);
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
    served
        .desk
        .run(&["get", "/a", "--agent", &format!("http://127.0.0.1:{port}")])
        .fails(5, "agent.unexpected");
    let plain = Served::start(Setup::default());
    let url = plain.url().replace("http://", "https://");
    plain.desk.run(&["status", "--agent", &url, "--ca", "tls-ca.pem"]).fails(5, "agent.tls");
    // The socket needs none of this.
    assert_eq!(served.run(&["get", "/a"]).exits(0).text(), "localhost");
}

#[test]
fn a_certificate_for_another_name_is_not_accepted() {
    let served =
        Served::start(Setup { tls: Some(("tls-elsewhere.pem", "tls-elsewhere.key")), ..Setup::default() });
    let url = served.url().replace("http://", "https://");
    let ran = served.desk.run(&["status", "--agent", &url, "--ca", "tls-ca.pem"]).fails(5, "agent.tls");
    assert!(ran.err.contains("127.0.0.1"), "{}", ran.err);
}

#[test]
fn an_agent_names_the_file_that_does_not_fit() {
    let desk = Desk::new();
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
