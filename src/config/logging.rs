//! `[log]`: what is logged, and how.

use serde::{Deserialize, Serialize};

use super::Bad;
use crate::telemetry::logs::{Format, check_filter};

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How lines look.
    pub format: Format,
    /// Which lines there are.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Auto, filter: "info,actix_server=warn,sqlx=warn".to_owned() }
    }
}

impl Log {
    pub(super) fn check(&self) -> Result<(), Bad> {
        check_filter(&self.filter).map_err(|error| Bad::new("log.filter", error.to_string()))
    }
}
