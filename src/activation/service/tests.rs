mod grants;
mod over;
mod personal_pin;
mod rig;
mod sms;

use grants::a_deleted_app_ends_the_copies_that_it_granted;
use over::{
    an_activation_that_expired_is_written_down_once_whoever_notices_first,
    an_sms_that_was_under_way_when_the_process_died_is_unknown_after_a_while,
};
pub(crate) use rig::{Phone, Rig, settings};
use serde_json::json;
use sms::{
    a_report_is_written_down_with_the_sms_and_the_last_word_stays,
    of_many_requests_at_once_only_as_many_sms_go_out_as_are_allowed,
};

use super::*;
use crate::activation::device_proof::tests::{jwk, jws};
use crate::activation::flow::Refused;
use crate::activation::grant::GRANT_TYPE;
use crate::activation::registry::tests::Place;
use crate::activation::temporary_pin::TemporaryPin;
use crate::activation::temporary_pin::send_rules::{Limit, SendRefused};
use crate::opaque::client::Registration;

const START: u64 = 1_800_000_000;
const TRANSCRIPT: [u8; 32] = [9; 32];
const TH2: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";

macro_rules! on_both {
    ($($story:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::Rig::new(super::Place::sqlite()).await).await;
            })*
        }
        mod postgresql {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::Rig::new(super::Place::postgres()).await).await;
            })*
        }
    };
}

on_both! {
    both_ways_end_with_active_apps_and_a_complete_trail
    the_same_start_again_is_the_same_activation_and_another_is_refused
    of_two_last_steps_at_once_one_app_comes
    of_two_activations_at_once_only_as_many_apps_come_as_are_allowed
    a_deleted_app_ends_the_copies_that_it_granted
    of_many_requests_at_once_only_as_many_sms_go_out_as_are_allowed
    an_event_is_there_with_what_happened_and_only_then
    a_report_is_written_down_with_the_sms_and_the_last_word_stays
    an_activation_that_expired_is_written_down_once_whoever_notices_first
    an_sms_that_was_under_way_when_the_process_died_is_unknown_after_a_while
}

async fn both_ways_end_with_active_apps_and_a_complete_trail(rig: Rig) {
    let (old, new) = (Phone::new(), Phone::new());
    let view = rig.start(&old, &rig.token_for("maria82", Some(&old))).await.unwrap();
    assert_eq!((view.due, view.holder.as_str(), view.number_ends.as_str()), (Due::TemporaryPin, "M*** H***", "78"));
    let first = rig.finish(&old, view.id).await.unwrap();
    assert_eq!(first.due, Due::Active);
    let second = rig.copied(first.app, &old, &new).await.unwrap();
    assert_eq!(second.due, Due::Active);
    let mine = rig.service.apps(&rig.by(&new)).await.unwrap();
    let apps: Vec<(AppId, bool)> = mine.apps.iter().map(|app| (app.id, app.is_this)).collect();
    assert_eq!(apps.len(), 2);
    assert!(apps.contains(&(first.app, false)) && apps.contains(&(second.app, true)), "{apps:?}");
    assert_eq!(mine.pending, []);
    let one = ["activation_started", "pin_sent", "pin_right", "personal_pin_set", "biometrics_chosen", "app_activated"];
    let mut expected = vec!["user_created"];
    expected.extend(one);
    expected.extend(&one[..1]);
    expected.push("user_id_right");
    expected.extend(&one[1..]);
    assert_eq!(rig.trail().await, expected);
}

async fn the_same_start_again_is_the_same_activation_and_another_is_refused(rig: Rig) {
    let (phone, other) = (Phone::new(), Phone::new());
    let start = rig.token_for("maria82", None);
    let first = rig.start(&phone, &start).await.unwrap();
    assert_eq!(rig.start(&phone, &start).await.unwrap().id, first.id);
    assert!(matches!(rig.start(&other, &start).await, Err(ServiceError::TokenUsed)));
    let another = rig.token_for("maria82", None);
    assert!(matches!(rig.start(&phone, &another).await, Err(ServiceError::DeviceKeyUsed)));
    rig.finish(&phone, first.id).await.unwrap();
    assert_eq!(rig.start(&phone, &start).await.unwrap().due, Due::Active, "also when it is done");
}

async fn of_two_last_steps_at_once_one_app_comes(rig: Rig) {
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let pin = rig.pin().await;
    // Every step from many hands at once, like a phone that repeats and repeats.
    let callers: Vec<Caller> = (0..8).map(|_| rig.by(&phone)).collect();
    let typed = callers.iter().map(|caller| rig.service.temporary_pin(caller, view.id, &pin));
    assert!(futures_util::future::join_all(typed).await.iter().all(Result::is_ok));
    let view = rig.choose(&phone, &view).await.unwrap();
    let callers: Vec<Caller> = (0..8).map(|_| rig.by(&phone)).collect();
    let again = callers.iter().map(|caller| rig.service.notifications(caller, view.id, Some("push-token")));
    let views = futures_util::future::join_all(again).await;
    assert!(views.iter().all(|view| view.as_ref().is_ok_and(|view| view.due == Due::Active)));
    assert_eq!(rig.service.apps(&rig.by(&phone)).await.unwrap().apps.len(), 1);
    let trail = rig.trail().await;
    for what in ["pin_right", "app_activated"] {
        assert_eq!(trail.iter().filter(|entry| *entry == what).count(), 1, "{what}");
    }
}

async fn of_two_activations_at_once_only_as_many_apps_come_as_are_allowed(rig: Rig) {
    let phones: Vec<Phone> = (0..5).map(|_| Phone::new()).collect();
    let mut ready = Vec::new();
    for phone in &phones {
        // The number has its rest between the SMS.
        rig.pass(Duration::from_mins(6));
        let view = rig.start(phone, &rig.token_for("maria82", None)).await.unwrap();
        rig.send(phone, view.id).await.unwrap();
        let pin = rig.pin().await;
        let view = rig.service.temporary_pin(&rig.by(phone), view.id, &pin).await.unwrap();
        ready.push(view);
    }
    let all = phones.iter().zip(&ready).map(|(phone, view)| rig.choose(phone, view));
    let ends = futures_util::future::join_all(all).await;
    let active = ends.iter().filter(|end| end.as_ref().is_ok_and(|view| view.due == Due::Active)).count();
    let refused = ends.iter().filter(|end| matches!(end, Err(ServiceError::TooManyApps))).count();
    assert_eq!((active, refused), (3, 2));
    let fourth = Phone::new();
    let start = rig.token_for("maria82", None);
    assert!(matches!(rig.start(&fourth, &start).await, Err(ServiceError::TooManyApps)));
    // With room again, the one that was refused goes on where it was.
    let (one, waiting) = (0..5).fold((None, None), |(one, waiting), at| {
        if ends[at].is_ok() { (one.or(Some(at)), waiting) } else { (one, waiting.or(Some(at))) }
    });
    let (one, waiting) = (one.unwrap(), waiting.unwrap());
    rig.service.delete_app(&rig.by(&phones[one]), ready[one].app).await.unwrap();
    let caller = rig.by(&phones[waiting]);
    let view = rig.service.notifications(&caller, ready[waiting].id, Some("push-token")).await.unwrap();
    assert_eq!(view.due, Due::Active);
}

async fn sqlite() -> Rig {
    Rig::new(Place::sqlite()).await
}

#[tokio::test]
async fn a_proof_is_taken_once() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    let caller = rig.by(&phone);
    rig.service.look(&caller, view.id).await.unwrap();
    assert!(matches!(rig.service.look(&caller, view.id).await, Err(ServiceError::Replayed)));
    // Another device may have used the same number.
    let other = Caller { proof: Proof { id: caller.proof.id, ..rig.by(&Phone::new()).proof }, ..rig.by(&phone) };
    assert!(matches!(rig.service.look(&other, view.id).await, Err(ServiceError::UnknownActivation)));
}

#[tokio::test]
async fn another_device_does_not_see_an_activation() {
    let rig = sqlite().await;
    let (phone, thief) = (Phone::new(), Phone::new());
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let pin = rig.pin().await;
    let stolen = rig.service.temporary_pin(&rig.by(&thief), view.id, &pin).await;
    assert!(matches!(stolen, Err(ServiceError::UnknownActivation)));
    assert!(matches!(rig.service.cancel(&rig.by(&thief), view.id).await, Err(ServiceError::UnknownActivation)));
    assert!(rig.service.temporary_pin(&rig.by(&phone), view.id, &pin).await.is_ok());
}

#[tokio::test]
async fn a_user_id_that_is_on_file_and_one_that_is_not_are_refused_alike() {
    let rig = sqlite().await;
    rig.put("erik77", "+4511111111").await;
    let (old, new) = (Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    for (typed, tries) in [("erik77", 4), ("nobody", 3)] {
        let refused = rig.service.user_id(&rig.by(&new), view.id, &typed.parse().unwrap()).await;
        assert!(matches!(refused, Err(ServiceError::Step(Refused::WrongUserId { left })) if left == tries));
    }
}

#[tokio::test]
async fn an_erased_user_has_no_apps_and_no_activations() {
    let rig = sqlite().await;
    let (old, new) = (Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    let id = "maria82".parse().unwrap();
    rig.service.erase_user(&id).await.unwrap();
    assert!(matches!(rig.service.erase_user(&id).await, Err(ServiceError::UnknownUser)));
    assert!(matches!(rig.service.apps(&rig.by(&old)).await, Err(ServiceError::UnknownDevice)));
    assert!(matches!(rig.service.look(&rig.by(&new), view.id).await, Err(ServiceError::UnknownActivation)));
    let again = rig.start(&Phone::new(), &rig.token_for("maria82", None)).await;
    assert!(matches!(again, Err(ServiceError::NotOnFile)));
}

#[tokio::test]
async fn what_is_over_for_a_day_is_swept() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.pass(Duration::from_mins(30));
    assert_eq!(rig.service.sweep().await.unwrap(), 0);
    assert_eq!(rig.service.look(&rig.by(&phone), view.id).await.unwrap().end, Some(End::Expired));
    rig.pass(Duration::from_hours(24) + Duration::from_secs(1));
    assert_eq!(rig.service.sweep().await.unwrap(), 1);
    assert!(matches!(rig.service.look(&rig.by(&phone), view.id).await, Err(ServiceError::UnknownActivation)));
}

#[tokio::test]
async fn a_new_service_on_the_same_registry_goes_on_with_every_step() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.service.registry().close().await;
    let refused = rig.service.look(&rig.by(&phone), view.id).await;
    assert!(matches!(refused, Err(ServiceError::Registry(_))), "a database that is away has a name: {refused:?}");
    let Rig { place, .. } = rig;
    let again = Rig::new(place).await;
    assert_eq!(again.finish(&phone, view.id).await.unwrap().due, Due::Active);
}

async fn kinds(rig: &Rig, app: AppId) -> Vec<String> {
    let mut tx = rig.service.registry().begin().await.unwrap();
    tx.events_of(app, rig.now()).await.unwrap().into_iter().map(|event| event.kind).collect()
}

async fn an_event_is_there_with_what_happened_and_only_then(rig: Rig) {
    let (old, new) = (Phone::new(), Phone::new());
    let app = rig.active(&old).await;
    let mut stream = rig.service.stream(&rig.by(&old), None).await.unwrap();
    let view = rig.start(&new, &rig.grant(app, &old, &new)).await.unwrap();
    rig.service.user_id(&rig.by(&new), view.id, &"maria82".parse().unwrap()).await.unwrap();
    rig.send(&new, view.id).await.unwrap();
    let pin = rig.pin().await;
    let view = rig.service.temporary_pin(&rig.by(&new), view.id, &pin).await.unwrap();
    assert_eq!(kinds(&rig, app).await, [""; 0], "nothing has happened yet");
    let copy = rig.choose(&new, &view).await.unwrap().app;
    assert_eq!(kinds(&rig, app).await, ["app_activated"]);
    rig.service.notifications(&rig.by(&new), view.id, Some("push-token")).await.unwrap();
    assert_eq!(kinds(&rig, app).await, ["app_activated"], "a repeated step is no second event");
    // Another node finds it where it is.
    rig.service.feed_streams().await.unwrap();
    let heard = stream.next().await.unwrap();
    assert_eq!((heard.app, heard.kind.as_str()), (app, "app_activated"));
    rig.service.delete_app(&rig.by(&new), app).await.unwrap();
    rig.service.feed_streams().await.unwrap();
    assert_eq!(stream.next().await.unwrap().kind, "this_app_deleted");
    assert_eq!(kinds(&rig, copy).await, [""; 0], "who did it need not be told");
    // What was heard is not told again, unless it was so short ago that another one may have come before it.
    rig.pass(Duration::from_hours(1));
    let third = Phone::new();
    rig.copied(copy, &new, &third).await.unwrap();
    let mut again = rig.service.stream(&rig.by(&new), None).await.unwrap();
    let last = again.next().await.unwrap();
    drop(again);
    rig.pass(Duration::from_mins(1));
    rig.active(&Phone::new()).await;
    let mut again = rig.service.stream(&rig.by(&new), Some(&last.id)).await.unwrap();
    assert_ne!(again.next().await.unwrap().id, last.id);
    rig.pass(Duration::from_hours(24));
    assert_eq!(kinds(&rig, copy).await, [""; 0], "a day is over");
    rig.service.sweep().await.unwrap();
}

#[tokio::test]
async fn an_audit_trail_is_read_page_by_page_also_of_a_user_who_was_erased() {
    let rig = sqlite().await;
    rig.active(&Phone::new()).await;
    let user = rig.put("maria82", "+4512345679").await;
    rig.service.erase_user(&"maria82".parse().unwrap()).await.unwrap();
    let (mut read, mut after) = (Vec::new(), 0);
    loop {
        let page = rig.service.audit(user, after, 4).await.unwrap();
        assert!(page.len() <= 4);
        let Some(last) = page.last() else { break };
        after = last.number;
        read.extend(page.into_iter().map(|entry| entry.what));
    }
    assert_eq!((read.first().unwrap().as_str(), read.len()), ("user_created", 9));
    assert_eq!(read[7..], ["number_changed", "user_erased"]);
}
