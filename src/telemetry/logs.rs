//! Log lines: JSON for machines, text for people, to standard error.
//!
//! What may stand in a line is not decided here; nothing that could name or open a session, nor an address, ever may.

use std::fmt;
use std::io::{self, IsTerminal as _};

use serde::{Deserialize, Serialize};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// Modules of dependencies that log what clients sent, at levels that an operator may well enable. No filter can: nobody
/// knows what a header holds.
///
/// The decoder repeats the values of `Content-Length` and `Transfer-Encoding` that it refuses. What the WebSocket library
/// logs is not even compiled, see `log` in `Cargo.toml`. The dispatcher writes an error for every request that cannot be
/// read, so that any stranger could fill the log.
const NEVER_LOGGED: [&str; 3] = ["actix_http::h1::decoder", "actix_http::h1::dispatcher", "tungstenite"];

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people, coloured on a terminal.
    Text,
}

/// Logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be understood.
    #[error(transparent)]
    Filter(#[from] BadFilter),
    /// Something else logs already.
    #[error("the process logs already")]
    Running(#[source] TryInitError),
}

/// The text is not a log filter.
#[derive(Debug, thiserror::Error)]
pub enum BadFilter {
    /// A word that is neither a level nor `target=level`.
    #[error("{0:?} is not one of off, error, warn, info, debug and trace")]
    NotALevel(String),
    /// Something else.
    #[error("{0}")]
    Other(tracing_subscriber::filter::ParseError),
}

/// Checks a filter: levels by target, such as `info` or `warn,handoff_relay=debug`.
///
/// # Errors
/// [`BadFilter`] with what is wrong.
pub fn check_filter(filter: &str) -> Result<(), BadFilter> {
    parse_filter(filter).map(drop)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, BadFilter> {
    // A lone word that is no level would be taken for a target, and a typing error would silence everything else.
    let is_lone_word = |part: &&str| !part.contains(['=', '[', ']', '{', '}']);
    let words = filter.split(',').map(str::trim).filter(is_lone_word);
    if let Some(word) = words.into_iter().find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(BadFilter::NotALevel(word.to_owned()));
    }
    EnvFilter::builder().parse(filter).map_err(BadFilter::Other)
}

/// Changes what is logged while the process runs.
pub struct FilterSwitch(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

/// The filter stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum NotSwitched {
    /// The filter cannot be understood.
    #[error(transparent)]
    Filter(#[from] BadFilter),
    /// Nothing logs any more.
    #[error(transparent)]
    Gone(#[from] reload::Error),
}

impl FilterSwitch {
    /// From now on, what passes `filter` is logged.
    ///
    /// # Errors
    /// [`NotSwitched`]; then the old filter stays.
    pub fn set(&self, filter: &str) -> Result<(), NotSwitched> {
        Ok((self.0)(parse_filter(filter)?)?)
    }
}

impl fmt::Debug for FilterSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FilterSwitch")
    }
}

/// Starts logging to standard error, for the whole process.
///
/// # Errors
/// [`LogError`] if the filter is bad, or if logging was started before.
pub fn start(format: Format, filter: &str) -> Result<FilterSwitch, LogError> {
    let is_terminal = io::stderr().is_terminal();
    // https://no-color.org: set and not empty, whatever the value.
    let wants_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let filter = parse_filter(filter)?;
    let (subscriber, switch) = subscriber(format, filter, is_terminal, is_terminal && wants_colour, io::stderr);
    subscriber.try_init().map_err(LogError::Running)?;
    Ok(switch)
}

fn subscriber<W>(
    format: Format,
    filter: EnvFilter,
    is_terminal: bool,
    colour: bool,
    writer: W,
) -> (Box<dyn Subscriber + Send + Sync>, FilterSwitch)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let is_json = match format {
        Format::Auto => !is_terminal,
        Format::Json => true,
        Format::Text => false,
    };
    let harmless = filter_fn(is_harmless);
    if is_json {
        let builder = builder.json().flatten_event(true).with_current_span(false).with_filter_reloading();
        let handle = builder.reload_handle();
        let switch = FilterSwitch(Box::new(move |filter| handle.reload(filter)));
        (Box::new(builder.finish().with(harmless)), switch)
    } else {
        let builder = builder.with_ansi(colour).with_filter_reloading();
        let handle = builder.reload_handle();
        let switch = FilterSwitch(Box::new(move |filter| handle.reload(filter)));
        (Box::new(builder.finish().with(harmless)), switch)
    }
}

fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let is_in = |module: &str| {
        metadata.target().strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    !NEVER_LOGGED.iter().any(|module| is_in(module))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged at `format` with `filter`, on a terminal or not.
    fn logged(format: Format, filter: &str, is_terminal: bool) -> String {
        logged_after(format, filter, is_terminal, |_| ())
    }

    /// The same, after `change` had the switch.
    fn logged_after(format: Format, filter: &str, is_terminal: bool, change: impl FnOnce(&FilterSwitch)) -> String {
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = Sink::default();
        let writer = sink.clone();
        let filter = parse_filter(filter).unwrap();
        let (subscriber, switch) = subscriber(format, filter, is_terminal, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            change(&switch);
            let _session = tracing::info_span!("session", session = "0123456789abcdef").entered();
            tracing::info!(reason = "completed", "session ended");
            tracing::debug!("a detail");
            tracing::error!(target: "actix_http::h1::decoder", "illegal Content-Length: hunter2");
            tracing::error!(target: "actix_http::h1::dispatcher", "stream error: hunter2");
            tracing::error!(target: "actix_http::h1::decoders", "no such module");
        });
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_is_one_object_a_line_with_the_message_the_fields_and_the_spans() {
        let text = logged(Format::Json, "info,actix_http=off", true);
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "session ended");
        assert_eq!(line["reason"], "completed");
        assert_eq!(line["target"], "handoff_relay::telemetry::logs::tests");
        assert_eq!(line["spans"][0]["session"], "0123456789abcdef");
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn text_is_for_people_and_without_colour_where_none_is_wanted() {
        let text = logged(Format::Text, "info", false);
        assert!(text.contains(" INFO ") && text.contains("session ended reason=\"completed\""), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[test]
    fn auto_is_text_on_a_terminal_and_json_elsewhere() {
        assert!(logged(Format::Auto, "info", false).starts_with('{'));
        assert!(!logged(Format::Auto, "info", true).starts_with('{'));
    }

    #[test]
    fn the_filter_decides_what_is_logged() {
        assert!(!logged(Format::Text, "info", false).contains("a detail"));
        assert!(logged(Format::Text, "warn,handoff_relay=debug", false).contains("a detail"));
        assert_eq!(logged(Format::Text, "off", false), "");
    }

    #[test]
    fn the_filter_can_be_changed_while_the_process_runs() {
        for format in [Format::Json, Format::Text] {
            assert!(logged_after(format, "info", false, |switch| switch.set("debug").unwrap()).contains("a detail"));
            assert_eq!(logged_after(format, "debug", false, |switch| switch.set("off").unwrap()), "");
            let kept = |switch: &FilterSwitch| assert!(switch.set("inof").is_err());
            assert!(logged_after(format, "debug", false, kept).contains("a detail"), "a bad filter changes nothing");
            let loud = |switch: &FilterSwitch| switch.set("trace").unwrap();
            assert!(!logged_after(format, "info", false, loud).contains("hunter2"));
        }
    }

    #[test]
    fn no_filter_makes_a_dependency_log_what_clients_sent() {
        for filter in ["trace", "off,actix_http::h1::decoder=trace"] {
            assert!(!logged(Format::Text, filter, false).contains("hunter2"), "{filter}");
        }
        assert!(logged(Format::Text, "trace", false).contains("no such module"));
    }

    #[test]
    fn a_filter_that_cannot_be_understood_is_refused() {
        assert!(check_filter("info,actix=debug").is_ok());
        for bad in ["inof", "warn,loud", "handoff_relay=loud", "a=b=c"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
        let error = check_filter("inof").unwrap_err().to_string();
        assert_eq!(error, "\"inof\" is not one of off, error, warn, info, debug and trace");
    }
}
