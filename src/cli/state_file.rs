//! The file that an app of the command line keeps its state in, in place of a phone's key store.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use super::exit::{Exit, Failure};
use super::files::{self, FileError};
use crate::client::TlsSetupError;
use crate::client::activation::{ActivationError, ActiveApp, NoServer, Refusal, SavedApp, Server, ServerUrl};

/// A state has some hundred bytes, and a token at first.
const MOST_BYTES: u64 = 64 * 1024;

/// The file, whether it is there or not.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    ca_file: Option<PathBuf>,
}

impl StateFile {
    /// The state is that of an app whose server may be vouched for by a PEM file.
    pub(super) fn new(path: &Path, ca_file: Option<&Path>) -> Self {
        Self { path: path.to_owned(), ca_file: ca_file.map(Path::to_owned) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The app in it; `None` if there is no such file.
    pub(super) fn read(&self) -> Result<Option<SavedApp>, Failure> {
        let json = match files::read(&self.path, "a state", MOST_BYTES) {
            Ok(json) => zeroize::Zeroizing::new(json),
            Err(FileError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(problem) => return Err(problem.into()),
        };
        let app = SavedApp::from_json(&json).with_context(|| self.path.display().to_string());
        app.map(Some).map_err(|problem| Failure { exit: Exit::File, problem })
    }

    /// Puts the app in it, for its owner only, whole or not at all.
    pub(super) fn save(&self, app: &SavedApp) -> Result<(), Failure> {
        Ok(files::write(&self.path, &app.to_json(), true)?)
    }

    /// Takes it away.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        let removed = std::fs::remove_file(&self.path);
        Ok(removed.map_err(|source| FileError::Write { path: self.path.clone(), source })?)
    }

    /// The active app in it.
    pub(super) fn active(&self) -> Result<(SavedApp, ActiveApp), Failure> {
        let path = self.path.display();
        let missing = || anyhow!("{path} does not exist; handoff activate and handoff new make it");
        let saved = self.read()?.ok_or_else(|| Failure { exit: Exit::File, problem: missing() })?;
        let unfinished = || anyhow!("the app in {path} is not active yet; handoff activate --state {path} goes on");
        let app = ActiveApp::new(self.server(saved.server())?, saved.clone());
        Ok((saved, app.ok_or_else(|| Failure { exit: Exit::Ended, problem: unfinished() })?))
    }

    /// The way to a server.
    pub(super) fn server(&self, url: &ServerUrl) -> Result<Server, Failure> {
        let server = match &self.ca_file {
            Some(file) => Server::with_extra_roots(url, file),
            None => Server::new(url),
        };
        server.map_err(|problem| Failure {
            exit: if matches!(problem, NoServer::Tls(TlsSetupError::UnreadableRoots)) {
                Exit::File
            } else {
                Exit::CannotRun
            },
            problem: problem.into(),
        })
    }
}

/// What went wrong with a server, and where.
pub(super) fn failure(server: &ServerUrl, problem: &ActivationError) -> Failure {
    let is_silent = matches!(problem, ActivationError::NoAnswer(_));
    let is_away = is_silent || problem.refusal().is_some_and(Refusal::is_of_a_gateway);
    let exit = if is_away { Exit::Unreachable } else { Exit::Ended };
    let advice = if problem.is_passing() { ". Run the same command again when it is there" } else { "" };
    let text = if is_silent { format!("{server}: {problem}{advice}") } else { problem.to_string() };
    Failure { exit, problem: anyhow!(text) }
}
