//! Event handlers: commands run on gossip events. Syntax, environment and input are those of Serf's agents (Serf's
//! documentation, "Event Handlers").

mod input;
mod process;

use super::Gossip;
use super::roots::QUERY;
use kvgossip_membership::rpc::{Coalesced, EventFilter, FilterError};
use kvgossip_membership::{Event, Membership, Text};
use process::{Ended, Run};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Maximum number of event handlers per agent.
pub const MAX_HANDLERS: usize = 64;
/// Maximum number of events queued per handler, which runs for one at a time. When the queue is full, new events are
/// dropped, and the log shows how many.
const MAX_WAITING: usize = 1024;
/// Run time after which a slow handler is logged, as by Serf's agents, and the interval of further log lines.
const SLOW: Duration = Duration::from_secs(1);
const STILL_SLOW: Duration = Duration::from_secs(60);

/// An event handler, written `[EVENT[:NAME][,...]=]COMMAND`: a shell command and the events that it runs for; all
/// events, if none are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHandler {
    filter: EventFilter,
    command: String,
}

/// The error for a text that is not an event handler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseHandlerError {
    /// The command is missing.
    #[error("the command is missing")]
    NoCommand,
    /// The part before `=` is not a list of events.
    #[error(
        "{0:?} names no event: write member-join, member-leave, member-failed, member-update, member-reap, user, user:NAME, \
         query, query:NAME or *, several with commas; a command that contains = needs one of them before it"
    )]
    Filter(String),
    /// More than 64 kinds of events are given.
    #[error(transparent)]
    TooMany(FilterError),
}

impl FromStr for EventHandler {
    type Err = ParseHandlerError;

    fn from_str(text: &str) -> Result<Self, ParseHandlerError> {
        let (events, command) = text.split_once('=').unwrap_or(("", text));
        if command.trim().is_empty() {
            return Err(ParseHandlerError::NoCommand);
        }
        let filter = EventFilter::parse(events).map_err(|error| match error {
            FilterError::TooMany => ParseHandlerError::TooMany(error),
            _ => ParseHandlerError::Filter(events.to_owned()),
        })?;
        Ok(Self { filter, command: command.to_owned() })
    }
}

impl fmt::Display for EventHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.command)
    }
}

impl EventHandler {
    /// Returns each kind of event of the handler, with its command, as Serf's agents list them in their statistics.
    pub(super) fn listed(&self) -> impl Iterator<Item = (Text, Text)> {
        self.filter.kinds().map(|kind| (kind, self.command.as_str().into()))
    }

    fn wants(&self, record: &Coalesced) -> bool {
        // Queries among replicas are internal, like Serf's own queries.
        let is_own = matches!(record, Coalesced::Event(Event::Query(query)) if query.name == QUERY);
        !is_own && self.filter.takes(record)
    }

    /// Subscribes to the handler's events, coalesced as by Serf's agents; `None`: the agent has left,
    /// or too many handlers are subscribed.
    pub(super) async fn listen(self, gossip: &Gossip) -> Option<Listening> {
        let member = gossip.member().ok()?;
        let this = Arc::new(self);
        let wants = this.clone();
        let wants = move |record: &_| wants.wants(record);
        let Ok(records) = member.subscribe_coalesced(MAX_WAITING, wants).await else {
            tracing::warn!(command = this.command, "an event handler hears nothing: too many listen");
            return None;
        };
        Some(Listening { handler: this, records })
    }
}

/// A handler that has subscribed to its events.
pub(super) struct Listening {
    handler: Arc<EventHandler>,
    records: mpsc::Receiver<Coalesced>,
}

impl Listening {
    /// Runs the command for each of its events, one at a time, until the agent stops or leaves.
    pub(super) async fn serve(self, gossip: Gossip) {
        let Self { handler: this, mut records } = self;
        let Ok(member) = gossip.member() else { return };
        // The first event is this member's own join, as with Serf's agents.
        if let Ok(own) = member.local_member().await {
            let joined = Coalesced::Members { kind: "member-join", members: vec![own] };
            if this.wants(&joined) {
                this.handle(joined, &gossip, &member).await;
            }
        }
        drop(member);
        while let Some(record) = records.recv().await {
            let Ok(member) = gossip.member() else { return };
            match record {
                Coalesced::Lagged { dropped } => {
                    gossip.metrics().handlers_dropped(dropped);
                    tracing::warn!(
                        command = this.command,
                        dropped,
                        "an event handler is too slow, events are lost"
                    );
                }
                record => this.handle(record, &gossip, &member).await,
            }
        }
    }
}

impl EventHandler {
    async fn handle(&self, record: Coalesced, gossip: &Gossip, member: &Membership) {
        let Ok(own) = member.local_member().await else { return };
        let run = Run {
            command: &self.command,
            environment: input::environment(&record, &own),
            input: input::input(&record),
        };
        let command = &self.command;
        let ended = match slowly(command, run.ended()).await {
            Ok(ended) => ended,
            Err(error) => {
                gossip.metrics().handler_ran(false);
                return tracing::error!(command, %error, "an event handler cannot be run");
            }
        };
        gossip.metrics().handler_ran(ended.status.success());
        let Ended { status, output, errors } = ended;
        if !status.success() {
            let errors = errors.printable();
            tracing::error!(command, %status, errors, "an event handler has failed");
        }
        if output.lost > 0 {
            tracing::warn!(
                command,
                bytes = output.lost,
                "the beginning of an event handler's output is lost"
            );
        }
        // The output of a failed command is not sent as an answer, as with Serf's agents.
        if status.success()
            && let Coalesced::Event(Event::Query(query)) = &record
            && !output.bytes.is_empty()
            && let Err(error) = member.respond(query, &output.bytes).await
        {
            tracing::warn!(command, %error, "the answer of an event handler is not sent");
        }
    }
}

/// Runs `run` and logs, for as long as it takes longer than [`SLOW`], that the command is slow: events wait for it.
async fn slowly<T>(command: &str, run: impl Future<Output = T>) -> T {
    let mut run = std::pin::pin!(run);
    let (began, mut patience) = (Instant::now(), SLOW);
    loop {
        match timeout(patience, &mut run).await {
            Ok(ended) => return ended,
            Err(_) => {
                let seconds = began.elapsed().as_secs();
                tracing::warn!(command, seconds, "an event handler is slow, events wait for it");
                patience = STILL_SLOW;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EventHandler, ParseHandlerError> {
        text.parse()
    }

    #[test]
    fn the_forms_of_serf_s_documentation_are_read() {
        let all = parse("handle.sh").expect("a command alone");
        assert_eq!(
            all,
            EventHandler { filter: EventFilter::parse("*").expect("all"), command: "handle.sh".into() }
        );
        for text in
            ["member-join=foo.sh", "user:deploy=foo.sh", "query:load=foo.sh", "*=foo.sh", "user=foo.sh"]
        {
            assert_eq!(parse(text).expect("Serf takes it").command, "foo.sh", "{text}");
        }
        let several = parse("member-leave,member-failed=notify A=b").expect("several events");
        assert_eq!(several.command, "notify A=b");
        assert_eq!(several.filter, EventFilter::parse("member-leave,member-failed").expect("both"));
        let listed = |kind: &str| (Text::from(kind), Text::from("notify A=b"));
        assert!(several.listed().eq(["member-leave:", "member-failed:"].map(listed)));
    }

    #[test]
    fn what_names_no_event_or_no_command_is_refused() {
        assert!(matches!(parse(""), Err(ParseHandlerError::NoCommand)));
        assert!(matches!(parse("user= "), Err(ParseHandlerError::NoCommand)));
        for text in ["member-gone=x", "A=b handle.sh", "user,=x"] {
            assert!(matches!(parse(text), Err(ParseHandlerError::Filter(_))), "{text}");
        }
        assert!(matches!(
            parse(&format!("{}=x", ["user"; 100].join(","))),
            Err(ParseHandlerError::TooMany(_))
        ));
    }
}
