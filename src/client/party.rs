//! What both machines do alike when the connection does something. Decides nothing by itself: the link does, and what
//! an end means is the machine's.

use std::time::Instant;

use rand::CryptoRng;

use super::event::LinkEvent;
use super::exchange::{Exchange, Heard};
use super::outcome::{ConnectFailure, EndReason};
use crate::protocol::message::ServerMessage;

pub(super) trait Party {
    type Event: From<LinkEvent>;
    type Rng: CryptoRng;

    fn exchange(&mut self) -> &mut Exchange<Self::Event, Self::Rng>;

    /// A message that is not about the link alone. `Err` if it may not come now.
    fn on_message(&mut self, message: ServerMessage, now: Instant) -> Result<(), EndReason>;

    /// Ends the transfer because something did not verify, and tells the relay.
    fn distrust(&mut self, reason: EndReason, now: Instant);

    /// Ends the transfer: the relay knows already, or cannot be told.
    fn end(&mut self, reason: EndReason);

    /// To be called after everything that was handled.
    fn settle(&mut self, now: Instant);

    fn connect_failed(&mut self, failure: ConnectFailure, now: Instant) {
        let reason = self.exchange().handle_connect_failed(failure, now);
        self.end_if(reason, now);
    }

    /// The connection is gone. See [`Exchange::handle_disconnected`].
    fn disconnected(&mut self, code: Option<u16>, completes: bool, now: Instant) {
        let reason = self.exchange().handle_disconnected(code, completes, now);
        self.end_if(reason, now);
    }

    fn timed_out(&mut self, now: Instant) {
        let reason = self.exchange().handle_timeout(now);
        self.end_if(reason, now);
    }

    fn hear(&mut self, text: &str, now: Instant) {
        let violation = match self.exchange().handle_text(text, now) {
            Heard::Nothing => None,
            Heard::Message(message) => self.on_message(message, now).err(),
            Heard::Ended(EndReason::ProtocolViolated) => Some(EndReason::ProtocolViolated),
            Heard::Ended(reason) => {
                self.end(reason);
                None
            }
        };
        if let Some(reason) = violation {
            self.distrust(reason, now);
        }
        self.settle(now);
    }

    fn end_if(&mut self, reason: Option<EndReason>, now: Instant) {
        if let Some(reason) = reason {
            self.end(reason);
        }
        self.settle(now);
    }
}
