//! A master, two replicas, and three sentinels that make another one master.

use std::net::SocketAddr;

use redis::{Client, FromRedisValue};

use super::process::{RedisProcess, folder};
use super::{command, until, until_meanwhile};

/// Replicas, apart from the master.
const REPLICAS: usize = 2;
const SENTINELS: usize = 3;

/// Servers that sentinels watch.
#[derive(Debug)]
pub(crate) struct Sentinels {
    servers: Vec<RedisProcess>,
    sentinels: Vec<RedisProcess>,
}

impl Sentinels {
    /// What the sentinels call the master.
    pub(crate) const MASTER_NAME: &str = "handoff";

    /// Starts all and waits until a master that fails would be replaced. A master is down after a second.
    pub(crate) fn start() -> Self {
        let master = RedisProcess::start(&[]);
        let port = master.port().to_string();
        let mut servers = vec![master];
        servers.extend((0..REPLICAS).map(|_| RedisProcess::start(&["--replicaof", "127.0.0.1", &port])));
        for replica in servers.iter().skip(1) {
            until("a replica is in step", || {
                says(&replica.command::<String>(&["INFO", "replication"]), "master_link_status:up")
            });
        }
        let sentinels: Vec<RedisProcess> = (0..SENTINELS).map(|_| sentinel(&port)).collect();
        for sentinel in &sentinels {
            until("a sentinel knows all", || knows_all(&sentinel.command::<String>(&["INFO", "sentinel"])));
        }
        Self { servers, sentinels }
    }

    /// Where the sentinels are asked.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisProcess::url).collect()
    }

    /// The sentinels, to trouble them.
    pub(crate) fn sentinels(&mut self) -> &mut [RedisProcess] {
        &mut self.sentinels
    }

    /// The server that the sentinels call master.
    pub(crate) fn master(&mut self) -> &mut RedisProcess {
        let address = Self::ask(&self.sentinels.first().unwrap().url()).unwrap();
        self.servers.iter_mut().find(|server| server.address() == address).unwrap()
    }

    /// Makes a replica master in good order; returns when all sentinels name it, with its address.
    pub(crate) async fn fail_over(&mut self) -> SocketAddr {
        let old = self.master().address();
        let sentinel = self.sentinels.first().unwrap();
        sentinel.command::<()>(&["SENTINEL", "FAILOVER", Self::MASTER_NAME]);
        self.until_other_master(old).await
    }

    /// Kills the master; returns when all sentinels name another one, with its address.
    pub(crate) async fn kill_master(&mut self) -> SocketAddr {
        let master = self.master();
        master.stop();
        let old = master.address();
        self.until_other_master(old).await
    }

    /// Returns when all sentinels name the same master, and it is another one.
    pub(crate) async fn until_other_master(&self, old: SocketAddr) -> SocketAddr {
        let urls = self.urls();
        until_meanwhile("another master", move || {
            let named = urls.iter().map(|url| Self::ask(url)).collect::<Result<Vec<_>, _>>()?;
            let new = *named.first().unwrap();
            if new == old || named.iter().any(|address| *address != new) {
                return Err(format!("the sentinels name {named:?}"));
            }
            says(&answer::<String>(&format!("redis://{new}/"), &["INFO", "replication"])?, "role:master").map(|()| new)
        })
        .await
    }

    /// Whom a sentinel tells clients of that ask for all masters. The one that leads a failover says so last: until then
    /// it sends them to the old master, which may still accept what will be lost.
    fn ask(sentinel: &str) -> Result<SocketAddr, String> {
        let info: String = answer(sentinel, &["INFO", "sentinel"])?;
        let address = info.split_once("address=").and_then(|(_, rest)| rest.split(',').next());
        address.and_then(|address| address.parse().ok()).ok_or(info)
    }
}

/// A sentinel of the master at this port. It writes its configuration again and again: that is why it has a file.
fn sentinel(port: &str) -> RedisProcess {
    let (folder, name) = (folder(), Sentinels::MASTER_NAME);
    let config = format!(
        "sentinel monitor {name} 127.0.0.1 {port} 2\nsentinel down-after-milliseconds {name} 1000\n\
         sentinel failover-timeout {name} 4000\nsentinel parallel-syncs {name} 1\n"
    );
    std::fs::write(folder.path().join("redis.conf"), config).unwrap();
    RedisProcess::start_in(folder, &["--sentinel"])
}

fn knows_all(info: &str) -> Result<(), String> {
    says(info, "status=ok,address=").and(says(info, &format!("slaves={REPLICAS},sentinels={SENTINELS}")))
}

fn says(info: &str, wanted: &str) -> Result<(), String> {
    if info.contains(wanted) { Ok(()) } else { Err(format!("no {wanted} in {info}")) }
}

fn answer<T: FromRedisValue>(url: &str, words: &[&str]) -> Result<T, String> {
    command(&Client::open(url).unwrap(), words).map_err(|problem| problem.to_string())
}
