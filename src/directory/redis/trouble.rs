//! What can go wrong with Redis, and what it is called in the metrics.

use redis::{RedisError, ServerErrorKind};

use super::record::BadRecord;

/// Why a transition was not made, or a connection given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error(transparent)]
    Record(#[from] BadRecord),
    #[error("Redis is not reached")]
    Away,
    #[error("Redis does not answer in time")]
    Silent,
    #[error("Redis has lost records, and other nodes may not have put theirs back yet")]
    Settling,
    #[error("too many nodes change one record at once")]
    Contention,
    #[error("Redis {0} is too old: 7.0 or newer is needed, for sharded channels")]
    TooOld(String),
    #[error("Redis delivers nothing to this node's inbox")]
    Deaf,
}

impl Trouble {
    /// The label of the metric.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Redis(error) if error.is_timeout() => "timeout",
            Self::Redis(error) if error.code() == Some("OOM") => "out_of_memory",
            Self::Redis(error) if is_read_only(error) => "read_only",
            Self::Redis(error) if error.is_io_error() || error.is_connection_dropped() => "unreachable",
            Self::Silent => "timeout",
            Self::Record(_) => "bad_record",
            Self::Away | Self::Settling => "unreachable",
            Self::Redis(_) | Self::Contention | Self::TooOld(_) | Self::Deaf => "refused",
        }
    }

    /// Whether a new connection may mend it.
    pub(super) fn is_suspicious(&self) -> bool {
        match self {
            Self::Redis(error) => error.is_unrecoverable_error() || error.is_timeout() || is_read_only(error),
            Self::Silent | Self::Deaf => true,
            Self::Record(_) | Self::Away | Self::Settling | Self::Contention | Self::TooOld(_) => false,
        }
    }

    /// Whether whoever looks after the connection does not notice: then somebody else has to say it.
    pub(super) fn is_unseen(&self) -> bool {
        matches!(self.reason(), "refused" | "bad_record")
    }

    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Redis(error) if error.code() == Some("OOM"))
    }
}

/// Whether the server was a master once.
fn is_read_only(error: &RedisError) -> bool {
    error.kind() == ServerErrorKind::ReadOnly.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io;

    use redis::ErrorKind;

    use super::*;
    use crate::telemetry::REDIS_ERRORS_KNOWN;

    fn said(line: &str) -> Trouble {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        Trouble::Redis(value.extract_error().unwrap_err())
    }

    #[test]
    fn every_trouble_has_a_reason_that_operators_know() {
        let io = |kind: io::ErrorKind| Trouble::Redis(io::Error::from(kind).into());
        let reasons = [
            (io(io::ErrorKind::TimedOut), "timeout"),
            (io(io::ErrorKind::ConnectionRefused), "unreachable"),
            (io(io::ErrorKind::BrokenPipe), "unreachable"),
            (said("OOM command not allowed when used memory > 'maxmemory'."), "out_of_memory"),
            (said("READONLY You can't write against a read only replica."), "read_only"),
            (said("NOPERM this user has no permissions to run the 'eval' command"), "refused"),
            (said("LOADING Redis is loading the dataset in memory"), "refused"),
            (Trouble::Redis((ErrorKind::AuthenticationFailed, "no").into()), "refused"),
            (Trouble::Record(BadRecord), "bad_record"),
            (Trouble::Away, "unreachable"),
            (Trouble::Silent, "timeout"),
            (Trouble::Settling, "unreachable"),
            (Trouble::Contention, "refused"),
            (Trouble::TooOld("6.2.0".to_owned()), "refused"),
            (Trouble::Deaf, "refused"),
        ];
        let mut found = BTreeSet::new();
        for (trouble, reason) in reasons {
            assert_eq!(trouble.reason(), reason, "{trouble}");
            found.insert(reason);
        }
        assert_eq!(found, REDIS_ERRORS_KNOWN.iter().copied().collect());
    }
}
