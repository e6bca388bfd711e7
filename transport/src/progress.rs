//! How long a session puts up with a peer that stalls or trickles.
//!
//! Waiting runs up a debt, bytes in either direction pay it off: [`MIN_PROGRESS_BYTES_PER_S`] bytes for one
//! second. A debt over the limit ends the session. So a peer that is silent for the limit is too slow, and
//! so is one that sends a byte now and then; but no time is charged while this side does not wait.
//!
//! [`MIN_PROGRESS_BYTES_PER_S`]: crate::limits::MIN_PROGRESS_BYTES_PER_S

use crate::limits::Limits;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A complete frame pays for at least this much waiting: the small flights of a session over a long line
/// are progress, too. How many frames a peer may send is bounded by the session's protocol.
const FRAME_PAYS: Duration = Duration::from_secs(1);

/// The debt, as a function of the instants that are passed in.
#[derive(Debug)]
struct Meter {
    limit: Duration,
    bytes_per_s: u32,
    debt: Duration,
    /// Reads and writes that wait for the peer at the same time are one waiting.
    waiting: u32,
    /// This side is working and expects nothing: see [`Clock::pause`].
    paused: bool,
    settled: Instant,
}

impl Meter {
    fn settle(&mut self, now: Instant) {
        if self.waiting > 0 && !self.paused {
            self.debt += now.saturating_duration_since(self.settled);
        }
        self.settled = now;
    }

    fn pay(&mut self, now: Instant, amount: Duration) {
        self.settle(now);
        self.debt = self.debt.saturating_sub(amount);
    }

    fn pay_bytes(&mut self, now: Instant, bytes: usize) {
        self.pay(now, Duration::from_secs_f64(bytes as f64 / f64::from(self.bytes_per_s.max(1))));
    }

    fn expired(&mut self, now: Instant) -> bool {
        self.settle(now);
        self.debt >= self.limit
    }

    /// When to look again, if nothing happens until then.
    fn deadline(&self, now: Instant) -> Instant {
        now + self.limit.saturating_sub(self.debt)
    }
}

/// The peer used up its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfTime;

/// One session's meter, shared by both directions of its stream.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    meter: Arc<Mutex<Meter>>,
}

impl Clock {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            meter: Arc::new(Mutex::new(Meter {
                limit: limits.no_progress_timeout,
                bytes_per_s: limits.min_progress_bytes_per_s,
                debt: Duration::ZERO,
                waiting: 0,
                paused: false,
                settled: Instant::now(),
            })),
        }
    }

    /// The meter is always consistent between statements: a panic elsewhere is no reason to panic here.
    fn lock(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops or restarts the clock, whoever waits.
    pub(crate) fn pause(&self, paused: bool) {
        let mut meter = self.lock();
        meter.settle(Instant::now());
        meter.paused = paused;
    }

    pub(crate) fn bytes_moved(&self, bytes: usize) {
        self.lock().pay_bytes(Instant::now(), bytes);
    }

    pub(crate) fn frame_arrived(&self) {
        self.lock().pay(Instant::now(), FRAME_PAYS);
    }

    /// Waits for `work`, which only the peer can complete. Dropping the future stops the clock.
    pub(crate) async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, OutOfTime> {
        let _waiting = Waiting::enter(self);
        tokio::pin!(work);
        loop {
            let deadline = self.lock().deadline(Instant::now());
            tokio::select! {
                biased;
                output = &mut work => return Ok(output),
                () = sleep_until(deadline) => {
                    if self.lock().expired(Instant::now()) {
                        return Err(OutOfTime);
                    }
                }
            }
        }
    }
}

struct Waiting<'a>(&'a Clock);

impl<'a> Waiting<'a> {
    fn enter(clock: &'a Clock) -> Self {
        let mut meter = clock.lock();
        meter.settle(Instant::now());
        meter.waiting += 1;
        Self(clock)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut meter = self.0.lock();
        meter.settle(Instant::now());
        meter.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::{advance, sleep, timeout};

    const SECOND: Duration = Duration::from_secs(1);

    fn clock() -> Clock {
        Clock::new(&Limits::default())
    }

    /// Runs `clock.wait` on something that never comes; gives the seconds until it gave up.
    async fn patience(clock: &Clock) -> f64 {
        let start = Instant::now();
        assert_eq!(clock.wait(pending::<()>()).await, Err(OutOfTime));
        start.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_the_limit() {
        assert!((patience(&clock()).await - 10.0).abs() < 0.01);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_ends_and_the_minimum_rate_does_not() {
        for (bytes_per_s, survives) in [(1, false), (2048, false), (4096, true), (1 << 20, true)] {
            let clock = clock();
            let mut ended = false;
            for _ in 0..60 {
                ended |= clock.wait(sleep(SECOND)).await.is_err();
                clock.bytes_moved(bytes_per_s);
            }
            assert_eq!(!ended, survives, "{bytes_per_s} B/s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn small_flights_over_a_long_line_are_progress() {
        let clock = clock();
        for _ in 0..100 {
            clock.wait(sleep(SECOND)).await.unwrap();
            clock.bytes_moved(40);
            clock.frame_arrived();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn own_work_costs_the_peer_nothing() {
        let clock = clock();
        advance(Duration::from_secs(60)).await;
        assert!((patience(&clock).await - 10.0).abs() < 0.01, "nobody waited");

        let clock = super::tests::clock();
        clock.pause(true);
        let waited = timeout(Duration::from_secs(60), clock.wait(pending::<()>())).await;
        assert!(waited.is_err(), "a paused clock never ends");
        clock.pause(false);
        assert!((patience(&clock).await - 10.0).abs() < 0.01);
    }

    #[tokio::test(start_paused = true)]
    async fn two_directions_that_wait_together_count_once() {
        let clock = clock();
        let start = Instant::now();
        let (read, write) = tokio::join!(clock.wait(pending::<()>()), clock.wait(pending::<()>()));
        assert_eq!((read, write), (Err(OutOfTime), Err(OutOfTime)));
        assert!((start.elapsed().as_secs_f64() - 10.0).abs() < 0.01);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_written_pay_for_a_read_that_waits() {
        let clock = clock();
        let reader = clock.wait(pending::<()>());
        let writer = async {
            for _ in 0..60 {
                sleep(SECOND).await;
                clock.bytes_moved(1 << 20);
            }
        };
        tokio::select! {
            _ = reader => panic!("the peer was taking data all the time"),
            () = writer => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_past_gives_no_credit() {
        let clock = clock();
        clock.bytes_moved(1 << 30);
        assert!((patience(&clock).await - 10.0).abs() < 0.01);
    }
}
