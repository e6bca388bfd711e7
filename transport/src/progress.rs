//! Limits on how long a session waits for a peer that stalls or trickles.
//!
//! Waiting adds to a debt; bytes in either direction pay it off, [`MIN_PROGRESS_BYTES_PER_S`] bytes for each
//! second. The session ends when the debt reaches the limit, so a peer that is silent that long is too slow.
//! Time during which this side does not wait for the peer is not counted.
//!
//! A second account runs over the whole session: total waiting time minus what all bytes pay for. It ends a
//! session whose peer sends a small frame now and then, each of which would pay a second of the debt. So the
//! duration of a session is bounded by a grace period plus the bytes that it moves.
//!
//! [`MIN_PROGRESS_BYTES_PER_S`]: crate::limits::MIN_PROGRESS_BYTES_PER_S

use crate::limits::Limits;
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Minimum amount of debt that one complete frame pays for, because the small flights of a session over a slow
/// link are progress too. In the account of the whole session only bytes count.
const FRAME_PAYS: Duration = Duration::from_secs(1);

/// Both accounts of a session, the debt and the whole session's, as functions of the instants passed in.
#[derive(Debug)]
struct Meter {
    limit: Duration,
    grace: Duration,
    bytes_per_s: u32,
    debt: Duration,
    /// Total time that the session has waited for its peer so far.
    waited: Duration,
    /// Waiting time that all bytes of the session so far pay for.
    paid: Duration,
    /// Number of operations that wait for the peer now; concurrent ones count as one waiting time.
    waiting: u32,
    /// Whether the session is to end in favour of a session with another peer.
    gives_way: bool,
    settled: Instant,
}

impl Meter {
    fn settle(&mut self, now: Instant) {
        if self.waiting > 0 {
            let waited = now.saturating_duration_since(self.settled);
            self.debt += waited;
            self.waited += waited;
        }
        self.settled = now;
    }

    fn pay(&mut self, now: Instant, amount: Duration) {
        self.settle(now);
        self.debt = self.debt.saturating_sub(amount);
    }

    fn pay_bytes(&mut self, now: Instant, bytes: usize) {
        let amount = Duration::from_secs_f64(bytes as f64 / f64::from(self.bytes_per_s.max(1)));
        self.pay(now, amount);
        self.paid = self.paid.saturating_add(amount);
    }

    /// Returns how long the session has waited for its peer in total, less the time that its bytes account for at
    /// `Limits::min_progress_bytes_per_s`; never below 0.
    fn unpaid(&mut self, now: Instant) -> Duration {
        self.settle(now);
        self.waited.saturating_sub(self.paid)
    }

    fn stop(&mut self, now: Instant) -> Option<Stop> {
        let unpaid = self.unpaid(now);
        if self.debt >= self.limit {
            Some(Stop::Silent)
        } else if unpaid >= self.grace {
            Some(Stop::Trickled)
        } else {
            None
        }
    }

    /// Returns the instant at which the debt or the whole session's unpaid time reaches its limit if nothing
    /// happens before.
    fn deadline(&mut self, now: Instant) -> Instant {
        let unpaid = self.unpaid(now);
        now + self.limit.saturating_sub(self.debt).min(self.grace.saturating_sub(unpaid))
    }
}

/// Reason why a session no longer waits for its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The debt reached the limit: the peer was silent or almost silent.
    Silent,
    /// The unpaid waiting time of the whole session reached the grace period.
    Trickled,
    /// A session with another peer takes the place of this one.
    GaveWay,
}

/// Meter of one session, shared by both directions of its stream.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    meter: Arc<Mutex<Meter>>,
    /// Wakes the waiting operations when the session is to give way.
    gives_way: Arc<Notify>,
}

impl Clock {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            meter: Arc::new(Mutex::new(Meter {
                limit: limits.no_progress_timeout,
                grace: limits.session_grace,
                bytes_per_s: limits.min_progress_bytes_per_s,
                debt: Duration::ZERO,
                waited: Duration::ZERO,
                paid: Duration::ZERO,
                waiting: 0,
                gives_way: false,
                settled: Instant::now(),
            })),
            gives_way: Arc::default(),
        }
    }

    pub(crate) fn bytes_moved(&self, bytes: usize) {
        self.meter.lock().pay_bytes(Instant::now(), bytes);
    }

    pub(crate) fn frame_arrived(&self) {
        self.meter.lock().pay(Instant::now(), FRAME_PAYS);
    }

    /// Returns how long the session has waited for its peer in total, less the time that its bytes account for at
    /// `Limits::min_progress_bytes_per_s`; never below 0.
    pub(crate) fn unpaid(&self) -> Duration {
        self.meter.lock().unpaid(Instant::now())
    }

    /// Makes the session end as soon as it waits for its peer.
    pub(crate) fn give_way(&self) {
        self.meter.lock().gives_way = true;
        self.gives_way.notify_waiters();
    }

    /// Waits for `work`, which only the peer can complete; fails when a limit is reached or the session gives
    /// way. Dropping the future stops the clock.
    pub(crate) async fn wait<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let _waiting = Waiting::enter(self);
        tokio::pin!(work);
        loop {
            let notified = self.gives_way.notified();
            tokio::pin!(notified);
            // From here on no call of `give_way` is missed.
            notified.as_mut().enable();
            let (gives_way, deadline) = {
                let mut meter = self.meter.lock();
                (meter.gives_way, meter.deadline(Instant::now()))
            };
            if gives_way {
                return Err(Stop::GaveWay);
            }
            tokio::select! {
                biased;
                // Completed work wins over an expired limit, however late this task is scheduled.
                output = &mut work => return Ok(output),
                () = notified => {}
                () = sleep_until(deadline) => {
                    if let Some(stop) = self.meter.lock().stop(Instant::now()) {
                        return Err(stop);
                    }
                }
            }
        }
    }
}

struct Waiting<'a>(&'a Clock);

impl<'a> Waiting<'a> {
    fn enter(clock: &'a Clock) -> Self {
        let mut meter = clock.meter.lock();
        meter.settle(Instant::now());
        meter.waiting += 1;
        Self(clock)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut meter = self.0.meter.lock();
        meter.settle(Instant::now());
        meter.waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::{advance, sleep};

    const SECOND: Duration = Duration::from_secs(1);

    fn clock() -> Clock {
        Clock::new(&Limits::default())
    }

    /// Runs `clock.wait` on a future that never completes. Returns the seconds until it gave up.
    async fn patience(clock: &Clock) -> f64 {
        let start = Instant::now();
        assert_eq!(clock.wait(pending::<()>()).await, Err(Stop::Silent));
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
        for _ in 0..50 {
            clock.wait(sleep(SECOND)).await.unwrap();
            clock.bytes_moved(40);
            clock.frame_arrived();
        }
    }

    /// With the debt alone, a small frame each second would keep a session alive indefinitely.
    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_session_is_bounded_by_what_it_moves() {
        for (bytes, at_least, at_most) in [(0, 59, 61), (460, 66, 70), (2048, 118, 122), (4096, 600, 600)] {
            let clock = clock();
            let mut lasted = 0;
            while lasted < 600 && clock.wait(sleep(SECOND)).await.is_ok() {
                clock.bytes_moved(bytes);
                clock.frame_arrived();
                lasted += 1;
            }
            assert!((at_least..=at_most).contains(&lasted), "{bytes} B/s: {lasted} s");
        }
    }

    /// Earlier bytes count in this account: a peer that pauses after it moved much data does not trickle.
    #[tokio::test(start_paused = true)]
    async fn who_moved_much_may_rest_between_frames() {
        let clock = clock();
        clock.bytes_moved(1 << 20);
        for _ in 0..200 {
            clock.wait(sleep(SECOND)).await.unwrap();
            clock.frame_arrived();
        }
        assert_eq!(clock.unpaid(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_to_give_way_does_so_at_once_or_when_it_waits_next() {
        let clock = clock();
        let waits = clock.wait(pending::<()>());
        let (waited, ()) = tokio::join!(waits, async { clock.give_way() });
        assert_eq!(waited, Err(Stop::GaveWay));
        let begin = Instant::now();
        assert_eq!(clock.wait(pending::<()>()).await, Err(Stop::GaveWay));
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn own_work_costs_the_peer_nothing() {
        let clock = clock();
        advance(Duration::from_secs(60)).await;
        assert!((patience(&clock).await - 10.0).abs() < 0.01, "nobody waited");
    }

    #[tokio::test(start_paused = true)]
    async fn two_directions_that_wait_together_count_once() {
        let clock = clock();
        let start = Instant::now();
        let (read, write) = tokio::join!(clock.wait(pending::<()>()), clock.wait(pending::<()>()));
        assert_eq!((read, write), (Err(Stop::Silent), Err(Stop::Silent)));
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
