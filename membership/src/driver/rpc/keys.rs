//! Keyring changes, and the members' answers to them.

use crate::{
    core::KeyChange,
    driver::{Answer, Answers, Error, Membership},
    rpc::message::Keys,
    wire::{
        Text,
        crypto::Key,
        serf::{self, KeyResponse},
    },
};

impl Membership {
    /// Makes all members, this one included, change their keyrings. Returns a summary of the members' answers.
    pub async fn change_all_keys(&self, change: KeyChange) -> Result<Keys, Error> {
        let nodes = self.alive_count().await?;
        Ok(gather(self.change_keys(change).await?, nodes).await)
    }

    /// Asks all members, this one included, for their keys. Returns how many members have each key.
    pub async fn list_all_keys(&self) -> Result<Keys, Error> {
        let nodes = self.alive_count().await?;
        Ok(gather(self.list_keys().await?, nodes).await)
    }
}

/// Parses a key in base64, and makes all members install, use or remove it. Returns a summary of their answers,
/// or an error text.
pub(super) async fn change(
    member: &Membership,
    text: &Text,
    change: impl FnOnce(Key) -> KeyChange,
) -> Result<Keys, String> {
    // Text that is not UTF-8 is not base64 either.
    let key = Key::from_base64(text.to_str().unwrap_or("?")).map_err(|error| error.to_string())?;
    member.change_all_keys(change(key)).await.map_err(|error| error.to_string())
}

/// Asks all members for their keys. Returns how many members have each key, or an error text.
pub(super) async fn list(member: &Membership) -> Result<Keys, String> {
    member.list_all_keys().await.map_err(|error| error.to_string())
}

/// Counts answers to a key query until all `nodes` members have responded, or the query ends.
async fn gather(mut answers: Answers, nodes: usize) -> Keys {
    let mut keys = Keys { nodes: nodes as u64, ..Keys::default() };
    while keys.responses < keys.nodes {
        match answers.next().await {
            Some(Answer::Response { from, payload }) => count(&mut keys, from, &payload),
            Some(Answer::Ack(_)) => {}
            None => break,
        }
    }
    keys
}

fn count(keys: &mut Keys, from: Text, payload: &[u8]) {
    keys.responses += 1;
    match serf::decode_tagged::<KeyResponse>(serf::kind::KEY_RESPONSE, payload) {
        Ok(answer) => {
            keys.errors += u64::from(!answer.result);
            if !answer.message.is_empty() {
                keys.messages.insert(from, answer.message);
            }
            for key in answer.keys.as_slice() {
                *keys.keys.entry(key.clone()).or_default() += 1;
            }
        }
        Err(error) => {
            keys.errors += 1;
            keys.messages.insert(from, format!("its answer cannot be read: {error}").into());
        }
    }
}

impl Keys {
    /// Returns why a key change is not complete; `None` if all members made it.
    pub fn failure(&self) -> Option<String> {
        if self.errors > 0 {
            Some(format!("{}/{} nodes reported failure", self.errors, self.nodes))
        } else if self.responses < self.nodes {
            Some(format!("{}/{} nodes reported success", self.responses, self.nodes))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted() {
        let answer = |result, message: &str, keys: &[&str]| {
            let keys = keys.iter().map(|key| Text::from(*key)).collect::<Vec<_>>().into();
            let response = KeyResponse { keys, message: message.into(), primary_key: "a".into(), result };
            serf::encode_tagged(serf::kind::KEY_RESPONSE, &response)
        };
        let mut keys = Keys { nodes: 4, ..Keys::default() };
        count(&mut keys, "one".into(), &answer(true, "", &["a", "b"]));
        count(&mut keys, "two".into(), &answer(true, "", &["a"]));
        assert_eq!(keys.failure().as_deref(), Some("2/4 nodes reported success"));
        count(&mut keys, "three".into(), &answer(false, "no", &[]));
        count(&mut keys, "four".into(), b"nonsense");
        assert_eq!(keys.failure().as_deref(), Some("2/4 nodes reported failure"));
        assert_eq!(keys.keys, [("a".into(), 2), ("b".into(), 1)].into());
        assert_eq!((keys.messages.len(), keys.messages[b"three".as_slice()].as_str()), (2, "no"));
        assert_eq!(Keys { nodes: 1, responses: 1, ..Keys::default() }.failure(), None);
    }
}
