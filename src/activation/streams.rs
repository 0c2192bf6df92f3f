//! Open streams of events: one for each app, and a bounded number in all. Knows no HTTP and no registry: it is told what
//! happened, and hands it to the app's stream, each event once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::ids::AppId;
use super::registry::StoredEvent;

/// Streams of one node.
const MOST: usize = 5000;

/// Events that wait in a stream whose app does not read. One that is full is ended: the app comes back, and says what it
/// saw last.
const QUEUE: usize = 64;

/// There are as many streams as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many streams are open on this node")]
pub struct TooManyStreams;

type Open = Arc<Mutex<HashMap<AppId, (u64, Sender<StoredEvent>)>>>;

/// All streams of a node.
#[derive(Debug, Default)]
pub struct Streams {
    open: Open,
    count: AtomicU64,
}

impl Streams {
    /// Opens the stream of an app; one that is open ends.
    ///
    /// # Errors
    /// [`TooManyStreams`].
    pub fn attach(&self, app: AppId) -> Result<Stream, TooManyStreams> {
        let epoch = self.count.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MOST && !open.contains_key(&app) {
            return Err(TooManyStreams);
        }
        open.insert(app, (epoch, sender));
        drop(open);
        let place = Place { open: Arc::clone(&self.open), app, epoch };
        Ok(Stream { waiting: VecDeque::new(), seen: HashSet::new(), receiver, _place: place })
    }

    /// Hands an event to its app's stream, if that is here.
    pub fn offer(&self, event: &StoredEvent) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = open.get(&event.app).is_some_and(|(_, sender)| sender.try_send(event.clone()).is_err());
        if is_full {
            open.remove(&event.app);
        }
    }

    /// Whether nobody listens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Ends all.
    pub fn clear(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Given back when the stream is dropped, unless a newer one has it.
#[derive(Debug)]
struct Place {
    open: Open,
    app: AppId,
    epoch: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&self.app).is_some_and(|(epoch, _)| *epoch == self.epoch) {
            open.remove(&self.app);
        }
    }
}

/// The stream of one app.
#[derive(Debug)]
pub struct Stream {
    waiting: VecDeque<StoredEvent>,
    seen: HashSet<String>,
    receiver: Receiver<StoredEvent>,
    _place: Place,
}

impl Stream {
    /// What comes first.
    pub(super) fn begin(&mut self, events: impl Iterator<Item = StoredEvent>) {
        self.waiting.extend(events);
    }

    /// The next event; `None` when the stream is over. May be dropped at any time without losing anything.
    pub async fn next(&mut self) -> Option<StoredEvent> {
        loop {
            let event = match self.waiting.pop_front() {
                Some(event) => event,
                None => self.receiver.recv().await?,
            };
            if self.seen.insert(event.id.clone()) {
                return Some(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures_util::FutureExt as _;

    use super::*;

    fn app(number: u8) -> AppId {
        AppId::from_random([number; 16])
    }

    fn event(app: AppId, id: &str) -> StoredEvent {
        StoredEvent {
            seq: 1,
            id: id.to_owned(),
            app,
            kind: "app_activated".to_owned(),
            at: SystemTime::UNIX_EPOCH,
            attempts: 0,
        }
    }

    fn ids(stream: &mut Stream) -> Vec<String> {
        std::iter::from_fn(|| stream.next().now_or_never().flatten()).map(|event| event.id).collect()
    }

    #[test]
    fn an_app_hears_each_of_its_events_once() {
        let streams = Streams::default();
        let mut stream = streams.attach(app(1)).unwrap();
        streams.offer(&event(app(1), "a"));
        streams.offer(&event(app(2), "other"));
        stream.begin([event(app(1), "a"), event(app(1), "b")].into_iter());
        streams.offer(&event(app(1), "b"));
        streams.offer(&event(app(1), "c"));
        assert_eq!(ids(&mut stream), ["a", "b", "c"]);
    }

    #[test]
    fn a_second_stream_of_an_app_ends_the_first_and_only_it() {
        let streams = Streams::default();
        let mut first = streams.attach(app(1)).unwrap();
        let mut second = streams.attach(app(1)).unwrap();
        assert_eq!(first.next().now_or_never(), Some(None));
        drop(first);
        streams.offer(&event(app(1), "a"));
        assert_eq!(ids(&mut second), ["a"]);
        drop(second);
        assert!(streams.is_empty());
    }

    #[test]
    fn streams_are_bounded_in_all_and_one_that_nobody_reads_ends() {
        let streams = Streams::default();
        let number = |number: usize| AppId::from_random(u128::try_from(number).unwrap().to_be_bytes());
        let mut open: Vec<Stream> = (0..MOST).map(|at| streams.attach(number(at)).unwrap()).collect();
        assert_eq!(streams.attach(number(MOST)).err(), Some(TooManyStreams));
        open[7] = streams.attach(number(7)).unwrap();
        for at in 0..=QUEUE {
            streams.offer(&event(number(7), &at.to_string()));
        }
        assert_eq!(ids(&mut open[7]).len(), QUEUE);
        assert_eq!(open[7].next().now_or_never(), Some(None), "it says what it saw last, and hears the rest");
        drop(open.pop());
        assert!(streams.attach(number(MOST)).is_ok());
    }
}
