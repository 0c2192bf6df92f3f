//! `[limits]`: how much a node takes, from everybody and from one address.

use serde::{Deserialize, Serialize};

use super::Bad;

/// File descriptors that a connection takes: its socket, and the duplicate that cuts it.
const FILES_PER_CONNECTION: u64 = 2;

/// File descriptors that the process needs besides: listeners, timers, logs, files that are read again.
const FILES_BESIDES: u64 = 100;

/// How much a node takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Sessions that may be open at once; more are refused, live ones never evicted.
    pub sessions: usize,
    /// Connections that may be open at once; a session has two.
    pub connections: usize,
    /// Connections of one address (an IPv4 address, an IPv6 /64).
    pub connections_per_address: usize,
    /// Sessions that one address may open a second, in the long run.
    pub opens_per_second_per_address: f64,
    /// And at once, after a rest.
    pub opens_burst_per_address: u32,
    /// Sessions that may be opened a second, in the long run.
    pub opens_per_second: f64,
    /// And at once, after a rest.
    pub opens_burst: u32,
    /// Connections that one address may try a second, in the long run.
    pub handshakes_per_second_per_address: f64,
    /// And at once, after a rest.
    pub handshakes_burst_per_address: u32,
}

impl Default for Limits {
    /// For a pod of 512 MiB. The values for one address leave room for a mobile carrier that puts thousands of
    /// subscribers behind it.
    fn default() -> Self {
        Self {
            sessions: 4000,
            connections: 9000,
            connections_per_address: 500,
            opens_per_second_per_address: 5.0,
            opens_burst_per_address: 50,
            opens_per_second: 200.0,
            opens_burst: 1000,
            handshakes_per_second_per_address: 20.0,
            handshakes_burst_per_address: 200,
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), Bad> {
        let counts = [
            ("limits.sessions", self.sessions, 1_000_000),
            ("limits.connections", self.connections, 4_000_000),
            ("limits.connections_per_address", self.connections_per_address, 4_000_000),
        ];
        for (key, count, most) in counts {
            Bad::unless((1..=most).contains(&count), key, format!("must be from 1 to {most}"))?;
        }
        let rates = [
            ("limits.opens_per_second_per_address", self.opens_per_second_per_address),
            ("limits.opens_per_second", self.opens_per_second),
            ("limits.handshakes_per_second_per_address", self.handshakes_per_second_per_address),
        ];
        for (key, rate) in rates {
            Bad::unless((0.001..=1e6).contains(&rate), key, "must be from 0.001 to 1000000")?;
        }
        let bursts = [
            ("limits.opens_burst_per_address", self.opens_burst_per_address),
            ("limits.opens_burst", self.opens_burst),
            ("limits.handshakes_burst_per_address", self.handshakes_burst_per_address),
        ];
        for (key, burst) in bursts {
            Bad::unless((1..=1_000_000).contains(&burst), key, "must be from 1 to 1000000")?;
        }
        Ok(())
    }

    pub(super) fn warnings(&self, open_files: Option<u64>) -> Vec<String> {
        let mut warnings = Vec::new();
        let connections = u64::try_from(self.connections).unwrap_or(u64::MAX);
        let needed = connections.saturating_mul(FILES_PER_CONNECTION).saturating_add(FILES_BESIDES);
        if let Some(open_files) = open_files.filter(|open_files| *open_files < needed) {
            warnings.push(format!(
                "limits.connections = {connections} needs {needed} open files, and this process may have {open_files}: \
                 raise that limit (ulimit -n, LimitNOFILE) or lower limits.connections and limits.sessions"
            ));
        }
        if self.connections < self.sessions.saturating_mul(2) {
            warnings.push(format!(
                "limits.connections = {} is less than two for each of limits.sessions = {}: not all of them can be joined",
                self.connections, self.sessions
            ));
        }
        warnings
    }
}
