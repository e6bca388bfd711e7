//! `GET /metrics`: what it shows after something has happened, and that `docs/metrics.md` says the same.

use kvgossip_agent::metrics::Metrics;
use kvgossip_agent::now;
use kvgossip_agent::watch::Interest;
use kvgossip_api::WatchRequest;
use kvgossip_grants::{Fact, Key, Signer, Verdict};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::http;
use kvgossip_testkit::wait::eventually;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

const HEAD: &str = "\
# Metrics

`GET /metrics` shows these in the OpenMetrics text format, which Prometheus reads. If the agent guards reading over TCP
(`--read-token-file`, `--tls-client-ca`), a scrape needs the right to read, as [operations](operations.md) says; otherwise it needs
no token. Labels have few values, and nobody outside can choose one: codes are those of [errors.md](errors.md), routes those of
[openapi.json](openapi.json), anything else is `other`. The [glossary](glossary.md) defines the terms.

Names of counters end in `_total` in a scrape; a histogram has `_bucket`, `_sum` and `_count`. A counter without events has no
sample, except for those that alarms use (`contrib/prometheus/alerts.yml`), which begin at 0: failures of sessions, refused
facts, connections that are turned away.

| name | kind | labels | meaning |
|---|---|---|---|
";

/// `UPDATE_DOCS=1 cargo test -p kvgossip-agent --test metrics` writes the page anew.
#[test]
fn the_page_lists_every_metric() {
    let mut page = HEAD.to_owned();
    for info in Metrics::new().catalog() {
        let labels: Vec<_> = info.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", info.name, info.kind, labels.join(" "), info.help);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, &page).expect("the page is written");
    }
    let found = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(found == page, "docs/metrics.md is not what is measured: UPDATE_DOCS=1 writes it anew");
}

/// The value of a sample, by its name and labels as they stand.
fn sample(scrape: &str, name: &str) -> Option<f64> {
    let line = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_shows_what_has_happened_and_nothing_undocumented() {
    let a = start(config(0)).await;
    let mut second = config(1);
    second.peers = vec![peer(&a)];
    let b = start(second).await;
    for number in 0..3 {
        let fact = entry(&format!("/m/{number}"), b"value", now(), root(), None);
        assert_eq!(put(&a, fact).await, Verdict::Merged);
    }
    let stranger = entry("/m/x", b"", now(), &identity(1), None);
    assert!(matches!(put(&a, stranger).await, Verdict::Refused(_) | Verdict::Unjustified(_)));
    let grant = grant(Signer::public(&identity(1)), "/g/**", root(), None);
    assert_eq!(put(&a, Fact::Grant(grant)).await, Verdict::Merged);
    eventually("the other has it", async || same_root(&[&a, &b])).await;
    let key = Key::parse("/m/0").expect("a key");
    assert!(b.read(&key).await.expect("the store works").is_some());

    let interest = Interest::parse(&WatchRequest { keys: vec!["/m/0".into()], ..Default::default() });
    let watcher = b.hub().watch(interest.expect("a good request"), None).expect("room");
    let address = b.http_address().expect("HTTP is served");
    http::get(address, "/v1/status").await;
    http::get(address, "/any/thing").await;
    let mut scrape = String::new();
    eventually("the session is counted", async || {
        scrape = http::get(address, "/metrics").await;
        sample(&scrape, "kvgossip_peers_equal") == Some(1.0)
    })
    .await;
    assert!(scrape.contains("content-type: application/openmetrics-text"), "{scrape}");
    let is = |name: &str, value: f64| assert_eq!(sample(&scrape, name), Some(value), "{name}\n{scrape}");
    is("kvgossip_keys", 3.0);
    is("kvgossip_authority_facts{kind=\"grant\"}", 1.0);
    is("kvgossip_peers_listed", 1.0);
    is("kvgossip_peers_connected", 1.0);
    is("kvgossip_facts_total{source=\"peer\",verdict=\"merged\",code=\"\"}", 4.0);
    is("kvgossip_ready", 1.0);
    is("kvgossip_watchers", 1.0);
    is("kvgossip_http_requests_total{door=\"tcp\",route=\"/v1/status\",method=\"GET\",status=\"200\"}", 1.0);
    is("kvgossip_http_requests_total{door=\"tcp\",route=\"other\",method=\"GET\",status=\"404\"}", 1.0);
    let more =
        |name: &str| assert!(sample(&scrape, name).is_some_and(|value| value > 0.0), "{name}\n{scrape}");
    more("kvgossip_commit_seconds_count");
    more("kvgossip_session_seconds_count");
    more("kvgossip_session_bytes_total{direction=\"received\",kind=\"entries\"}");
    more("process_resident_memory_bytes");
    more("process_open_fds");
    let listed: BTreeSet<String> = Metrics::new().catalog().iter().map(|info| info.name.clone()).collect();
    let shown: BTreeSet<String> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    assert!(shown.is_subset(&listed), "{:?}", shown.difference(&listed));

    let first = http::get(a.http_address().expect("HTTP is served"), "/metrics").await;
    let refused = first.lines().any(|line| {
        let is_put = line.starts_with("kvgossip_facts_total{source=\"put\"");
        is_put && !line.contains("verdict=\"merged\"") && !line.ends_with(" 0")
    });
    assert!(refused, "{first}");
    drop(watcher);
    assert_eq!(sample(&http::get(address, "/metrics").await, "kvgossip_watchers"), Some(0.0));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_a_session_are_counted_while_it_runs() {
    /// Sends and receptions that pass, of up to 64 KiB each, before the way is blocked in the middle of what is to be moved.
    const PASS: usize = 150;
    let a = start(config(0)).await;
    for number in 0..300 {
        let fact = entry(&format!("/large/{number}"), &[7; 40_000], now(), root(), None);
        assert_eq!(put(&a, fact).await, Verdict::Merged);
    }
    let mut second = config(1);
    second.peers = vec![peer(&a)];
    let (passed, is_open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, open) = (passed.clone(), is_open.clone());
    second.link_filter =
        Some(Arc::new(move |_| open.load(Ordering::SeqCst) || count.fetch_add(1, Ordering::SeqCst) < PASS));
    let b = start(second).await;
    let entries = "kvgossip_session_bytes_total{direction=\"received\",kind=\"entries\"}";
    let scrape = || b.metrics_text().expect("a text");
    let more = |scrape: &str| sample(scrape, entries).is_some_and(|bytes| bytes > 0.0);
    let mut shown = String::new();
    eventually("bytes are counted", async || {
        shown = scrape();
        more(&shown)
    })
    .await;
    assert_eq!(sample(&shown, "kvgossip_session_seconds_count"), Some(0.0), "none has ended");
    is_open.store(true, Ordering::SeqCst);
    eventually("all came", async || same_root(&[&a, &b])).await;
    eventually("the session has ended", async || {
        sample(&scrape(), "kvgossip_session_seconds_count") != Some(0.0)
    })
    .await;
    assert!(sample(&scrape(), entries).is_some_and(|bytes| bytes > 12_000_000.0));
    a.stop().await;
    b.stop().await;
}
