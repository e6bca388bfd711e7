//! `import --dir`: the files of a directory as entries.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_testkit::desk::{Desk, Ran, make_fifo, set_mode};
use kvgossip_testkit::served::{Served, Setup};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn import(served: &Served, more: &[&str]) -> Ran {
    served.run(&[&["import", "--dir", "conf", "--under", "/my"], more].concat())
}

fn make_dir(desk: &Desk) {
    fs::create_dir_all(desk.path("conf/sub dir")).unwrap();
    fs::write(desk.path("conf/a"), "1").unwrap();
    fs::write(desk.path("conf/%20"), "2").unwrap();
    fs::write(desk.path("conf/sub dir/ä"), b"\0\xff").unwrap();
    fs::write(desk.path("conf/empty"), "").unwrap();
}

fn count(served: &Served) -> usize {
    served.run(&["ls"]).exits(0).text().lines().count()
}

#[test]
fn every_file_becomes_an_entry_and_unchanged_ones_are_left_alone() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    make_dir(&served.desk);
    for (identity, replaced) in [(&["--identity", "root.pem"][..], "by the command"), (&[], "by the agent")] {
        fs::write(served.path("conf/a"), replaced).unwrap();
        let dry = import(&served, &[identity, &["--dry-run"]].concat()).exits(0);
        let expected = format!("would set /my/a to conf/a ({} bytes)\n", replaced.len());
        assert!(dry.text().contains(&expected), "{dry:?}");
        let first = count(&served) == 0;
        let done = import(&served, identity).exits(0);
        let expected = if first {
            "4 written, 0 unchanged, 0 left out\n"
        } else {
            "1 written, 3 unchanged, 0 left out\n"
        };
        assert_eq!(done.text(), expected);
        let digest = served.run(&["digest"]).exits(0).out;
        assert_eq!(import(&served, identity).exits(0).text(), "0 written, 4 unchanged, 0 left out\n");
        assert_eq!(served.run(&["digest"]).exits(0).out, digest, "nothing was written again");
        assert_eq!(served.run(&["get", "/my/a"]).text(), replaced);
    }
    assert_eq!(served.run(&["get", "/my/%2520"]).text(), "2");
    assert_eq!(served.run(&["get", "/my/sub%20dir/%C3%A4"]).out, b"\0\xff");
    assert_eq!(served.run(&["get", "/my/empty"]).exits(0).out, b"");
    // A key whose file has gone stays; one that was unset since comes back.
    fs::remove_file(served.path("conf/%20")).unwrap();
    served.run(&["del", "/my/a"]).exits(0);
    assert_eq!(import(&served, &[]).exits(0).text(), "1 written, 2 unchanged, 0 left out\n");
    assert_eq!(count(&served), 4);
}

#[test]
fn what_cannot_be_an_entry_is_named_and_stops_nothing() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    make_dir(&served.desk);
    fs::write(served.path("conf/large"), vec![0; (1 << 20) + 1]).unwrap();
    fs::write(served.path("conf").join("ä".repeat(60)), "").unwrap();
    symlink("../root.pem", served.path("conf/link")).unwrap();
    fs::create_dir_all(served.path("conf/closed")).unwrap();
    fs::write(served.path("conf/unreadable"), "").unwrap();
    set_mode(&served.path("conf/closed"), 0);
    set_mode(&served.path("conf/unreadable"), 0);
    // Root reads everything.
    let all_is_open = fs::read(served.path("conf/unreadable")).is_ok();
    let done = import(&served, &[]);
    set_mode(&served.path("conf/closed"), 0o700);
    let done = done.exits(1);
    let text = done.text();
    for (name, code) in
        [("conf/large", "fact.too_large"), ("conf/link", "file.not_regular"), ("ää", "file.name")]
    {
        let line = text.lines().find(|line| line.starts_with("left out: ") && line.contains(name));
        assert!(line.is_some_and(|line| line.ends_with(&format!("[{code}]"))), "{name}: {done:?}");
    }
    if !all_is_open {
        for name in ["conf/closed", "conf/unreadable"] {
            assert!(text.contains(&format!("left out: {name}: cannot be read")), "{done:?}");
        }
    }
    let (written, left_out) = if all_is_open { (5, 3) } else { (4, 5) };
    assert!(text.ends_with(&format!("{written} written, 0 unchanged, {left_out} left out\n")), "{done:?}");
    assert!(done.err.contains(&format!("{left_out} files were left out, as named above")), "{done:?}");
    let rows = import(&served, &["--output", "json"]).json();
    assert!(rows.iter().any(|row| row["kind"] == "left_out" && row["code"] == "file.name"), "{rows:?}");
    assert_eq!(rows.last().unwrap()["unchanged"], written);
}

/// As the kubelet lays a ConfigMap out.
#[test]
fn a_mounted_volume_is_imported_under_its_real_names() {
    let served = Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() });
    for (version, value) in [("..2026_11_27", "old"), ("..2026_11_28", "new")] {
        fs::create_dir_all(served.path("conf").join(version)).unwrap();
        fs::write(served.path("conf").join(version).join("app.conf"), value).unwrap();
    }
    symlink("..2026_11_27", served.path("conf/..data")).unwrap();
    symlink("..data/app.conf", served.path("conf/app.conf")).unwrap();
    let done = import(&served, &[]).exits(0);
    assert_eq!(done.text(), "1 written, 0 unchanged, 0 left out\n");
    assert!(done.err.contains("note: 3 names that begin with `..` were passed over\n"), "{done:?}");
    assert_eq!(served.run(&["ls"]).exits(0).text().lines().collect::<Vec<_>>(), ["/my/app.conf"]);
    assert_eq!(served.run(&["get", "/my/app.conf"]).text(), "old");
    // The next version takes the place of the one before in one step.
    symlink("..2026_11_28", served.path("conf/..data_tmp")).unwrap();
    fs::rename(served.path("conf/..data_tmp"), served.path("conf/..data")).unwrap();
    assert_eq!(import(&served, &[]).exits(0).text(), "1 written, 0 unchanged, 0 left out\n");
    assert_eq!(served.run(&["get", "/my/app.conf"]).text(), "new");
}

/// Passes requests on to an agent, and does something before the first of them.
fn at_the_first_request(agent: &str, first: impl FnOnce() + Send + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let agent = agent.strip_prefix("http://").unwrap().to_owned();
    thread::spawn(move || {
        let mut first = Some(first);
        for stream in listener.incoming() {
            if let Some(first) = first.take() {
                first();
            }
            let mut from = stream.unwrap();
            let mut to = TcpStream::connect(&agent).unwrap();
            let (mut back, mut answer) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            thread::spawn(move || drop(io::copy(&mut back, &mut answer)));
            thread::spawn(move || drop(io::copy(&mut from, &mut to)));
        }
    });
    url
}

#[test]
fn what_is_swapped_in_between_the_walk_and_the_reading_is_not_imported() {
    let served = Served::start(PROGRAM, Setup::default());
    fs::create_dir(served.path("outside")).unwrap();
    fs::write(served.path("outside/f"), "of somebody else").unwrap();
    for dir in ["conf/linked", "conf/waiting", "conf/moved", "conf/kept"] {
        fs::create_dir_all(served.path(dir)).unwrap();
        fs::write(served.path(dir).join("f"), "inside").unwrap();
    }
    let (conf, outside) = (served.path("conf"), served.path("outside"));
    // The command has walked the directory when it asks the agent for the first time.
    let url = at_the_first_request(&served.url(), move || {
        fs::remove_file(conf.join("linked/f")).unwrap();
        symlink(outside.join("f"), conf.join("linked/f")).unwrap();
        fs::remove_file(conf.join("waiting/f")).unwrap();
        make_fifo(&conf.join("waiting/f"));
        fs::rename(conf.join("moved"), conf.join("old")).unwrap();
        symlink(outside, conf.join("moved")).unwrap();
    });
    let args = ["import", "--dir", "conf", "--under", "/my", "--identity", "root.pem", "--agent", &url];
    let done = served.desk.run_at_once(&args).fails(1, "file.not_regular");
    assert!(done.text().ends_with("1 written, 0 unchanged, 3 left out\n"), "{done:?}");
    for name in ["conf/linked/f", "conf/moved/f", "conf/waiting/f"] {
        assert!(done.text().contains(&format!("left out: {name}: ")), "{name}: {done:?}");
    }
    assert_eq!(served.run(&["ls"]).exits(0).text().lines().collect::<Vec<_>>(), ["/my/kept/f"]);
}

#[test]
fn whoever_may_write_a_part_writes_that_part() {
    let served = Served::start(PROGRAM, Setup::default());
    make_dir(&served.desk);
    let team = ["--identity", "team.pem"];
    import(&served, &team).fails(4, "grant.unknown");
    let grant = ["grant", "new", "--to", "team.pub.pem", "--pattern", "/my/*", "--identity", "root.pem"];
    served.run(&grant).exits(0);
    let dry = import(&served, &[&team[..], &["--dry-run"]].concat()).fails(4, "entry.out_of_reach");
    assert!(dry.text().ends_with("3 would be written, 0 unchanged, 1 left out\n"), "{dry:?}");
    let done = import(&served, &team).fails(4, "entry.out_of_reach");
    assert!(done.text().contains("left out: conf/sub dir/ä: "), "{done:?}");
    assert!(done.text().ends_with("3 written, 0 unchanged, 1 left out\n"), "{done:?}");
    // An agent without an identity signs nothing, and says so once.
    fs::write(served.path("conf/a"), "new").unwrap();
    let refused = import(&served, &[]).fails(4, "agent.no_identity");
    assert!(!refused.text().contains("left out: "), "{refused:?}");
}

#[test]
fn signed_entries_can_go_to_a_file() {
    let served = Served::start(PROGRAM, Setup::default());
    make_dir(&served.desk);
    let root = ["--identity", "root.pem", "--root", "root.pub.pem"];
    let out = import(&served, &[&root[..], &["--out", "signed"]].concat()).exits(0);
    assert_eq!((out.text(), count(&served)), ("4 written, 0 unchanged, 0 left out\n", 0));
    served.desk.run(&["verify", "signed", "--root", "root.pub.pem"]).exits(0);
    served.run(&["import", "signed"]).exits(0);
    assert_eq!(count(&served), 4);
    // Without any agent, against an export.
    served.run(&["export", "-o", "all"]).exits(0);
    fs::write(served.path("conf/a"), "new").unwrap();
    let offline = ["import", "--dir", "conf", "--under", "/my", "--from", "all", "--out", "more"];
    let gone = ["--agent", "http://127.0.0.1:9"];
    let out = served.desk.run(&[&offline[..], &root, &gone].concat()).exits(0);
    assert_eq!(out.text(), "1 written, 3 unchanged, 0 left out\n");
    served.run(&["import", "more"]).exits(0);
    assert_eq!(served.run(&["get", "/my/a"]).text(), "new");
    assert!(Path::new(&served.path("more")).exists());
    import(&served, &[&root[..], &["--out", "more"]].concat()).fails(1, "file.exists");
    import(&served, &["--out", "another"]).fails(2, "usage");
}

#[test]
fn the_line_has_to_make_sense() {
    let desk = Desk::new(PROGRAM);
    for line in [
        &["import"][..],
        &["import", "--dir", "."],
        &["import", "--under", "/a", "file"],
        &["import", "file", "--dir", ".", "--under", "/a"],
        &["import", "file", "--dry-run"],
        &["import", "file", "--identity", "root.pem"],
        &["import", "file", "--out", "other"],
        &["import", "file", "--from", "other"],
    ] {
        desk.run(line).fails(2, "usage");
    }
    desk.run(&["import", "--dir", ".", "--under", "/a/"]).fails(2, "key.malformed");
    desk.run(&["import", "--dir", "missing", "--under", "/a"]).fails(1, "file.unreadable");
}
