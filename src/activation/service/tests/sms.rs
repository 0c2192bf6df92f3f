//! SMS: how many go out, who gets none, which PIN is right, and what becomes of them.

use super::*;

#[tokio::test]
async fn a_pin_of_another_activation_is_wrong() {
    let rig = sqlite().await;
    let (one, other) = (Phone::new(), Phone::new());
    let first = rig.start(&one, &rig.token_for("maria82", None)).await.unwrap();
    let second = rig.start(&other, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&other, second.id).await.unwrap();
    rig.send(&one, first.id).await.unwrap();
    let pin_of_first = rig.pin().await;
    let refused = rig.service.temporary_pin(&rig.by(&other), second.id, &pin_of_first).await;
    assert!(matches!(refused, Err(ServiceError::Step(Refused::WrongPin { left: 4 }))), "{refused:?}");
}

#[tokio::test]
async fn wrong_tries_are_counted_although_they_are_refused() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let pin = rig.pin().await;
    let wrong = TemporaryPin::random(&mut rand::rng());
    for left in (0..5).rev() {
        let refused = rig.service.temporary_pin(&rig.by(&phone), view.id, &wrong).await;
        assert!(matches!(refused, Err(ServiceError::Step(Refused::WrongPin { left: l })) if l == left), "{refused:?}");
    }
    let refused = rig.service.temporary_pin(&rig.by(&phone), view.id, &pin).await;
    assert!(matches!(refused, Err(ServiceError::Step(Refused::PinUsedUp))));
    rig.send(&phone, view.id).await.unwrap();
    let pin = rig.pin().await;
    assert!(rig.service.temporary_pin(&rig.by(&phone), view.id, &pin).await.is_ok(), "the user is not locked");
}

#[tokio::test]
async fn guesses_at_once_all_count() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let wrong = TemporaryPin::random(&mut rand::rng());
    let mut callers: Vec<Caller> = (0..20).map(|_| rig.by(&phone)).collect();
    for (caller, host) in callers.iter_mut().zip(1_u8..) {
        caller.address = Some([198, 51, 100, host].into());
    }
    let guesses = callers.iter().map(|caller| rig.service.temporary_pin(caller, view.id, &wrong));
    let ends = futures_util::future::join_all(guesses).await;
    let wrong = |end: &&Result<View, ServiceError>| matches!(end, Err(ServiceError::Step(Refused::WrongPin { .. })));
    assert_eq!(ends.iter().filter(wrong).count(), 5);
}

#[tokio::test]
async fn the_fourth_sms_to_a_number_has_to_wait_and_nothing_is_sent() {
    let rig = sqlite().await;
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    for _ in 0..3 {
        rig.send(&phone, view.id).await.unwrap();
    }
    let pin = rig.pin().await;
    let refused = rig.service.send_pin(&rig.by(&phone), view.id, &PinRequest::default()).await;
    assert!(matches!(refused, Err(ServiceError::Sends(SendRefused::TooManyToNumber { .. }))), "{refused:?}");
    assert_eq!(rig.outbox.newest_first().len(), 3);
    assert!(rig.service.temporary_pin(&rig.by(&phone), view.id, &pin).await.is_ok(), "the last one holds");
}

#[tokio::test]
async fn a_number_that_was_changed_gets_no_sms_and_the_answer_is_the_same() {
    let rig = sqlite().await;
    rig.put("erik77", "+4511111111").await;
    rig.put("erik77", "+4522222222").await;
    let (phone, honest) = (Phone::new(), Phone::new());
    let view = rig.start(&phone, &rig.token_for("erik77", None)).await.unwrap();
    let withheld = rig.service.send_pin(&rig.by(&phone), view.id, &PinRequest::default()).await.unwrap();
    let other = rig.start(&honest, &rig.token_for("maria82", None)).await.unwrap();
    let sent = rig.send(&honest, other.id).await.unwrap();
    let (id, app, number_ends) = (sent.id, sent.app, sent.number_ends.clone());
    assert_eq!(View { id, app, number_ends, ..withheld }, sent);
    assert_eq!(rig.outbox.newest_first().len(), 1, "only the honest one");
    let guess = rig.service.temporary_pin(&rig.by(&phone), view.id, &TemporaryPin::random(&mut rand::rng())).await;
    assert!(matches!(guess, Err(ServiceError::Step(Refused::WrongPin { left: 4 }))));
    rig.pass(Duration::from_hours(5 * 24));
    let view = rig.start(&Phone::new(), &rig.token_for("erik77", None)).await.unwrap();
    assert_eq!(view.due, Due::TemporaryPin);
}

pub(super) async fn of_many_requests_at_once_only_as_many_sms_go_out_as_are_allowed(rig: Rig) {
    let rules = settings().send_rules;
    let rules = SendRules { per_address: Limit { most: 5, ..rules.per_address }, ..rules };
    let rig = Rig::with(rig.place, ServiceSettings { send_rules: rules, ..settings() }).await;
    let mut ready = Vec::new();
    for number in 0..20 {
        let (user, phone) = (format!("person{number}"), Phone::new());
        rig.put(&user, &format!("+45201111{number:02}")).await;
        let view = rig.start(&phone, &rig.token_for(&user, None)).await.unwrap();
        ready.push((rig.by(&phone), view.id));
    }
    let request = PinRequest::default();
    let sends = ready.iter().map(|(caller, id)| rig.service.send_pin(caller, *id, &request));
    let ends = futures_util::future::join_all(sends).await;
    let refused = |end: &&Result<View, ServiceError>| {
        matches!(end, Err(ServiceError::Sends(SendRefused::TooManyFromAddress { .. })))
    };
    assert_eq!((ends.iter().filter(|end| end.is_ok()).count(), ends.iter().filter(refused).count()), (5, 15));
}

pub(super) async fn a_report_is_written_down_with_the_sms_and_the_last_word_stays(rig: Rig) {
    use crate::activation::sms::delivery::{Report, Status};
    let phone = Phone::new();
    let view = rig.start(&phone, &rig.token_for("maria82", None)).await.unwrap();
    rig.send(&phone, view.id).await.unwrap();
    let maria = "maria82".parse().unwrap();
    let status = async || rig.service.user_on_file(&maria).await.unwrap().sends[0].status.clone();
    while status().await != "accepted" {
        tokio::task::yield_now().await;
    }
    let message_id = rig.outbox.newest_first()[0].message.key.to_string();
    for (word, expected) in
        [(Status::UnderWay, "under_way"), (Status::Delivered, "delivered"), (Status::UnderWay, "delivered")]
    {
        let report = Report { message_id: message_id.clone(), status: word };
        assert!(rig.service.report(0, &report).await.unwrap());
        assert_eq!(status().await, expected);
        assert!(!rig.service.report(1, &report).await.unwrap(), "the other gateway knows no such message");
    }
}
