//! The administration of a running service, as its commands use it: who may, and users put on file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use url::Url;
use zeroize::Zeroizing;

use super::ask::{DEFAULT_SERVICE, answer, unreachable};
use super::exit::{Exit, Failure};
use super::files::FileError;
use crate::activation::https;

/// Users in one request: each is one transaction, during which steps of activations wait.
const AT_ONCE: usize = 500;

/// For one request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the service is, and who may administer it.
#[derive(Debug, clap::Args)]
pub(super) struct Administration {
    /// The service; not over plain HTTP, unless it is on this computer
    #[arg(long, value_name = "URL", default_value = DEFAULT_SERVICE)]
    service: Url,

    /// The file with its admin token, which the service makes in `activation.data_directory`
    #[arg(long, value_name = "FILE", default_value = "handoff-data/admin.token")]
    token_file: PathBuf,
}

/// A user as the API takes one.
#[derive(Serialize)]
pub(super) struct Person {
    #[serde(serialize_with = "exposed")]
    pub(super) user_id: Zeroizing<String>,
    #[serde(serialize_with = "exposed")]
    pub(super) name: Zeroizing<String>,
    #[serde(serialize_with = "exposed")]
    pub(super) phone: Zeroizing<String>,
}

fn exposed<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

#[derive(Serialize)]
struct People<'a> {
    users: &'a [Person],
}

/// Users that were put on file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Imported {
    pub(super) created: usize,
    pub(super) changed: usize,
    pub(super) unchanged: usize,
}

impl Imported {
    pub(super) fn total(self) -> usize {
        self.created.saturating_add(self.changed).saturating_add(self.unchanged)
    }
}

impl Administration {
    /// Of this service, whose admin token is in this file.
    pub(super) fn of(service: Url, token_file: PathBuf) -> Self {
        Self { service, token_file }
    }

    /// Puts users on file, [`AT_ONCE`] at a time and each time all or none; what was done is in `so_far` also when the
    /// rest fails.
    pub(super) async fn put_users(&self, people: &[Person], so_far: &mut Imported) -> Result<(), Failure> {
        let token = read_token(&self.token_file)?;
        let usage = |problem: anyhow::Error| Failure { exit: Exit::Usage, problem };
        https::secure(self.service.as_str()).map_err(|problem| usage(problem.into()))?;
        let client = https::client(None).map_err(|problem| unreachable(problem.into()))?;
        let address = self.service.join("/v1/admin/users").map_err(|problem| usage(problem.into()))?;
        for some in people.chunks(AT_ONCE) {
            let request = client.put(address.clone()).bearer_auth(token.as_str()).timeout(PATIENCE);
            let request = request.json(&People { users: some });
            let answer = answer(request, &self.service).await.map_err(unreachable)?;
            if answer.status != 200 {
                let problem = anyhow::anyhow!("{}: {}", self.service, answer.refusal());
                let is_refused = answer.status.is_client_error();
                return Err(if is_refused { usage(problem) } else { unreachable(problem) });
            }
            let not_ours = |_| unreachable(anyhow::anyhow!("{}: what answers is no such service", self.service));
            let done: Imported = serde_json::from_str(&answer.body).map_err(not_ours)?;
            so_far.created = so_far.created.saturating_add(done.created);
            so_far.changed = so_far.changed.saturating_add(done.changed);
            so_far.unchanged = so_far.unchanged.saturating_add(done.unchanged);
        }
        Ok(())
    }
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}
