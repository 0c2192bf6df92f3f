//! `handoff enrolment-token`: an enrolment token without an identity-proofing system, for trying things out.

use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use serde_json::json;
use zeroize::Zeroizing;

use super::admin::{Administration, Imported, Person as Entry};
use super::exit::{Exit, Failure};
use super::in_runtime;
use super::output::Output;
use crate::activation::grant::Person;
use crate::activation::ids::{PhoneNumber, Thumbprint, UserId};
use crate::activation::keys;
use crate::activation::service::NewUser;
use crate::config::{Args, Loaded};

/// Longest life of a token.
const LONGEST: Duration = Duration::from_hours(24);

/// Print an enrolment token for a user, signed with the development key
///
/// `handoff serve` takes it only as long as no SMS is sent (`sms.gateway = "outbox"`) and no identity-proofing system is
/// named (`activation.enrolment_jwks_file`); then it warns at its start. The key is `development.key` in
/// `activation.data_directory`, made when it is missing. A token serves once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  handoff enrolment-token --user maria82
  handoff enrolment-token --user maria82 --phone +4512345678 --name Maria
  handoff enrolment-token --user maria82 --valid-for 1h --json")]
pub(super) struct EnrolmentToken {
    /// Who proves an identity: a user ID
    #[arg(long, value_name = "ID")]
    user: UserId,

    /// Put the user on file first, with this number: this needs the running service
    #[arg(long, value_name = "NUMBER")]
    phone: Option<PhoneNumber>,

    /// The user's name, with --phone
    #[arg(long, value_name = "NAME", default_value = "Test Person", requires = "phone")]
    name: String,

    /// Only the device with this key may use the token (RFC 7638 thumbprint of its P-256 key)
    #[arg(long, value_name = "THUMBPRINT")]
    device: Option<Thumbprint>,

    /// How long it may be used, at most a day
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    valid_for: Duration,

    #[command(flatten)]
    administration: Administration,

    #[command(flatten)]
    settings: Args,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime_serde::re::humantime::parse_duration(text).map_err(|problem| problem.to_string())?;
    let is_good = (Duration::from_secs(1)..=LONGEST).contains(&time);
    is_good.then_some(time).ok_or_else(|| "must be from 1s to 1day".to_owned())
}

impl EnrolmentToken {
    pub(super) fn run(&self, output: Output) -> Result<Exit, Failure> {
        let refused = |problem| Failure { exit: Exit::Config, problem };
        let loaded = Loaded::load(&self.settings, std::env::vars_os()).map_err(|problem| refused(problem.into()))?;
        if !loaded.settings.takes_development_tokens() {
            let why = "the identity-proofing system signs enrolment tokens; the development key serves only with \
                       sms.gateway = \"outbox\" and without activation.enrolment_jwks_file";
            return Err(refused(anyhow!(why)));
        }
        if let Some(phone) = &self.phone {
            self.put_on_file(phone)?;
        }
        let section = &loaded.settings.activation;
        let key = keys::development_key(&section.data_directory, &mut rand::rng());
        let key = key.map_err(|problem| Failure { exit: Exit::CannotRun, problem: problem.into() })?;
        let (audience, issuer) = (section.enrolment_audience.as_str(), section.enrolment_issuer.as_deref());
        let person = Person { user: &self.user, device: self.device, audience, issuer };
        let token = key.token(&person, self.valid_for, now(), rand::random());
        let event = json!({"event": "enrolment_token", "token": *token, "valid_for_s": self.valid_for.as_secs()});
        output.say(&token, &event);
        Ok(Exit::Success)
    }

    fn put_on_file(&self, phone: &PhoneNumber) -> Result<(), Failure> {
        if !NewUser::is_name(&self.name) {
            return Err(anyhow!("--name: a name has 1 to 200 characters and no control characters").into());
        }
        let text = |text: &str| Zeroizing::new(text.to_owned());
        let entry = Entry { user_id: text(self.user.expose()), name: text(&self.name), phone: text(phone.expose()) };
        in_runtime(async {
            self.administration.put_users(&[entry], &mut Imported::default()).await?;
            Ok(Exit::Success)
        })?;
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where time enters")]
fn now() -> SystemTime {
    SystemTime::now()
}
