//! What a handoff costs on one node without Redis, on one node with it, and across two nodes, side by side: processor
//! time, latency, Redis commands and bytes. Name a release build in `HANDOFF_BIN` for times that mean something.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::group::Group;
use crate::phones::{Plan, all_complete, hand_over};
use crate::support::redis_server::process::RedisProcess;
use crate::support::relay::Relay;

/// One after the other, so that latency is not waiting.
const HANDOFFS: u32 = 60;

/// A usual credential.
const BYTES: usize = 4096;

/// Redis commands that a handoff with both apps on one node may send.
const MOST_COMMANDS: f64 = 12.0;

/// What a node sends every second to see that Redis is well, whatever it relays; one of each.
const CHECK: [&str; 3] = ["info", "set", "spublish"];

/// What Redis has counted.
#[derive(Clone, Debug, Default)]
struct Counts {
    /// Calls by command, those of scripts included.
    calls: BTreeMap<String, f64>,
    bytes: f64,
}

impl Counts {
    fn read(redis: &RedisProcess) -> Self {
        let field = |text: &str, name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<f64>().unwrap()
        };
        let stats: String = redis.command(&["INFO", "stats"]);
        let bytes = field(&stats, "total_net_input_bytes:") + field(&stats, "total_net_output_bytes:");
        let commands: String = redis.command(&["INFO", "commandstats"]);
        let calls = commands.lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        });
        Self { calls: calls.collect(), bytes }
    }

    fn of(&self, command: &str) -> f64 {
        self.calls.get(command).copied().unwrap_or_default()
    }

    /// What happened since; without what only this test says.
    fn since(&self, before: &Self) -> Self {
        let ours = |name: &str| ["client", "hello", "command"].iter().any(|our| name.starts_with(our));
        let calls = self.calls.iter().filter(|(name, _)| !ours(name));
        let mut calls: BTreeMap<_, _> = calls.map(|(name, calls)| (name.clone(), calls - before.of(name))).collect();
        // `commandstats` of before, and `stats` of now.
        *calls.entry("info".to_owned()).or_default() -= 2.0;
        Self { calls, bytes: self.bytes - before.bytes }
    }

    /// How many checks are among it.
    fn checks(&self) -> f64 {
        self.of("info")
    }

    /// Sent by nodes for handoffs. A script reads, and mostly writes; that is Redis talking to itself.
    fn sent(&self, successful_scripts: f64) -> f64 {
        // The sum of nothing is -0.
        let all = 0.0 + self.calls.values().sum::<f64>();
        let checks = self.checks() * f64::from(u32::try_from(CHECK.len()).unwrap());
        all - checks - self.of("getrange") - successful_scripts
    }
}

/// One row of the table.
#[derive(Debug)]
struct Row {
    cpu: Duration,
    median: Duration,
    late: Duration,
    sent: f64,
    executed: f64,
    bytes: f64,
    calls: String,
}

/// Bytes of one check, measured while nothing else happens.
async fn bytes_of_a_check(redis: &RedisProcess) -> f64 {
    let before = Counts::read(redis);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let idle = Counts::read(redis).since(&before);
    idle.bytes / idle.checks().max(1.0)
}

async fn measure(group: &Group, redis: Option<&RedisProcess>, old: usize, new: usize) -> Row {
    let a_check = match redis {
        Some(redis) => bytes_of_a_check(redis).await,
        None => 0.0,
    };
    let plan = Plan { old: group.relays(old), new: group.relays(new), bytes: BYTES };
    // The first one builds what stays.
    all_complete(vec![hand_over(plan.clone(), async |_| {}).await]);
    let cpu = || group.nodes().map(Relay::cpu_time).sum::<Duration>();
    let (counts, cpu_before, started) = (redis.map(Counts::read), cpu(), Instant::now());
    let mut told = Vec::new();
    for _ in 0..HANDOFFS {
        told.push(hand_over(plan.clone(), async |_| {}).await);
    }
    let (cpu, took) = (cpu().saturating_sub(cpu_before) / HANDOFFS, started.elapsed());
    // Ends are written after the apps have heard them.
    group.until_sum("handoff_sessions", 0.0).await;
    let counts = redis.zip(counts).map(|(redis, before)| Counts::read(redis).since(&before)).unwrap_or_default();
    let mut times: Vec<Duration> = all_complete(told).iter().map(|told| told.took).collect();
    times.sort_unstable();
    let each = |value: f64| value / f64::from(HANDOFFS);
    // What is set and was not opened or checked, a script has set.
    let sets = (counts.of("set") - counts.checks() - f64::from(HANDOFFS)).max(0.0);
    let calls = counts.calls.iter().filter(|(_, calls)| **calls > 0.0);
    println!("{took:.2?} for {HANDOFFS}, {} checks among {:?}", counts.checks(), counts.calls);
    Row {
        cpu,
        median: times[times.len() / 2],
        late: times[times.len() * 95 / 100],
        sent: each(counts.sent(sets)),
        executed: each(counts.sent(sets) + counts.of("getrange") + sets),
        bytes: each(counts.bytes - counts.checks() * a_check),
        calls: calls.map(|(name, calls)| format!("{name} {:.1}", each(*calls))).collect::<Vec<_>>().join(", "),
    }
}

#[tokio::test]
async fn a_handoff_costs_few_redis_commands_and_little_more_across_nodes() {
    let redis = RedisProcess::start(&[]);
    let alone = Group::start(1, &[]).await;
    let in_memory = measure(&alone, None, 0, 0).await;
    drop(alone);
    let one = Group::on_redis(1, &redis, "one").await;
    let same_node = measure(&one, Some(&redis), 0, 0).await;
    drop(one);
    let two = Group::on_redis(2, &redis, "two").await;
    let across = measure(&two, Some(&redis), 0, 1).await;
    println!(
        "a handoff of {BYTES} bytes | nodes' CPU | median  | p95     | commands sent | executed | bytes to and from Redis"
    );
    for (name, row) in
        [("one node, in memory", &in_memory), ("one node, Redis", &same_node), ("two nodes, Redis", &across)]
    {
        println!(
            "{name:<25} | {:>7.2} ms | {:>4} ms | {:>4} ms | {:>13.1} | {:>8.1} | {:>6.0}",
            row.cpu.as_secs_f64() * 1e3,
            row.median.as_millis(),
            row.late.as_millis(),
            row.sent,
            row.executed,
            row.bytes
        );
    }
    println!("one node: {}\ntwo nodes: {}", same_node.calls, across.calls);
    let times = across.cpu.as_secs_f64() / same_node.cpu.as_secs_f64();
    println!("processor time across two nodes: {times:.2} times that of one node with Redis");
    assert!(same_node.sent <= MOST_COMMANDS, "{same_node:?}");
}
