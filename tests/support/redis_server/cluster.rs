//! A Redis Cluster of three masters, which share the 16,384 slots.

use redis::Client;

use super::process::RedisProcess;
use super::{command, until, until_meanwhile};

/// The first and the last slot of each master.
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

/// A cluster that is whole to begin with.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<RedisProcess>,
}

impl Cluster {
    /// Starts all nodes and waits until each of them knows all.
    pub(crate) fn start() -> Self {
        let options =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-announce-ip", "127.0.0.1"];
        let nodes: Vec<RedisProcess> = SLOTS.iter().map(|_| RedisProcess::start(&options)).collect();
        let first = nodes.first().unwrap().port().to_string();
        for (epoch, (node, (from, to))) in (1..).zip(nodes.iter().zip(SLOTS)) {
            let epoch: u64 = epoch;
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch.to_string()]);
            node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", from, to]);
            node.command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first]);
        }
        let cluster = Self { nodes };
        let urls = cluster.urls();
        until("the cluster is whole", || is_whole(&urls));
        cluster
    }

    /// How clients reach the nodes.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisProcess::url).collect()
    }

    /// The masters, to trouble them.
    pub(crate) fn nodes(&mut self) -> &mut [RedisProcess] {
        &mut self.nodes
    }

    /// The master that has a key or a sharded channel.
    pub(crate) fn node_of(&mut self, key: &str) -> &mut RedisProcess {
        let slot: u16 = self.nodes.iter().find_map(|node| node.try_command(&["CLUSTER", "KEYSLOT", key]).ok()).unwrap();
        let has = |(_, to): &(&str, &str)| slot <= to.parse::<u16>().unwrap();
        self.nodes.iter_mut().zip(SLOTS).find(|(_, slots)| has(slots)).unwrap().0
    }

    /// Returns when all nodes run, know each other, and have all slots.
    pub(crate) async fn until_whole(&self) {
        let urls = self.urls();
        until_meanwhile("the cluster is whole", move || is_whole(&urls)).await;
    }
}

fn is_whole(urls: &[String]) -> Result<(), String> {
    let wanted = ["cluster_state:ok", "cluster_slots_ok:16384", "cluster_known_nodes:3", "cluster_size:3"];
    for url in urls {
        let info = command::<String>(&Client::open(url.as_str()).unwrap(), &["CLUSTER", "INFO"]);
        let info = info.map_err(|problem| problem.to_string())?;
        if let Some(missing) = wanted.iter().find(|wanted| !info.contains(**wanted)) {
            return Err(format!("no {missing} in {info}"));
        }
    }
    Ok(())
}
