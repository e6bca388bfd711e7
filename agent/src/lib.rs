//! One running kvgossip replica: engine, storage, transport and HTTP API.
