//! Which Redis, and how to reach it.

use std::sync::Arc;
use std::time::Duration;

use redis::cluster::ClusterClient;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, TlsCertificates, TlsMode,
};
use zeroize::Zeroizing;

use super::push::Push;

/// How the Redis servers are arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// A master with replicas; the addresses are the sentinels'.
    Sentinel {
        /// The master's name.
        master: String,
    },
    /// Redis Cluster; the addresses are some of its nodes'.
    Cluster,
}

/// Which Redis, and how to reach it.
#[derive(Clone)]
pub struct Settings {
    /// `redis://host:port/db` or `rediss://host:port/db`; several for sentinels and clusters.
    pub urls: Vec<String>,
    /// How the servers are arranged.
    pub topology: Topology,
    /// The ACL user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Arc<Zeroizing<String>>>,
    /// The certificate authority of the servers, in PEM format, in place of the system's.
    pub certificate_authority: Option<Vec<u8>>,
    /// What all keys and channels begin with: relays that share a Redis have different ones.
    pub prefix: String,
    /// When a server that does not answer is given up.
    pub timeout: Duration,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("topology", &self.topology)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// The settings do not describe a Redis.
#[derive(Debug, thiserror::Error)]
#[error("redis.url cannot be used: {0}")]
pub struct BadRedisSettings(String);

/// How connections are made.
pub(super) enum Connector {
    Single(Client),
    Sentinel(tokio::sync::Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

impl Settings {
    /// Checks the settings; connects to nothing.
    pub(super) fn connector(&self, push: Push) -> Result<Connector, BadRedisSettings> {
        let infos = self.urls.iter().map(|url| self.info(url)).collect::<Result<Vec<_>, _>>()?;
        let connector = match &self.topology {
            Topology::Single => self.single(infos),
            Topology::Sentinel { master } => self.sentinel(&infos, master),
            Topology::Cluster => self.cluster(infos, push),
        };
        connector.map_err(bad)
    }

    fn single(&self, infos: Vec<ConnectionInfo>) -> Result<Connector, redis::RedisError> {
        let first = infos.into_iter().next();
        let info = first.ok_or((redis::ErrorKind::InvalidClientConfig, "there is no address"))?;
        let client = match self.certificates() {
            Some(certificates) => Client::build_with_tls(info, certificates),
            None => Client::open(info),
        };
        Ok(Connector::Single(client?))
    }

    fn sentinel(&self, infos: &[ConnectionInfo], master: &str) -> Result<Connector, redis::RedisError> {
        let addresses: Vec<ConnectionAddr> = infos.iter().map(|info| info.addr().clone()).collect();
        let is_tls = addresses.iter().any(|address| matches!(address, ConnectionAddr::TcpTls { .. }));
        let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
            .set_client_to_redis_protocol(ProtocolVersion::RESP3);
        if let Some(first) = infos.first() {
            builder = builder.set_client_to_redis_db(first.redis_settings().db());
        }
        if is_tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = self.certificates() {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        if let Some(username) = &self.username {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_redis_password(password.as_str());
        }
        Ok(Connector::Sentinel(tokio::sync::Mutex::new(builder.build()?)))
    }

    fn cluster(&self, infos: Vec<ConnectionInfo>, push: Push) -> Result<Connector, redis::RedisError> {
        let mut builder = ClusterClient::builder(infos)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(self.timeout)
            .response_timeout(self.timeout)
            .overall_response_timeout(Some(self.timeout))
            .push_sender(push);
        if let Some(certificates) = self.certificates() {
            builder = builder.certs(certificates);
        }
        Ok(Connector::Cluster(builder.build()?))
    }

    fn info(&self, url: &str) -> Result<ConnectionInfo, BadRedisSettings> {
        let info = url.into_connection_info().map_err(bad)?;
        // Its own name is of no use to Redis, and one permission more to ask for.
        let mut redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        if let Some(username) = &self.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password.as_str());
        }
        Ok(info.set_redis_settings(redis))
    }

    fn certificates(&self) -> Option<TlsCertificates> {
        let root_cert = self.certificate_authority.clone()?;
        Some(TlsCertificates { client_tls: None, root_cert: Some(root_cert) })
    }
}

/// The library's words; an address may hold a password, and they do not repeat it.
fn bad(error: impl Into<redis::RedisError>) -> BadRedisSettings {
    BadRedisSettings(error.into().to_string())
}
