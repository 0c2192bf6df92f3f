//! The secrets of a registry, each in a file that only its owner reads: made at the first start, read ever after.
//!
//! Whoever loses `registry.key` cannot read the registry any more; whoever loses `opaque.setup` makes all personal PINs
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

use crate::keyed_hash::HashKey;
use crate::opaque::server::{SETUP, Setup};

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
}

/// All of them.
pub struct Keys {
    /// Seals the registry, makes its tags, and hashes temporary PINs.
    pub registry: HashKey,
    /// The server's side of the personal PIN's protocol.
    pub opaque: Setup,
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
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|problem| BadKeyFile::Folder(folder.to_owned(), problem))?;
        let mut random = |_: &Path| {
            let mut bytes = Zeroizing::new(vec![0; 32]);
            rng.fill_bytes(&mut bytes);
            bytes
        };
        let registry = load::<32>(&folder.join("registry.key"), &mut random)?;
        let token = load::<32>(&folder.join("admin.token"), &mut random)?;
        let path = folder.join("opaque.setup");
        let setup = load::<SETUP>(&path, |_| Setup::random(rng).to_bytes())?;
        let opaque = Setup::from_bytes(&setup).map_err(|_| BadKeyFile::Damaged(path, SETUP))?;
        let admin_token = Zeroizing::new(URL_SAFE_NO_PAD.encode(token.as_slice()));
        Ok(Self { registry: HashKey::new(*registry), opaque, admin_token })
    }
}

/// The bytes of a file; if there is none, of the one that is made now, by this process or another.
fn load<const N: usize>(
    path: &Path,
    make: impl FnOnce(&Path) -> Zeroizing<Vec<u8>>,
) -> Result<Zeroizing<[u8; N]>, BadKeyFile> {
    let problem = |problem| BadKeyFile::File(path.to_owned(), problem);
    if !fs::exists(path).map_err(problem)? {
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(make(path)));
        write_new(path, text.as_bytes()).map_err(problem)?;
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(problem)?);
    if fs::metadata(path).map_err(problem)?.permissions().mode() & 0o077 != 0 {
        warn!(file = %path.display(), "others may read this key file");
    }
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.trim()).unwrap_or_default());
    let mut key = Zeroizing::new([0; N]);
    if bytes.len() != N {
        return Err(BadKeyFile::Damaged(path.to_owned(), N));
    }
    key.copy_from_slice(&bytes);
    Ok(key)
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

    fn words(keys: &Keys) -> ([u8; 32], Vec<u8>, String) {
        (keys.registry.hash("test", b""), keys.opaque.to_bytes().to_vec(), keys.admin_token.to_string())
    }

    #[test]
    fn keys_are_made_once_and_only_their_owner_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some/where");
        let first = Keys::load(&path, &mut rand::rng()).unwrap();
        assert_eq!(words(&first), words(&Keys::load(&path, &mut rand::rng()).unwrap()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for name in ["registry.key", "opaque.setup", "admin.token"] {
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
