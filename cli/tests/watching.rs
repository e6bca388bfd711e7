//! `watch` and `render` as processes.
#![cfg(unix)]

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::served::{Served, Setup};
use kvgossip_testkit::wait::wait_until;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn served() -> Served {
    Served::start(PROGRAM, Setup { identity: Some("root.pem"), ..Setup::default() })
}

/// A command that runs, with the lines that it prints.
struct Running {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Running {
    fn start(desk: &Desk, args: &[&str]) -> Self {
        let mut command = desk.command(&[args, &["--agent", "unix:agent.sock"]].concat());
        Self::of(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts"))
    }

    /// The options of the agent stand before the command's own command.
    fn with_command(desk: &Desk, args: &[&str], run: &[&str]) -> Self {
        let args = [args, &["--agent", "unix:agent.sock", "--"], run].concat();
        let mut command = desk.command(&args);
        Self::of(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts"))
    }

    fn of(mut child: Child) -> Self {
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        Self { child, lines }
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).expect("a line in time")
    }

    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.line()).expect("JSON")
    }

    fn stop(mut self) -> i32 {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
        self.child.wait().expect("it ends").code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // For a test that failed; one that has ended is left alone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(served: &Served, args: &[&str]) {
    served.desk.run(&[args, &["--agent", "unix:agent.sock"]].concat()).exits(0);
}

#[test]
fn a_key_is_followed_from_before_it_exists_until_it_is_taken_back() {
    let served = served();
    let watch =
        Running::start(&served.desk, &["watch", "/team/x", "--output", "json", "--root", "root.pub.pem"]);
    let first = watch.json();
    assert_eq!((&first["event"], &first["key"]), (&"absent".into(), &"/team/x".into()));
    ask(&served, &["set", "/team/x", "1"]);
    let written = watch.json();
    assert_eq!((&written["event"], &written["value"]), (&"written".into(), &"1".into()));
    ask(&served, &["del", "/team/x"]);
    assert_eq!(watch.json()["event"], "deleted");
    ask(&served, &["set", "/team/x", "2"]);
    assert_eq!(watch.json()["value"], "2");
    ask(&served, &["floor", "/team/*", "--before", "now", "--identity", "root.pem"]);
    let floored = watch.json();
    assert_eq!(floored["event"], "floored");
    assert_eq!(floored["by"].as_str().map(str::len), Some(64));
    assert_eq!(watch.stop(), 0, "Ctrl-C is the ordinary end");
}

#[test]
fn globs_are_followed_as_text_and_end_after_a_count() {
    let served = served();
    ask(&served, &["set", "/a/1", "one"]);
    ask(&served, &["set", "/a/no", "left out"]);
    let watch = Running::start(&served.desk, &["watch", "/a/*", "!/a/no", "--count", "3"]);
    assert!(watch.line().starts_with("current  /a/1  "));
    ask(&served, &["set", "/a/2", "two"]);
    let line = watch.line();
    assert!(line.starts_with("written  /a/2  ") && line.ends_with("  two"), "{line}");
    ask(&served, &["del", "/a/1"]);
    assert_eq!(watch.line(), "deleted  /a/1  -");
    let mut watch = watch;
    assert!(watch.child.wait().expect("it ends").success());
}

#[test]
fn of_several_named_keys_each_is_told_first_whether_set_or_not() {
    let served = served();
    ask(&served, &["set", "/a", "one"]);
    // An excluded one is not followed, and nothing is told of it.
    let args = ["watch", "/a", "/b", "/c", "/other/*", "/out", "!/out", "--count", "5", "--output", "json"];
    let watch = Running::start(&served.desk, &args);
    let told = |line: serde_json::Value| {
        (
            line["key"].as_str().expect("a key").to_owned(),
            line["event"].as_str().expect("an event").to_owned(),
        )
    };
    let mut first: Vec<_> = (0..3).map(|_| told(watch.json())).collect();
    first.sort();
    let expected = [("/a", "current"), ("/b", "absent"), ("/c", "absent")];
    assert_eq!(first, expected.map(|(key, event)| (key.to_owned(), event.to_owned())));
    ask(&served, &["set", "/b", "two"]);
    assert_eq!(told(watch.json()), ("/b".to_owned(), "written".to_owned()));
    ask(&served, &["del", "/b"]);
    assert_eq!(told(watch.json()), ("/b".to_owned(), "deleted".to_owned()));
    let mut watch = watch;
    assert!(watch.child.wait().expect("it ends").success());
}

#[test]
fn a_command_runs_one_at_a_time_with_the_latest_and_its_failure_is_told() {
    let served = served();
    // Slow, and it would show if two ran together.
    let script = "mkdir lock && echo \"$KVGOSSIP_EVENT $KVGOSSIP_KEY $KVGOSSIP_VALUE $(cat) ${#KVGOSSIP_ENTRY}\" && sleep 0.3 && rmdir lock";
    let watch = Running::with_command(&served.desk, &["watch", "/k"], &["sh", "-c", script]);
    assert_eq!(watch.line(), "absent /k   0");
    for number in 0..20 {
        ask(&served, &["set", "/k", &number.to_string()]);
    }
    let mut runs = 0;
    loop {
        runs += 1;
        let line = watch.line();
        assert!(line.starts_with("written /k ") && line.ends_with(" 64"), "{line}");
        if line.contains(" 19 19 ") {
            break;
        }
    }
    assert!(runs <= 20, "{runs} runs");
    assert_eq!(watch.stop(), 0);

    let failing = ["watch", "/k", "--count", "1", "--agent", "unix:agent.sock", "--", "sh", "-c", "exit 3"];
    let ran = served.desk.run(&failing).fails(1, "command.failed");
    assert!(ran.err.contains("the command failed for /k (current): exit status: 3"), "{}", ran.err);
    let missing = ["watch", "/k", "--agent", "unix:agent.sock", "--", "./no-such-program"];
    served.desk.run(&missing).fails(1, "command.failed");
}

fn contents(desk: &Desk, name: &str) -> String {
    fs::read_to_string(desk.path(name)).unwrap_or_default()
}

#[test]
fn a_file_is_kept_in_step_and_the_command_runs_only_on_change() {
    let served = served();
    let template = "port={{ get('/web/port', '80') }}\n{% for e in entries('/hosts/*') %}{{ e.name }} {{ e.value }}\n{% endfor %}";
    fs::write(served.desk.path("conf.j2"), template).expect("a template");
    let render = Running::with_command(
        &served.desk,
        &["render", "conf.j2", "-o", "conf", "--root", "root.pub.pem"],
        &["sh", "-c", "cat conf | tr '\\n' ';'; echo"],
    );
    assert_eq!(render.line(), "port=80;");
    ask(&served, &["set", "/hosts/b", "10.0.0.2"]);
    assert_eq!(render.line(), "port=80;b 10.0.0.2;");
    // The same again, and what the template does not ask for: nothing runs.
    ask(&served, &["set", "/hosts/b", "10.0.0.2"]);
    ask(&served, &["set", "/other", "x"]);
    ask(&served, &["set", "/web/port", "8080"]);
    assert_eq!(render.line(), "port=8080;b 10.0.0.2;");
    assert_eq!(contents(&served.desk, "conf"), "port=8080\nb 10.0.0.2\n");
    // A value that cannot be rendered leaves the file as it is; the next one is taken again.
    let broken =
        served.desk.run_with_input(&["set", "/web/port", "-", "--agent", "unix:agent.sock"], &[0xff]);
    assert_eq!(broken.code, 0, "{broken:?}");
    ask(&served, &["set", "/web/port", "81"]);
    assert_eq!(render.line(), "port=81;b 10.0.0.2;");
    assert_eq!(render.stop(), 0);
    let left: Vec<_> = fs::read_dir(served.desk.path("."))
        .expect("a directory")
        .map(|file| file.expect("a file").file_name())
        .collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".kvgossip-")), "{left:?}");
}

#[test]
fn once_writes_and_ends_or_says_what_is_missing() {
    let served = served();
    fs::write(served.desk.path("t"), "{{ get('/k') }}\n").expect("a template");
    let once = ["render", "t", "-o", "file", "--once", "--agent", "unix:agent.sock"];
    let failed = served.desk.run(&once).fails(1, "template.invalid");
    assert!(failed.err.contains("takes a default") && failed.err.contains(": /k is unset"), "{}", failed.err);
    assert!(!served.desk.path("file").exists());
    ask(&served, &["set", "/k", "v"]);
    served.desk.run(&once).exits(0);
    assert_eq!(contents(&served.desk, "file"), "v\n");
    let nobody = ["render", "t", "-o", "file", "--once", "--agent", "unix:nowhere", "--timeout", "300ms"];
    served.desk.run(&nobody).fails(7, "client.not_ready");
    wait_until("the file is left", || contents(&served.desk, "file") == "v\n");
}

/// Nothing stands still in silence: whoever waits for an agent is told so, once.
#[test]
fn a_watch_without_an_agent_says_what_it_waits_for() {
    let desk = Desk::new(PROGRAM);
    fs::write(desk.path("template"), "{{ get('/a', '') }}").unwrap();
    for args in [&["watch", "/a"][..], &["watch", "/a/**"], &["render", "template", "-o", "file"]] {
        let mut command = desk.command(&[args, &["--agent", "http://127.0.0.1:9"]].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(child.stderr.as_mut().unwrap()).lines().map(Result::unwrap);
        assert!(told.any(|line| line == "waiting for the agent at http://127.0.0.1:9…"), "{args:?}");
        let pid = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert!(child.wait().unwrap().success(), "{args:?}");
    }
}

/// A boot script must not go on without its configuration because somebody stopped the command that waits for it.
#[test]
fn what_has_an_end_and_is_stopped_before_it_has_failed() {
    let served = served();
    fs::write(served.desk.path("template"), "{{ get('/a', '') }}").unwrap();
    for (args, code) in [
        (&["watch", "/a", "--count", "2"][..], 1),
        (&["watch", "/a/**", "/a", "--count", "2"], 1),
        (&["render", "template", "-o", "file", "--once", "--agent", "http://127.0.0.1:9"], 1),
        (&["watch", "/a"], 0),
        (&["render", "template", "-o", "file"], 0),
    ] {
        for signal in ["-INT", "-TERM"] {
            let agent: &[_] = if args.contains(&"--agent") { &[] } else { &["--agent", "unix:agent.sock"] };
            // What is there already would not be written again, nor told.
            let _ = fs::remove_file(served.desk.path("file"));
            let mut command = served.desk.command(&[args, agent].concat());
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // Each says something once it has begun.
            let mut begun = String::new();
            if args[0] == "watch" {
                BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut begun).unwrap();
            } else {
                BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut begun).unwrap();
            }
            let pid = child.id().to_string();
            assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
            let ended = child.wait_with_output().unwrap();
            let err = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(code), "{args:?} {signal}: {begun}{err}");
            assert_eq!(err.contains("[interrupted]\n"), code == 1, "{args:?} {signal}: {err}");
        }
    }
}

#[test]
fn a_dash_is_standard_output_of_render_and_a_path_is_a_file() {
    let served = served();
    fs::write(served.desk.path("t"), "k={{ get('/k', '-') }}\n").expect("a template");
    let once = |out: &str| {
        served.desk.run(&["render", "t", "-o", out, "--once", "--agent", "unix:agent.sock"]).exits(0)
    };
    let printed = once("-");
    assert_eq!((printed.text(), printed.err.as_str()), ("k=-\n", ""));
    assert!(!served.desk.path("-").exists());
    let written = once("./-");
    assert_eq!((written.text(), written.err.as_str()), ("", "./- was written\n"));
    assert_eq!(contents(&served.desk, "-"), "k=-\n");
    // It is printed at each change.
    let render = Running::start(&served.desk, &["render", "t", "-o", "-"]);
    assert_eq!(render.line(), "k=-");
    ask(&served, &["set", "/other", "x"]);
    ask(&served, &["set", "/k", "v"]);
    assert_eq!(render.line(), "k=v");
    assert_eq!(render.stop(), 0);
}

#[test]
fn a_reader_that_goes_away_ends_it_without_an_error() {
    let served = served();
    let mut command = served.desk.command(&["watch", "/k", "--output", "json", "--agent", "unix:agent.sock"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert!(line.contains("absent"), "{line}");
    drop(out);
    ask(&served, &["set", "/k", "v"]);
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn an_agent_that_is_not_there_yet_is_waited_for_and_it_is_said_why() {
    let served = served();
    ask(&served, &["set", "/k", "v"]);
    for root in [&["--root", "root.pub.pem"][..], &[]] {
        let args = [&["watch", "/k", "--count", "1", "--agent", "unix:later.sock"], root].concat();
        let mut command = served.desk.command(&args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("it starts");
        let mut err = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = String::new();
        while !(said.contains("cannot reach unix:later.sock") && said.contains("[agent.unreachable]\n")) {
            assert!(err.read_line(&mut said).expect("a line") > 0, "{said}");
        }
        std::os::unix::fs::symlink("agent.sock", served.desk.path("later.sock")).expect("a link");
        let ended = child.wait_with_output().expect("it ends");
        assert!(
            ended.status.success() && String::from_utf8_lossy(&ended.stdout).starts_with("current  /k  ")
        );
        fs::remove_file(served.desk.path("later.sock")).expect("removed");
    }
}

#[test]
fn the_root_of_another_cluster_is_told_and_no_key_is_called_absent() {
    let served = served();
    ask(&served, &["set", "/k", "v"]);
    let mut command = served.desk.command(&[
        "watch",
        "/k",
        "--count",
        "1",
        "--root",
        "team.pub.pem",
        "--agent",
        "unix:agent.sock",
    ]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("it starts");
    let mut err = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut said = String::new();
    while !said.contains("[cluster.mismatch]\n") {
        assert!(err.read_line(&mut said).expect("a line") > 0, "{said}");
    }
    child.kill().expect("still waiting");
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "", "{said}");
}

#[test]
fn a_command_hears_of_what_is_no_text_and_ends_with_the_watch() {
    let served = served();
    let set = |value: &[u8]| {
        let ran = served.desk.run_with_input(&["set", "/k", "-", "--agent", "unix:agent.sock"], value);
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    set(b"a\0b");
    let script =
        "echo \"$KVGOSSIP_EVENT ${KVGOSSIP_VALUE-unset} ${KVGOSSIP_ENTRY-none} $(wc -c)\" | tr -s ' '";
    let watch = Running::with_command(&served.desk, &["watch", "/k"], &["sh", "-c", script]);
    let line = watch.line();
    assert!(line.starts_with("current unset ") && line.ends_with(" 3"), "{line}");
    set(&vec![b'x'; 200 << 10]);
    let line = watch.line();
    assert!(line.starts_with("written unset ") && line.ends_with(" 204800"), "{line}");
    ask(&served, &["del", "/k"]);
    assert_eq!(watch.line(), "deleted unset none 0");
    assert_eq!(watch.stop(), 0);

    // Whatever runs when it is stopped, does not outlive it.
    let script = "echo $$; exec sleep 600";
    let watch = Running::with_command(&served.desk, &["watch", "/k"], &["sh", "-c", script]);
    let pid = watch.line();
    assert_eq!(watch.stop(), 0);
    let runs = || std::process::Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status();
    wait_until("the command is ended", || !runs().expect("kill").success());
}

#[test]
fn a_failed_command_of_render_is_told_and_the_file_is_there() {
    let served = served();
    fs::write(served.desk.path("t"), "{{ get('/k', '-') }}\n").expect("a template");
    let once =
        ["render", "t", "-o", "file", "--once", "--agent", "unix:agent.sock", "--", "sh", "-c", "exit 4"];
    let failed = served.desk.run(&once).fails(1, "command.failed");
    assert!(failed.err.contains("exit status: 4"), "{}", failed.err);
    assert_eq!(contents(&served.desk, "file"), "-\n");
    // The same text again: nothing is written, and nothing runs.
    served.desk.run(&once).exits(0);
}
