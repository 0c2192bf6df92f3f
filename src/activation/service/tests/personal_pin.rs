//! Opening an app with its PIN, locks, and another PIN in its place.

use super::*;
use crate::activation::personal_pin::lock::Locked;
use crate::opaque::client::Login;

/// Tries to open the app.
pub(super) async fn unlock(rig: &Rig, phone: &Phone, app: AppId, pin: &[u8]) -> Result<bool, ServiceError> {
    let (login, ke1) = Login::start(pin, &mut rand::rng()).unwrap();
    let ke2 = rig.service.begin_unlock(&rig.by(phone), app, &ke1).await?;
    let ke3 = login.finish(app.as_bytes(), ke2.as_slice().try_into().unwrap(), &mut rand::rng());
    let ke3 = ke3.map_or([0; 32], |(ke3, _)| ke3);
    rig.service.finish_unlock(&rig.by(phone), app, &ke3).await
}

#[tokio::test]
async fn an_app_opens_with_its_pin_and_wrong_ones_lock_it_for_a_while_and_then_for_good() {
    let rig = sqlite().await;
    let (phone, other) = (Phone::new(), Phone::new());
    let app = rig.active(&phone).await;
    let second = rig.active(&other).await;
    for _ in 0..4 {
        assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    }
    assert!(!unlock(&rig, &phone, app, b"471108").await.unwrap(), "the right one gives the tries back");
    for _ in 0..5 {
        assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    }
    let locked = unlock(&rig, &phone, app, b"471108").await;
    assert!(matches!(locked, Err(ServiceError::Locked(Locked::Waiting { .. }))), "{locked:?}");
    for _ in 0..5 {
        rig.pass(Duration::from_hours(24));
        assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    }
    rig.pass(Duration::from_hours(24 * 365));
    assert!(matches!(unlock(&rig, &phone, app, b"471108").await, Err(ServiceError::Locked(Locked::ForGood))));
    assert!(rig.trail().await.contains(&"app_locked".to_owned()));
    assert!(!unlock(&rig, &other, second, b"471108").await.unwrap(), "the user is not locked");
    assert!(matches!(unlock(&rig, &other, app, b"471108").await, Err(ServiceError::UnknownApp)));
}

#[tokio::test]
async fn a_try_that_is_never_finished_counts_and_a_login_serves_once() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let app = rig.active(&phone).await;
    let (login, ke1) = Login::start(b"471108", &mut rand::rng()).unwrap();
    let ke2 = rig.service.begin_unlock(&rig.by(&phone), app, &ke1).await.unwrap();
    let (ke3, _) = login.finish(app.as_bytes(), ke2.as_slice().try_into().unwrap(), &mut rand::rng()).unwrap();
    rig.service.finish_unlock(&rig.by(&phone), app, &ke3).await.unwrap();
    let again = rig.service.finish_unlock(&rig.by(&phone), app, &ke3).await;
    assert!(matches!(again, Err(ServiceError::PinNotProven)));
    let callers: Vec<Caller> = (0..8).map(|_| rig.by(&phone)).collect();
    let tries = callers.iter().map(|caller| rig.service.begin_unlock(caller, app, &ke1));
    let ends = futures_util::future::join_all(tries).await;
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 5, "each KE2 is a guess, proven or not");
}

/// Registers this PIN in place of the one that the app has.
async fn replace(rig: &Rig, phone: &Phone, app: AppId, pin: &[u8]) -> Result<Vec<u8>, ServiceError> {
    let (registration, request) = Registration::start(pin, &mut rand::rng()).unwrap();
    let response = rig.service.new_pin_request(&rig.by(phone), app, &request).await?;
    let (setup, response) = response.split_first_chunk::<8>().unwrap();
    let upload = registration.finish(app.as_bytes(), response.try_into().unwrap(), &mut rand::rng()).unwrap();
    let upload = [&setup[..], &upload].concat();
    rig.service.replace_pin(&rig.by(phone), app, &upload).await.map(|()| upload)
}

#[tokio::test]
async fn an_app_that_was_just_opened_may_have_another_pin() {
    let rig = sqlite().await;
    let (phone, other) = (Phone::new(), Phone::new());
    let app = rig.active(&phone).await;
    let second = rig.active(&other).await;
    assert!(matches!(replace(&rig, &phone, app, b"830519").await, Err(ServiceError::NotUnlocked)));
    unlock(&rig, &phone, app, b"471108").await.unwrap();
    assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    let after_a_wrong_one = replace(&rig, &phone, app, b"830519").await;
    assert!(matches!(after_a_wrong_one, Err(ServiceError::NotUnlocked)), "{after_a_wrong_one:?}");
    unlock(&rig, &phone, app, b"471108").await.unwrap();
    assert!(matches!(replace(&rig, &other, app, b"830519").await, Err(ServiceError::UnknownApp)));
    let upload = replace(&rig, &phone, app, b"830519").await.unwrap();
    rig.service.replace_pin(&rig.by(&phone), app, &upload).await.unwrap();
    assert_eq!(rig.trail().await.iter().filter(|what| *what == "personal_pin_replaced").count(), 1);
    assert!(kinds(&rig, second).await.contains(&"pin_replaced".to_owned()));
    assert!(matches!(unlock(&rig, &phone, app, b"471108").await, Err(ServiceError::PinNotProven)), "the old one");
    unlock(&rig, &phone, app, b"830519").await.unwrap();
    rig.pass(Duration::from_mins(5));
    assert!(matches!(replace(&rig, &phone, app, b"471108").await, Err(ServiceError::NotUnlocked)));
    rig.service.replace_pin(&rig.by(&phone), app, &upload).await.unwrap();
}

/// Asks for an SMS in place of a forgotten PIN, and reads it.
async fn reset_pin(rig: &Rig, phone: &Phone, app: AppId) -> TemporaryPin {
    let already = rig.outbox.newest_first().len();
    rig.service.send_reset_pin(&rig.by(phone), app, &PinRequest::default()).await.unwrap();
    while rig.outbox.newest_first().len() == already {
        tokio::task::yield_now().await;
    }
    rig.pin().await
}

#[tokio::test]
async fn a_forgotten_pin_is_replaced_after_an_sms_but_not_in_an_app_that_is_locked_for_good() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let app = rig.active(&phone).await;
    rig.pass(Duration::from_mins(20));
    let wrong = TemporaryPin::random(&mut rand::rng());
    let early = rig.service.prove_reset_pin(&rig.by(&phone), app, &wrong).await;
    assert!(matches!(early, Err(ServiceError::Step(Refused::NoPin))));
    let pin = reset_pin(&rig, &phone, app).await;
    let refused = rig.service.prove_reset_pin(&rig.by(&phone), app, &wrong).await;
    assert!(matches!(refused, Err(ServiceError::Step(Refused::WrongPin { left: 4 }))), "{refused:?}");
    rig.service.prove_reset_pin(&rig.by(&phone), app, &pin).await.unwrap();
    rig.service.prove_reset_pin(&rig.by(&phone), app, &pin).await.unwrap();
    replace(&rig, &phone, app, b"830519").await.unwrap();
    let served = rig.service.prove_reset_pin(&rig.by(&phone), app, &pin).await;
    assert!(matches!(served, Err(ServiceError::Step(Refused::NoPin))), "it serves once: {served:?}");
    unlock(&rig, &phone, app, b"830519").await.unwrap();
    for _ in 1..6 {
        rig.pass(Duration::from_mins(20));
        reset_pin(&rig, &phone, app).await;
    }
    rig.pass(Duration::from_mins(20));
    let too_many = rig.service.send_reset_pin(&rig.by(&phone), app, &PinRequest::default()).await;
    assert!(matches!(too_many, Err(ServiceError::Sends(SendRefused::TooManyToNumber { .. }))), "{too_many:?}");
    for _ in 0..10 {
        rig.pass(Duration::from_hours(25));
        assert!(matches!(unlock(&rig, &phone, app, b"000000").await, Err(ServiceError::PinNotProven)));
    }
    let locked = rig.service.send_reset_pin(&rig.by(&phone), app, &PinRequest::default()).await;
    assert!(matches!(locked, Err(ServiceError::Locked(Locked::ForGood))), "{locked:?}");
}
