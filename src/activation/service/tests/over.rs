//! What is over without anybody doing anything, what a process leaves behind that died, and what there is no room for.

use super::personal_pin::unlock;
use super::*;
use crate::activation::http::problem::{Kind, Problem};
use crate::activation::registry::tests::set_full;

#[test]
fn every_end_is_a_value_of_its_label() {
    let ends = [End::Expired, End::Cancelled, End::UserIdWrong, End::PinsUsedUp, End::GrantorGone];
    // One that is added does not compile until it is here.
    match End::Expired {
        End::Expired | End::Cancelled | End::UserIdWrong | End::PinsUsedUp | End::GrantorGone => {}
    }
    assert_eq!(ends.map(End::as_str), telemetry::ACTIVATION_ENDS);
}

pub(super) async fn an_activation_that_expired_is_written_down_once_whoever_notices_first(rig: Rig) {
    let (asks, sleeps) = (Phone::new(), Phone::new());
    let noticed = rig.start(&asks, &rig.token_for("maria82", None)).await.unwrap();
    rig.put("peter", "+4512345679").await;
    let unnoticed = rig.start(&sleeps, &rig.token_for("peter", None)).await.unwrap();
    rig.pass(Duration::from_mins(30));
    let by_step = rig.service.send_pin(&rig.by(&asks), noticed.id, &PinRequest::default()).await;
    assert!(matches!(by_step, Err(ServiceError::Step(Refused::Ended(End::Expired)))), "{by_step:?}");
    for _ in 0..2 {
        rig.service.sweep().await.unwrap();
    }
    let by_step = rig.service.send_pin(&rig.by(&sleeps), unnoticed.id, &PinRequest::default()).await;
    assert!(matches!(by_step, Err(ServiceError::Step(Refused::Ended(End::Expired)))), "{by_step:?}");
    for (user, actor) in [("maria82", "new app"), ("peter", "service")] {
        let user = rig.service.user_on_file(&user.parse().unwrap()).await.unwrap().user.key;
        let trail = rig.service.audit(user, 0, 100).await.unwrap();
        let ends: Vec<&str> =
            trail.iter().filter(|entry| entry.what == "activation_ended").map(|entry| entry.actor.as_str()).collect();
        assert_eq!(ends, [actor]);
    }
}

pub(super) async fn an_sms_that_was_under_way_when_the_process_died_is_unknown_after_a_while(rig: Rig) {
    let maria = "maria82".parse().unwrap();
    let number = rig.service.registry().sealer().number_tag(&"+4512345678".parse().unwrap());
    let mut tx = rig.service.registry().begin().await.unwrap();
    let send = tx.insert_send(number, [1; 32], rig.now()).await.unwrap();
    tx.commit().await.unwrap();
    let status = async || {
        rig.service.sweep().await.unwrap();
        rig.service.user_on_file(&maria).await.unwrap().sends[0].status.clone()
    };
    assert_eq!(status().await, "under_way");
    rig.pass(Duration::from_mins(6));
    assert_eq!(status().await, "unknown");
    rig.service.registry().end_send(send, "accepted", Some([2; 32])).await.unwrap();
    assert_eq!(status().await, "accepted", "the process was only slow");
}

#[tokio::test]
async fn an_sms_for_which_there_was_no_room_is_no_send_and_no_pin() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    let full = || std::iter::from_fn(|| rig.service.parts.sms.reserve().ok()).collect::<Vec<_>>();
    let places = full();
    assert!(places.len() > 100);
    for _ in 0..10 {
        let refused = rig.service.send_pin(&rig.by(&phone), view.id, &PinRequest::default()).await;
        assert!(matches!(refused, Err(ServiceError::SmsBusy)), "{refused:?}");
    }
    let on_file = rig.service.user_on_file(&"maria82".parse().unwrap()).await.unwrap();
    assert_eq!(on_file.sends, []);
    assert!(!rig.service.look(&rig.by(&phone), view.id).await.unwrap().has_pin);
    drop(places);
    for _ in 0..3 {
        rig.send(&phone, view.id).await.unwrap();
    }
    // A number that gets no SMS is told the same.
    rig.put("maria82", "+4512345670").await;
    let places = full();
    let refused = rig.service.send_pin(&rig.by(&phone), view.id, &PinRequest::default()).await;
    assert!(matches!(refused, Err(ServiceError::SmsBusy)), "{refused:?}");
    drop(places);
    let withheld = rig.service.send_pin(&rig.by(&phone), view.id, &PinRequest::default()).await;
    assert!(withheld.unwrap().has_pin);
    assert_eq!(rig.outbox.newest_first().len(), 3);
}

#[tokio::test]
async fn a_forgotten_pins_sms_for_which_there_was_no_room_is_no_send() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let app = rig.active(&phone).await;
    rig.pass(Duration::from_hours(1));
    let places: Vec<_> = std::iter::from_fn(|| rig.service.parts.sms.reserve().ok()).collect();
    for _ in 0..10 {
        let refused = rig.service.send_reset_pin(&rig.by(&phone), app, &PinRequest::default()).await;
        assert!(matches!(refused, Err(ServiceError::SmsBusy)), "{refused:?}");
    }
    drop(places);
    rig.service.send_reset_pin(&rig.by(&phone), app, &PinRequest::default()).await.unwrap();
}

#[tokio::test]
async fn of_a_database_that_is_full_nothing_is_lost_that_was_answered_with_success() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let app = rig.active(&phone).await;
    set_full(rig.service.registry(), true).await;
    let mut begun = Vec::new();
    let (late, token, refused) = loop {
        let (phone, token) = (Phone::new(), rig.token_for("maria82", None));
        match rig.start(&phone, &token).await {
            Ok(view) => begun.push((phone, view)),
            Err(refused) => break (phone, token, refused),
        }
        assert!(begun.len() < 1000, "it is never full");
    };
    assert!(!begun.is_empty(), "there is a little room in the last page");
    assert!(matches!(refused, ServiceError::Registry(_)), "{refused:?}");
    assert_eq!(Problem::from(refused).kind, Kind::RegistryUnavailable);
    set_full(rig.service.registry(), false).await;
    for (phone, view) in &begun {
        assert_eq!(rig.service.look(&rig.by(phone), view.id).await.unwrap().due, Due::TemporaryPin);
    }
    // What failed has not happened: the token serves.
    let view = rig.start(&late, &token).await.unwrap();
    assert_eq!(rig.finish(&late, view.id).await.unwrap().due, Due::Active);
    assert!(unlock(&rig, &phone, app, b"471108").await.is_ok());
}
