//! How far an activation is, and what is to be done next. Pure: no sockets, no clock; the server's answers come in.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::problem::{Refusal, RefusalKind};
use super::saved::{SavedApp, Stage};

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A copy may not start yet; the person can cancel it from the old app. Ask again after this time.
    Wait(Duration),
    /// The person types the user ID.
    UserId,
    /// A temporary PIN is to be asked for: none was sent, or the last one is of no use any more.
    TemporaryPinSms,
    /// The person types the temporary PIN, or the phone fills it in.
    TemporaryPin,
    /// The person chooses a personal PIN and repeats it.
    PersonalPin,
    /// Fingerprint or face: yes or no.
    Biometrics,
    /// Notifications: yes or no.
    Notifications,
    /// Nothing: the app is active.
    Active,
    /// Nothing: this activation is over, and another one must be started.
    Over(End),
}

/// Why an activation is over without an active app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It took too long.
    Expired,
    /// The person cancelled it, here or in another app.
    Cancelled,
    /// The user ID was wrong too often.
    UserIdWrong,
    /// All temporary PINs that it may have are used up.
    PinsUsedUp,
    /// The old app is not active any more.
    GrantorGone,
    /// For a reason that this version does not know.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it took too long",
            Self::Cancelled => "it was cancelled",
            Self::UserIdWrong => "the user ID was wrong too often",
            Self::PinsUsedUp => "the temporary PIN was wrong too often",
            Self::GrantorGone => "the old app is not active any more",
            Self::Unknown => "the server has ended it",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Named {
    Waiting,
    UserId,
    TemporaryPin,
    PersonalPin,
    Biometrics,
    Notifications,
    Active,
    Ended,
}

/// How far an activation is, as the server says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct View {
    id: Uuid,
    due: Named,
    ended: Option<End>,
    expires_in_ms: u64,
    starts_in_ms: u64,
    app: Uuid,
    holder: String,
    number_ends: String,
    has_pin: bool,
}

/// What may be shown to the person before the app is active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// The holder's name, masked.
    pub holder: String,
    /// The last two digits of the number that the SMS goes to.
    pub number_ends: String,
    /// Time until the activation is over, when the server last answered.
    pub expires_in: Duration,
}

/// What the server is to be asked, if it is not known what is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// `POST /v1/activations` with this body.
    Start(Zeroizing<String>),
    /// `GET /v1/activations/{activation}`.
    Look(Uuid),
}

/// The state of an activation on the app's side.
#[derive(Clone, Debug)]
pub struct Progress {
    saved: SavedApp,
    view: Option<View>,
    /// The temporary PIN that was sent is of no use any more.
    pin_is_spent: bool,
}

#[derive(Serialize)]
struct StartBody<'a> {
    #[serde(flatten)]
    beginning: &'a super::saved::Beginning,
    name: &'a str,
    model: &'a str,
}

impl Progress {
    /// Goes on where the app was.
    #[must_use]
    pub fn new(saved: SavedApp) -> Self {
        Self { saved, view: None, pin_is_spent: false }
    }

    /// What is to be kept now.
    #[must_use]
    pub fn saved(&self) -> &SavedApp {
        &self.saved
    }

    /// What is to be done; `None` if only the server knows.
    #[must_use]
    pub fn due(&self) -> Option<Due> {
        if self.saved.is_active() {
            return Some(Due::Active);
        }
        let view = self.view.as_ref()?;
        Some(match view.due {
            Named::Waiting => Due::Wait(Duration::from_millis(view.starts_in_ms)),
            Named::UserId => Due::UserId,
            Named::TemporaryPin if view.has_pin && !self.pin_is_spent => Due::TemporaryPin,
            Named::TemporaryPin => Due::TemporaryPinSms,
            Named::PersonalPin => Due::PersonalPin,
            Named::Biometrics => Due::Biometrics,
            Named::Notifications => Due::Notifications,
            Named::Active => Due::Active,
            Named::Ended => Due::Over(view.ended.unwrap_or(End::Unknown)),
        })
    }

    /// What may be shown, once the server has answered.
    #[must_use]
    pub fn overview(&self) -> Option<Overview> {
        let view = self.view.as_ref()?;
        let (holder, number_ends) = (view.holder.clone(), view.number_ends.clone());
        Some(Overview { holder, number_ends, expires_in: Duration::from_millis(view.expires_in_ms) })
    }

    /// What to ask the server; `None` if there is nothing to ask.
    pub(super) fn question(&self) -> Option<Question> {
        match &self.saved.stage {
            Stage::Beginning(beginning) => {
                let body = StartBody { beginning, name: &self.saved.name, model: &self.saved.model };
                Some(Question::Start(Zeroizing::new(serde_json::to_string(&body).unwrap_or_default())))
            }
            Stage::Activating { activation, .. } => Some(Question::Look(*activation)),
            Stage::Active { .. } => None,
        }
    }

    /// The activation and the app, once the server knows them and the app is not active yet.
    pub(super) fn ids(&self) -> Option<(Uuid, Uuid)> {
        match self.saved.stage {
            Stage::Activating { activation, app } => Some((activation, app)),
            Stage::Beginning(_) | Stage::Active { .. } => None,
        }
    }

    /// The server has answered how far it is.
    pub(super) fn handle_view(&mut self, view: View) {
        self.saved.stage = if view.due == Named::Active {
            Stage::Active { app: view.app }
        } else {
            Stage::Activating { activation: view.id, app: view.app }
        };
        self.view = Some(view);
    }

    /// An SMS is on its way: the PIN before it is of no use, this one is.
    pub(super) fn handle_sms(&mut self, view: View) {
        self.pin_is_spent = false;
        self.handle_view(view);
    }

    /// The server has refused a step; some refusals say that it is further than this app knows.
    pub(super) fn handle_refusal(&mut self, refusal: &Refusal) {
        use RefusalKind::{
            ActivationEnded, AnotherStepIsDue, CopyWaits, NoTemporaryPin, StepDoneOtherwise, TemporaryPinExpired,
            TemporaryPinUsedUp,
        };
        if matches!(refusal.kind, TemporaryPinExpired | TemporaryPinUsedUp | NoTemporaryPin) {
            self.pin_is_spent = true;
        } else if matches!(refusal.kind, ActivationEnded | AnotherStepIsDue | CopyWaits | StepDoneOtherwise) {
            self.view = None;
        }
    }

    /// Whether a step went through is not known: the server must be asked.
    pub(super) fn forget(&mut self) {
        self.view = None;
    }
}
