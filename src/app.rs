//! The wiring of `handoff serve`: from settings to running listeners, and down again.
//!
//! Decides nothing itself. Listeners and the stop signal are arguments, so that tests and the demo run the same relay.

mod activation;
mod parts;
mod sockets;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, web};
use futures_util::future::BoxFuture;
use metrics::{gauge, histogram};
use metrics_exporter_prometheus::PrometheusHandle;
use rand::RngExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::{error, info};

use self::activation::Activation;
pub(crate) use self::activation::migrate;
pub use self::parts::check_files;
use self::parts::{certificate, databases, directory, limits, open_policy};
pub use self::sockets::Listeners;
use self::sockets::prepare;
use crate::activation::http;
use crate::activation::keys::BadKeyFile;
use crate::activation::registry::RegistryError;
use crate::activation::sms::text::BadSmsTexts;
use crate::config::{ClientAddressHeader, Drain, Settings};
use crate::directory::redis::BadRedisSettings;
use crate::directory::{Directory, News};
use crate::edge::admission::{Admission, RateClock};
use crate::edge::client_addr::ForwardingHeader;
use crate::edge::network::{BadDatabase, NetworkTagger};
use crate::edge::routes::{self, Edge};
use crate::edge::server;
use crate::edge::tls::{self, BadCertificate, Certificate};
use crate::keyed_hash::HashKey;
use crate::relay::open_policy::BadJwks;
use crate::relay::{Clocks, Relay, news};
use crate::session;
use crate::session::node::NodeId;
use crate::session::route::Rules;
use crate::telemetry;

/// Time between sweeps of what has a limited life.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Time between two looks at how late the timers of a worker are.
const LAG_INTERVAL: Duration = Duration::from_millis(250);

/// Why the relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// A database file cannot be used.
    #[error(transparent)]
    Database(#[from] BadDatabase),
    /// The key file cannot be used.
    #[error(transparent)]
    Jwks(#[from] BadJwks),
    /// Tokens are asked for, and nothing is there to verify them with.
    #[error("open.policy = \"jwt\" needs open.jwks_file and open.audience")]
    NoKeys,
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// Redis cannot be what the settings say.
    #[error(transparent)]
    Redis(#[from] BadRedisSettings),
    /// A certificate authority cannot be read.
    #[error("redis.certificate_authority {} cannot be read", path.display())]
    CertificateAuthority {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A key of the registry cannot be used.
    #[error(transparent)]
    Keys(#[from] BadKeyFile),
    /// The registry cannot be opened.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The SMS cannot be written.
    #[error("sms.domain or sms.name cannot be used")]
    SmsTexts(#[from] BadSmsTexts),
    /// Another setting of the activation cannot be used.
    #[error("{0}")]
    Activation(&'static str),
    /// The server cannot start.
    #[error("the server cannot start")]
    Server(#[from] io::Error),
}

/// The way from and to the other nodes.
struct Others {
    /// Must run.
    work: BoxFuture<'static, ()>,
    news: mpsc::Receiver<News>,
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Others")
    }
}

/// A relay that is ready to run.
#[derive(Debug)]
pub struct Node {
    edge: web::Data<Edge>,
    directory: Arc<dyn Directory>,
    others: Option<Others>,
    drain: Drain,
    certificate: Option<Arc<Certificate>>,
    workers: usize,
    activation: Option<Activation>,
}

impl Node {
    /// Puts the parts together; reads keys, databases and certificates. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] with what cannot be used.
    pub fn new(settings: &Settings, metrics: PrometheusHandle) -> Result<Self, StartError> {
        let sessions = session::Settings {
            lifetime: settings.session.lifetime,
            intervals: settings.session.intervals(),
            refuse: settings.network.refuse,
        };
        let clocks = Clocks { monotonic, wall };
        let mut rng = rand::rng();
        let node = NodeId::from_random(rng.random());
        let rules = Rules { node, lifetime: sessions.lifetime, refuse: sessions.refuse };
        let (directory, others) = directory(settings, rules)?;
        let tag_key = HashKey::random(&mut rng);
        let relay = Relay::new(
            node,
            sessions,
            Arc::clone(&directory),
            open_policy(settings)?,
            settings.limits.sessions,
            tag_key,
            clocks,
        );
        let network = &settings.network;
        let databases = databases(settings)?;
        let network_key =
            network.tag_key.as_ref().map_or_else(|| HashKey::random(&mut rng), |key| HashKey::new(*key.expose()));
        gauge!(telemetry::SESSIONS_LIMIT).set(count(settings.limits.sessions));
        gauge!(telemetry::CONNECTIONS_LIMIT).set(count(settings.limits.connections));
        let edge = web::Data::new(Edge {
            relay,
            admission: Admission::new(limits(&settings.limits), RateClock::monotonic()),
            tagger: NetworkTagger::new(network_key, databases),
            forwarding_header: match settings.server.client_address_header {
                ClientAddressHeader::XForwardedFor => ForwardingHeader::XForwardedFor,
                ClientAddressHeader::Forwarded => ForwardingHeader::Forwarded,
            },
            trusted_proxies: settings.server.trusted_proxies.clone(),
            allowed_origins: settings.server.allowed_origins.clone(),
            metrics,
            is_secure: settings.server.tls_certificate.is_some() && settings.server.tls_key.is_some(),
            trust_traceparent: settings.traces.trust_traceparent,
            ready: AtomicBool::new(true),
        });
        let certificate = certificate(settings)?;
        let (drain, workers) = (settings.drain.clone(), settings.server.workers);
        Ok(Self { edge, directory, others, drain, certificate, workers, activation: None })
    }

    /// Serves activation beside the relay, if the settings say so: makes keys and tables that are not there yet.
    ///
    /// # Errors
    /// [`StartError`] with what cannot be used.
    pub async fn with_activation(mut self, settings: &Settings) -> Result<Self, StartError> {
        if settings.activation.enabled {
            self.activation = Some(Activation::open(settings, self.edge.clone()).await?);
        }
        Ok(self)
    }

    /// Runs until it is asked to stop, then sends every app elsewhere and ends.
    ///
    /// # Errors
    /// [`StartError`] if a listener cannot be served.
    pub async fn run(mut self, listeners: Listeners, mut stop: watch::Receiver<Stop>) -> Result<(), StartError> {
        let Listeners { public, metrics } = listeners;
        let operators = match metrics {
            Some(listener) => Some(self.serve_operators(listener)?),
            None => None,
        };
        let others = self.others.take();
        let server = self.serve(public, others, operators.is_none())?;
        let handles: Vec<ServerHandle> = operators.iter().chain([&server]).map(Server::handle).collect();
        for server in operators.into_iter().chain([server]) {
            drop(actix_web::rt::spawn(server));
        }
        tokio::select! {
            () = until(&mut stop, Stop::Drain) => {}
            () = self.upkeep() => {}
        }
        info!("draining");
        self.edge.ready.store(false, Ordering::Relaxed);
        if let Some(activation) = &self.activation {
            activation.drain();
        }
        tokio::select! {
            () = self.edge.relay.drain(self.drain.grace, self.drain.window) => {}
            () = until(&mut stop, Stop::AtOnce) => {}
            () = self.upkeep() => {}
        }
        info!("shutting down");
        self.edge.relay.shut_down().await;
        for handle in handles {
            handle.stop(true).await;
        }
        if let Some(activation) = &self.activation {
            activation.close().await;
        }
        Ok(())
    }

    /// Reads keys and certificates again when called; what cannot be read is reported, and the old ones stay.
    pub fn reloader(&self) -> impl Fn() + use<> {
        let edge = self.edge.clone();
        let certificate = self.certificate.clone();
        let activation = self.activation.as_ref().map(|activation| activation.http.clone());
        move || {
            report("keys", edge.relay.open_policy().reload());
            if let Some(http) = &activation {
                Activation::reload(http);
            }
            if let Some(certificate) = &certificate {
                report("certificate", certificate.reload());
            }
        }
    }

    fn serve(&self, listener: TcpListener, others: Option<Others>, with_operators: bool) -> Result<Server, StartError> {
        let edge = self.edge.clone();
        let activation = self.activation.as_ref().map(|activation| activation.http.clone());
        let app = move || {
            let app = App::new().app_data(edge.clone());
            #[cfg(feature = "otlp")]
            let app = app.wrap(actix_web::middleware::from_fn(crate::edge::spans::trace_request));
            let app = match &activation {
                Some(http) => app.configure(http::routes(http)),
                None => app,
            };
            let app = if with_operators { app.configure(routes::operators) } else { app };
            app.configure(routes::public)
        };
        let tls =
            self.certificate.as_ref().map(|certificate| tls::server_config(Arc::clone(certificate))).transpose()?;
        let relay = Arc::clone(&self.edge.relay);
        let others = Arc::new(Mutex::new(others));
        let on_worker = move || {
            drop(actix_web::rt::spawn(measure_lag()));
            // On the thread of sessions: each message from and to other nodes would wake another one else.
            if let Some(Others { work, news }) = others.lock().unwrap_or_else(PoisonError::into_inner).take() {
                drop(tokio::spawn(work));
                drop(tokio::spawn(news::follow(Arc::clone(&relay), news)));
            }
        };
        Ok(server::serve(listener, self.workers, tls, prepare, on_worker, app)?)
    }

    fn serve_operators(&self, listener: TcpListener) -> Result<Server, StartError> {
        let edge = self.edge.clone();
        let app = move || App::new().app_data(edge.clone()).configure(routes::operators).configure(routes::health);
        Ok(HttpServer::new(app).workers(1).shutdown_timeout(1).disable_signals().listen(listener)?.run())
    }

    async fn upkeep(&self) {
        let mut interval = actix_web::rt::time::interval(UPKEEP_INTERVAL);
        loop {
            interval.tick().await;
            self.directory.sweep();
            self.edge.admission.upkeep();
            // Histograms keep every sample until somebody looks.
            self.edge.metrics.run_upkeep();
        }
    }
}

/// How far a node is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    Not,
    /// Sessions get their time.
    Drain,
    /// No time for anybody.
    AtOnce,
}

/// Done when it has come so far, or when nobody can say any more.
async fn until(stop: &mut watch::Receiver<Stop>, stage: Stop) {
    stop.wait_for(|stop| *stop >= stage).await.ok();
}

async fn measure_lag() {
    let mut ticks = tokio::time::interval(LAG_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let lag = histogram!(telemetry::WORKER_LAG);
    loop {
        lag.record(ticks.tick().await.elapsed());
    }
}

/// Settings allow a few million at most, which a float holds exactly.
fn count(most: usize) -> f64 {
    u32::try_from(most).map_or(f64::INFINITY, f64::from)
}

/// Says whether something was read again.
pub(crate) fn report(what: &str, outcome: Result<(), impl fmt::Display>) {
    match outcome {
        Ok(()) => info!(what, "reloaded"),
        Err(problem) => error!(what, %problem, "not reloaded; the old one stays"),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where time enters")]
fn monotonic() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "this is where time enters")]
fn wall() -> SystemTime {
    SystemTime::now()
}
