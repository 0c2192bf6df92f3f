//! Leads the person through an activation, step by step, as the app's screens would; from wherever it was left.

use std::time::Duration;

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use zeroize::Zeroizing;

use super::exit::{Exit, Failure};
use super::fill_in::Inbox;
use super::output::Output;
use super::questions::{Questions, yes_or_no};
use super::state_file::{StateFile, failure};
use crate::activation::ids::UserId;
use crate::client::activation::{Activation, ActivationError, Due, Overview, RefusalKind, SavedApp, SmsWish};

/// How often a copy that waits is looked after: it may be cancelled meanwhile.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// Answers that are given beforehand.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Answers {
    /// Fingerprint or face: yes or no [default: asked]
    #[arg(long, value_name = "YES|NO", value_parser = answer)]
    biometrics: Option<bool>,

    /// Notifications: yes or no [default: asked]
    #[arg(long, value_name = "YES|NO", value_parser = answer)]
    notifications: Option<bool>,

    /// The language of the SMS, such as da or en-GB
    #[arg(long, value_name = "LOCALE", default_value = "en")]
    language: String,
}

fn answer(text: &str) -> Result<bool, String> {
    yes_or_no(text).ok_or_else(|| "must be yes or no".to_owned())
}

/// What leads through it.
pub(super) struct Guide<'a> {
    output: Output,
    questions: Questions,
    state: &'a StateFile,
    answers: Answers,
    /// What others know of the person: no PIN may be part of it.
    known: Vec<Zeroizing<String>>,
    user_id: Option<Zeroizing<String>>,
    inbox: Option<Inbox>,
}

impl<'a> Guide<'a> {
    pub(super) fn new(output: Output, state: &'a StateFile, answers: Answers) -> Self {
        let questions = Questions::new(output);
        Self { output, questions, state, answers, known: Vec::new(), user_id: None, inbox: None }
    }

    /// The user ID is known beforehand.
    pub(super) fn user_id(self, user_id: Option<&str>) -> Self {
        Self { user_id: user_id.map(|id| Zeroizing::new(id.to_owned())), ..self }
    }

    /// Takes step after step until the app is active, and saves its state at each.
    pub(super) async fn lead(mut self, saved: SavedApp) -> Result<Exit, Failure> {
        let was_active = saved.is_active();
        let mut activation = Activation::new(self.state.server(saved.server())?, saved);
        let mut is_introduced = was_active;
        loop {
            let due = match activation.due().await {
                Ok(due) => due,
                Err(problem) => {
                    self.forget_what_is_worthless(&activation, &problem)?;
                    return Err(failed(&activation, &problem));
                }
            };
            self.state.save(activation.saved())?;
            if let Some(overview) = activation.overview().filter(|_| !is_introduced) {
                self.introduce(&activation, &overview);
                is_introduced = true;
            }
            let taken = match due {
                Due::Wait(left) => {
                    self.wait(left).await;
                    Ok(())
                }
                Due::UserId => self.take_user_id(&mut activation).await?,
                Due::TemporaryPinSms => self.take_sms(&mut activation).await?,
                Due::TemporaryPin => self.take_temporary_pin(&mut activation).await?,
                Due::PersonalPin => self.take_personal_pin(&mut activation).await?,
                Due::Biometrics => self.take_biometrics(&mut activation).await?,
                Due::Notifications => self.take_notifications(&mut activation).await?,
                Due::Active => {
                    self.done(activation.saved(), was_active);
                    return Ok(Exit::Success);
                }
                Due::Over(end) => {
                    let path = self.state.path().display();
                    let problem = anyhow!("this activation is over: {end}. Delete {path}, and begin anew");
                    return Err(Failure { exit: Exit::Ended, problem });
                }
            };
            if let Err(problem) = taken {
                self.answer_refusal(&activation, &problem)?;
            }
            self.state.save(activation.saved())?;
        }
    }

    /// A token or grant that was refused begins nothing: the next one begins with a new key.
    fn forget_what_is_worthless(&self, activation: &Activation, problem: &ActivationError) -> Result<(), Failure> {
        use RefusalKind::{
            GrantBoundElsewhere, GrantExpired, GrantInvalid, GrantUsed, GrantorNotActive, NoEnrolment, NotOnFile,
        };
        let refused =
            [GrantBoundElsewhere, GrantExpired, GrantInvalid, GrantUsed, GrantorNotActive, NoEnrolment, NotOnFile];
        let is_worthless = problem.refused().is_some_and(|kind| refused.contains(&kind));
        if is_worthless && activation.saved().app().is_none() { self.state.remove() } else { Ok(()) }
    }

    fn introduce(&self, activation: &Activation, overview: &Overview) {
        let Overview { holder, number_ends, .. } = overview;
        let (name, server) = (activation.saved().name(), activation.saved().server());
        let text = format!("{server} activates “{name}” for {holder}.");
        self.output.say(&text, &json!({"event": "activating", "holder": holder, "number_ends": number_ends}));
    }

    async fn wait(&self, left: Duration) {
        let seconds = left.as_secs().saturating_add(1);
        let text = format!("This copy may start in {seconds} s; until then it can be cancelled in the old app.");
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        self.output.say(&text, &json!({"event": "copy_waits", "starts_in_ms": millis}));
        tokio::time::sleep(left.clamp(Duration::from_millis(50), MOST_WAIT)).await;
    }

    async fn take_user_id(&mut self, activation: &mut Activation) -> Step {
        let typed = match self.user_id.take() {
            Some(known) => known,
            None => self.questions.ask("user_id", "Enter your user ID:").await?,
        };
        if let Err(slip) = typed.parse::<UserId>() {
            self.questions.again(&slip.to_string());
            return Ok(Ok(()));
        }
        let taken = activation.user_id(&typed).await;
        if taken.is_ok() {
            self.known.push(typed);
        }
        Ok(taken)
    }

    async fn take_sms(&mut self, activation: &mut Activation) -> Step {
        let ends = activation.overview().map(|overview| overview.number_ends).unwrap_or_default();
        let mut inbox = Inbox::new(activation.saved().server(), &ends);
        inbox.look().await;
        let wish = SmsWish { language: Some(self.answers.language.clone()), app_hash: None };
        let sent = activation.send_temporary_pin(&wish).await;
        if sent.is_ok() {
            let text = format!("A temporary PIN is on its way by SMS, to the number that ends in {ends}.");
            self.output.say(&text, &json!({"event": "sms_sent", "number_ends": ends}));
            self.inbox = Some(inbox);
        }
        Ok(sent)
    }

    async fn take_temporary_pin(&mut self, activation: &mut Activation) -> Step {
        let offered = if let Some(inbox) = &self.inbox {
            inbox.wait().await
        } else {
            // It was asked for before this app was killed: the last one that came.
            let ends = activation.overview().map(|overview| overview.number_ends).unwrap_or_default();
            Inbox::new(activation.saved().server(), &ends).newest().await.flatten()
        };
        let typed = self.questions.ask_temporary_pin(offered.as_ref()).await?;
        if typed.eq_ignore_ascii_case("again") {
            return self.take_sms(activation).await;
        }
        let typed = offered.filter(|_| typed.is_empty()).map_or(typed, |sms| sms.pin);
        Ok(activation.temporary_pin(&typed).await)
    }

    async fn take_personal_pin(&mut self, activation: &mut Activation) -> Step {
        let known: Vec<&str> = self.known.iter().map(|known| known.as_str()).collect();
        let pin = self.questions.choose_pin(&known).await?;
        Ok(activation.personal_pin(&pin).await)
    }

    async fn take_biometrics(&mut self, activation: &mut Activation) -> Step {
        let text = "Open the app with fingerprint or face, too? yes or no:";
        let enabled = match self.answers.biometrics {
            Some(enabled) => enabled,
            None => self.questions.ask_yes_or_no("biometrics", text).await?,
        };
        Ok(activation.biometrics(enabled).await)
    }

    async fn take_notifications(&mut self, activation: &mut Activation) -> Step {
        let wanted = match self.answers.notifications {
            Some(wanted) => wanted,
            None => self.questions.ask_yes_or_no("notifications", "Get notifications? yes or no:").await?,
        };
        // No push service stands behind a command line: a token that nobody else has is as good as its.
        let token = wanted.then(|| format!("command-line-{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>())));
        Ok(activation.notifications(token.as_deref()).await)
    }

    /// What the person can put right is told, and asked again; everything else ends the command.
    fn answer_refusal(&mut self, activation: &Activation, problem: &ActivationError) -> Result<(), Failure> {
        use RefusalKind::{
            ActivationEnded, AnotherStepIsDue, BadTemporaryPin, CopyWaits, NoTemporaryPin, SmsOverloaded,
            StepDoneOtherwise, TemporaryPinExpired, TemporaryPinUsedUp, TooManySms, WrongTemporaryPin, WrongUserId,
        };
        let Some(kind) = problem.refused() else { return Err(failed(activation, problem)) };
        // The server knows better how far it is: it is asked.
        if matches!(kind, ActivationEnded | AnotherStepIsDue | CopyWaits | StepDoneOtherwise) {
            return Ok(());
        }
        let has_pin = self.inbox.is_some();
        let is_spent = matches!(kind, TemporaryPinExpired | TemporaryPinUsedUp | NoTemporaryPin);
        let is_slip = matches!(kind, BadTemporaryPin | WrongTemporaryPin | WrongUserId)
            // The last PIN can still be typed.
            || (matches!(kind, TooManySms | SmsOverloaded) && has_pin);
        if is_spent {
            self.inbox = None;
        }
        if !is_slip && !is_spent {
            return Err(failed(activation, problem));
        }
        self.questions.again(&problem.to_string());
        Ok(())
    }

    fn done(&self, saved: &SavedApp, was_active: bool) {
        let path = self.state.path().display();
        let text = if was_active {
            format!("The app in {path} is activated already.")
        } else {
            format!("This app is now activated. Its state is in {path}; see: handoff apps list --state {path}")
        };
        let app = saved.app().map(|app| app.to_string());
        self.output.say(&text, &json!({"event": "activated", "app": app, "state": self.state.path()}));
    }
}

fn failed(activation: &Activation, problem: &ActivationError) -> Failure {
    failure(activation.saved().server(), problem)
}

/// A step that was taken, or refused by the server; or nobody could answer.
type Step = Result<Result<(), ActivationError>, Failure>;
