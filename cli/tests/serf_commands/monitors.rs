//! What `serf monitor` shows of two agents.

use std::time::{Duration, Instant};

use kvgossip_testkit::desk::Desk;
use kvgossip_testkit::serf;
use kvgossip_testkit::serf::command::{Monitor, Rpc};
use kvgossip_testkit::wait::{eventually, wait_until};

/// What gossip has lost is sent again after so long.
const AGAIN: Duration = Duration::from_secs(2);
/// `serf monitor` of an agent, after it has shown an event that the agent sent.
pub(crate) fn monitor(desk: &Desk, rpc: &Rpc) -> Monitor {
    let begin = format!("begin-{}", rpc.address);
    let monitor = Monitor::start(desk, rpc, &begin, "info");
    wait_until("the monitor shows events", || {
        rpc.serf("event", &["-coalesce=false", &begin]).exits(0);
        monitor.text().contains(&begin)
    });
    monitor
}

/// The events that a monitor has written before the first `end`, each in one line, sorted; none if there is no end yet.
fn records(text: &str) -> Option<Vec<String>> {
    let mut records: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("Event Info:") {
            records.push(Vec::new());
        } else if let (Some(record), true) = (records.last_mut(), line.starts_with('\t')) {
            // Numbers are the connection's own, and what is sent again has another time.
            record.push(match line.trim() {
                line if line.starts_with("ID: ") => "ID: N",
                line if line.starts_with("LTime: ") => "LTime: N",
                line => line,
            });
        }
    }
    records.truncate(records.iter().position(|record| record.contains(&"Name: \"end\""))?);
    records.retain(|record| !record.iter().any(|field| field.starts_with("Name: \"begin-")));
    records.iter_mut().for_each(|record| record.sort_unstable());
    let mut lines: Vec<String> = records.iter().flat_map(|record| by_member(&record.join(", "))).collect();
    lines.sort();
    // Serf's agents tell of a changed member again whenever they tell of any member.
    lines.dedup();
    Some(lines)
}

/// A record of members as one for each: which of them come together depends on when they come.
fn by_member(record: &str) -> Vec<String> {
    let Some((event, members)) = record.split_once(", Members: []interface {}{") else {
        return vec![record.to_owned()];
    };
    let members = members.split("map[interface {}]interface {}{\"Addr\"").skip(1);
    members.map(|member| format!("{event}, Addr{}", member.trim_end_matches([',', ' ', '}']))).collect()
}

/// What two monitors have shown until an event comes that is sent now.
pub(crate) async fn until_the_end(sender: &serf::Agent, monitors: &[Monitor; 2]) -> [Vec<String>; 2] {
    eventually("the monitors show the end", async || {
        sender.serf("event", &["-coalesce=false", "end"]).await;
        let [theirs, ours] = monitors.each_ref().map(|monitor| records(&monitor.text()));
        Some([theirs?, ours?])
    })
    .await
}

/// Sends something until both monitors show it: gossip may lose it, with as many members that are gone.
pub(crate) async fn shown(monitors: &[Monitor; 2], name: &str, send: impl AsyncFn()) {
    let name = format!("Name: {name:?}");
    let shows = || monitors.iter().all(|monitor| monitor.text().contains(&name));
    eventually(&name, async || {
        send().await;
        let began = Instant::now();
        while !shows() && began.elapsed() < AGAIN {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        shows().then_some(())
    })
    .await;
}
