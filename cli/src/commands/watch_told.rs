//! The line that `watch` prints for a change of a key.

use crate::error::Result;
use crate::output::{self, Format, printable, short};
use crate::time;
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_client::{Cause, Entry};
use kvgossip_grants::Key;
use serde_json::json;

/// Change of one key, for output.
pub(super) struct Told {
    pub(super) key: Key,
    pub(super) event: &'static str,
    pub(super) entry: Option<Entry>,
    /// Id of the grant or floor that caused the change; `None` if it has another cause.
    pub(super) by: Option<String>,
}

impl Told {
    pub(super) fn of(key: &Key, entry: Option<Entry>, cause: Option<Cause>, first: bool) -> Self {
        let event = match (first, &entry) {
            (true, Some(_)) => "current",
            (true, None) => "absent",
            _ => match cause {
                // The key was loaded without an event.
                None | Some(Cause::Loaded) if entry.is_none() => "absent",
                None | Some(Cause::Loaded) => "current",
                Some(cause) => cause.as_str(),
            },
        };
        let by = match cause {
            Some(Cause::Revoked(grant) | Cause::Expired(grant)) if !first => Some(grant.to_string()),
            Some(Cause::Floored(floor)) if !first => Some(floor.to_string()),
            _ => None,
        };
        Self { key: key.clone(), event, entry, by }
    }

    pub(super) fn tell(&self, format: Format) -> Result<()> {
        match format {
            Format::Text => {
                let value =
                    self.entry.as_ref().map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
                let id = self
                    .entry
                    .as_ref()
                    .map_or("-".to_owned(), |entry| short(&entry.id.to_string()).to_owned());
                let value =
                    value.map(|value| format!("  {}", printable(value.trim_end()))).unwrap_or_default();
                output::text(&format!("{}  {}  {id}{value}\n", self.event, self.key))
            }
            Format::Json => output::json(&self.object()),
        }
    }

    pub(super) fn object(&self) -> serde_json::Value {
        let mut object = json!({ "event": self.event, "key": self.key.to_string() });
        if let Some(by) = &self.by {
            object["by"] = by.as_str().into();
        }
        if let Some(entry) = &self.entry {
            object["entry"] = entry.id.to_string().into();
            object["timestamp_us"] = entry.timestamp.as_micros().into();
            object["written"] = time::show(entry.timestamp.as_micros()).into();
            object["grant"] = entry.grant.map(|grant| grant.to_string()).into();
            if let Ok(text) = str::from_utf8(&entry.value) {
                object["value"] = text.into();
            }
            object["value_b64"] = BASE64_STANDARD.encode(&entry.value).into();
        }
        object
    }
}
