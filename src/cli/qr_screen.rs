//! The rolling QR code on the screen: redrawn in place with a live countdown on a terminal, one line a frame elsewhere.

use std::io::{self, IsTerminal as _, Write as _, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossterm::cursor::MoveUp;
use crossterm::queue;
use crossterm::terminal::{Clear, ClearType};

use super::files::{self, FileError};
use super::picture::{self, Format, PictureError};
use crate::protocol::qr::QrPayload;

/// Where the QR code is shown.
#[derive(Debug)]
pub(super) struct QrScreen {
    is_terminal: bool,
    file: Option<(PathBuf, Format)>,
    /// Lines that were drawn and can be drawn over.
    drawn: u16,
    /// What is on the screen: the picture, when the next comes, when the session expires.
    shown: Option<(Vec<String>, Instant, Instant)>,
}

/// A QR code that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShowError {
    #[error(transparent)]
    Picture(#[from] PictureError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("cannot draw on the terminal: {0}")]
    Terminal(#[from] io::Error),
}

impl QrScreen {
    /// Draws for people unless `quiet`, and into a file, if there is one.
    pub(super) fn new(quiet: bool, file: Option<PathBuf>) -> Result<Self, PictureError> {
        let file = file.map(|path| Format::of(&path).map(|format| (path, format))).transpose()?;
        Ok(Self { is_terminal: !quiet && stdout().is_terminal(), file, drawn: 0, shown: None })
    }

    /// Shows a frame in place of the one before.
    pub(super) fn show(
        &mut self,
        payload: &QrPayload,
        next_in: Duration,
        left: Duration,
        now: Instant,
    ) -> Result<(), ShowError> {
        let text = payload.to_text();
        if let Some((path, format)) = &self.file {
            files::write(path, &picture::file(&text, *format)?, true)?;
        }
        if self.is_terminal {
            let until = |delay| now.checked_add(delay).unwrap_or(now);
            self.shown = Some((picture::for_terminal(&text)?, until(next_in), until(left)));
            self.draw(now)?;
        }
        Ok(())
    }

    /// Draws the countdown anew; to be called every second.
    pub(super) fn tick(&mut self, now: Instant) -> Result<(), ShowError> {
        if self.shown.is_some() { self.draw(now).map_err(ShowError::from) } else { Ok(()) }
    }

    /// Takes the code away: from the screen, so that nobody photographs a dead one, and from the file.
    pub(super) fn hide(&mut self) -> Result<(), ShowError> {
        self.shown = None;
        if self.drawn > 0 {
            let mut out = stdout().lock();
            queue!(out, MoveUp(self.drawn), Clear(ClearType::FromCursorDown))?;
            out.flush()?;
            self.drawn = 0;
        }
        match &self.file {
            Some((path, _)) => match std::fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(FileError::Write { path: path.clone(), source }.into())
                }
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn draw(&mut self, now: Instant) -> io::Result<()> {
        let Some((picture, next, end)) = &self.shown else { return Ok(()) };
        let seconds = |until: &Instant| until.saturating_duration_since(now).as_secs_f64().ceil();
        let left =
            format!("Scan with the new phone. New picture in {} s, code valid for {} s.", seconds(next), seconds(end));
        let mut out = stdout().lock();
        if self.drawn > 0 {
            queue!(out, MoveUp(self.drawn), Clear(ClearType::FromCursorDown))?;
        }
        for line in picture {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "{left}")?;
        self.drawn = u16::try_from(picture.len()).unwrap_or(u16::MAX).saturating_add(1);
        out.flush()
    }
}
