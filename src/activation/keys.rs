//! The secrets of a registry, each in a file that only its owner reads: made at the first start, read ever after.
//!
//! Whoever loses `registry.key` cannot read the registry any more; whoever loses `pin.setups` makes all personal PINs
//! worthless. Nodes that share a database share both.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::CryptoRng;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::grant::DevelopmentKey;
use super::personal_pin::{BadSetups, PinServer};
use crate::keyed_hash::HashKey;

/// Bytes of a key.
const KEY: usize = 32;

/// A key file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadKeyFile {
    /// The folder cannot be made.
    #[error("the data directory {} cannot be made: set activation.data_directory, or activation.enabled = false", .0.display())]
    Folder(PathBuf, #[source] io::Error),
    /// The file cannot be read or written.
    #[error("the key file {} cannot be read or written", .0.display())]
    File(PathBuf, #[source] io::Error),
    /// The file has something else in it.
    #[error("the key file {path} is damaged: it must hold {1} bytes in unpadded base64url", path = .0.display())]
    Damaged(PathBuf, usize),
    /// The file of setups has something else in it.
    #[error("{} cannot be used", .0.display())]
    Setups(PathBuf, #[source] BadSetups),
}

/// All of them.
pub struct Keys {
    /// Seals the registry, makes its tags, and hashes temporary PINs.
    pub registry: HashKey,
    /// The server's side of the personal PINs.
    pub personal_pin: PinServer,
    /// What the administration shows.
    pub admin_token: Zeroizing<String>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys([redacted])")
    }
}

impl Keys {
    /// Reads the files of a folder; makes the folder and what is missing.
    ///
    /// # Errors
    /// [`BadKeyFile`] with the file.
    pub fn load(folder: &Path, rng: &mut impl CryptoRng) -> Result<Self, BadKeyFile> {
        make(folder)?;
        let registry = key(&folder.join("registry.key"), || random(rng))?;
        let admin_token = key(&folder.join("admin.token"), || random(rng))?;
        let path = folder.join("pin.setups");
        let setups = text(&path, || PinServer::generate_line(rng))?;
        let personal_pin = PinServer::from_file(&setups).map_err(|problem| BadKeyFile::Setups(path, problem))?;
        let admin_token = Zeroizing::new(URL_SAFE_NO_PAD.encode(admin_token.as_slice()));
        Ok(Self { registry: HashKey::new(*registry), personal_pin, admin_token })
    }
}

/// Reads the development key of a folder; makes the folder and the key if they are missing.
///
/// # Errors
/// [`BadKeyFile`] with the file.
pub fn development_key(folder: &Path, rng: &mut impl CryptoRng) -> Result<DevelopmentKey, BadKeyFile> {
    make(folder)?;
    let path = folder.join("development.key");
    let bytes = key(&path, || random(rng))?;
    DevelopmentKey::from_bytes(&bytes).ok_or(BadKeyFile::Damaged(path, KEY))
}

fn make(folder: &Path) -> Result<(), BadKeyFile> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|problem| BadKeyFile::Folder(folder.to_owned(), problem))
}

fn random(rng: &mut impl CryptoRng) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; KEY]);
    rng.fill_bytes(bytes.as_mut());
    Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
}

/// The key in a file.
fn key(path: &Path, make: impl FnOnce() -> Zeroizing<String>) -> Result<Zeroizing<[u8; KEY]>, BadKeyFile> {
    let text = text(path, make)?;
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.trim()).unwrap_or_default());
    let mut key = Zeroizing::new([0; KEY]);
    if bytes.len() != KEY {
        return Err(BadKeyFile::Damaged(path.to_owned(), KEY));
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

/// What is in a file; if there is none, of the one that is made now, by this process or another.
fn text(path: &Path, make: impl FnOnce() -> Zeroizing<String>) -> Result<Zeroizing<String>, BadKeyFile> {
    let problem = |problem| BadKeyFile::File(path.to_owned(), problem);
    if !fs::exists(path).map_err(problem)? {
        write_new(path, make().as_bytes()).map_err(problem)?;
    }
    // Reading by the group is allowed: a secret that Kubernetes mounts belongs to root and the group of the process.
    if fs::metadata(path).map_err(problem)?.permissions().mode() & 0o037 != 0 {
        warn!(file = %path.display(), "others may read this key file");
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(problem)
}

/// Whole and readable by nobody else from the first moment on; of several processes at once, one wins.
fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => info!(file = %path.display(), "a new key was made; back it up"),
        Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(other) => return Err(other.error),
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(keys: &Keys) -> ([u8; 32], String, String) {
        (keys.registry.hash("test", b""), format!("{:?}", keys.personal_pin), keys.admin_token.to_string())
    }

    #[test]
    fn keys_are_made_once_and_only_their_owner_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some/where");
        let first = Keys::load(&path, &mut rand::rng()).unwrap();
        assert_eq!(words(&first), words(&Keys::load(&path, &mut rand::rng()).unwrap()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for name in ["registry.key", "pin.setups", "admin.token"] {
            assert_eq!(mode(&path.join(name)), 0o600, "{name}");
        }
        let other = tempfile::tempdir().unwrap();
        assert_ne!(words(&first), words(&Keys::load(other.path(), &mut rand::rng()).unwrap()));
    }

    #[test]
    fn processes_that_start_at_once_have_the_same_keys() {
        let folder = tempfile::tempdir().unwrap();
        let load = || words(&Keys::load(folder.path(), &mut rand::rng()).unwrap());
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(all.iter().all(|keys| *keys == all[0]));
    }

    #[test]
    fn a_damaged_file_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.key");
        for text in ["", "short", &"A".repeat(200)] {
            fs::write(&path, text).unwrap();
            assert!(
                matches!(Keys::load(folder.path(), &mut rand::rng()), Err(BadKeyFile::Damaged(named, 32)) if named == path)
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn keys_do_not_show_in_debug_output() {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::load(folder.path(), &mut rand::rng()).unwrap();
        assert_eq!(format!("{keys:?}"), "Keys([redacted])");
    }
}
