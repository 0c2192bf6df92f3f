//! The story of the demo: a person with two phones.

use anyhow::anyhow;

use super::service::DemoService;
use super::stage::Stage;
use crate::cli::exit::{Exit, Failure};
use crate::cli::fill_in::Inbox;
use crate::cli::narrate;
use crate::cli::relays::RelayArgs;
use crate::cli::state_file::failure;
use crate::client::activation::{
    Activation, ActivationError, ActiveApp, AppEventKind, Beginning, CopyGrant, Due, SavedApp, Server, ServerUrl,
    SmsWish,
};
use crate::client::personal_pin::PersonalPin;
use crate::client::{NewApp, NewEvent, NewOutcome, NewSettings, OldApp, OldEvent, OldOutcome, OldSettings};
use crate::crypto::{DeviceInfo, DeviceKey};

/// User ID, name and number of the person.
const PERSON: (&str, &str, &str) = ("astrid-holm", "Astrid Holm", "+4520304050");

/// A phone of hers.
struct Phone {
    who: &'static str,
    name: &'static str,
    model: &'static str,
    pin: &'static str,
}

const OLD: Phone = Phone { who: "old phone", name: "Old phone", model: "Pixel 3", pin: "493827" };
const NEW: Phone = Phone { who: "new phone", name: "New phone", model: "Pixel 9", pin: "738291" };

pub(super) struct Scene<'a> {
    stage: Stage,
    service: &'a DemoService,
}

impl<'a> Scene<'a> {
    pub(super) fn new(stage: Stage, service: &'a DemoService) -> Self {
        Self { stage, service }
    }

    pub(super) async fn play(self) -> Result<Exit, Failure> {
        let url = ServerUrl::parse(&self.service.server_url()).map_err(anyhow::Error::from)?;
        let server = Server::new(&url).map_err(anyhow::Error::from)?;
        let failed = |problem: ActivationError| failure(&url, &problem);
        let old = self.on_this_phone(&server).await?;
        let old = ActiveApp::new(server.clone(), old).ok_or_else(|| anyhow!("the old phone's app is not active"))?;
        let new = self.hand_over(&old, &url).await?;
        let mut events = old.events();
        events.connect().await.map_err(failed)?;
        self.activate(&NEW, &server, new).await?;
        while events.next().await.map_err(failed)?.kind != AppEventKind::AppActivated {}
        self.stage.remark(OLD.who, "Hears of it at once. If that was not her, she deletes the new app here.");
        self.stage.remark(OLD.who, "Stays active. Her apps:");
        for app in &old.apps().await.map_err(failed)?.apps {
            self.stage.app(app);
        }
        Ok(Exit::Success)
    }

    async fn on_this_phone(&self, server: &Server) -> Result<SavedApp, Failure> {
        self.stage.chapter("An app is activated on a phone.");
        self.service.put_on_file(PERSON).await?;
        let (user, name, _) = PERSON;
        self.stage.remark("issuer", &format!("Has {name} on file, with the user ID {user} and her phone number."));
        let token = self.service.enrolment_token(user)?;
        self.stage.remark("issuer", "Has checked who she is; her phone gets an enrolment token, which serves once.");
        self.activate(&OLD, server, app(&OLD, server.url(), Beginning::enrolment(token))).await
    }

    /// The handoff; what comes is what the new phone begins with.
    async fn hand_over(&self, active: &ActiveApp, server: &ServerUrl) -> Result<SavedApp, Failure> {
        let stage = self.stage;
        stage.chapter("She has a new phone. \"Copy from another app\":");
        let relays = RelayArgs::one(self.service.relay_url());
        let (list, connector) = (relays.list()?, relays.connector()?);
        let device = |phone: &Phone| DeviceInfo::new(phone.model, "1.0").map_err(anyhow::Error::from);
        let settings = OldSettings::new(relays.reference(), device(&OLD)?);
        let old = OldApp::new(list.clone(), connector.clone()).start(settings, active.grant_copy());
        let mut old = old.map_err(anyhow::Error::from)?;
        let shown = |event| if let OldEvent::QrShown { payload, .. } = event { Some(payload) } else { None };
        let payload = stage.follow(OLD.who, &mut old, narrate::old, shown).await?;
        stage.picture(&payload.to_text())?;
        stage.remark(OLD.who, "Shows this code, another one every five seconds.");
        stage.remark("person", "Scans it with the new phone.");
        let key = DeviceKey::generate(&mut rand::rng());
        let new = NewApp::new(list, connector).start(NewSettings::new(device(&NEW)?, key.clone()), payload);
        let mut new = new.map_err(anyhow::Error::from)?;
        stage.follow(NEW.who, &mut new, narrate::new, |event| (event == NewEvent::Joined).then_some(())).await?;
        let asked = |event| matches!(event, OldEvent::AskCode { .. }).then_some(());
        stage.follow(OLD.who, &mut old, narrate::old, asked).await?;
        let code = |event| if let NewEvent::ShowCode(code) = event { Some(code) } else { None };
        let code = stage.follow(NEW.who, &mut new, narrate::new, code).await?;
        stage.remark("person", &format!("Reads {code} on the new phone and types it into the old one."));
        old.enter_code(code).await;
        let delivered = |event| (event == OldEvent::Delivered).then_some(());
        stage.follow(OLD.who, &mut old, narrate::old, delivered).await?;
        stage.follow(NEW.who, &mut new, narrate::new, |event| (event == NewEvent::Confirmed).then_some(())).await?;
        let (OldOutcome::Delivered, NewOutcome::Received { credential, binding, .. }) =
            (old.join().await, new.join().await)
        else {
            return Err(Failure { exit: Exit::Ended, problem: anyhow!("the handoff did not succeed") });
        };
        let grant = CopyGrant::received(&credential, &binding).map_err(anyhow::Error::from)?;
        stage.remark(
            NEW.who,
            "Has a copy grant now: signed by the old app, for this phone's key and this handoff only.",
        );
        Ok(SavedApp::new(server.clone(), key, (NEW.name, NEW.model), Beginning::copy(&grant)))
    }

    /// All steps of an activation, as the person takes them.
    async fn activate(&self, phone: &Phone, server: &Server, app: SavedApp) -> Result<SavedApp, Failure> {
        let mut activation = Activation::new(server.clone(), app);
        loop {
            let step = self.step(phone, &mut activation).await;
            let due = step.map_err(|problem| failure(server.url(), &problem))?;
            if due == Due::Active {
                self.stage.activated(phone.who, activation.saved());
                return Ok(activation.saved().clone());
            }
            if let Due::Over(_) | Due::Wait(_) = due {
                return Err(Failure { exit: Exit::Ended, problem: anyhow!("the activation did not succeed") });
            }
        }
    }

    /// Takes the step that is due, and returns which one it was.
    async fn step(&self, phone: &Phone, activation: &mut Activation) -> Result<Due, ActivationError> {
        let say = |text: &str| self.stage.remark(phone.who, text);
        let due = activation.due().await?;
        match due {
            Due::UserId => {
                let holder = activation.overview().map(|overview| overview.holder).unwrap_or_default();
                say(&format!("Shows whose app this will be, {holder}, and asks for the user ID."));
                self.stage.remark("person", "Types her user ID.");
                activation.user_id(PERSON.0).await?;
            }
            Due::TemporaryPinSms => self.fill_in(phone, activation).await?,
            Due::PersonalPin => {
                let pin = PersonalPin::choose(phone.pin, phone.pin, &[PERSON.0, PERSON.2]);
                let pin = pin.map_err(|_| ActivationError::NotDue)?;
                activation.personal_pin(&pin).await?;
                self.stage
                    .remark("person", "Chooses a personal PIN of six digits and repeats it. The server never sees it.");
            }
            Due::Biometrics => {
                activation.biometrics(true).await?;
                self.stage.remark("person", "Fingerprint or face, too? Yes. Notifications? No.");
            }
            Due::Notifications => activation.notifications(None).await?,
            Due::TemporaryPin | Due::Wait(_) | Due::Active | Due::Over(_) => {}
        }
        Ok(due)
    }

    async fn fill_in(&self, phone: &Phone, activation: &mut Activation) -> Result<(), ActivationError> {
        let ends = activation.overview().map(|overview| overview.number_ends).unwrap_or_default();
        let mut inbox = Inbox::new(activation.saved().server(), &ends);
        inbox.look().await;
        let wish = SmsWish { language: Some("en".to_owned()), app_hash: None };
        activation.send_temporary_pin(&wish).await?;
        self.stage.remark(phone.who, &format!("Asks for a temporary PIN, to the number on file that ends in {ends}."));
        let sms = inbox.wait().await.ok_or(ActivationError::NotDue)?;
        let text = sms.text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" / ");
        self.stage.remark("SMS", &text);
        self.stage.remark(phone.who, &format!("Offers to fill in {}; she takes it.", sms.spaced()));
        activation.temporary_pin(&sms.pin).await
    }
}

fn app(phone: &Phone, server: &ServerUrl, beginning: Beginning) -> SavedApp {
    SavedApp::new(server.clone(), DeviceKey::generate(&mut rand::rng()), (phone.name, phone.model), beginning)
}
