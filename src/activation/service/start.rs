//! How an activation begins: with an enrolment token, or with a copy grant.

use metrics::counter;
use zeroize::Zeroizing;

use super::{Caller, Service, ServiceError, View};
use crate::activation::flow::{Due, Flow, Way};
use crate::activation::grant::{BadGrant, EnrolmentToken, Signer, UnverifiedGrant};
use crate::activation::ids::{ActivationId, AppId, Thumbprint, UserKey};
use crate::activation::notify::EventKind;
use crate::activation::registry::{ActivationRow, Actor, AppState, Subject, Tag, Tx, User, What};
use crate::telemetry;

/// What lets it begin.
#[derive(Clone)]
pub enum Start {
    /// On this phone: the identity-proofing system's token.
    Enrolment(Zeroizing<String>),
    /// On another phone: a grant, and the handoff's transcript as the new app knows it.
    Copy {
        /// The grant.
        grant: Zeroizing<String>,
        /// th2 of the handoff.
        transcript: [u8; 32],
    },
}

/// Holds a token.
impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Enrolment(_) => "Enrolment",
            Self::Copy { .. } => "Copy",
        })
    }
}

/// What the new app says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApp {
    /// What the person calls it.
    pub name: Zeroizing<String>,
    /// What it runs on.
    pub model: Zeroizing<String>,
}

/// Who may become whose app, and what is used up by it.
struct Permit {
    user: User,
    way: Way,
    used: Vec<(Tag, std::time::SystemTime)>,
}

impl Service {
    /// Begins an activation; the same request of the same device again gives the same one.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn start(&self, caller: &Caller, start: &Start, app: &NewApp) -> Result<View, ServiceError> {
        let now = self.now();
        let mut tx = self.begin(caller).await?;
        let device = caller.proof.device;
        if let Some(row) = tx.lock_activation_of_device(device).await? {
            return self.start_again(tx, row, start).await;
        }
        if tx.app_of_device(device).await?.is_some() {
            return Err(ServiceError::DeviceKeyUsed);
        }
        let permit = self.permit(&mut tx, device, start).await?;
        let others = tx.active_apps(permit.user.key).await?;
        if others.len() >= self.most_apps() {
            return Err(ServiceError::TooManyApps);
        }
        let row = ActivationRow {
            id: ActivationId::from_random(self.random()),
            user: permit.user.key,
            app: AppId::from_random(self.random()),
            device: caller.proof.key,
            flow: Flow::new(permit.way, now, self.settings.copy_wait, self.settings.lifetime),
            name: app.name.clone(),
            model: app.model.clone(),
        };
        let user_of_token = row.id.to_string();
        for (tag, expires) in permit.used {
            if !tx.use_once(tag, &user_of_token, expires).await? {
                return Err(ServiceError::TokenUsed);
            }
        }
        tx.insert_activation(&row, now).await?;
        let who = (Actor::NewApp, caller.address);
        tx.note(What::ActivationStarted, who, (row.user, Subject::Activation(row.id)), now).await?;
        let view = self.view(&row, &permit.user);
        if view.due == Due::Waiting {
            self.leave(&mut tx, EventKind::CopyWaiting, &others, &[]).await?;
        }
        tx.commit().await?;
        counter!(telemetry::ACTIVATIONS_STARTED, "way" => row.flow.way().label()).increment(1);
        self.wake();
        Ok(view)
    }

    /// The first answer was lost on the way: what was used then must be what is shown now.
    async fn start_again(&self, mut tx: Tx, row: ActivationRow, start: &Start) -> Result<View, ServiceError> {
        let shown = self.token_tag(start);
        let is_same = tx.used_by(shown).await?.is_some_and(|first| first == row.id.to_string());
        if !is_same {
            return Err(ServiceError::DeviceKeyUsed);
        }
        let user = self.user_of(&mut tx, row.user).await?;
        tx.commit().await?;
        Ok(self.view(&row, &user))
    }

    /// The whole text of what was shown: two texts with one id are not the same request.
    fn token_tag(&self, start: &Start) -> Tag {
        let (Start::Enrolment(text) | Start::Copy { grant: text, .. }) = start;
        self.parts.registry.sealer().tag("start", text.as_bytes())
    }

    async fn permit(&self, tx: &mut Tx, device: Thumbprint, start: &Start) -> Result<Permit, ServiceError> {
        let mut permit = match start {
            Start::Enrolment(token) => {
                let token = self.verified(token)?;
                if token.device.is_some_and(|bound| bound != device) {
                    return Err(BadGrant::OtherDevice.into());
                }
                let user = tx.lock_user_by_id(&token.user).await?.ok_or(ServiceError::NotOnFile)?;
                Permit { user, way: Way::ThisPhone, used: vec![self.used("enrolment", &token.id, token.expires)] }
            }
            Start::Copy { grant, transcript } => self.copy_permit(tx, grant, (device, transcript)).await?,
        };
        let expires = permit.used.iter().map(|(_, expires)| *expires).max().unwrap_or(self.now());
        // Remembered as long as the activation is, so that a start can be repeated that long.
        let lasting = self.now().checked_add(self.settings.lifetime).unwrap_or(expires);
        permit.used.push((self.token_tag(start), expires.max(lasting)));
        Ok(permit)
    }

    async fn copy_permit(
        &self,
        tx: &mut Tx,
        grant: &str,
        bound: (Thumbprint, &[u8; 32]),
    ) -> Result<Permit, ServiceError> {
        let now = self.now();
        let unverified = UnverifiedGrant::read(grant)?;
        match &unverified.signer {
            Signer::App(id) => {
                let app = tx.app(*id).await?.ok_or(ServiceError::GrantorNotActive)?;
                let grant = unverified.verify(&app.device, bound, now)?;
                let user = self.user_of(tx, app.user).await?;
                // Again, now that nobody else can delete it.
                let app = tx.app(*id).await?.filter(|app| app.state == AppState::Active);
                let app = app.ok_or(ServiceError::GrantorNotActive)?;
                let id = format!("{}\0{}", app.id, grant.id);
                let way = Way::OtherPhone { granted_by: Some(app.id) };
                Ok(Permit { user, way, used: vec![self.used("grant", &id, grant.expires)] })
            }
            Signer::EnrollingPhone(key) => {
                let grant = unverified.verify(key, bound, now)?;
                let token = self.verified(grant.enrolment.as_deref().unwrap_or_default())?;
                if token.device != Some(Thumbprint::of(key)) {
                    return Err(BadGrant::OtherDevice.into());
                }
                let user = tx.lock_user_by_id(&token.user).await?.ok_or(ServiceError::NotOnFile)?;
                // A proved identity gives one app, whichever way.
                let once = self.used("enrolment", &token.id, token.expires.max(grant.expires));
                Ok(Permit { user, way: Way::OtherPhone { granted_by: None }, used: vec![once] })
            }
        }
    }

    fn verified(&self, token: &str) -> Result<EnrolmentToken, ServiceError> {
        let verifier = self.parts.enrolment.as_ref().ok_or(ServiceError::NoEnrolment)?;
        Ok(verifier.verify(token, self.now())?)
    }

    fn used(&self, kind: &'static str, id: &str, expires: std::time::SystemTime) -> (Tag, std::time::SystemTime) {
        (self.parts.registry.sealer().tag(kind, id.as_bytes()), expires)
    }

    pub(super) fn most_apps(&self) -> usize {
        usize::try_from(self.settings.most_apps).unwrap_or(usize::MAX)
    }

    /// A user's key that nobody has.
    pub(super) fn fresh_user_key(&self) -> UserKey {
        UserKey::from_random(self.random())
    }
}
