use std::future::Future;

use tokio::sync::oneshot;

use super::*;
use crate::activation::https;
use crate::activation::sms::http::{HttpGateway, HttpGatewaySettings};
use crate::activation::sms::outbox::Outbox;
use crate::activation::sms::tests::message;
use crate::activation::test_server::{Does, Server};

const GOOD: &str = r#"{"ids": ["an-id"]}"#;

fn quick() -> SenderSettings {
    let breaker = BreakerSettings { failures: 100, ..BreakerSettings::default() };
    let (timeout, pause) = (Duration::from_millis(300), Duration::from_millis(20));
    SenderSettings { timeout, pause, breaker, ..SenderSettings::default() }
}

fn over(servers: &[&Server], settings: SenderSettings) -> Arc<SmsSender> {
    let gateway = |server: &&Server| -> Arc<dyn SmsGateway> {
        let settings = HttpGatewaySettings::gatewayapi("t", "e-ID", None);
        let settings = HttpGatewaySettings { address: server.url("/"), ..settings };
        Arc::new(HttpGateway::new(settings, https::client(None).unwrap()).unwrap())
    };
    Arc::new(SmsSender::new(servers.iter().map(gateway).collect(), settings))
}

fn sent(gateway: usize) -> Sent {
    Sent { gateway, message_id: "an-id".to_owned() }
}

fn good() -> Does {
    Does::answers(200, GOOD)
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("it did not end")
}

#[tokio::test]
async fn a_message_is_tried_again_with_the_same_key_until_it_is_taken() {
    let server = Server::that(vec![Does::answers(503, ""), Does::HangsUp, good()]).await;
    assert_eq!(over(&[&server], quick()).send(&message(1)).await, Ok(sent(0)));
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|again| again.body == asked[0].body && again.body.contains(&message(1).key.to_string())));
}

#[tokio::test]
async fn a_message_that_is_refused_is_not_tried_again() {
    let server = Server::that(vec![Does::answers(400, ""), good()]).await;
    let end = over(&[&server], quick()).send(&message(1)).await;
    assert_eq!(end, Err(NotSent::Failed(GatewayError::Refused(400))));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn after_all_rounds_the_last_trouble_is_told() {
    let server = Server::that(vec![Does::answers(500, "")]).await;
    let end = over(&[&server], quick()).send(&message(1)).await;
    assert_eq!(end, Err(NotSent::Failed(GatewayError::Failed(500))));
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_gateway_that_hangs_is_given_up_and_the_next_one_takes_the_message() {
    let (hangs, works) = (Server::that(vec![Does::Hangs]).await, Server::that(vec![good()]).await);
    assert_eq!(over(&[&hangs, &works], quick()).send(&message(1)).await, Ok(sent(1)));
    assert_eq!((hangs.asked().len(), works.asked().len()), (1, 1));
}

#[tokio::test]
async fn what_one_gateway_refuses_or_lies_about_goes_to_the_next() {
    for trouble in [Does::answers(401, ""), Does::answers(200, "OK"), Does::BreaksOff, Does::answers(429, "")] {
        let (first, second) = (Server::that(vec![trouble]).await, Server::that(vec![good()]).await);
        assert_eq!(over(&[&first, &second], quick()).send(&message(1)).await, Ok(sent(1)));
    }
}

#[tokio::test]
async fn a_slow_gateway_blocks_nobody_else() {
    let slow = Server::that(vec![Does::Waits(200, GOOD.to_owned())]).await;
    let fallback = Server::that(vec![good()]).await;
    let settings = SenderSettings { at_once: 2, timeout: Duration::from_mins(1), ..quick() };
    let sender = over(&[&slow, &fallback], settings);
    let waiting: Vec<_> = (1..=2)
        .map(|number| {
            let sender = Arc::clone(&sender);
            tokio::spawn(async move { sender.send(&message(number)).await })
        })
        .collect();
    slow.until_asked(2).await;
    // Both places at the slow gateway are taken; the others do not wait for them.
    for number in 3..=20 {
        assert_eq!(in_time(sender.send(&message(number))).await, Ok(sent(1)));
    }
    assert_eq!((slow.asked().len(), fallback.asked().len()), (2, 18));
    slow.release(2);
    for task in waiting {
        assert_eq!(in_time(task).await.unwrap(), Ok(sent(0)));
    }
}

#[tokio::test]
async fn a_gateway_that_keeps_failing_is_left_alone_and_tried_again_later() {
    let failing = Server::that(vec![Does::answers(500, ""), Does::answers(500, ""), good()]).await;
    let fallback = Server::that(vec![good()]).await;
    let rest = Duration::from_millis(400);
    let breaker = BreakerSettings { failures: 2, rest, longest_rest: rest };
    let sender = over(&[&failing, &fallback], SenderSettings { breaker, ..quick() });
    for number in 1..=5 {
        assert_eq!(sender.send(&message(number)).await, Ok(sent(1)));
    }
    assert_eq!(failing.asked().len(), 2, "the breaker opened after two failures");
    // Real sockets: the time must pass.
    sleep(rest).await;
    assert_eq!(sender.send(&message(6)).await, Ok(sent(0)));
    assert_eq!(sender.send(&message(7)).await, Ok(sent(0)));
}

#[tokio::test]
async fn when_all_gateways_rest_the_message_fails_soon_and_is_named() {
    let server = Server::that(vec![Does::answers(500, "")]).await;
    let breaker = BreakerSettings { failures: 1, ..BreakerSettings::default() };
    let sender = over(&[&server], SenderSettings { breaker, ..quick() });
    let end = sender.send(&message(1)).await;
    assert_eq!(end, Err(NotSent::Failed(GatewayError::Failed(500))));
    assert_eq!(in_time(sender.send(&message(2))).await, Err(NotSent::NoGateway));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_is_dispatched_runs_in_the_background_and_is_bounded() {
    let slow = Server::that(vec![Does::Waits(200, GOOD.to_owned())]).await;
    let settings = SenderSettings { under_way: 2, timeout: Duration::from_mins(1), ..quick() };
    let sender = over(&[&slow], settings);
    let mut ends = Vec::new();
    for number in 1..=2 {
        let (done, end) = oneshot::channel();
        sender.dispatch(sender.reserve().unwrap(), message(number), async move |outcome| done.send(outcome).unwrap());
        ends.push(end);
    }
    assert_eq!(sender.reserve().unwrap_err(), QueueFull);
    slow.until_asked(2).await;
    slow.release(2);
    for end in ends {
        assert_eq!(in_time(end).await.unwrap(), Ok(sent(0)));
    }
    in_time(sender.drain()).await;
    assert_eq!(sender.reserve().unwrap_err(), QueueFull, "it takes no more");
}

#[tokio::test]
async fn draining_waits_for_what_is_under_way() {
    let slow = Server::that(vec![Does::Waits(200, GOOD.to_owned())]).await;
    let sender = over(&[&slow], SenderSettings { timeout: Duration::from_mins(1), ..quick() });
    let (done, mut end) = oneshot::channel();
    sender.dispatch(sender.reserve().unwrap(), message(1), async move |outcome| done.send(outcome).unwrap());
    slow.until_asked(1).await;
    let mut draining = Box::pin(sender.drain());
    assert!(futures_util::poll!(&mut draining).is_pending());
    slow.release(1);
    in_time(draining).await;
    assert_eq!(end.try_recv().unwrap(), Ok(sent(0)));
}

#[test]
fn pauses_double_and_a_gateway_may_ask_for_another_one() {
    let sender =
        SmsSender::new(vec![Arc::new(Outbox::new(|| std::time::SystemTime::UNIX_EPOCH))], SenderSettings::default());
    let failed = NotSent::Failed(GatewayError::Failed(500));
    for (round, least, most) in
        [(1, 250, 500), (2, 500, 1000), (3, 1000, 2000), (31, 2500, 5000), (u32::MAX, 2500, 5000)]
    {
        for number in [0, 128, 255] {
            let pause = sender.pause(&message(number), round, failed).as_millis();
            assert!((least..=most).contains(&pause), "{round}: {pause}");
        }
    }
    let busy = |seconds| NotSent::Failed(GatewayError::Busy { retry_after: Some(Duration::from_secs(seconds)) });
    assert_eq!(sender.pause(&message(1), 1, busy(2)), Duration::from_secs(2));
    assert_eq!(sender.pause(&message(1), 1, busy(3600)), Duration::from_secs(5), "at most an attempt's time");
}

#[test]
fn every_outcome_of_an_attempt_is_a_value_of_its_label() {
    let outcomes: Vec<&str> = ["accepted"].into_iter().chain(GatewayError::LABELS).chain(["full", "resting"]).collect();
    assert_eq!(outcomes, telemetry::SMS_ATTEMPT_OUTCOMES);
}

#[tokio::test]
async fn what_the_only_gateway_is_too_busy_for_waits_for_its_turn() {
    let slow = Server::that(vec![Does::Waits(200, GOOD.to_owned())]).await;
    let settings = SenderSettings { at_once: 1, timeout: Duration::from_mins(1), ..quick() };
    let sender = over(&[&slow], settings);
    let mut ends = Vec::new();
    for number in 1..=4 {
        let (done, end) = oneshot::channel();
        sender.dispatch(sender.reserve().unwrap(), message(number), async move |outcome| done.send(outcome).unwrap());
        ends.push(end);
    }
    for number in 1..=4 {
        slow.until_asked(number).await;
        assert_eq!(slow.asked().len(), number, "one at a time");
        slow.release(1);
    }
    for end in ends {
        assert_eq!(in_time(end).await.unwrap(), Ok(sent(0)));
    }
}
