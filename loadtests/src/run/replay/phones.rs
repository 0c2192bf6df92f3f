//! Both phones of a replayed handoff, and the person between them. Times the same phases as a real one.

use std::time::{Duration, Instant};

use handoff_relay::protocol::Role;
use handoff_relay::protocol::close::CloseReason;
use handoff_relay::protocol::ids::{ResumeHash, SessionId};
use handoff_relay::protocol::message::ClientMessage;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::Template;
use super::party::Party;
use crate::num::index;
use crate::run::recorder::now;
use crate::run::session::{self, Around};
use crate::stats::Phase;

/// What the two phones and the person tell each other outside the relay.
struct Person {
    thinking: Duration,
    code_accepted: Instant,
}

/// Runs one replayed handoff; returns how long it took without the person.
pub(in crate::run) async fn run(
    around: &Around,
    template: &Template,
    due: Instant,
    mut rng: StdRng,
) -> Result<Duration, String> {
    let session = session::fresh();
    let (opened, when_opened) = oneshot::channel();
    let (typed, when_typed) = oneshot::channel();
    let (old_rng, new_rng) = (StdRng::seed_from_u64(rng.random()), StdRng::seed_from_u64(rng.random()));
    let old = old_phone(around, template, session, due, old_rng, opened, when_typed);
    let new = new_phone(around, template, session, new_rng, when_opened, typed);
    let (delivered, person) = tokio::try_join!(old, new)?;
    around.recorder.time(Phase::Credential, delivered.saturating_duration_since(person.code_accepted));
    let wall = now().saturating_duration_since(due);
    around.recorder.time(Phase::Wall, wall);
    Ok(wall.saturating_sub(person.thinking))
}

/// Returns when the receipt was there.
async fn old_phone(
    around: &Around,
    template: &Template,
    session: SessionId,
    due: Instant,
    rng: StdRng,
    opened: oneshot::Sender<Instant>,
    when_typed: oneshot::Receiver<()>,
) -> Result<Instant, String> {
    let mut old = Party::new(around, Role::Old, session, &template.old_frames, rng);
    old.enter(ClientMessage::Open {
        public_key: template.public_key.clone(),
        join_hashes: template.join_hashes.clone(),
        interval_ms: u64::try_from(around.relay.frame_interval.0.as_millis()).unwrap_or(u64::MAX),
        resume_hash: ResumeHash::of(old.token()),
        token: None,
    })
    .await?;
    let at = old.heard.attached.unwrap_or(due);
    around.recorder.time(Phase::Open, at.saturating_duration_since(due));
    // Nobody listens any more if the other phone has failed; then this one is dropped, too.
    opened.send(at).ok();
    // The hello.
    old.until(|heard| heard.frames >= 1).await?;
    old.allow(1).await;
    old.meanwhile(when_typed).await?.map_err(|_| "cancelled".to_owned())?;
    old.allow(template.old_count()).await;
    // The receipt.
    old.until(|heard| heard.frames >= 2).await?;
    let delivered = now();
    old.say(&ClientMessage::Complete {}).await;
    completed(&mut old).await?;
    Ok(delivered)
}

async fn new_phone(
    around: &Around,
    template: &Template,
    session: SessionId,
    mut rng: StdRng,
    when_opened: oneshot::Receiver<Instant>,
    typed: oneshot::Sender<()>,
) -> Result<Person, String> {
    let opened = when_opened.await.map_err(|_| "cancelled".to_owned())?;
    let scan = around.phone.scan.sample(&mut rng);
    let scanned = opened.checked_add(scan).unwrap_or(opened);
    sleep_until(scanned.into()).await;
    let type_code = around.phone.type_code.sample(&mut rng);

    let mut new = join(around, template, session, opened, &mut rng).await?;
    let joined = new.heard.attached.unwrap_or(scanned);
    around.recorder.time(Phase::Join, joined.saturating_duration_since(scanned));
    new.allow(1).await;
    // The reply.
    new.until(|heard| heard.frames >= 1).await?;
    let shown = now();
    around.recorder.time(Phase::Key, shown.saturating_duration_since(joined));
    let due = shown.checked_add(type_code).unwrap_or(shown);
    new.meanwhile(sleep_until(due.into())).await?;
    typed.send(()).ok();
    // The first piece.
    new.until(|heard| heard.frames >= 2).await?;
    let code_accepted = now();
    around.recorder.time(Phase::Code, code_accepted.saturating_duration_since(due));
    let all = template.old_count();
    new.until(|heard| heard.frames >= all).await?;
    new.allow(2).await;
    completed(&mut new).await?;
    Ok(Person { thinking: scan.saturating_add(type_code), code_accepted })
}

/// Joins with the frame that is shown now; if it has just changed, with the next one.
async fn join<'a>(
    around: &'a Around,
    template: &'a Template,
    session: SessionId,
    opened: Instant,
    rng: &mut StdRng,
) -> Result<Party<'a>, String> {
    loop {
        let mut new = Party::new(around, Role::New, session, &template.new_frames, StdRng::seed_from_u64(rng.random()));
        let shown = now().saturating_duration_since(opened).as_millis();
        let frame = shown.checked_div(around.relay.frame_interval.0.as_millis()).unwrap_or_default();
        let frame = u8::try_from(frame).map_err(|_| CloseReason::Expired.label().to_owned())?;
        let proof = template.proofs.get(index(frame.into())).ok_or_else(|| CloseReason::Expired.label().to_owned())?;
        let join = ClientMessage::Join { frame, proof: proof.clone(), resume_hash: ResumeHash::of(new.token()) };
        match new.enter(join).await {
            Ok(()) => return Ok(new),
            Err(_) if new.heard.ended == Some(CloseReason::StaleFrame) => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// Listens until the relay says that the handoff is complete.
async fn completed(party: &mut Party<'_>) -> Result<(), String> {
    party.until(|heard| heard.ended.is_some()).await?;
    match party.heard.ended {
        Some(CloseReason::Completed) => Ok(()),
        other => Err(other.map_or("internal", CloseReason::label).to_owned()),
    }
}
