//! A route record in Redis: one string a session. A random tag of 16 bytes stands in front of the route as JSON; it
//! changes with every change, so that a write can demand that nobody wrote meanwhile.
//!
//! Redis' own expiry is the record's clock: its age is the time for which it is remembered, less the time that Redis
//! still keeps it. So the nodes' clocks never matter.

use std::time::Duration;

use redis::{ExistenceCheck, Pipeline, RedisResult, SetExpiry, SetOptions};

use super::connection::Connection;
use crate::session::route::Route;

/// Tells apart all versions of all records.
pub(super) type Tag = [u8; 16];

/// What was read.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) tag: Tag,
    pub(super) route: Route,
    pub(super) age: Duration,
}

/// The value is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session record in Redis cannot be read; does another version of the relay run, or another program?")]
pub(super) struct BadRecord;

/// KEYS: the record. ARGV: the tag that must be there, the new record, and how long to keep it in ms, or nothing to
/// keep its expiry. Answers 1 if it was written.
///
/// Sent as it is each time, not by its hash: after a restart or a failover no server has to be taught it again.
const REPLACE: &str = "\
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then return 0 end
if ARGV[3] == '' then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1";

/// Reads a record.
pub(super) async fn read(connection: &mut Connection, key: &str) -> RedisResult<Option<Result<Record, BadRecord>>> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.get(key).pttl(key);
    let (value, left): (Option<Vec<u8>>, i64) = pipeline.query_async(connection).await?;
    // Between the two commands it may have expired.
    let left = u64::try_from(left).ok().filter(|left| *left > 0);
    Ok(value.map(|value| decode(&value, left)).filter(|_| left.is_some()))
}

/// Writes a record where none is; `false` if there is one.
pub(super) async fn create(
    connection: &mut Connection,
    key: &str,
    tag: &Tag,
    route: &Route,
    keep: Duration,
) -> RedisResult<bool> {
    let options =
        SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(SetExpiry::PX(millis(keep)));
    let mut command = redis::cmd("SET");
    command.arg(key).arg(encode(tag, route)).arg(&options);
    let answer: Option<String> = command.query_async(connection).await?;
    Ok(answer.is_some())
}

/// Replaces the record that has this tag; `false` if it is another one by now, or gone.
pub(super) async fn replace(
    connection: &mut Connection,
    key: &str,
    known: &Tag,
    tag: &Tag,
    route: &Route,
    keep: Option<Duration>,
) -> RedisResult<bool> {
    swap(connection, key, known, &encode(tag, route), keep).await
}

/// Does nothing with what is surely no record, in all the ways that records need: a user who may not do one of them is
/// found out before there are sessions.
pub(super) async fn rehearse(connection: &mut Connection, key: &str) -> RedisResult<()> {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.get(key).ignore().pttl(key).ignore();
    pipeline.exec_async(connection).await?;
    swap(connection, key, &Tag::default(), &[], None).await.map(drop)
}

async fn swap(
    connection: &mut Connection,
    key: &str,
    known: &Tag,
    value: &[u8],
    keep: Option<Duration>,
) -> RedisResult<bool> {
    let keep = keep.map(|keep| millis(keep).to_string()).unwrap_or_default();
    let mut command = redis::cmd("EVAL");
    command.arg(REPLACE).arg(1).arg(key).arg(&known[..]).arg(value).arg(keep);
    command.query_async(connection).await
}

fn encode(tag: &Tag, route: &Route) -> Vec<u8> {
    let mut value = tag.to_vec();
    // A route has no maps, and writing to memory does not fail.
    value.append(&mut serde_json::to_vec(route).unwrap_or_default());
    value
}

fn decode(value: &[u8], left: Option<u64>) -> Result<Record, BadRecord> {
    let (tag, json) = value.split_first_chunk().ok_or(BadRecord)?;
    let route: Route = serde_json::from_slice(json).map_err(|_| BadRecord)?;
    let age = route.remembered_for().saturating_sub(Duration::from_millis(left.unwrap_or(0)));
    Ok(Record { tag: *tag, route, age })
}

/// At least one: Redis refuses to keep something for no time.
fn millis(keep: Duration) -> u64 {
    u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).max(1)
}
