//! Files in and out: bounded reads, and writes that either happen whole or not at all.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use tempfile::Builder;
use zeroize::Zeroizing;

use crate::crypto::Credential;
use crate::protocol::limits::MAX_CREDENTIAL_BYTES;

/// Largest picture of a QR code that is read; a phone's photo has a few MiB.
const MAX_PICTURE_BYTES: u64 = 64 * 1024 * 1024;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is too large: {what} may have at most {most} bytes", path.display())]
    TooLarge { path: PathBuf, what: &'static str, most: u64 },
    #[error("{} exists; say --force to replace it", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Reads the credential to hand over.
pub(super) fn read_credential(path: &Path) -> Result<Credential, FileError> {
    let most = u64::try_from(MAX_CREDENTIAL_BYTES).unwrap_or(u64::MAX);
    read(path, "a credential", most).map(Zeroizing::new)
}

/// Reads a picture.
pub(super) fn read_picture(path: &Path) -> Result<Vec<u8>, FileError> {
    read(path, "a picture", MAX_PICTURE_BYTES)
}

/// Reads a file that has at most so many bytes.
pub(super) fn read(path: &Path, what: &'static str, most: u64) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(FileError::TooLarge { path: path.to_owned(), what, most });
    }
    Ok(bytes)
}

/// Whether [`write`] would refuse, so that it is known before the handoff and not after: there must be room for the
/// largest credential, too.
pub(super) fn check_writable(path: &Path, force: bool) -> Result<(), FileError> {
    if !force && path.symlink_metadata().is_ok() {
        return Err(FileError::Exists { path: path.to_owned() });
    }
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    let mut file = Builder::new().prefix(".handoff-").tempfile_in(folder(path)).map_err(failed)?;
    file.write_all(&vec![0; MAX_CREDENTIAL_BYTES]).and_then(|()| file.as_file().sync_all()).map_err(failed)
}

/// Writes a file at once and for its owner only; replaces another one only if told to.
pub(super) fn write(path: &Path, bytes: &[u8], force: bool) -> Result<(), FileError> {
    let failed = |source| FileError::Write { path: path.to_owned(), source };
    // Made with mode 0600, in the same folder, so that the last step is a rename.
    let mut file = Builder::new().prefix(".handoff-").tempfile_in(folder(path)).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    let persisted = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match persisted {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(FileError::Exists { path: path.to_owned() })
        }
        Err(error) => Err(failed(error.error)),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_written_whole_for_its_owner_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credential");
        write(&path, b"one", false).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(write(&path, b"two", false), Err(FileError::Exists { .. })));
        assert!(matches!(check_writable(&path, false), Err(FileError::Exists { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, b"two", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing half-written is left");
    }

    #[test]
    fn what_cannot_be_read_or_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/such/file");
        assert!(matches!(read_credential(&missing), Err(FileError::Read { .. })));
        assert!(matches!(read_credential(folder.path()), Err(FileError::Read { .. })));
        assert!(matches!(check_writable(&missing, true), Err(FileError::Write { .. })));
        assert!(matches!(write(&missing, b"", true), Err(FileError::Write { .. })));
        assert!(matches!(write(Path::new("/dev/full/x"), b"", true), Err(FileError::Write { .. })));
    }

    #[test]
    fn a_credential_of_256_kib_fits_and_one_byte_more_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credential");
        std::fs::write(&path, vec![7; MAX_CREDENTIAL_BYTES]).unwrap();
        assert_eq!(read_credential(&path).unwrap().len(), MAX_CREDENTIAL_BYTES);
        std::fs::write(&path, vec![7; MAX_CREDENTIAL_BYTES + 1]).unwrap();
        assert!(matches!(read_credential(&path), Err(FileError::TooLarge { .. })));
        assert!(matches!(read_credential(Path::new("/dev/zero")), Err(FileError::TooLarge { .. })));
    }
}
