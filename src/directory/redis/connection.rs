//! One connection to Redis, whatever its topology: it carries commands both ways and this node's inbox.

use std::fmt;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue as _, Pipeline, RedisFuture, RedisResult, Value};

use super::push::Push;
use super::settings::{Connector, Settings};

/// Clones share the connection; what they send is pipelined.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(super) async fn open(connector: &Connector, settings: &Settings, push: Push) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.timeout))
            .set_response_timeout(Some(settings.timeout))
            .set_push_sender(push);
        Ok(match connector {
            Connector::Single(client) => Self::One(client.get_multiplexed_async_connection_with_config(&config).await?),
            Connector::Sentinel(client) => {
                Self::One(client.lock().await.get_async_connection_with_config(&config).await?)
            }
            Connector::Cluster(client) => Self::Cluster(client.get_async_connection().await?),
        })
    }

    pub(super) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::One(connection) => redis::cmd("SSUBSCRIBE").arg(channel).exec_async(connection).await,
            Self::Cluster(connection) => connection.ssubscribe(channel).await,
        }
    }

    /// What each server that takes writes says of itself.
    pub(super) async fn servers(&mut self) -> RedisResult<Vec<Server>> {
        let mut command = redis::cmd("INFO");
        command.arg("server");
        let texts: Vec<String> = match self {
            Self::One(connection) => vec![command.query_async(connection).await?],
            Self::Cluster(connection) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let answers = connection.route_command(command, all).await?;
                let Value::Map(answers) = answers else { return Ok(Vec::new()) };
                answers.into_iter().map(|(_, text)| String::from_redis_value(text)).collect::<Result<_, _>>()?
            }
        };
        let mut servers: Vec<Server> = texts.iter().map(|text| Server::parse(text)).collect();
        servers.sort_unstable_by(|a, b| a.run_id.cmp(&b.run_id));
        Ok(servers)
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// One run of one Redis process.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) version: String,
    pub(super) run_id: String,
    /// How long it has been running, or a little less.
    pub(super) uptime: Duration,
}

impl Server {
    fn parse(info: &str) -> Self {
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_default().trim().to_owned()
        };
        let uptime = field("uptime_in_seconds").parse().map_or(Duration::ZERO, Duration::from_secs);
        Self { version: field("redis_version"), run_id: field("run_id"), uptime }
    }

    /// Whether it has sharded channels: Redis 7.0 or newer.
    pub(super) fn is_recent(&self) -> bool {
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        major.is_some_and(|major| major >= 7)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharded_channels_came_with_redis_7() {
        let server = |version: &str| Server::parse(&format!("# Server\r\nredis_version:{version}\r\nrun_id:abc\r\n"));
        assert_eq!((server("7.0.15").run_id.as_str(), server("7.0.15").uptime), ("abc", Duration::ZERO));
        for (version, is_recent) in [("7.0.0", true), ("8.2.1", true), ("10.0", true), ("6.2.14", false), ("", false)] {
            assert_eq!(server(version).is_recent(), is_recent, "{version}");
        }
    }
}
