//! What `contrib/` ships fits the program.

use kvgossip_testkit::desk::Desk;
use std::path::Path;

/// The program that is tested.
const PROGRAM: &str = env!("CARGO_BIN_EXE_kvgossip");

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(name);
    std::fs::read_to_string(path).expect("it is part of the repository")
}

#[test]
fn the_configuration_file_is_understood_with_and_without_what_is_commented_out() {
    let desk = Desk::new(PROGRAM);
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

/// What follows `name: ` at the beginning of lines, wherever they are indented.
fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches("- "));
    lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

fn promtool(args: &[&str]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/prometheus");
    let ran = std::process::Command::new("promtool").args(args).current_dir(dir).output();
    let ran = ran.expect("promtool of Debian's package prometheus is needed; ./test installs it");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "promtool {args:?}: {said}");
}

#[test]
fn each_alarm_fires_where_it_should_and_does_not_where_it_should_not() {
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts_test.yml"]);
    let tests = shipped("prometheus/alerts_test.yml");
    let cases: Vec<&str> = tests.split("- eval_time:").skip(1).collect();
    for alarm in values(&shipped("prometheus/alerts.yml"), "alert") {
        let of_alarm = || cases.iter().filter(|case| values(case, "alertname") == [alarm]);
        let silent = of_alarm().filter(|case| case.contains("exp_alerts: []")).count();
        assert!(silent > 0 && of_alarm().count() > silent, "{alarm} is shown firing, and not firing");
    }
}

/// The names of metrics in an expression, with the labels that it holds them against or keeps.
fn metrics_of(expr: &str) -> Vec<(String, Vec<String>)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = expr.match_indices("kvgossip_").filter(|(at, _)| !expr[..*at].ends_with(is_word));
    let kept =
        expr.split_once("by (").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(list, _)| list);
    let kept: Vec<&str> = kept.split(", ").filter(|label| !["", "job", "instance"].contains(label)).collect();
    names
        .map(|(at, _)| {
            let rest = &expr[at..];
            let (name, rest) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
            let matched = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let matched =
                matched.map_or("", |(list, _)| list).split(',').filter_map(|pair| pair.split_once('='));
            let labels = matched.map(|(label, _)| label).chain(kept.iter().copied());
            (name.to_owned(), labels.map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn alarms_look_at_metrics_and_labels_that_exist() {
    let metrics = kvgossip_agent::metrics::Metrics::new();
    let alerts = shipped("prometheus/alerts.yml");
    let exprs = values(&alerts, "expr");
    assert!(exprs.len() >= 10, "{exprs:?}");
    for expr in exprs {
        let found = metrics_of(expr);
        assert!(!found.is_empty(), "{expr}");
        for (name, labels) in found {
            let shown = |info: &&kvgossip_agent::metrics::MetricInfo| match info.kind {
                "counter" => name.strip_suffix("_total") == Some(&info.name),
                _ => name == info.name,
            };
            let info = metrics.catalog().iter().find(shown);
            let info = info.unwrap_or_else(|| panic!("{expr}: {name} is not measured"));
            assert!(labels.iter().all(|label| info.labels.contains(&label.as_str())), "{expr}: {labels:?}");
        }
    }
}

#[test]
fn the_documents_hold_no_alarm_that_is_not_tested() {
    let alerts = shipped("prometheus/alerts.yml");
    let (names, exprs) = (values(&alerts, "alert"), values(&alerts, "expr"));
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut pages: Vec<_> =
        std::fs::read_dir(docs).expect("docs").map(|page| page.expect("a page").path()).collect();
    pages.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"));
    let mut operations = String::new();
    for path in pages.iter().filter(|path| path.extension().is_some_and(|kind| kind == "md")) {
        let page = std::fs::read_to_string(path).expect("a page");
        for quoted in page.split('`').skip(1).step_by(2) {
            let is_alarm = quoted.contains("kvgossip_")
                && [" > ", " < ", " == ", "rate(", "increase("].iter().any(|part| quoted.contains(part));
            assert!(!is_alarm || exprs.contains(&quoted), "{}: {quoted}", path.display());
        }
        if path.ends_with("operations.md") {
            operations = page;
        }
    }
    for name in names {
        assert!(operations.contains(&format!("`{name}`")), "docs/operations.md says what to do about {name}");
    }
}
