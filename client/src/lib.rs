//! Talks to kvgossip agents.
