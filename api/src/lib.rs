//! The HTTP API's types, shared by agent and client.
