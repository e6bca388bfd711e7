//! Each kind of file in a data directory, cut off, overwritten or left behind: the agent says what is wrong and with which
//! file, or goes on with everything that was acknowledged. Journals are looked at in `damaged_store.rs`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_testkit::desk::{Desk, Ran, ran};
use kvgossip_testkit::process::{Launch, ask, signal, status};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

const KEYS: usize = 12;

/// A data directory whose facts lie in tables, and what it holds.
struct Sound {
    desk: Desk,
    root: String,
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy_dir(&entry.path(), &target),
            kind if kind.is_file() => drop(fs::copy(entry.path(), target).unwrap()),
            _ => {}
        }
    }
}

impl Sound {
    fn new() -> Self {
        let desk = Desk::new(PROGRAM);
        let agent = Launch::new(&desk, "sound", "replica-a.pem").start(&desk);
        for number in 0..KEYS {
            agent.ask(&desk, &["set", &format!("/a/{number}"), &format!("value {number}")]).exits(0);
        }
        let root = status(&desk, "sound")["digests"]["root"].as_str().unwrap().to_owned();
        assert!(agent.stop().success());
        let db = fjall::Database::builder(desk.path("sound/store")).open().unwrap();
        for name in ["entries", "digests", "authority", "by_grant", "meta"] {
            let keyspace = db.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap();
            keyspace.rotate_memtable_and_wait().unwrap();
        }
        drop(db);
        // The same key where agents make their own.
        fs::copy(desk.path("replica-a.pem"), desk.path("sound/replica.pem")).unwrap();
        Self { desk, root }
    }

    /// A copy in `data`, damaged. The agent uses the replica key in it.
    fn damaged(&self, damage: impl FnOnce(&Path)) -> PathBuf {
        let data = self.desk.path("data");
        let _ = fs::remove_dir_all(&data);
        copy_dir(&self.desk.path("sound"), &data);
        damage(&data);
        data
    }

    fn launch(&self) -> Launch {
        Launch::new(&self.desk, "data", "data/replica.pem")
    }

    /// It opens, and everything is there.
    fn goes_on(&self, what: &str, damage: impl FnOnce(&Path)) {
        self.damaged(damage);
        let agent = self.launch().start(&self.desk);
        assert_eq!(status(&self.desk, "data")["digests"]["root"], self.root.as_str(), "{what}");
        for number in 0..KEYS {
            let value = ask(&self.desk, "data", &["get", &format!("/a/{number}")]).exits(0);
            assert_eq!(value.text(), format!("value {number}"), "{what}");
        }
        assert!(agent.stop().success(), "{what}");
    }

    /// What the agent says when it does not start; none if it does.
    fn refusal(&self) -> Option<Ran> {
        let args = ["agent", "--data-dir", "data", "--root", "root.pub.pem", "--replica-key"];
        let ports = ["data/replica.pem", "--sync", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let mut command = self.desk.command(&[&args[..], &ports].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "it neither starts nor ends");
            if ask(&self.desk, "data", &["status"]).code == 0 {
                signal(&child, "TERM");
                assert!(child.wait().unwrap().success());
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(ran(child.wait_with_output().unwrap()))
    }

    /// It does not open, says so, and comes back empty when it is told to move the store aside.
    fn is_damage(&self, what: &str, damage: impl FnOnce(&Path)) {
        self.damaged(damage);
        let refused = self.refusal().unwrap_or_else(|| panic!("accepted: {what}")).fails(8, "store.damaged");
        let told = ["data: ", "--move-damaged-aside"].iter().all(|text| refused.err.contains(text));
        assert!(told && !refused.err.contains("panicked"), "{what}: {refused:?}");
        let agent = self.launch().with(&["--move-damaged-aside"]).start(&self.desk);
        assert!(self.desk.path("data/store.damaged-1").is_dir(), "{what}");
        assert!(agent.stop().success(), "{what}");
    }
}

/// The largest file of a keyspace whose name begins so.
fn file_of(data: &Path, wanted: impl Fn(&str) -> bool) -> PathBuf {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut open = vec![data.join("store/keyspaces")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else if wanted(&entry.path().strip_prefix(data).unwrap().to_string_lossy()) {
                found.push(entry.path());
            }
        }
    }
    found.sort_by_key(|path| (path.metadata().unwrap().len(), path.clone()));
    found.pop().expect("such a file")
}

fn cut(path: &Path, divisor: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / divisor).unwrap();
}

fn overwrite(path: &Path) {
    fs::write(path, b"something else altogether, and longer than what was there".repeat(4)).unwrap();
}

#[test]
fn files_of_the_store_that_are_cut_or_overwritten_are_damage() {
    let sound = Sound::new();
    sound.goes_on("nothing is changed", |_| {});
    sound.is_damage("version is something else", |data| overwrite(&data.join("store/version")));
    let table = |data: &Path| file_of(data, |name| name.contains("/tables/"));
    sound.is_damage("a table is cut", |data| cut(&table(data), 2));
    sound.is_damage("a table is something else", |data| overwrite(&table(data)));
    let listing =
        |data: &Path| file_of(data, |name| name.rsplit('/').next().is_some_and(|file| file.starts_with('v')));
    sound.is_damage("a list of tables is cut", |data| cut(&listing(data), 2));
    sound.is_damage("a list of tables is something else", |data| overwrite(&listing(data)));

    // A bit anywhere in a list of tables, which the engine trusts: never a panic, a signal, or something else than the whole.
    sound.damaged(|_| {});
    let len = listing(&sound.desk.path("data")).metadata().unwrap().len() as usize;
    let (mut damaged, mut whole) = (0, 0);
    for step in 0..12 {
        sound.damaged(|data| {
            let path = listing(data);
            let mut bytes = fs::read(&path).unwrap();
            bytes[step * len / 12] ^= 1 << (step % 8);
            fs::write(path, bytes).unwrap();
        });
        match sound.refusal() {
            Some(refused) => {
                refused.fails(8, "store.damaged");
                damaged += 1;
            }
            None => whole += 1,
        }
    }
    println!("{damaged} of {} bits are told, {whole} do not matter", damaged + whole);
    let checked = sound.desk.run(&["fsck", "data"]);
    assert!([0, 8].contains(&checked.code), "{checked:?}");
}

#[test]
fn the_files_beside_the_store() {
    let sound = Sound::new();
    // What they lose is nothing.
    sound.goes_on("last-batch is cut", |data| cut(&data.join("last-batch"), 2));
    sound.goes_on("last-batch is empty", |data| fs::write(data.join("last-batch"), "").unwrap());
    sound.goes_on("leftovers", |data| {
        overwrite(&data.join("store.lock"));
        for name in ["store.new", "store.check", "store.damaged-1"] {
            fs::create_dir_all(data.join(name).join("keyspaces")).unwrap();
            overwrite(&data.join(name).join("0.jnl"));
        }
        overwrite(&data.join("room.probe"));
        overwrite(&data.join("root.pub.pem"));
        // A socket that a dead agent left.
        drop(std::os::unix::net::UnixListener::bind(data.join("agent.sock")).unwrap());
    });
    // The root's key is written again; where it is needed and wrong, it is named.
    assert_eq!(sound.desk.read("data/root.pub.pem"), sound.desk.read("root.pub.pem"));
    sound.damaged(|data| cut(&data.join("root.pub.pem"), 2));
    let fsck = sound.desk.run(&["fsck", "data"]).fails(1, "pem.invalid");
    assert!(fsck.err.contains("data/root.pub.pem: "), "{fsck:?}");

    // Without these there is no agent, and each is named.
    let refused = |damage: &dyn Fn(&Path)| {
        sound.damaged(damage);
        sound.refusal().expect("it does not start")
    };
    let key = refused(&|data| cut(&data.join("replica.pem"), 2)).fails(1, "pem.invalid");
    assert!(key.err.contains("data/replica.pem: "), "{key:?}");
    let key = refused(&|data| fs::write(data.join("replica.pem"), "").unwrap()).fails(1, "pem.invalid");
    assert!(key.err.contains("data/replica.pem: "), "{key:?}");
    let socket = refused(&|data| overwrite(&data.join("agent.sock"))).fails(1, "agent.socket");
    assert!(socket.err.contains("data/agent.sock") && socket.err.contains("move it away"), "{socket:?}");
    let store = refused(&|data| {
        fs::remove_dir_all(data.join("store")).unwrap();
        overwrite(&data.join("store"));
    });
    assert!([1, 8].contains(&store.code) && store.err.contains("data: "), "{store:?}");
    let older =
        refused(&|data| fs::remove_dir_all(data.join("store")).unwrap()).fails(8, "store.rolled_back");
    assert!(older.err.contains("--accept-rollback"), "{older:?}");
}
