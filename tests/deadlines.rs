//! 5,000 sessions end at their three minutes, also those of apps that stopped reading, and leave nothing behind.
//!
//! A binary of its own, because it measures: run it alone. Takes four minutes.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::format_collect,
    clippy::unchecked_time_subtraction,
    reason = "a panic in a test is a failed test, tests measure real time, and their figures are printed"
)]

#[cfg(test)]
#[path = "it/support/mod.rs"]
#[expect(dead_code, reason = "the other test binary uses the rest")]
mod support;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use handoff_relay::protocol::Role::{New, Old};
    use handoff_relay::protocol::close::CloseReason;
    use handoff_relay::protocol::limits::TOMBSTONE_GRACE;
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;
    use tokio::time::sleep_until;

    use super::support::eventually;
    use super::support::messages::Transfer;
    use super::support::party::{Pair, Party};
    use super::support::relay::Relay;
    use super::support::socket::{CLOSE, Handshake, PING, PONG, Socket, TEXT, close, frame, text};

    const SESSIONS: usize = 5000;

    /// Of these, the old app stops reading after `opened`.
    const DEAF: usize = 400;

    /// Of these, the new app stops reading after `joined`, has little room, and is flooded by the old one.
    const JAMMED: usize = 100;

    /// What floods: more than the new app's and the relay's kernel take, and fewer messages than make it `too_slow`.
    const FLOOD: (usize, usize) = (20, 8000);

    /// Sessions before the measurement, so that what a relay keeps for good is there already.
    const WARM_UP: usize = 300;

    /// How late a session may end, up to the end of TCP.
    const MOST_LATE: Duration = Duration::from_millis(250);

    /// What watching costs: a look at `/metrics` of a relay that closes hundreds of connections a second waits for its
    /// turn, and the machine has other work.
    const WATCHING: Duration = Duration::from_millis(250);

    /// An app that does not read shows that it lives, well within the relay's 38 s.
    const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

    /// The relay forgets ended sessions [`TOMBSTONE_GRACE`] after their deadline, and looks every 5 s.
    const UNTIL_FORGOTTEN: Duration = TOMBSTONE_GRACE.saturating_add(Duration::from_secs(6));

    /// 180 s. Another number of seconds in the environment is for trying things out.
    fn lifetime() -> Duration {
        let seconds = std::env::var("DEADLINES_LIFETIME_SECONDS").ok().map(|text| text.parse().unwrap());
        Duration::from_secs(seconds.unwrap_or(180))
    }

    fn transfer() -> Transfer {
        Transfer::random(lifetime().as_millis().try_into().unwrap(), 5000)
    }

    /// When an app said and heard what.
    #[derive(Clone, Copy, Debug)]
    struct Times {
        open_sent: Instant,
        opened: Instant,
        /// Nothing for an app that does not read.
        ended: Option<(Instant, Instant)>,
    }

    #[tokio::test]
    async fn five_thousand_sessions_end_at_their_deadline_and_leave_nothing_behind() {
        let settings = format!("session.lifetime={}s", lifetime().as_secs());
        let relay = Arc::new(Relay::start(&[
            &settings,
            "limits.sessions=6000",
            "limits.connections=9000",
            "limits.connections_per_address=9000",
            "limits.opens_per_second_per_address=1000000",
            "limits.opens_burst_per_address=1000000",
            "limits.opens_per_second=1000000",
            "limits.opens_burst=1000000",
            "limits.handshakes_per_second_per_address=1000000",
            "limits.handshakes_burst_per_address=1000000",
        ]));
        let fresh_memory = relay.resident_bytes();
        warm_up(&relay).await;
        let (idle_files, idle_memory) = (at_rest(&relay).await, relay.resident_bytes());

        let started = Instant::now();
        let apps = open_all(&relay).await;
        let (opening, cpu) = (started.elapsed(), relay.cpu_time());
        assert!(opening < lifetime() / 2, "the machine is too busy: opening took {opening:?}");
        relay.until_metric("handoff_sessions", as_f64(SESSIONS)).await;
        let (peak_files, peak_memory) = (relay.open_files(), relay.resident_bytes());

        let mut lateness = Vec::new();
        let mut last_deadline = started;
        let mut leftovers = Vec::new();
        for (times, leftover) in apps.join_all().await {
            check(&times, &mut lateness);
            last_deadline = last_deadline.max(times.opened + lifetime());
            leftovers.extend(leftover);
        }
        relay.until_metric("handoff_connections", 0.0).await;
        let all_gone = Instant::now().saturating_duration_since(last_deadline);
        let after_files = at_rest(&relay).await;
        check_relay(&relay).await;
        for leftover in leftovers {
            leftover.check().await;
        }
        sleep_until((last_deadline + UNTIL_FORGOTTEN).into()).await;
        let after_memory = relay.resident_bytes();

        lateness.sort_unstable();
        let at = |percent: usize| lateness[(lateness.len() - 1) * percent / 100];
        println!("opened {SESSIONS} sessions in {opening:.1?}, relay CPU {cpu:.1?}, in all {:.1?}", relay.cpu_time());
        println!("lateness: min {:?}, median {:?}, p99 {:?}, max {:?}", at(0), at(50), at(99), at(100));
        println!("the last connection was gone {all_gone:?} after the last deadline");
        println!("RSS: fresh {fresh_memory}, idle {idle_memory}, peak {peak_memory}, after {after_memory} bytes");
        println!("open files: idle {idle_files}, peak {peak_files}, after {after_files}");
        assert!(at(100) <= MOST_LATE);
        assert!(all_gone <= MOST_LATE + WATCHING);
        assert_eq!(after_files, idle_files);
        assert!(after_memory <= idle_memory + idle_memory / 10, "RSS {idle_memory} -> {after_memory}");
        assert!(!relay.log().contains("panicked"), "{}", relay.log());
    }

    async fn warm_up(relay: &Relay) {
        let mut pairs = Vec::new();
        for _ in 0..WARM_UP {
            pairs.push(Pair::joined(relay.address(), transfer()).await);
        }
        for pair in pairs {
            pair.finish().await;
        }
        // The allocator gives back what was freed a second ago.
        sleep_until((Instant::now() + Duration::from_secs(3)).into()).await;
    }

    /// Waits until no connection is left; says how many files are open.
    async fn at_rest(relay: &Relay) -> usize {
        relay.until_metric("handoff_connections", 0.0).await;
        let mut last = (relay.open_files(), Instant::now());
        let ask = async || {
            let files = relay.open_files();
            if files != last.0 {
                last = (files, Instant::now());
            }
            last.1.elapsed()
        };
        eventually("open files at rest", ask, |unchanged| *unchanged > Duration::from_millis(300)).await;
        relay.open_files()
    }

    /// Opens all sessions, a hundred at a time; each app goes on by itself until its end.
    async fn open_all(relay: &Arc<Relay>) -> JoinSet<(Times, Option<Leftover>)> {
        let places = Arc::new(Semaphore::new(100));
        let mut apps = JoinSet::new();
        for number in 0..SESSIONS {
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            let address = relay.address();
            apps.spawn(async move {
                let transfer = transfer();
                let socket = Socket::open(address, &transfer.session, Old).await;
                let mut old = Party { role: Old, socket };
                let open_sent = Instant::now();
                old.say(&transfer.open()).await;
                old.hear("opened").await;
                let mut times = Times { open_sent, opened: Instant::now(), ended: None };
                // Spread over all, so that every worker of the relay has some of each kind.
                let kind = number % (SESSIONS / 100);
                if kind < DEAF * 100 / SESSIONS {
                    drop(place);
                    let leftover = be_deaf(old, &times).await;
                    return (times, Some(leftover));
                }
                if kind < (DEAF + JAMMED) * 100 / SESSIONS {
                    let deaf = join_and_stop_reading(&mut old, address, &transfer).await;
                    drop(place);
                    let (ended, leftover) = jam(old, deaf, &times).await;
                    times.ended = Some(ended);
                    return (times, Some(leftover));
                }
                drop(place);
                times.ended = Some(until_end(old).await);
                (times, None)
            });
        }
        drop(places.acquire_many(100).await.unwrap());
        apps
    }

    /// A connection that nobody has read, for the time after the measurement.
    enum Leftover {
        /// What arrived is complete.
        Whole(Socket),
        /// What arrived is less than what was sent.
        Cut(Socket),
    }

    impl Leftover {
        async fn check(self) {
            match self {
                Self::Whole(mut socket) => assert!(socket.until_end().await.is(CloseReason::Expired)),
                Self::Cut(mut socket) => {
                    let arrived = socket.until_end_of_bytes().await.len();
                    assert!(arrived < FLOOD.0 * FLOOD.1, "the connection was not jammed: {arrived} bytes arrived");
                }
            }
        }
    }

    async fn be_deaf(mut old: Party, times: &Times) -> Leftover {
        say_something_until(&mut old.socket, times.opened + lifetime()).await;
        Leftover::Whole(old.socket)
    }

    async fn say_something_until(socket: &mut Socket, end: Instant) {
        let mut next = Instant::now() + SIGN_OF_LIFE;
        while next < end {
            sleep_until(next.into()).await;
            socket.send(&frame(0x80 | PONG, b"")).await;
            next += SIGN_OF_LIFE;
        }
        sleep_until(end.into()).await;
    }

    async fn join_and_stop_reading(old: &mut Party, address: std::net::SocketAddr, transfer: &Transfer) -> Socket {
        let socket = Socket::connect_with_little_room(address).await;
        let mut socket = socket.shake_hands(&Handshake::new(&transfer.session, New)).await;
        socket.send(&text(&transfer.join(0).to_string())).await;
        old.hear("peer_joined").await;
        socket
    }

    /// The flood comes late: the kernel gives up a connection that is jammed for 30 s.
    async fn jam(mut old: Party, mut deaf: Socket, times: &Times) -> ((Instant, Instant), Leftover) {
        let flood_at = times.opened + lifetime() - Duration::from_secs(10);
        let alive = say_something_until(&mut deaf, flood_at);
        tokio::select! {
            () = alive => {}
            _ = old.stay() => unreachable!(),
        }
        for _ in 0..FLOOD.0 {
            old.send_data(&vec![7; FLOOD.1]).await;
        }
        (until_end(old).await, Leftover::Cut(deaf))
    }

    /// Answers pings until the relay ends the session; when `ended` came, and when TCP was over.
    async fn until_end(mut old: Party) -> (Instant, Instant) {
        let mut ended = None;
        while let Some(heard) = old.socket.frame().await {
            match heard.opcode {
                PING => old.socket.send(&frame(0x80 | PONG, &heard.payload)).await,
                TEXT if heard.payload.starts_with(b"{\"type\":\"tick\"") => {}
                TEXT => {
                    let message = String::from_utf8(heard.payload).unwrap();
                    assert!(message.contains("\"expired\""), "{message}");
                    ended = Some(Instant::now());
                }
                CLOSE => {
                    assert_eq!(heard.payload[..2], 4500_u16.to_be_bytes());
                    old.socket.send(&close(4500)).await;
                }
                _ => panic!("{heard:?}"),
            }
        }
        (ended.expect("ended comes before the end"), Instant::now())
    }

    fn check(times: &Times, lateness: &mut Vec<Duration>) {
        let Some((ended, end_of_tcp)) = times.ended else { return };
        let age = ended.duration_since(times.open_sent);
        assert!(age >= lifetime(), "ended after {age:?}");
        lateness.push(end_of_tcp.saturating_duration_since(times.opened + lifetime()));
    }

    /// What the relay itself measured, deaf apps included.
    async fn check_relay(relay: &Relay) {
        let metrics = relay.metrics().await;
        let value = |series: &str| metrics.value(series);
        assert!((value("handoff_sessions_ended_total{reason=\"expired\"}") - as_f64(SESSIONS)).abs() < 0.5);
        let in_time = value("handoff_deadline_overshoot_seconds_bucket{le=\"0.1\"}");
        assert!((in_time - as_f64(SESSIONS)).abs() < 0.5, "only {in_time} within 100 ms, and the closing takes 150 ms");
        assert!(metrics.sum("handoff_connections_closed_total{role=\"new\",reason=\"too_slow\"}") < 0.5);
    }

    fn as_f64(number: usize) -> f64 {
        f64::from(u32::try_from(number).unwrap())
    }
}
