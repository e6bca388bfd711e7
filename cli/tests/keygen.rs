//! `keygen` and the reading of key files.

use kvgossip_grants::{PublicKey, Signer, SigningKey};
use kvgossip_testkit::desk::{Desk, Ran, set_mode};
use std::fs;
use std::io::Read;
use std::process::Stdio;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

/// Making a key may take so long that the command says so first.
fn last_line(ran: &Ran) -> &str {
    ran.err.lines().last().unwrap_or_default()
}

#[test]
fn makes_a_key_and_shows_its_public_half() {
    let desk = Desk::new(PROGRAM);
    let made = desk.run(&["keygen", "-o", "new.pem"]).exits(0);
    assert_eq!(made.text(), "");
    let key = SigningKey::from_pem(&desk.read("new.pem")).unwrap();
    assert_eq!(key.public().bits(), 2048);
    assert_eq!(last_line(&made), format!("entity {}", key.public().entity()));

    let shown = desk.run(&["keygen", "-y", "new.pem"]).exits(0);
    assert_eq!(PublicKey::from_pem(shown.text()).unwrap(), *key.public());
    assert_eq!(shown.err.trim_end(), last_line(&made));

    // A public key shows itself, also from standard input.
    let again = desk.run_with_input(&["keygen", "-y", "-"], &shown.out).exits(0);
    assert_eq!((again.out, again.err), (shown.out, shown.err));
}

#[test]
fn writes_to_standard_output_when_no_file_is_named() {
    let desk = Desk::new(PROGRAM);
    for args in [&["keygen"][..], &["keygen", "-o", "-"]] {
        let made = desk.run(args).exits(0);
        let key = SigningKey::from_pem(made.text()).unwrap();
        assert_eq!(last_line(&made), format!("entity {}", key.public().entity()));
    }
}

#[test]
fn speaks_json() {
    let desk = Desk::new(PROGRAM);
    let made = desk.run(&["--output", "json", "keygen", "-o", "new.pem", "--bits", "3072"]).exits(0).json();
    let shown = desk.run(&["keygen", "-y", "new.pem", "--output=json"]).exits(0).json();
    assert_eq!(made[0]["file"], "new.pem");
    assert_eq!(made[0]["bits"], 3072);
    assert_eq!(made[0]["entity"], shown[0]["entity"]);
    let public = PublicKey::from_pem(shown[0]["public_pem"].as_str().unwrap()).unwrap();
    assert_eq!(shown[0]["entity"], public.entity().to_string());
}

#[test]
fn reads_the_older_form_of_private_keys() {
    let desk = Desk::new(PROGRAM);
    let new = desk.run(&["keygen", "-y", "team.pem"]).exits(0);
    let old = desk.run(&["keygen", "-y", "pkcs1.pem"]).exits(0);
    assert_eq!(new.out, old.out);
    assert_eq!(new.text(), desk.read("team.pub.pem"));
}

#[test]
fn refuses_keys_that_are_not_acceptable() {
    let desk = Desk::new(PROGRAM);
    fs::write(desk.path("noise.pem"), [0xff; 100]).unwrap();
    fs::write(desk.path("long.pem"), "-".repeat(1 << 17)).unwrap();
    for (file, code) in [
        ("small.pem", "rsa.unsupported"),
        ("small.pub.pem", "rsa.unsupported"),
        ("exponent3.pem", "rsa.unsupported"),
        ("exponent3.pub.pem", "rsa.unsupported"),
        ("elliptic.pem", "pem.invalid"),
        ("elliptic.pub.pem", "pem.invalid"),
        ("encrypted.pem", "pem.invalid"),
        ("cut.pem", "pem.invalid"),
        ("noise.pem", "pem.invalid"),
        ("long.pem", "pem.invalid"),
        ("missing.pem", "file.unreadable"),
        (".", "file.unreadable"),
    ] {
        let ran = desk.run(&["keygen", "-y", file]).fails(1, code);
        assert!(ran.err.contains(file), "the file is named: {}", ran.err);
        assert_eq!(ran.text(), "");
    }
}

#[cfg(unix)]
#[test]
fn warns_of_a_private_key_that_others_can_read() {
    let desk = Desk::new(PROGRAM);
    let quiet = desk.run(&["keygen", "-y", "team.pem"]).exits(0);
    assert!(!quiet.err.contains("warning"), "{}", quiet.err);
    for mode in [0o640, 0o604, 0o660] {
        set_mode(&desk.path("team.pem"), mode);
        let loud = desk.run(&["keygen", "-y", "team.pem"]).exits(0);
        assert!(loud.err.contains("warning: team.pem: others may"), "{}", loud.err);
        assert_eq!(loud.out, quiet.out);
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let desk = Desk::new(PROGRAM);
    for args in [&["keygen", "-y", "team.pem"][..], &["help", "grant"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = desk.command(args);
        let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""), "{args:?}");
    }
}
