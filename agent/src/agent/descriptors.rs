//! The limit on file descriptors, checked at start-up rather than met when a connection fails.

use crate::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of the process on open file descriptors to the number that the agent may need; logs a warning
/// if the hard limit is lower.
pub(super) fn ensure(config: &Config) {
    let rpc = config.gossip.as_ref().and_then(|gossip| gossip.rpc.as_ref());
    let rpc = rpc.map_or(0, |rpc| rpc.options.limits.connections);
    let needed = (config.http_limits.descriptors() + rpc) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let wanted = maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    let allowed = if raised.is_ok() { wanted } else { current.unwrap_or(wanted) };
    if allowed < needed {
        tracing::warn!(
            "{needed} file descriptors may be needed, and the system allows {allowed}: raise the hard limit (LimitNOFILE= of \
             systemd, ulimit -n), or lower --max-connections"
        );
    }
}
