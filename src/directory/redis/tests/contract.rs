use std::sync::atomic::{AtomicU64, Ordering};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::redis_server::Redis;
use super::redis_server::cluster::Cluster;
use super::*;
use crate::directory::contract::{Bench, Desk, Rule, SPECIFICATION, nodes};

/// By how much the clock of the one test that moves it is fast, in ms.
static PASSED: AtomicU64 = AtomicU64::new(0);

/// What a busy machine may need for one rule.
const SLACK: Duration = Duration::from_millis(1500);

fn fast_clock() -> Instant {
    clock() + Duration::from_millis(PASSED.load(Ordering::SeqCst))
}

/// A runtime that goes on while tests do something else.
struct Background(Handle, Option<oneshot::Sender<()>>, Option<std::thread::JoinHandle<()>>);

impl Background {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (end, ended) = oneshot::channel();
        let handle = runtime.handle().clone();
        let thread = std::thread::spawn(move || drop(runtime.block_on(ended)));
        Self(handle, Some(end), Some(thread))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.1 = None;
        self.2.take().into_iter().for_each(|thread| thread.join().unwrap_or_default());
    }
}

/// A clock, and how to move it.
type Time = (fn() -> Instant, fn(&Bench, Duration));

/// How time passes where it need not.
const REALLY: Time = (clock, |_, _| panic!("this clock cannot be moved"));

/// Runs each rule on records of its own.
fn specify(rules: &[Rule], settings: &Settings, nodes: u8, (clock, pass): Time) {
    for (number, (name, test)) in rules.iter().enumerate() {
        println!("{name}");
        let background = Background::start();
        let settings = Settings { prefix: format!("{}{nodes}:{number}", settings.prefix), ..settings.clone() };
        let desk = |number| {
            let node = background.0.block_on(async {
                let node = Node::start_with(number, settings.clone(), clock);
                node.until_settled().await;
                node
            });
            Desk { directory: node.directory, news: Some(tokio::sync::Mutex::new(node.news)) }
        };
        let desks = (1..=nodes).map(desk).collect();
        test(&Bench { desks, runtime: background.0.clone(), pass, slack: SLACK, prefix: settings.prefix.clone() });
    }
}

/// What a server would do in this time with a test's keys.
fn pass_on(redis: &Redis, prefix: &str, time: Duration) {
    let millis = u64::try_from(time.as_millis()).unwrap();
    PASSED.fetch_add(millis, Ordering::SeqCst);
    for key in redis.command::<Vec<String>>(&["KEYS", &format!("{prefix}:session:*")]) {
        let left: i64 = redis.command(&["PTTL", &key]);
        // Less than nothing makes it expire at once.
        redis.command::<()>(&["PEXPIRE", &key, &(left - i64::try_from(millis).unwrap()).to_string()]);
    }
}

#[test]
fn it_does_what_every_directory_must() {
    let redis = Redis::shared();
    let settings = settings(&[redis.url()], redis.prefix());
    let pass = |bench: &Bench, time| pass_on(&Redis::shared(), &bench.prefix, time);
    specify(SPECIFICATION, &settings, 1, (fast_clock, pass));
    specify(nodes::SPECIFICATION, &settings, 3, (fast_clock, pass));
}

#[test]
fn three_nodes_do_all_of_it_too() {
    let redis = Redis::shared();
    let own = |rule: &&Rule| rule.0.starts_with("of many");
    let settings = settings(&[redis.url()], redis.prefix());
    let rules: Vec<Rule> = SPECIFICATION.iter().filter(own).copied().collect();
    specify(&rules, &settings, 3, REALLY);
}

#[test]
fn a_cluster_does_what_many_nodes_need() {
    let cluster = Cluster::start();
    let settings = Settings { topology: Topology::Cluster, ..settings(&cluster.urls(), "handoff") };
    let is_timeless = |rule: &&Rule| rule.0 != "what one node writes the others read";
    let rules: Vec<Rule> = nodes::SPECIFICATION.iter().filter(is_timeless).copied().collect();
    specify(&rules, &settings, 3, REALLY);
}
