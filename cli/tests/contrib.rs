//! What `contrib/` ships fits the program.

mod support;

use std::path::Path;
use support::Desk;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(name);
    std::fs::read_to_string(path).expect("it is part of the repository")
}

#[test]
fn the_configuration_file_is_understood_with_and_without_what_is_commented_out() {
    let desk = Desk::new();
    let plain = shipped("agent.toml").replace("/etc/kvgossip/root.pub", "missing.pub");
    let full: String = plain
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(full.contains("\npeer = [") && full.contains("\nlog-format = "), "{full}");
    for text in [plain, full] {
        std::fs::write(desk.path("agent.toml"), &text).expect("written");
        // All settings read; the first thing that is missing is the file with root's key.
        let ran = desk.run(&["agent", "--data-dir", "data", "--config", "agent.toml"]);
        assert!(ran.err.contains("missing.pub") && ran.err.contains("keygen -y root.pem"), "{ran:?}");
        assert!(!ran.err.contains("agent.toml"), "{ran:?}");
    }
    std::fs::write(desk.path("agent.toml"), shipped("agent.toml") + "roof = 1\n").expect("written");
    desk.run(&["agent", "--data-dir", "data", "--config", "agent.toml"]).fails(2, "config.malformed");
}

#[test]
fn the_unit_starts_the_agent_and_leaves_hopeless_cases_alone() {
    let unit = shipped("systemd/kvgossip.service");
    assert!(unit.contains("\nExecStart=/usr/bin/kvgossip agent --config /etc/kvgossip/agent.toml\n"));
    // Usage and integrity, as in docs/errors.md: starting again would change nothing.
    assert!(unit.contains("\nRestartPreventExitStatus=2 8\n"));
    assert!(
        unit.contains("\nUser=kvgossip\n") && shipped("sysusers.d/kvgossip.conf").starts_with("u kvgossip ")
    );
    // What the agent itself writes lies where the unit lets it write.
    let state = "/var/lib/kvgossip";
    assert!(
        unit.contains("\nProtectSystem=strict\n") && unit.contains(&format!("KVGOSSIP_DATA_DIR={state}\n"))
    );
    assert!(shipped("agent.toml").contains(&format!("\n#keyring = \"{state}/")));
}
