use governor::clock::FakeRelativeClock;

use super::*;

fn every(millis: u64, burst: u32) -> Rate {
    Rate { period: Duration::from_millis(millis), burst: NonZeroU32::new(burst).unwrap() }
}

const AMPLE: u32 = 1_000_000;

/// Limits of which none is reached.
fn ample() -> Limits {
    Limits {
        connections: 1_000_000,
        connections_per_address: 1_000_000,
        handshakes_per_address: every(1, AMPLE),
        opens_per_address: every(1, AMPLE),
        opens: every(1, AMPLE),
    }
}

fn admission(limits: Limits) -> (Arc<Admission>, FakeRelativeClock) {
    remembering(MAX_ADDRESSES, limits)
}

fn remembering(most: usize, limits: Limits) -> (Arc<Admission>, FakeRelativeClock) {
    let fake = FakeRelativeClock::default();
    let clock = fake.clone();
    (Admission::remembering(most, limits, RateClock::new(move || clock.now().into())), fake)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn refusal<T>(result: Result<T, Refused>) -> (Limit, Duration) {
    let refused = result.err().expect("must be refused");
    (refused.limit, refused.retry_after)
}

#[test]
fn one_address_has_at_most_its_share_of_connections_and_gets_it_back() {
    let (admission, _) = admission(Limits { connections_per_address: 2, ..ample() });
    let first = admission.connect(ip("192.0.2.1")).unwrap();
    let _second = admission.connect(ip("192.0.2.1")).unwrap();
    assert_eq!(refusal(admission.connect(ip("192.0.2.1"))).0, Limit::ConnectionsPerAddress);
    assert!(admission.connect(ip("192.0.2.2")).is_ok(), "another address has its own share");
    drop(first);
    assert!(admission.connect(ip("192.0.2.1")).is_ok());
}

#[test]
fn an_ipv6_subscriber_is_counted_by_its_64() {
    let (admission, _) = admission(Limits { connections_per_address: 1, ..ample() });
    let _guard = admission.connect(ip("2001:db8:1:2::1")).unwrap();
    assert_eq!(refusal(admission.connect(ip("2001:db8:1:2:ffff::9"))).0, Limit::ConnectionsPerAddress);
    assert!(admission.connect(ip("2001:db8:1:3::1")).is_ok());
    let _guard = admission.connect(ip("192.0.2.1")).unwrap();
    assert_eq!(refusal(admission.connect(ip("::ffff:192.0.2.1"))).0, Limit::ConnectionsPerAddress);
}

#[test]
fn the_node_has_at_most_its_number_of_connections() {
    let (admission, _) = admission(Limits { connections: 2, ..ample() });
    let first = admission.connect(ip("192.0.2.1")).unwrap();
    let _second = admission.connect(ip("192.0.2.2")).unwrap();
    assert_eq!(admission.connections(), 2);
    assert_eq!(refusal(admission.connect(ip("192.0.2.3"))).0, Limit::Connections);
    drop(first);
    assert!(admission.connect(ip("192.0.2.3")).is_ok());
}

#[test]
fn nothing_is_remembered_of_connections_that_are_gone() {
    let (admission, _) = admission(ample());
    let guards: Vec<_> = (0..100).map(|i| admission.connect(ipv4(i)).unwrap()).collect();
    drop(guards);
    assert_eq!(admission.connections(), 0);
    assert_eq!(admission.counts().by_address.capacity(), 0);
}

fn ipv4(number: u32) -> IpAddr {
    std::net::Ipv4Addr::from_bits(number).into()
}

#[test]
fn connections_that_come_and_go_on_many_threads_are_counted_exactly() {
    let (admission, _) = admission(Limits { connections: 3, ..ample() });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let admission = &admission;
            scope.spawn(move || {
                for _ in 0..1000 {
                    if let Ok(guard) = admission.connect(ipv4(thread)) {
                        assert!((1..=3).contains(&admission.connections()));
                        drop(guard);
                    }
                }
            });
        }
    });
    assert_eq!(admission.connections(), 0);
}

#[test]
fn an_address_that_connects_too_often_is_told_when_to_come_back() {
    let (admission, clock) = admission(Limits { handshakes_per_address: every(500, 2), ..ample() });
    let connect = || admission.connect(ip("192.0.2.1")).map(drop);
    assert!(connect().is_ok() && connect().is_ok());
    assert_eq!(refusal(connect()), (Limit::HandshakesPerAddress, Duration::from_millis(500)));
    assert!(admission.connect(ip("192.0.2.2")).is_ok());
    clock.advance(Duration::from_millis(200));
    assert_eq!(refusal(connect()).1, Duration::from_millis(300));
    clock.advance(Duration::from_millis(300));
    assert!(connect().is_ok());
    assert!(connect().is_err());
}

#[test]
fn a_refused_connection_counts_as_a_handshake_but_not_as_a_connection() {
    let limits = Limits { connections: 0, handshakes_per_address: every(1000, 1), ..ample() };
    let (admission, _) = admission(limits);
    assert_eq!(refusal(admission.connect(ip("192.0.2.1"))).0, Limit::Connections);
    assert_eq!(refusal(admission.connect(ip("192.0.2.1"))).0, Limit::HandshakesPerAddress);
    assert_eq!(admission.connections(), 0);
}

#[test]
fn one_address_cannot_use_up_what_the_node_opens() {
    let limits = Limits { opens_per_address: every(1000, 2), opens: every(1000, 3), ..ample() };
    let (admission, clock) = admission(limits);
    let guard = admission.connect(ip("192.0.2.1")).unwrap();
    assert!(guard.open().is_ok() && guard.open().is_ok());
    for _ in 0..10 {
        assert_eq!(refusal(guard.open()), (Limit::OpensPerAddress, Duration::from_secs(1)));
    }
    assert!(admission.open(ip("192.0.2.2")).is_ok());
    assert_eq!(refusal(admission.open(ip("192.0.2.3"))).0, Limit::Opens);
    clock.advance(Duration::from_secs(1));
    assert!(admission.open(ip("192.0.2.3")).is_ok());
}

#[test]
fn a_burst_is_whole_again_after_a_rest_and_never_more_than_whole() {
    let (admission, clock) = admission(Limits { opens: every(100, 5), ..ample() });
    clock.advance(Duration::from_hours(1));
    let opened = (0..100).filter(|i| admission.open(ipv4(*i)).is_ok()).count();
    assert_eq!(opened, 5);
}

#[test]
fn addresses_are_forgotten_a_period_after_their_burst_is_whole_again() {
    let (admission, clock) = admission(Limits { opens_per_address: every(1000, 2), ..ample() });
    admission.open(ip("192.0.2.1")).unwrap();
    clock.advance(Duration::from_millis(1500));
    admission.open(ip("192.0.2.2")).unwrap();
    assert_eq!(admission.opens_per_address.limiter.len(), 2);
    clock.advance(Duration::from_secs(2));
    admission.upkeep();
    assert_eq!(admission.opens_per_address.limiter.len(), 0);
}

#[test]
fn a_crowd_of_addresses_is_refused_as_a_whole_before_it_fills_the_memory() {
    let (admission, clock) = remembering(3, Limits { opens_per_address: every(2000, 1), ..ample() });
    clock.advance(Duration::from_secs(10));
    for i in 0..3 {
        admission.open(ipv4(i)).unwrap();
    }
    assert_eq!(refusal(admission.open(ipv4(3))), (Limit::Addresses, Duration::from_secs(1)));
    assert_eq!(admission.opens_per_address.limiter.len(), 3);
    clock.advance(Duration::from_secs(4));
    assert!(admission.open(ipv4(3)).is_ok());
    assert_eq!(admission.opens_per_address.limiter.len(), 1);
}

#[test]
fn the_monotonic_clock_moves_forward() {
    let clock = RateClock::monotonic();
    let before = clock.now();
    assert!(clock.now() >= before);
}

#[test]
fn the_limits_are_those_of_the_metric_which_counts_every_refusal() {
    let labels: Vec<&str> = Limit::ALL.iter().map(|limit| limit.label()).collect();
    assert_eq!(labels, telemetry::LIMITS);
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        let (admission, _) = admission(Limits { connections: 0, opens: every(1000, 1), ..ample() });
        assert!(admission.connect(ip("192.0.2.1")).is_err());
        assert!(admission.open(ip("192.0.2.1")).is_ok());
        assert!(admission.open(ip("192.0.2.1")).is_err() && admission.open(ip("192.0.2.1")).is_err());
    });
    let text = recorder.handle().render();
    assert!(text.contains("handoff_rate_limited_total{limit=\"connections\"} 1\n"), "{text}");
    assert!(text.contains("handoff_rate_limited_total{limit=\"opens\"} 2\n"), "{text}");
}
