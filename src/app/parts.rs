//! The parts of a node as the settings want them: sessions' directory, keys, certificates, databases, limits.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use rand::RngExt as _;

use super::activation::Activation;
use super::{Others, StartError, monotonic};
use crate::config::{OpenPolicy as Policy, RedisTopology, Settings};
use crate::directory::memory::MemoryDirectory;
use crate::directory::redis::{Environment, RedisDirectory, Topology};
use crate::directory::{self, Directory};
use crate::edge::admission::{Limits, Rate};
use crate::edge::network::Databases;
use crate::edge::tls::Certificate;
use crate::relay::open_policy::{JwtSettings, JwtVerifier, OpenPolicy};
use crate::session::route::Rules;

pub(super) fn directory(settings: &Settings, rules: Rules) -> Result<(Arc<dyn Directory>, Option<Others>), StartError> {
    if settings.redis.url.is_empty() {
        return Ok((Arc::new(MemoryDirectory::new(rules, monotonic)), None));
    }
    let redis = &settings.redis;
    let certificate_authority = certificate_authority(settings)?;
    let shared = directory::redis::Settings {
        urls: redis.url.clone(),
        topology: match (redis.topology, &redis.sentinel_master) {
            (RedisTopology::Sentinel, Some(master)) => Topology::Sentinel { master: master.clone() },
            (RedisTopology::Cluster, _) => Topology::Cluster,
            (RedisTopology::Single | RedisTopology::Sentinel, _) => Topology::Single,
        },
        username: redis.username.clone(),
        password: redis.password.as_ref().map(|password| Arc::new(password.expose().clone())),
        certificate_authority,
        prefix: redis.prefix.clone(),
        timeout: redis.timeout,
    };
    let environment = Environment {
        clock: monotonic,
        random: || rand::rng().random(),
        most_known: settings.limits.sessions.saturating_mul(2),
    };
    let (directory, work, news) = RedisDirectory::new(shared, rules, environment)?;
    Ok((directory, Some(Others { work: work.boxed(), news })))
}

/// Reads every file that the settings name, as a start would.
///
/// # Errors
/// [`StartError`] with what cannot be used.
pub fn check_files(settings: &Settings) -> Result<(), StartError> {
    open_policy(settings)?;
    databases(settings)?;
    certificate(settings)?;
    certificate_authority(settings)?;
    if settings.activation.enabled { Activation::check(settings) } else { Ok(()) }
}

pub(super) fn databases(settings: &Settings) -> Result<Databases, StartError> {
    let network = &settings.network;
    Ok(Databases::open(network.asn_database.as_deref(), network.country_database.as_deref())?)
}

pub(super) fn certificate(settings: &Settings) -> Result<Option<Arc<Certificate>>, StartError> {
    match (&settings.server.tls_certificate, &settings.server.tls_key) {
        (Some(chain), Some(key)) => Ok(Some(Certificate::load(chain, key)?)),
        _ => Ok(None),
    }
}

pub(super) fn certificate_authority(settings: &Settings) -> Result<Option<Vec<u8>>, StartError> {
    let Some(path) = &settings.redis.certificate_authority else { return Ok(None) };
    let unreadable = |source| StartError::CertificateAuthority { path: path.clone(), source };
    std::fs::read(path).map(Some).map_err(unreadable)
}

pub(super) fn open_policy(settings: &Settings) -> Result<OpenPolicy, StartError> {
    let open = &settings.open;
    if open.effective_policy() == Policy::Anyone {
        return Ok(OpenPolicy::Anyone);
    }
    let (Some(jwks_file), Some(audience)) = (&open.jwks_file, &open.audience) else {
        return Err(StartError::NoKeys);
    };
    let (jwks_file, audience, issuer) = (jwks_file.clone(), audience.clone(), open.issuer.clone());
    let verifier = JwtVerifier::load(JwtSettings { jwks_file, audience, issuer, leeway: open.leeway })?;
    Ok(OpenPolicy::Jwt(Box::new(verifier)))
}

pub(super) fn limits(limits: &crate::config::Limits) -> Limits {
    let rate = |per_second: f64, burst: u32| Rate {
        period: Duration::try_from_secs_f64(per_second.recip()).unwrap_or(Duration::MAX),
        burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
    };
    Limits {
        connections: limits.connections,
        connections_per_address: limits.connections_per_address,
        handshakes_per_address: rate(limits.handshakes_per_second_per_address, limits.handshakes_burst_per_address),
        opens_per_address: rate(limits.opens_per_second_per_address, limits.opens_burst_per_address),
        opens: rate(limits.opens_per_second, limits.opens_burst),
    }
}
