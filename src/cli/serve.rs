//! `handoff serve`: the relay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::SystemTime;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::exit::{Exit, Failure};
use super::output::Output;
use crate::app::{self, Listeners, Node, Stop};
use crate::config::{Args, ConfigError, Loaded, Settings};
use crate::protocol::limits::SESSION_LIFETIME;
use crate::telemetry;
use crate::telemetry::logs::FilterSwitch;
use crate::telemetry::trace;

/// Run the relay (what runs without a command)
///
/// Settings come from flags, then environment variables (`HANDOFF_SECTION__KEY`), then the file, then defaults.
/// SIGTERM lets sessions finish or sends them to other nodes (`drain.grace`, `drain.window`), a second one and Ctrl-C
/// end it at once, SIGHUP makes it read keys, certificates and `log.filter` again. With `--redis-url` any number of nodes are one relay.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  handoff serve
  handoff serve --listen 0.0.0.0:8443 --open-policy jwt --jwks-file keys.json --audience handoff
  handoff serve --redis-url redis://redis.internal:6379 --set drain.window=20s
  HANDOFF_SESSION__LIFETIME=120s handoff serve --print-config")]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Args,

    /// Print the effective settings and where they come from, and exit
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    pub(super) fn run(self, output: Output) -> Result<Exit, Failure> {
        let refused = |problem: ConfigError| Failure { exit: Exit::Config, problem: problem.into() };
        let loaded = Loaded::load(&self.settings, std::env::vars_os()).map_err(refused)?;
        if self.print_config {
            Output::raw(loaded.print_config().trim_end());
            return Ok(Exit::Success);
        }
        start(self.settings, &loaded, output).map_err(|problem| Failure { exit: Exit::CannotRun, problem })?;
        Ok(Exit::Success)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where time enters")]
fn start(args: Args, loaded: &Loaded, output: Output) -> anyhow::Result<()> {
    let settings = &loaded.settings;
    let log_filter = telemetry::logs::start(settings.log.format, &settings.log.filter)?;
    let metrics = telemetry::install_metrics(SystemTime::now())?;
    raise_open_files();
    for warning in loaded.warnings(telemetry::max_open_files()) {
        tracing::warn!("{warning}");
    }
    actix_web::rt::System::new().block_on(async {
        // Before anything is announced, so that no signal is missed.
        let signals = Signals::install()?;
        let traces = start_traces(settings)?;
        let listeners = Listeners::bind(settings)?;
        let node = Node::new(settings, metrics)?.with_activation(settings).await?;
        announce(&listeners, settings, output)?;
        let stop = watch::Sender::new(Stop::Not);
        let stopping = stop.subscribe();
        let reload_node = node.reloader();
        let reload = move || {
            reload_node();
            app::report("log filter", reload_filter(&args, &log_filter));
        };
        drop(actix_web::rt::spawn(signals.follow(stop, reload)));
        let end = node.run(listeners, stopping).await;
        if let Some(traces) = traces {
            traces.shut_down().await;
        }
        end?;
        Ok(())
    })
}

fn start_traces(settings: &Settings) -> anyhow::Result<Option<trace::Exporter>> {
    let Some(endpoint) = &settings.traces.endpoint else { return Ok(None) };
    let instance = uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string();
    let traces = trace::Settings { endpoint: endpoint.clone(), sample: settings.traces.sample, instance };
    Ok(Some(trace::start(&traces)?))
}

/// Takes `log.filter` from where the settings come from; of the other settings, none changes while the relay runs.
fn reload_filter(args: &Args, filter: &FilterSwitch) -> anyhow::Result<()> {
    let loaded = Loaded::load(args, std::env::vars_os())?;
    Ok(filter.set(&loaded.settings.log.filter)?)
}

/// A shell's soft limit is often 1,024, and the hard one, which every process may take, far above.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(problem) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%problem, "the limit of open files stays as it is");
    }
}

fn announce(listeners: &Listeners, settings: &Settings, output: Output) -> anyhow::Result<()> {
    let address = listeners.address()?;
    let metrics = listeners.metrics_address()?;
    let tls = settings.server.tls_certificate.is_some();
    let scheme = if tls { "wss" } else { "ws" };
    // What is listened on everywhere is tried here: an app takes `ws://` to a loopback address only.
    let loopback: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let is_everywhere = address.ip().is_unspecified();
    let near = SocketAddr::new(if is_everywhere { loopback } else { address.ip() }, address.port());
    let is_default = !tls && near == SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    let relay = if is_default { String::new() } else { format!(" --relay {scheme}://{near}") };
    let lifetime = settings.session.lifetime;
    let lifetime =
        if lifetime == SESSION_LIFETIME { String::new() } else { format!(" --lifetime {}", lifetime.as_secs()) };
    let text = format!(
        "The relay listens on {scheme}://{address}. Try it in two more terminals:\n\n  \
         handoff old --credential README.md --qr-out qr.png{relay}{lifetime}\n  \
         handoff new --qr-image qr.png --out received.md{relay}\n\n\
         Or everything in one: handoff demo\n"
    );
    output.say(&text, &json!({"event": "listening", "address": address, "metrics_address": metrics, "tls": tls}));
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Passes on what is asked for: SIGTERM gives sessions their time, a second one does not, and neither does Ctrl-C.
    async fn follow(mut self, stop: watch::Sender<Stop>, reload: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => stop.send_modify(|stop| {
                    *stop = if *stop == Stop::Not { Stop::Drain } else { Stop::AtOnce };
                }),
                _ = self.interrupt.recv() => { stop.send_replace(Stop::AtOnce); }
                _ = self.hangup.recv() => reload(),
            }
        }
    }
}
