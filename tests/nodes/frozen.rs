//! A node frozen at every step of handoffs that it takes part in, and let go on later: before its phones have noticed,
//! or long after they went elsewhere. All complete, each once, and the node does no harm when it comes back.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;

use crate::group::Group;
use crate::phones::{Plan, Step, Told, all_complete, hand_over, summary};
use crate::support::redis_server::process::RedisProcess;

/// The node that is frozen.
const VICTIM: usize = 0;

/// Where the two phones of each handoff are.
const PLACES: [(usize, usize); 3] = [(VICTIM, VICTIM), (VICTIM, 1), (1, VICTIM)];

/// Of each choice of places.
const AT_ONCE: usize = 2;

/// Several windows of frames.
const BYTES: usize = 100 * 1024;

/// Before a phone has had reason to believe that its connection is dead.
const SHORT: Duration = Duration::from_secs(12);

/// After all phones have given the node up: they wait 40 s for a word.
const LONG: Duration = Duration::from_mins(1);

/// An old phone at a frozen node does not hear that its picture was scanned, and goes on to the next pictures until it
/// finds out. Then it refuses the join: a relay that holds joins back looks the same. Or the frozen node, when it goes
/// on, writes down a join that it had let in before, while the person has scanned again: two have scanned. Nobody has
/// got anything, both phones say so, and the people start over. Not once the old phone has heard of the join.
fn may_start_over(step: Step, time: Duration, problem: &str) -> bool {
    let is_unheard = matches!(step, Step::Opened | Step::Joined | Step::Hello) && time == LONG;
    let refused = [
        "(Ended(Closed(VerificationFailed)), Ended(Closed(VerificationFailed)))",
        "(Ended(Closed(ScannedTwice)), Ended(Closed(ScannedTwice)))",
    ];
    is_unheard && refused.iter().any(|refused| problem.starts_with(refused))
}

/// Freezes the victim when the first of these handoffs has come so far.
async fn freeze_at(redis: &RedisProcess, step: Step, time: Duration) -> Vec<Told> {
    let group = Group::on_redis(3, redis, &format!("{step:?}-{}", time.as_secs())).await;
    let frozen = tokio::sync::Notify::new();
    let is_frozen = Cell::new(false);
    let starts_over = Cell::new(0);
    let (group, frozen, is_frozen, starts_over) = (&group, &frozen, &is_frozen, &starts_over);
    let handoffs = PLACES.iter().cycle().take(PLACES.len() * AT_ONCE).map(|(old, new)| async move {
        let plan = Plan { old: group.relays(*old), new: group.relays(*new), bytes: BYTES };
        let reached = async |reached| {
            if reached == step && !is_frozen.replace(true) {
                group.freeze(VICTIM);
                frozen.notify_one();
            }
        };
        match hand_over(plan.clone(), reached).await {
            Err(problem) if may_start_over(step, time, &problem) => {
                starts_over.set(starts_over.get() + 1);
                hand_over(plan, async |_| {}).await
            }
            told => told,
        }
    });
    let thaw = async {
        frozen.notified().await;
        // Time passes; nothing else tells that it does.
        tokio::time::sleep(time).await;
        group.thaw(VICTIM);
        // At first it may take the time of its sleep for that of a request, and answers 408.
        group.until_ready().await;
    };
    let (told, ()) = tokio::join!(join_all(handoffs), thaw);
    let told = all_complete(told);
    println!("frozen at {step:?} for {time:?}: {}, {} started over", summary(&told), starts_over.get());
    group.until_quiet().await;
    told
}

#[tokio::test]
async fn a_frozen_node_costs_no_handoff_and_does_no_harm_when_it_goes_on() {
    let redis = RedisProcess::start(&[]);
    let runs = Step::ALL.into_iter().flat_map(|step| [(step, SHORT), (step, LONG)]);
    join_all(runs.map(|(step, time)| freeze_at(&redis, step, time))).await;
}
