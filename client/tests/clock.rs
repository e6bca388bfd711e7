//! The client's own clock: what expires is taken back on time, and a clock that was wrong does no lasting harm.

use kvgossip_agent::{Clock, now};
use kvgossip_client::{Cause, Change, Client, Dirty, OpError, Value};
use kvgossip_grants::{EntryId, Fact, Signer, Timestamp};
use kvgossip_testkit::agents::*;
use kvgossip_testkit::clients::*;
use kvgossip_testkit::wait::soon;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const MINUTE_US: i64 = 60_000_000;

/// The system's clock, and so many microseconds more or less.
#[derive(Clone, Default)]
struct Wrong(Arc<AtomicI64>);

impl Wrong {
    fn by(&self, minutes: i64) {
        self.0.store(minutes * MINUTE_US, Ordering::SeqCst);
    }

    fn now(&self) -> Timestamp {
        let shift = self.0.load(Ordering::SeqCst);
        let micros = now().as_micros().checked_add_signed(shift).expect("after 1970");
        Timestamp::from_micros(micros).expect("a time")
    }
}

fn client_by(clock: &Wrong, agent: &kvgossip_agent::Agent) -> Client {
    let clock = clock.clone();
    builder(&[agent]).clock(move || clock.now()).build().expect("a client")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_set_forward_expires_and_one_set_back_shows_again_also_without_an_agent() {
    let (agent, clock) = (start(config(0)).await, Wrong::default());
    let (team, deployer) = (identity(1), identity(2));
    let mut upper = grant(team.public(), "/app/**", root(), None).body().clone();
    upper.expires_at = Some(now().saturating_add(10 * 60_000_000));
    let upper = sign(upper, root());
    let lower = grant(deployer.public(), "/app/**", &team, Some(upper.id()));
    let below = entry("/app/x", b"root's", now(), root(), None);
    let shown = entry("/app/x", b"deployer's", now(), &deployer, Some(lower.id()));
    for fact in [Fact::Grant(upper), Fact::Grant(lower.clone()), below, shown.clone()] {
        put(&agent, fact).await;
    }
    let client = client_by(&clock, &agent);
    let mut sub = client.subscribe(&key("/app/x"));
    let mut all = client.subscribe_matching(["/app/**"]).expect("a glob");
    assert_eq!(text(&soon(sub.ready()).await.expect("ready")), "deployer's");
    assert!(matches!(soon(all.next()).await.expect("a change"), Change::Added { .. }));

    for with_agent in [true, false] {
        if !with_agent {
            agent.clone().stop().await;
            soon(sub.wait_for(|state| state.dirty == Some(Dirty::Disconnected))).await.expect("told");
        }
        clock.by(11);
        let state = soon(sub.wait_for(|state| text(state) == "root's")).await.expect("expired");
        assert_eq!(state.cause, Some(Cause::Expired(lower.id())));
        let expired = Cause::Expired(lower.id());
        let change = soon(all.next()).await.expect("a change");
        assert!(matches!(change, Change::Updated { cause, .. } if cause == expired), "{change:?}");
        clock.by(0);
        let state = soon(sub.wait_for(|state| text(state) == "deployer's")).await.expect("again");
        assert_eq!(state.cause, Some(Cause::Written(EntryId(shown.id().0))), "nothing has expired");
        assert!(matches!(soon(all.next()).await.expect("a change"), Change::Updated { .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_in_the_future_waits_for_its_time_and_nobody_is_blamed() {
    let (agent, other) = (start(config(0)).await, start(config(1)).await);
    let fact = entry("/k", b"v", now(), root(), None);
    put(&agent, fact.clone()).await;
    let clock = Wrong::default();
    clock.by(-10);
    let here = clock.clone();
    let client = builder(&[&agent, &other]).clock(move || here.now()).build().expect("a client");
    let mut sub = client.subscribe(&key("/k"));
    let state = soon(sub.wait_for(|state| state.dirty == Some(Dirty::Unverified))).await.expect("told");
    assert_eq!(state.value, Value::Unknown);
    let mut reported = client.watch_rejections();
    let (_, list) = soon(reported.wait_for(|(count, _)| *count > 0)).await.expect("reported").clone();
    assert_eq!((list[0].code.as_str(), list[0].id), ("entry.not_yet", Some(fact.id())));
    let name = endpoint(agent.http_address().expect("TCP")).to_string();
    assert_eq!(client.watch_connection().borrow().as_deref(), Some(&*name), "it may be this clock's fault");
    clock.by(0);
    assert_eq!(text(&soon(sub.ready()).await.expect("its time has come")), "v");
    for agent in [agent, other] {
        agent.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_signed_by_the_clock_of_an_agent_that_is_minutes_ahead() {
    let (ahead, clock) = (Wrong::default(), Wrong::default());
    let shown = clock.clone();
    let mut config = config(0);
    config.clock = Clock::new(move || shown.now());
    let agent = start(config).await;
    let client = client_by(&ahead, &agent);
    clock.by(3);
    let refused = client.set(&key("/k"), "v", root()).await;
    assert!(
        matches!(refused, Err(OpError::ClockSkew)),
        "it would wait elsewhere without a word: {refused:?}"
    );
    clock.by(1);
    client.set(&key("/k"), "v", root()).await.expect("near enough");
    agent.stop().await;
}

/// An agent whose clock is ahead holds an entry that is not valid yet, and lost what that had superseded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_whose_time_has_not_come_is_neither_shown_nor_counted_as_an_answer() {
    let ahead = Wrong::default();
    ahead.by(10);
    let mut fast = config(1);
    fast.clock = Clock::new({
        let ahead = ahead.clone();
        move || ahead.now()
    });
    let (right, fast) = (start(config(0)).await, start(fast).await);
    let old = entry("/k", b"old", now(), root(), None);
    put(&right, old.clone()).await;
    put(&fast, old).await;
    put(&fast, entry("/k", b"early", ahead.now(), root(), None)).await;
    let client = builder(&[&right, &fast]).build().expect("a client");
    assert_eq!(soon(client.asking(1).get(&key("/k"))).await.expect("one answers").expect("set").value, "old");
    let refused = soon(client.asking(2).get(&key("/k"))).await.expect_err("one of two answers");
    assert!(matches!(refused, OpError::TooFew { wanted: 2, answered: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("ahead of this machine's clock"), "{refused}");
    // Of other keys it says all that is asked for.
    assert_eq!(soon(client.asking(2).get(&key("/none"))).await.expect("both answer"), None);
    right.stop().await;
    fast.stop().await;
}
