//! Talks to kvgossip agents.
//!
//! [`AgentClient`] is one agent's HTTP API as functions: it reads, posts signed facts and asks the agent to act. It trusts
//! the agent's answers; whoever does not, verifies the facts that [`AgentClient::facts`] gives.

mod agent;
mod batch;
mod endpoint;
mod error;
mod export;
mod http;
mod query;
mod token;

pub use agent::{AgentClient, IfEntry, Stored, Written};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{ClientError, CodeInfo, MAX_MESSAGE_CHARS};
pub use export::{EXPORT_MAGIC, EXPORT_VERSION, ExportError, ExportReader, ExportWriter};
pub use http::{CONNECT_TIMEOUT, DEFAULT_TIMEOUT, MAX_ANSWER_BYTES, MAX_IDLE_CONNECTIONS};
pub use query::{FactKind, FactsQuery, KeysQuery};
pub use token::{MAX_TOKEN_BYTES, Token, TokenError};
