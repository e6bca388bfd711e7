//! Messages on standard error of a command that keeps values current: values that did not verify or were withheld,
//! and problems with agents.

use crate::output::say;
use kvgossip_client::{Client, Rejection};

/// Prints the messages while it is polled.
pub(crate) async fn report(client: &Client) {
    tokio::join!(report_rejections(client), report_trouble(client));
}

async fn report_rejections(client: &Client) {
    let mut rejections = client.watch_rejections();
    let mut told = 0;
    while rejections.changed().await.is_ok() {
        let (count, list) = rejections.borrow_and_update().clone();
        let new = usize::try_from(count - told).unwrap_or(list.len()).min(list.len());
        for rejection in &list[list.len() - new..] {
            let what = rejection.key.as_ref().map_or("a fact".to_owned(), |key| format!("an entry of {key}"));
            let Rejection { endpoint, code, .. } = rejection;
            say(&match code.as_str() {
                Rejection::UNREADABLE => format!("{endpoint} cannot read {what} from its store [{code}]"),
                Rejection::EARLY => format!(
                    "{endpoint} keeps {what} until it is due by its clock, which or another clock is wrong [{code}]"
                ),
                Rejection::WITHHELD => {
                    let what = rejection.key.as_ref().map_or("a revocation or a floor".to_owned(), |_| what);
                    format!(
                        "{endpoint} withheld {what}, which another agent sent: this agent is not used any more [{code}]"
                    )
                }
                Rejection::NO_VALUE => format!("no agent sends the value of {what} [{code}]"),
                _ => format!("{endpoint} sent {what} that does not verify [{code}]"),
            });
        }
        told = count;
    }
}

/// Prints each problem once, until an agent is in sync again.
async fn report_trouble(client: &Client) {
    let mut trouble = client.watch_trouble();
    let mut told = Vec::new();
    while trouble.changed().await.is_ok() {
        match trouble.borrow_and_update().clone() {
            None => {
                if !told.is_empty() {
                    say("the values are kept current again");
                }
                told.clear();
            }
            Some(trouble) => {
                let line = format!("{} [{}]", trouble.message, trouble.code);
                if !told.contains(&line) {
                    say(&line);
                    told.push(line);
                }
            }
        }
    }
}
