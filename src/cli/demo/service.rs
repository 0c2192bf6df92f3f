//! The service of the demo: relay and activation on a free port of this computer, in a thread of its own, with a registry
//! that goes with it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::sync::watch;
use url::Url;
use zeroize::Zeroizing;

use crate::activation::grant::Person;
use crate::activation::ids::UserId;
use crate::activation::keys::development_key;
use crate::app::{Listeners, Node, Stop};
use crate::cli::admin::{Administration, Imported, Person as Entry};
use crate::cli::exit::{Exit, Failure};
use crate::config::Settings;
use crate::telemetry;

/// How long the token of the demo may be used.
const TOKEN_LIFETIME: Duration = Duration::from_mins(10);

/// A running service.
pub(super) struct DemoService {
    address: SocketAddr,
    audience: String,
    stop: watch::Sender<Stop>,
    thread: JoinHandle<anyhow::Result<()>>,
    folder: TempDir,
}

impl DemoService {
    pub(super) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let mut settings = Settings::default();
        settings.server.listen.set_port(0);
        settings.activation.data_directory = folder.path().join("data");
        let audience = settings.activation.enrolment_audience.clone();
        let listeners = Listeners::bind(&settings)?;
        let address = listeners.address()?;
        let metrics = telemetry::install_metrics(now())?;
        let stop = watch::Sender::new(Stop::Not);
        let stopping = stop.subscribe();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::Builder::new().name("service".to_owned()).spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let node = Node::new(&settings, metrics)?.with_activation(&settings).await?;
                ready.send(()).ok();
                node.run(listeners, stopping).await?;
                Ok(())
            })
        })?;
        if is_ready.recv().is_err() {
            let end = thread.join().map_err(|_| anyhow::anyhow!("the service failed"))?;
            return Err(end.err().unwrap_or_else(|| anyhow::anyhow!("the service ended before it began")));
        }
        Ok(Self { address, audience, stop, thread, folder })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn relay_url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(super) fn server_url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Puts somebody on file, as whoever issues the e-ID does.
    pub(super) async fn put_on_file(&self, (user, name, phone): (&str, &str, &str)) -> Result<(), Failure> {
        let text = |text: &str| Zeroizing::new(text.to_owned());
        let entry = Entry { user_id: text(user), name: text(name), phone: text(phone) };
        let service = Url::parse(&self.server_url()).map_err(anyhow::Error::from)?;
        let administration = Administration::of(service, self.data().join("admin.token"));
        administration.put_users(&[entry], &mut Imported::default()).await
    }

    /// What the identity-proofing system gives to a phone.
    pub(super) fn enrolment_token(&self, user: &str) -> Result<String, Failure> {
        let user: UserId = user.parse().map_err(anyhow::Error::from)?;
        let person = Person { user: &user, device: None, audience: &self.audience, issuer: None };
        let key = development_key(&self.data(), &mut rand::rng());
        let key = key.map_err(|problem| Failure { exit: Exit::CannotRun, problem: problem.into() })?;
        Ok(key.token(&person, TOKEN_LIFETIME, now(), rand::random()).to_string())
    }

    /// Ends it, and takes its registry away.
    pub(super) fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(Stop::AtOnce);
        self.thread.join().map_err(|_| anyhow::anyhow!("the service failed"))??;
        self.folder.close().context("the temporary folder")
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where time enters")]
fn now() -> SystemTime {
    SystemTime::now()
}
