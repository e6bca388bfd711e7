use super::*;
use rustix::fs::{CWD, Mode, RenameFlags, mknodat, renameat_with};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

const SECRET: &[u8] = b"of somebody else";

fn keys(dir: &Path, under: &str) -> (Vec<String>, Vec<(String, String)>) {
    let walked = walk(dir, &under.parse().unwrap(), MAX_NAMES).unwrap();
    let name = |out: &LeftOut| out.path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
    (
        walked.found.iter().map(|file| file.key.to_string()).collect(),
        walked.left_out.iter().map(|out| (name(out), out.code.clone())).collect(),
    )
}

fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn names_become_keys_and_what_cannot_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub dir")).unwrap();
    for name in ["plain", "100%", "%20", "sub dir/ä", ".hidden", "-"] {
        fs::write(at(name), name).unwrap();
    }
    fs::write(dir.path().join(OsStr::from_bytes(b"\xff")), "").unwrap();
    symlink("missing", at("broken")).unwrap();
    make_fifo(&at("fifo"));
    symlink("fifo", at("link to fifo")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::write(at(&" ".repeat(86)), "").unwrap();
    let (found, left_out) = keys(dir.path(), "/a");
    assert_eq!(
        found,
        ["/a/%2520", "/a/%FF", "/a/-", "/a/.hidden", "/a/100%25", "/a/plain", "/a/sub%20dir/%C3%A4"]
    );
    let long = " ".repeat(86);
    let expected = [
        (long.as_str(), codes::FILE_NAME),
        ("broken", codes::FILE_KIND),
        ("fifo", codes::FILE_KIND),
        ("link to fifo", codes::FILE_KIND),
        ("socket", codes::FILE_KIND),
    ];
    assert_eq!(left_out, expected.map(|(name, code)| (name.to_owned(), code.to_owned())));
    assert_eq!(keys(dir.path(), "/").0[0], "/%2520");
    let missing = walk(&at("missing"), &"/".parse().unwrap(), MAX_NAMES);
    assert_eq!(missing.unwrap_err().code(), codes::FILE_READ);
}

#[test]
fn a_directory_too_deep_for_keys_is_named_once() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join(vec!["d"; 40].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), "").unwrap();
    let (found, left_out) = keys(dir.path(), "/a/b");
    assert_eq!(found, [""; 0]);
    assert_eq!(left_out, [(vec!["d"; 31].join("/"), codes::FILE_NAME.to_owned())]);
}

#[test]
fn a_value_may_have_a_mebibyte_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Beneath::open(dir.path()).unwrap();
    let (name, path) = (Path::new("f"), dir.path().join("f"));
    fs::write(&path, vec![0; MAX_VALUE_BYTES]).unwrap();
    assert_eq!(read_value(&tree, name).unwrap().len(), MAX_VALUE_BYTES);
    fs::write(&path, vec![0; MAX_VALUE_BYTES + 1]).unwrap();
    assert_eq!(read_value(&tree, name).unwrap_err().code, "fact.too_large");
    // A sparse file as large as a disk, which is not read.
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(read_value(&tree, name).unwrap_err().code, "fact.too_large");
    assert_eq!(read_value(&tree, Path::new("")).unwrap_err().code, codes::FILE_KIND);
    assert_eq!(read_value(&tree, Path::new("missing")).unwrap_err().code, codes::FILE_READ);
}

#[test]
fn the_number_of_names_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    for name in ["a", "b", "sub/c", "sub/..d"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let walked = |most| walk(dir.path(), &"/".parse().unwrap(), most);
    assert_eq!(walked(5).unwrap().found.len(), 3);
    assert_eq!(walked(4).unwrap_err().code(), codes::FILE_READ);
    assert_eq!(walked(2).unwrap_err().code(), codes::FILE_READ);
}

/// Creates a volume as the kubelet does: `a` and `sub/b`, in the second version.
fn make_volume(dir: &Path) {
    for (version, value) in [("..2026_11_27", "old"), ("..2026_11_28", "new")] {
        fs::create_dir_all(dir.join(version).join("sub")).unwrap();
        fs::write(dir.join(version).join("a"), value).unwrap();
        fs::write(dir.join(version).join("sub/b"), value).unwrap();
    }
    symlink("..2026_11_28", dir.join("..data")).unwrap();
    symlink("..data/a", dir.join("a")).unwrap();
    symlink("..data/sub", dir.join("sub")).unwrap();
}

#[test]
fn a_mounted_volume_has_the_names_of_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    make_volume(dir.path());
    let walked = walk(dir.path(), &"/v".parse().unwrap(), MAX_NAMES).unwrap();
    let read = |file: &Found| {
        (file.key.to_string(), String::from_utf8(read_value(&walked.tree, &file.below).unwrap()).unwrap())
    };
    let found: Vec<_> = walked.found.iter().map(read).collect();
    assert_eq!(found, [("/v/a".into(), "new".to_owned()), ("/v/sub/b".into(), "new".into())]);
    assert_eq!((walked.left_out.len(), walked.passed_over), (0, 3));
}

#[test]
fn links_are_followed_inside_alone() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), SECRET).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("sub/deep")).unwrap();
    fs::write(at("sub/file"), "inside").unwrap();
    let upwards = Path::new("..").join(outside.path().file_name().unwrap());
    symlink("../sub/deep/../file", at("sub/around")).unwrap();
    symlink("../../sub/file", at("sub/deep/up")).unwrap();
    symlink(upwards.join("secret"), at("out")).unwrap();
    symlink(upwards, at("out dir")).unwrap();
    symlink(at("sub/file"), at("absolute")).unwrap();
    symlink("circle", at("circle")).unwrap();
    symlink(".", at("self")).unwrap();
    symlink("..", at("sub/parent")).unwrap();
    let walked = walk(dir.path(), &"/".parse().unwrap(), MAX_NAMES).unwrap();
    let found: Vec<_> = walked.found.iter().map(|file| file.key.as_str()).collect();
    assert_eq!(found, ["/sub/around", "/sub/deep/up", "/sub/file"]);
    for file in &walked.found {
        assert_eq!(read_value(&walked.tree, &file.below).unwrap(), b"inside");
    }
    for (name, why) in [
        ("absolute", "an absolute path"),
        ("circle", "round in a circle"),
        ("out", "outside of the directory"),
        ("out dir", "outside of the directory"),
        ("self", "a directory that it lies in"),
        ("sub/parent", "a directory that it lies in"),
    ] {
        let out = walked.left_out.iter().find(|out| out.path == at(name)).expect(name);
        assert!(out.code == codes::FILE_KIND && out.why.contains(why), "{out:?}");
    }
    assert_eq!(walked.left_out.len(), 6);
    let named = &walked.left_out.iter().find(|out| out.path == at("out")).unwrap().why;
    assert!(named.starts_with("a symbolic link to ../") && named.contains("/secret, "), "{named}");
}

#[test]
fn without_a_safe_way_no_link_is_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), SECRET).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("sub/deep")).unwrap();
    fs::write(dir.path().join("sub/deep/file"), "inside").unwrap();
    symlink(outside.path(), dir.path().join("link")).unwrap();
    symlink("sub", dir.path().join("inner")).unwrap();
    let tree = Beneath::open_plain(dir.path()).unwrap();
    assert_eq!(read_value(&tree, Path::new("sub/deep/file")).unwrap(), b"inside");
    for path in ["link/secret", "inner/deep/file", "link"] {
        let refused = read_value(&tree, Path::new(path)).unwrap_err();
        assert!([codes::FILE_KIND, codes::FILE_READ].contains(&refused.code.as_str()), "{path}: {refused:?}");
    }
    let mut walked = Walked { tree, found: Vec::new(), left_out: Vec::new(), passed_over: 0 };
    let mut open = Vec::new();
    let top = PendingDir { below: PathBuf::new(), spelled: String::new(), above: None };
    assert_eq!(walked.list(&top, &mut open, MAX_NAMES).unwrap(), 3);
    assert_eq!((walked.found.len(), open.len(), walked.left_out.len()), (0, 1, 2));
    assert!(walked.left_out.iter().all(|out| out.why.contains("cannot follow safely")), "{walked:?}");
}

#[test]
fn what_is_swapped_in_after_the_walk_is_not_read() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), SECRET).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["to link", "to fifo", "to device", "to directory", "below"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("f"), "inside").unwrap();
    }
    let walked = walk(dir.path(), &"/".parse().unwrap(), MAX_NAMES).unwrap();
    assert_eq!(walked.found.len(), 5);
    for name in ["to link", "to fifo", "to device", "to directory"] {
        fs::remove_file(at(name).join("f")).unwrap();
    }
    symlink(outside.path().join("f"), at("to link/f")).unwrap();
    make_fifo(&at("to fifo/f"));
    symlink("/dev/zero", at("to device/f")).unwrap();
    fs::create_dir(at("to directory/f")).unwrap();
    fs::rename(at("below"), at("moved")).unwrap();
    symlink(outside.path(), at("below")).unwrap();
    for file in &walked.found {
        let refused = read_value(&walked.tree, &file.below).unwrap_err();
        assert_eq!(refused.code, codes::FILE_KIND, "{refused:?}");
    }
}

/// A file and a directory are exchanged with links to the outside while they are walked and read.
#[test]
fn a_race_is_never_won_by_a_link() {
    const ROUNDS: usize = 2_000;
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("dir")).unwrap();
    fs::write(outside.path().join("dir/f"), SECRET).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (inside, aside) = (dir.path().join("inside"), dir.path().join("aside"));
    fs::create_dir_all(inside.join("dir")).unwrap();
    fs::write(inside.join("dir/f"), "inside").unwrap();
    fs::write(inside.join("f"), "inside").unwrap();
    fs::create_dir(&aside).unwrap();
    symlink(outside.path().join("dir"), aside.join("dir")).unwrap();
    symlink(outside.path().join("dir/f"), aside.join("f")).unwrap();
    let ended = AtomicBool::new(false);
    let (mut read, mut refused, mut wrong) = (0, 0, None);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                for name in ["dir", "f"] {
                    let (one, other) = (inside.join(name), aside.join(name));
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                }
            }
        });
        for _ in 0..ROUNDS {
            let walked = walk(&inside, &"/".parse().unwrap(), MAX_NAMES).unwrap();
            refused += walked.left_out.len();
            for file in &walked.found {
                match read_value(&walked.tree, &file.below) {
                    Ok(value) if value == b"inside" => read += 1,
                    Ok(_) => wrong = Some(file.below.clone()),
                    Err(_) => refused += 1,
                }
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(wrong, None, "the outside was read in its place");
    assert!(read > 0 && refused > 0, "the places were never swapped: {read} read, {refused} refused");
}
