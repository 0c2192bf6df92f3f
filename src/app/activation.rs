//! The wiring of the activation: from settings to a service that handlers and upkeep share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, web};
use metrics::counter;
use tracing::{error, info, warn};
use url::Url;

use crate::activation::grant::{EnrolmentSettings, EnrolmentVerifier};
use crate::activation::http::Http;
use crate::activation::https;
use crate::activation::keys::Keys;
use crate::activation::notify::{Notifier, NotifySettings};
use crate::activation::registry::{Location, Registry, Sealer};
use crate::activation::service::{Environment, Parts, Service, ServiceSettings};
use crate::activation::signature::SigningKey;
use crate::activation::sms::gateway::SmsGateway;
use crate::activation::sms::http::{HttpGateway, HttpGatewaySettings};
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

/// Everything of the activation that runs.
#[derive(Debug)]
pub(super) struct Activation {
    pub(super) http: web::Data<Http>,
    service: Arc<Service>,
    sms: Arc<SmsSender>,
}

impl Activation {
    /// Reads or makes the keys, opens the registry, brings its tables up to date.
    pub(super) async fn open(settings: &Settings, edge: web::Data<Edge>) -> Result<Self, StartError> {
        let section = &settings.activation;
        let keys = Keys::load(&section.data_directory, &mut rand::rng())?;
        let registry = open_registry(settings, &keys).await?;
        let outbox = (settings.sms.gateway == Gateway::Outbox).then(|| Arc::new(Outbox::default()));
        let gateway: Arc<dyn SmsGateway> = match outbox.clone() {
            Some(outbox) => {
                warn!("SMS are not sent: they go to the development outbox (sms.gateway = \"outbox\")");
                outbox
            }
            None => http_gateway(&settings.sms)?,
        };
        let sms = Arc::new(SmsSender::new(vec![gateway], SenderSettings::default()));
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
            outbox,
        });
        info!(data_directory = %section.data_directory.display(), "activation is served");
        Ok(Self { http, service, sms })
    }

    /// Deletes what is over, again and again.
    pub(super) async fn upkeep(&self) {
        let mut interval = actix_web::rt::time::interval(SWEEP_INTERVAL);
        loop {
            interval.tick().await;
            if let Err(problem) = self.service.sweep().await {
                counter!(telemetry::REGISTRY_ERRORS).increment(1);
                error!(%problem, "the registry cannot be swept; the next sweep is in ten minutes");
            }
        }
    }

    /// Waits for SMS that are under way, and for transactions.
    pub(super) async fn close(&self) {
        self.sms.drain().await;
        self.service.registry().close().await;
    }

    /// Reads the keys of enrolment tokens again.
    pub(super) fn reload(http: &Http) {
        super::report("enrolment keys", http.service.reload());
    }
}

/// The registry of these settings, with its tables.
async fn open_registry(settings: &Settings, keys: &Keys) -> Result<Registry, StartError> {
    let section = &settings.activation;
    let location = match &section.database_url {
        Some(url) => Location::Postgres { url: url.expose().clone(), connections: section.database_connections },
        None => Location::Sqlite(std::path::absolute(section.data_directory.join(FILE))?),
    };
    let registry = Registry::open(&location, Sealer::new(&keys.registry, rand::random)).await?;
    registry.migrate().await?;
    // The setups of personal PINs may change: each record names its own.
    registry.check_keys(&[("registry.key", keys.registry.hash("key check", b""))]).await?;
    Ok(registry)
}

fn http_gateway(sms: &Sms) -> Result<Arc<dyn SmsGateway>, StartError> {
    let token = sms.token.as_ref().map(|token| token.expose().clone()).unwrap_or_default();
    let (account, sender) = (sms.account.as_deref().unwrap_or_default(), sms.sender.as_deref().unwrap_or_default());
    let settings = match sms.gateway {
        Gateway::Twilio => HttpGatewaySettings::twilio(account, &token, sender, None),
        Gateway::Gatewayapi | Gateway::Outbox => HttpGatewaySettings::gatewayapi(&token, sender, None),
    };
    let client = https::client(None).map_err(|_| StartError::Activation("the HTTP client cannot be built"))?;
    let gateway = HttpGateway::new(settings, client);
    Ok(Arc::new(gateway.map_err(|_| StartError::Activation("sms.token or sms.account cannot stand in a request"))?))
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
    let settings = section.enrolment_jwks_file.clone().map(|jwks_file| EnrolmentSettings {
        jwks_file,
        audience: section.enrolment_audience.clone(),
        issuer: section.enrolment_issuer.clone(),
        leeway: LEEWAY,
    });
    Ok(settings.map(EnrolmentVerifier::load).transpose()?)
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
