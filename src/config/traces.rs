//! `[traces]`: where traces go, and how many. Whether this binary can send any is found out by whoever starts it.

use serde::{Deserialize, Serialize};
use url::Url;

use super::Bad;
use super::activation::switch;

/// Where traces go, and how many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Traces {
    /// The collector's address; without, there are no traces.
    pub endpoint: Option<String>,
    /// How many of the traces that begin here are kept, from 0 to 1.
    pub sample: f64,
    /// Whether the `traceparent` of requests counts.
    #[serde(deserialize_with = "switch")]
    pub trust_traceparent: bool,
}

impl Default for Traces {
    fn default() -> Self {
        Self { endpoint: None, sample: 0.01, trust_traceparent: false }
    }
}

impl Traces {
    pub(super) fn check(&self) -> Result<(), Bad> {
        let is_address = |text: &String| {
            Url::parse(text).is_ok_and(|url| {
                let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
                // Keys belong into OTEL_EXPORTER_OTLP_HEADERS: addresses are shown.
                is_http && url.username().is_empty() && url.password().is_none() && url.query().is_none()
            })
        };
        let endpoint = "must be an address such as http://collector:4318, without a password or parameters";
        Bad::unless(self.endpoint.as_ref().is_none_or(is_address), "traces.endpoint", endpoint)?;
        Bad::unless((0.0..=1.0).contains(&self.sample), "traces.sample", "must be from 0 to 1")
    }
}
