//! What goes wrong outside a command: ports that are taken, readers that go away, roots that are others.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Stdio;
use support::Desk;
use support::agent::{Served, Setup};

#[test]
fn a_port_that_is_taken_is_named() {
    let desk = Desk::new();
    let (tcp, udp) = (
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
    );
    let (http, sync) = (tcp.local_addr().unwrap().to_string(), udp.local_addr().unwrap().to_string());
    let start = |http: &str, sync: &str| {
        let args =
            ["agent", "--data-dir", "data", "--root", "root.pub.pem", "--replica-key", "replica-a.pem"];
        desk.run(&[&args[..], &["--http", http, "--sync", sync]].concat()).fails(1, "agent.address")
    };
    let refused = start(&http, "127.0.0.1:0");
    assert!(refused.err.contains(&http) && refused.err.contains("another --http address"), "{refused:?}");
    let refused = start("127.0.0.1:0", &sync);
    assert!(refused.err.contains("another --sync address"), "{refused:?}");
}

/// More keys than a pipe holds, so that the command still writes when its reader goes.
#[test]
fn a_listing_ends_quietly_when_its_reader_has_seen_enough() {
    let served = Served::start(Setup::default());
    served.fill(2_500);
    for more in [&["--output", "json"][..], &["-l"]] {
        let mut command = served.desk.command(&[&["ls", "--data-dir", "."], more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.next().unwrap().is_ok());
        drop(lines);
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""), "{more:?}");
    }
}
