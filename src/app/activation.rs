//! The wiring of the activation: from settings to a service that handlers and upkeep share.

mod sms;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use metrics::counter;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};
use url::Url;

use crate::activation::grant::{EnrolmentKeys, EnrolmentSettings, EnrolmentVerifier};
use crate::activation::http::Http;
use crate::activation::https;
use crate::activation::keys::{self, Keys};
use crate::activation::notify::{Notifier, NotifySettings};
use crate::activation::registry::{Location, Migrated, Registry, RegistryError, Sealer};
use crate::activation::service::{Environment, Parts, Service, ServiceSettings};
use crate::activation::signature::SigningKey;
use crate::activation::sms::gateway::SmsGateway;
use crate::activation::sms::outbox::Outbox;
use crate::activation::sms::sender::{SenderSettings, SmsSender};
use crate::activation::sms::text::SmsTexts;
use crate::activation::temporary_pin::send_rules::{Limit, SendRules};
use crate::config::{Settings, Sms, SmsGateway as Gateway};
use crate::edge::routes::{Edge, client_address};
use crate::keyed_hash::HashKey;
use crate::telemetry;

use super::{StartError, wall};

/// Between sweeps of what is over.
const SWEEP_INTERVAL: Duration = Duration::from_mins(10);

/// How far behind the enrolment tokens' issuer this clock may be.
const LEEWAY: Duration = Duration::from_secs(30);

/// The database file in the data directory.
const FILE: &str = "registry.sqlite";

/// How often a node looks for what happened on others, and for what is to be tried again.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// After a look that failed.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Threads of the activation: signatures, the protocol of the PIN, the database. Never those of the relay, on which a
/// frame would wait for each of them.
const MOST_THREADS: usize = 4;

/// Everything of the activation that runs.
#[derive(Debug)]
pub(super) struct Activation {
    pub(super) http: web::Data<Http>,
    service: Arc<Service>,
    sms: Arc<SmsSender>,
    threads: Threads,
}

/// Threads that end, at the latest, with what they work for.
#[derive(Debug)]
struct Threads(Option<Runtime>);

impl Threads {
    fn start() -> std::io::Result<Self> {
        let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_THREADS);
        let threads =
            Builder::new_multi_thread().worker_threads(count).thread_name("activation").enable_all().build()?;
        Ok(Self(Some(threads)))
    }

    fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }

    /// Does something there.
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.handle()?.spawn(work).await.ok()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(threads) = self.0.take() {
            // Waiting is not allowed where this is dropped.
            threads.shutdown_background();
        }
    }
}

impl Activation {
    /// Reads or makes the keys, opens the registry, brings its tables up to date.
    pub(super) async fn open(settings: &Settings, edge: web::Data<Edge>) -> Result<Self, StartError> {
        let section = &settings.activation;
        let keys = Keys::load(&section.data_directory, &mut rand::rng())?;
        let threads = Threads::start()?;
        let broken = StartError::Activation("the threads of the activation cannot be started");
        let handle = threads.handle().cloned().ok_or(broken)?;
        let (location, sealer) = (location(settings)?, Sealer::new(&keys.registry, rand::random));
        let mark = mark(&keys);
        let opened = threads.run(async move { open_registry(&location, sealer, mark).await }).await;
        let (registry, _) = opened.ok_or(StartError::Activation("the registry cannot be opened"))??;
        let outbox = (settings.sms.gateway == Gateway::Outbox).then(|| Arc::new(Outbox::new(wall)));
        let gateways: Vec<Arc<dyn SmsGateway>> = match outbox.clone() {
            Some(outbox) => {
                warn!("SMS are not sent: they go to the development outbox (sms.gateway = \"outbox\")");
                vec![outbox]
            }
            None => sms::gateways(settings)?,
        };
        let sms = Arc::new(SmsSender::new(gateways, SenderSettings::default()));
        let parts = Parts {
            registry,
            pin_key: HashKey::new(keys.registry.hash("temporary PINs", b"")),
            enrolment: enrolment(settings)?,
            personal_pin: keys.personal_pin,
            sms: Arc::clone(&sms),
            notifier: notifier(settings)?,
            texts: texts(&settings.sms)?,
            environment: Environment { clock: Arc::new(wall), rng: rand::rng },
        };
        let service = Arc::new(Service::new(parts, service_settings(settings)));
        let public_url = section.public_url.as_deref().map(Url::parse).transpose();
        let address = move |request: &HttpRequest| -> Option<IpAddr> { client_address(request, &edge) };
        let http = web::Data::new(Http {
            service: Arc::clone(&service),
            admin_token: keys.admin_token,
            client_address: Arc::new(address),
            public_url: public_url.map_err(|_| StartError::Activation("activation.public_url is no address"))?,
            threads: handle.clone(),
            reports: sms::reports(settings)?,
            outbox,
        });
        drop(handle.spawn(sweep(Arc::clone(&service))));
        drop(handle.spawn(tell_webhook(Arc::clone(&service))));
        drop(handle.spawn(feed_streams(Arc::clone(&service))));
        info!(data_directory = %section.data_directory.display(), "activation is served");
        Ok(Self { http, service, sms, threads })
    }

    /// Whether these settings, and the files that they name, would do. Makes no keys and asks no database.
    pub(super) fn check(settings: &Settings) -> Result<(), StartError> {
        if settings.activation.enrolment_jwks_file.is_some() {
            enrolment(settings)?;
        }
        if settings.sms.gateway != Gateway::Outbox {
            sms::gateways(settings)?;
        }
        sms::reports(settings)?;
        notifier(settings)?;
        texts(&settings.sms).map(drop)
    }

    /// Sends the apps that listen for events to another node.
    pub(super) fn drain(&self) {
        self.service.end_streams();
    }

    /// Waits for SMS that are under way, and for transactions.
    pub(super) async fn close(&self) {
        let (service, sms) = (Arc::clone(&self.service), Arc::clone(&self.sms));
        self.threads
            .run(async move {
                sms.drain().await;
                service.registry().close().await;
            })
            .await;
    }

    /// Reads the keys of enrolment tokens again.
    pub(super) fn reload(http: &Http) {
        super::report("enrolment keys", http.service.reload());
    }
}

/// Deletes what is over, again and again.
async fn sweep(service: Arc<Service>) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        if let Err(problem) = service.sweep().await {
            counter!(telemetry::REGISTRY_ERRORS).increment(1);
            error!(%problem, "the registry cannot be swept; the next sweep is in ten minutes");
        }
    }
}

/// Brings events to the webhook, again and again.
async fn tell_webhook(service: Arc<Service>) {
    loop {
        match service.deliver_due().await {
            Ok(0) => drop(timeout(LOOK_INTERVAL, service.until_fresh()).await),
            Ok(_) => {}
            Err(problem) => {
                counter!(telemetry::REGISTRY_ERRORS).increment(1);
                warn!(%problem, "events cannot be delivered; they are kept");
                sleep(LOOK_PAUSE).await;
            }
        }
    }
}

/// Brings events to the apps that listen, again and again.
async fn feed_streams(service: Arc<Service>) {
    loop {
        drop(timeout(LOOK_INTERVAL, service.until_fresh()).await);
        if let Err(problem) = service.feed_streams().await {
            counter!(telemetry::REGISTRY_ERRORS).increment(1);
            warn!(%problem, "events cannot be read; apps hear of them later");
            sleep(LOOK_PAUSE).await;
        }
    }
}

fn location(settings: &Settings) -> Result<Location, StartError> {
    let section = &settings.activation;
    Ok(match &section.database_url {
        Some(url) => Location::Postgres { url: url.expose().clone(), connections: section.database_connections },
        None => Location::Sqlite(std::path::absolute(section.data_directory.join(FILE))?),
    })
}

/// The registry at this place, with its tables, and what was done to them.
async fn open_registry(
    location: &Location,
    sealer: Sealer,
    mark: [u8; 32],
) -> Result<(Registry, Vec<Migrated>), RegistryError> {
    let registry = Registry::open(location, sealer).await?;
    let done = registry.migrate().await?;
    registry.check_keys(&[("registry.key", mark)]).await?;
    Ok((registry, done))
}

/// Brings the registry's tables up to date, as a start would, and serves nothing.
///
/// # Errors
/// [`StartError`] with what cannot be used.
pub(crate) async fn migrate(settings: &Settings) -> Result<Vec<Migrated>, StartError> {
    let keys = Keys::load(&settings.activation.data_directory, &mut rand::rng())?;
    let sealer = Sealer::new(&keys.registry, rand::random);
    let (registry, done) = open_registry(&location(settings)?, sealer, mark(&keys)).await?;
    registry.close().await;
    Ok(done)
}

/// Stands for the keys that a registry is made with.
fn mark(keys: &Keys) -> [u8; 32] {
    // The setups of personal PINs may change: each record names its own.
    keys.registry.hash("key check", b"")
}

fn notifier(settings: &Settings) -> Result<Option<Arc<Notifier>>, StartError> {
    let section = &settings.activation;
    let (Some(address), Some(key)) = (&section.webhook_url, &section.webhook_key) else { return Ok(None) };
    let client = https::client(None).map_err(|_| StartError::Activation("the HTTP client cannot be built"))?;
    let settings = NotifySettings::new(address.clone(), SigningKey::new(*key.expose()));
    let notifier = Notifier::new(settings, client, wall);
    let bad = |_| StartError::Activation("activation.webhook_url must be https, or http to a loopback address");
    Ok(Some(Arc::new(notifier.map_err(bad)?)))
}

fn texts(sms: &Sms) -> Result<SmsTexts, StartError> {
    let hashes = sms.app_hashes.iter().map(|hash| hash.parse()).collect::<Result<_, _>>();
    let hashes = hashes.map_err(|_| StartError::Activation("sms.app_hashes must hold hashes of 11 characters"))?;
    Ok(SmsTexts::new(&sms.domain, &sms.name, hashes)?)
}

fn enrolment(settings: &Settings) -> Result<Option<EnrolmentVerifier>, StartError> {
    let section = &settings.activation;
    let keys = match section.enrolment_jwks_file.clone() {
        Some(file) => EnrolmentKeys::File(file),
        None if settings.takes_development_tokens() => {
            let key = keys::development_key(&section.data_directory, &mut rand::rng())?;
            warn!("enrolment tokens of the development key are taken (sms.gateway = \"outbox\", no proofing system)");
            EnrolmentKeys::Development(key.verifying_key())
        }
        None => return Ok(None),
    };
    let (audience, issuer) = (section.enrolment_audience.clone(), section.enrolment_issuer.clone());
    Ok(Some(EnrolmentVerifier::load(EnrolmentSettings { keys, audience, issuer, leeway: LEEWAY })?))
}

fn service_settings(settings: &Settings) -> ServiceSettings {
    let rules = SendRules::default();
    ServiceSettings {
        lifetime: settings.activation.lifetime,
        copy_wait: settings.activation.copy_wait,
        most_apps: settings.activation.most_apps,
        send_rules: SendRules {
            per_address: Limit { most: settings.sms.most_per_address, ..rules.per_address },
            in_all: Limit { most: settings.sms.most_in_all, ..rules.in_all },
            ..rules
        },
    }
}
