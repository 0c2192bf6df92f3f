//! A slow network around a fast one: latency, jitter and loss on the generator's side of a connection. What is lost
//! arrives a retransmission later, and everything behind it too, as TCP does it.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::scenario::Shape;

/// What may be on its way in one direction.
const IN_FLIGHT_BYTES: usize = 64 * 1024;

/// Pieces on their way in one direction.
const IN_FLIGHT_PIECES: usize = 64;

/// The largest piece that is lost or not as a whole.
const PIECE_BYTES: usize = 1400;

/// The first retransmission comes after this and a round trip; each further one after twice the time.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(200);

/// TCP's handshake takes a round trip, too.
pub(super) async fn after_a_round_trip<T>(shape: Shape, work: impl Future<Output = T>) -> T {
    sleep(shape.latency.0.saturating_mul(2)).await;
    work.await
}

/// The other end of a connection, seen through a network of this shape.
pub(super) fn shaped(wire: impl AsyncRead + AsyncWrite + Send + 'static, shape: Shape, seed: u64) -> DuplexStream {
    let (near, far) = duplex(IN_FLIGHT_BYTES);
    let (wire_in, wire_out) = split(wire);
    let (far_in, far_out) = split(far);
    // The two tasks end when either side does.
    drop(tokio::spawn(carry(far_in, wire_out, shape, StdRng::seed_from_u64(seed))));
    drop(tokio::spawn(carry(wire_in, far_out, shape, StdRng::seed_from_u64(!seed))));
    near
}

/// Carries everything from one end to the other, in order, each piece as late as the network makes it.
async fn carry(
    mut from: impl AsyncRead + Unpin + Send,
    mut to: impl AsyncWrite + Unpin + Send,
    shape: Shape,
    mut rng: StdRng,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Bytes)>(IN_FLIGHT_PIECES);
    let take = async move {
        let mut piece = vec![0; PIECE_BYTES];
        let mut last = Instant::now();
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            let due = Instant::now().checked_add(delay(shape, &mut rng)).unwrap_or(last).max(last);
            last = due;
            let piece = Bytes::copy_from_slice(piece.get(..length).unwrap_or_default());
            if sender.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let give = async move {
        while let Some((due, piece)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // An end that the other side sees, or the connection was cut anyway.
        let _already_gone = to.shutdown().await.is_err();
    };
    tokio::pin!(take, give);
    tokio::select! {
        () = &mut take => give.await,
        () = &mut give => {}
    }
}

fn delay(shape: Shape, rng: &mut StdRng) -> Duration {
    let mut delay = shape.latency.0.saturating_add(shape.jitter.0.mul_f64(rng.random::<f64>()));
    let mut wait = RETRANSMIT_AFTER.saturating_add(shape.latency.0.saturating_mul(2));
    // A share of 1 would never arrive.
    while rng.random::<f64>() < shape.loss.0.min(0.9) {
        delay = delay.saturating_add(wait);
        wait = wait.saturating_mul(2);
    }
    delay
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Share, Time};

    /// Delays of many pieces, the shortest first.
    fn delays(shape: Shape) -> Vec<Duration> {
        let mut rng = StdRng::seed_from_u64(5);
        let mut delays: Vec<Duration> = (0..2000).map(|_| delay(shape, &mut rng)).collect();
        delays.sort_unstable();
        delays
    }

    fn shape(latency: u64, jitter: u64, loss: f64) -> Shape {
        let [latency, jitter] = [latency, jitter].map(|millis| Time(Duration::from_millis(millis)));
        Shape { latency, jitter, loss: Share(loss) }
    }

    #[test]
    fn every_piece_takes_the_latency_and_some_jitter() {
        let delays = delays(shape(80, 40, 0.0));
        assert!(delays[0] >= Duration::from_millis(80) && delays[1999] <= Duration::from_millis(120));
        assert!(delays[1999] - delays[0] > Duration::from_millis(38));
    }

    #[test]
    fn what_is_lost_arrives_a_retransmission_later_and_what_is_lost_twice_two() {
        let delays = delays(shape(50, 0, 0.1));
        let late = |millis| delays.iter().filter(|delay| **delay >= Duration::from_millis(millis)).count();
        assert!((150..250).contains(&late(350)), "{} of 2000 instead of 200", late(350));
        assert!((8..40).contains(&late(950)), "{} of 2000 instead of 20", late(950));
    }

    #[tokio::test]
    async fn a_connection_is_as_slow_as_its_shape() {
        let (wire, mut far) = duplex(1024);
        let mut near = shaped(wire, shape(30, 0, 0.0), 5);
        let began = Instant::now();
        near.write_all(b"x").await.unwrap();
        far.read_u8().await.unwrap();
        far.write_all(b"y").await.unwrap();
        near.read_u8().await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(60), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn bytes_stay_in_order_and_the_end_arrives() {
        let (wire, mut far) = duplex(1024);
        let mut near = shaped(wire, shape(2, 20, 0.1), 6);
        let sent: Vec<u8> = (0..=255).cycle().take(20_000).collect();
        let (sending, mut received) = (sent.clone(), Vec::new());
        let give = async move {
            near.write_all(&sending).await.unwrap();
            near.shutdown().await.unwrap();
            near
        };
        let (_near, read) = tokio::join!(give, far.read_to_end(&mut received));
        assert_eq!(read.unwrap(), 20_000);
        assert_eq!(received, sent);
    }
}
