//! `traceparent` of W3C Trace Context, version 00: which span of which trace something belongs to. Not the spans.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize as _, Deserializer, Serialize, Serializer};

/// Which span of which trace something belongs to. Random numbers: they say nothing of a session or a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: [u8; 16],
    span: [u8; 8],
    is_sampled: bool,
}

/// The text is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent of version 00")]
pub struct BadTraceParent;

impl TraceParent {
    /// Neither number may be zero.
    ///
    /// # Errors
    /// [`BadTraceParent`] if one is.
    pub fn new(trace: [u8; 16], span: [u8; 8], is_sampled: bool) -> Result<Self, BadTraceParent> {
        let is_valid = trace != [0; 16] && span != [0; 8];
        is_valid.then_some(Self { trace, span, is_sampled }).ok_or(BadTraceParent)
    }

    /// The trace.
    #[must_use]
    pub fn trace(self) -> [u8; 16] {
        self.trace
    }

    /// The span in it.
    #[must_use]
    pub fn span(self) -> [u8; 8] {
        self.span
    }

    /// Whether the trace is kept.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.is_sampled
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace), u64::from_be_bytes(self.span));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(self.is_sampled))
    }
}

impl FromStr for TraceParent {
    type Err = BadTraceParent;

    fn from_str(text: &str) -> Result<Self, BadTraceParent> {
        // Digits and small letters only: the parsers below would also take signs and capitals.
        let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let mut parts = text.split('-');
        let mut part = |len: usize| parts.next().filter(|part| part.len() == len && is_hex(part)).ok_or(BadTraceParent);
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version != "00" || parts.next().is_some() {
            return Err(BadTraceParent);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| BadTraceParent)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| BadTraceParent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| BadTraceParent)?;
        Self::new(trace.to_be_bytes(), span.to_be_bytes(), flags & 1 == 1)
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads one where there may be none. One that cannot be read, of a newer version, is as good as none: what is traced
/// must not break because its trace does.
///
/// # Errors
/// Only where a text or nothing should stand.
pub fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TraceParent>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn it_is_written_as_it_was_read() {
        let parsed: TraceParent = EXAMPLE.parse().unwrap();
        assert_eq!(parsed.to_string(), EXAMPLE);
        assert_eq!((parsed.span(), parsed.is_sampled()), (0xb7ad_6b71_6920_3331_u64.to_be_bytes(), true));
        let json = serde_json::to_string(&parsed).unwrap();
        let read = |json: &str| lenient(&mut serde_json::Deserializer::from_str(json)).unwrap();
        assert_eq!(read(&json), Some(parsed));
        assert_eq!([read("null"), read(&json.replacen("00", "01", 1))], [None, None]);
        assert!(!EXAMPLE.replace("-01", "-02").parse::<TraceParent>().unwrap().is_sampled());
    }

    #[test]
    fn anything_else_is_refused() {
        let zeros = "0".repeat(32);
        let bad = [
            String::new(),
            EXAMPLE.to_uppercase(),
            format!("{EXAMPLE}-00"),
            EXAMPLE.replacen("00", "01", 1),
            EXAMPLE.replace("0af7651916cd43dd8448eb211c80319c", &zeros),
            EXAMPLE.replace("b7ad6b7169203331", "0000000000000000"),
            EXAMPLE.replace("b7ad6b7169203331", "+7ad6b7169203331"),
            EXAMPLE.replace('-', ""),
        ];
        for text in bad {
            assert_eq!(text.parse::<TraceParent>(), Err(BadTraceParent), "{text}");
        }
    }
}
