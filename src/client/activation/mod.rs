//! From a new app to an active one: what an app links to be activated, to copy itself to another phone, and to be opened
//! with its personal PIN.
//!
//! Not a user interface: an app asks the person what [`Due`] says. Nor a key store: [`SavedApp`] is what an app keeps
//! between runs, its device key included, and the app decides where.
//!
//! 1. [`Activation`] takes one step after the other. [`Activation::due`] says which one, also after the app was killed:
//!    the server knows, and [`SavedApp`] knows which activation it was. Save it whenever a method has returned.
//! 2. [`ActiveApp`] is an app that is active: it lists, renames and deletes its user's apps, hears of events, is opened
//!    with the PIN, and grants a copy to the phone that a handoff leads to ([`ActiveApp::grant_copy`]). [`EnrolledPhone`]
//!    grants one without being an app: to help somebody whose identity was proved on this phone.
//! 3. [`Progress`] inside decides without sockets or clock; [`Server`] signs and sends each request, and sends again what
//!    may be repeated.
//!
//! On this phone, with the token of the identity-proofing system:
//!
//! ```no_run
//! use handoff_relay::client::activation::{Activation, Beginning, Due, SavedApp, Server, ServerUrl, SmsWish};
//! use handoff_relay::client::personal_pin::PersonalPin;
//! use handoff_relay::crypto::DeviceKey;
//!
//! # async fn example(token: String, typed: fn() -> String) -> Result<(), Box<dyn std::error::Error>> {
//! let url = ServerUrl::parse("https://activation.example")?;
//! let key = DeviceKey::generate(&mut rand::rng());
//! let app = SavedApp::new(url.clone(), key, ("My phone", "Pixel 9"), Beginning::enrolment(token));
//! let mut activation = Activation::new(Server::new(&url)?, app);
//! loop {
//!     match activation.due().await? {
//!         Due::TemporaryPinSms => activation.send_temporary_pin(&SmsWish::default()).await?,
//!         Due::TemporaryPin => activation.temporary_pin(&typed()).await?,
//!         Due::PersonalPin => activation.personal_pin(&PersonalPin::choose(&typed(), &typed(), &[])?).await?,
//!         Due::Biometrics => activation.biometrics(true).await?,
//!         Due::Notifications => activation.notifications(None).await?,
//!         Due::UserId => activation.user_id(&typed()).await?,
//!         Due::Wait(_) | Due::Active | Due::Over(_) => break,
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod active;
mod events;
mod flow;
mod grant;
mod problem;
mod progress;
mod proof;
mod saved;
mod server;
mod url;

#[cfg(test)]
mod tests;

pub use active::{ActiveApp, AppEntry, Apps, PendingCopy, Unlocked};
pub use events::{AppEvent, AppEventKind, Events};
pub use flow::{Activation, SmsWish};
pub use grant::{BadEnrolmentToken, BadGrant, CopyGrant, EnrolledPhone};
pub use problem::{ActivationError, NoAnswer, Refusal, RefusalKind};
pub use progress::{Due, End, Overview, Progress};
pub use proof::{PROOF_HEADER, proof, thumbprint};
pub use saved::{BadSavedApp, Beginning, SavedApp};
pub use server::{NoServer, Server};
pub use url::{BadServerUrl, ServerUrl};
