//! Nodes that are one relay: started together on ports that stay theirs, taken down one by one, started again.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU8;

use handoff_relay::client::{RelayList, RelayUrl};
use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use rustix::process::Signal;

use crate::support::eventually;
use crate::support::messages::Transfer;
use crate::support::party::Party;
use crate::support::redis_server::cluster::Cluster;
use crate::support::redis_server::process::RedisProcess;
use crate::support::redis_server::sentinel::Sentinels;
use crate::support::relay::{Metrics, NO_LIMITS, Relay};
use crate::support::socket::get;

/// Below the ports that the system hands out by itself, so that a node that comes back finds its own free; above those
/// of the Redis servers.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The number of the relay in the apps' lists.
pub(crate) const RELAY: NonZeroU8 = NonZeroU8::MIN;

/// One relay of several nodes.
#[derive(Debug)]
pub(crate) struct Group {
    nodes: Vec<Option<Relay>>,
    addresses: Vec<SocketAddr>,
    settings: Vec<String>,
}

impl Group {
    /// Nodes that share one Redis under a prefix.
    pub(crate) async fn on_redis(count: usize, redis: &RedisProcess, prefix: &str) -> Self {
        Self::start(count, &[&url(&redis.url()), &format!("redis.prefix={prefix}")]).await
    }

    /// Nodes that reach their Redis by another address.
    pub(crate) async fn through(count: usize, redis: SocketAddr, prefix: &str) -> Self {
        Self::start(count, &[&url(&format!("redis://{redis}")), &format!("redis.prefix={prefix}")]).await
    }

    /// Nodes that ask sentinels for their Redis.
    pub(crate) async fn on_sentinels(count: usize, sentinels: &Sentinels) -> Self {
        let master = format!("redis.sentinel_master={}", Sentinels::MASTER_NAME);
        Self::start(count, &[&url(&sentinels.urls().join(",")), "redis.topology=sentinel", &master]).await
    }

    /// Nodes that share a Redis Cluster.
    pub(crate) async fn on_cluster(count: usize, cluster: &Cluster) -> Self {
        Self::start(count, &[&url(&cluster.urls().join(",")), "redis.topology=cluster"]).await
    }

    /// Nodes with these settings besides; returns when all take connections.
    pub(crate) async fn start(count: usize, settings: &[&str]) -> Self {
        let settings = NO_LIMITS.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
        let mut group = Self { nodes: Vec::new(), addresses: Vec::new(), settings };
        for _ in 0..count {
            let node = group.spawn(None).await;
            group.addresses.push(node.address());
            group.nodes.push(Some(node));
        }
        group.until_settled().await;
        group.until_sum("handoff_connections", 0.0).await;
        group
    }

    /// Starts a process, without keeping the test's own runtime from its work.
    async fn spawn(&self, address: Option<SocketAddr>) -> Relay {
        let settings = self.settings.clone();
        let start = move || {
            let start_at = |address: SocketAddr| {
                let listen = format!("server.listen={address}");
                let settings: Vec<&str> = settings.iter().map(String::as_str).chain([listen.as_str()]).collect();
                Relay::try_start(&settings)
            };
            // Somebody else may take an address between finding it free and listening there.
            let any = || (0..8).find_map(|_| start_at(free_address()).ok());
            address.map_or_else(any, |address| start_at(address).ok()).expect("the node starts")
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    pub(crate) fn node(&self, index: usize) -> &Relay {
        self.nodes[index].as_ref().expect("the node runs")
    }

    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    /// The nodes that run.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Relay> {
        self.nodes.iter().flatten()
    }

    /// Every node, with this one first: a phone that happens to try it first.
    pub(crate) fn relays(&self, first: usize) -> RelayList {
        let count = self.addresses.len();
        let addresses = (0..count).map(|offset| self.addresses[(first + offset) % count]);
        let urls = addresses.map(|address| RelayUrl::parse(&format!("ws://{address}")).unwrap());
        urls.fold(RelayList::new(), |list, url| list.with(RELAY, url))
    }

    /// Takes a node out, to be watched to its end.
    pub(crate) fn take(&mut self, index: usize) -> Relay {
        self.nodes[index].take().expect("the node runs")
    }

    /// Starts a node again, on its own port; returns when it takes connections.
    pub(crate) async fn start_again(&mut self, index: usize) {
        self.nodes[index] = Some(self.spawn(Some(self.addresses[index])).await);
        until_ready(self.address(index)).await;
    }

    pub(crate) fn freeze(&self, index: usize) {
        self.node(index).signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self, index: usize) {
        self.node(index).signal(Signal::CONT);
    }

    /// Waits until every node takes connections.
    pub(crate) async fn until_ready(&self) {
        for address in &self.addresses {
            until_ready(*address).await;
        }
    }

    /// Waits until every node also believes its Redis that a session does not exist: not at once after Redis came up
    /// empty, since other nodes may be about to put back what it has lost.
    pub(crate) async fn until_settled(&self) {
        self.until_ready().await;
        for address in &self.addresses {
            let stranger = Transfer::usual();
            let ask = async || {
                let mut party = Party::connect(*address, &stranger.session, Role::New, &stranger.join(0)).await;
                party.socket.until_end().await
            };
            eventually("settled", ask, |ending| ending.is(CloseReason::UnknownSession)).await;
        }
    }

    /// Waits until every node refuses connections, or takes them.
    pub(crate) async fn until_status(&self, status: u16) {
        for address in &self.addresses {
            until_status(*address, status).await;
        }
    }

    /// The metrics of all nodes that run.
    pub(crate) async fn metrics(&self) -> Vec<Metrics> {
        let mut all = Vec::new();
        for node in self.nodes() {
            all.push(node.metrics().await);
        }
        all
    }

    /// A metric over all nodes that run.
    pub(crate) async fn sum(&self, metric: &str) -> f64 {
        self.metrics().await.iter().map(|metrics| metrics.sum(metric)).sum()
    }

    /// Waits until a metric has come to this, over all nodes.
    pub(crate) async fn until_sum(&self, metric: &str, wanted: f64) {
        eventually(metric, async || self.sum(metric).await, |sum| (sum - wanted).abs() < 0.5).await;
    }

    /// Waits until so many sessions are in the middle.
    pub(crate) async fn until_busy(&self, sessions: f64) {
        let ask = async || self.sum("handoff_sessions{state=\"joined\"}").await;
        eventually("sessions", ask, |joined| *joined >= sessions).await;
    }

    /// Waits until nothing is left of any session, and checks that nobody has panicked.
    pub(crate) async fn until_quiet(&self) {
        self.until_sum("handoff_connections", 0.0).await;
        self.until_sum("handoff_sessions", 0.0).await;
        for node in self.nodes() {
            assert!(!node.log().contains("panicked"), "{}", node.log());
        }
    }
}

/// The setting for where Redis is.
pub(crate) fn url(urls: &str) -> String {
    format!("redis.url={urls}")
}

fn free_address() -> SocketAddr {
    let any = || SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(PORTS)));
    std::iter::repeat_with(any).find(|address| TcpListener::bind(address).is_ok()).unwrap()
}

pub(crate) async fn until_ready(address: SocketAddr) {
    until_status(address, 200).await;
}

pub(crate) async fn until_status(address: SocketAddr, status: u16) {
    let ask = async || get(address, "/readyz").await.status;
    eventually("readiness", ask, |answer| *answer == status).await;
}
