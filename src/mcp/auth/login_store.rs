//! Keeps the text of a login: in a file that only its owner can read or, in builds with the feature `keyring`, in the
//! keyring of the system.

use std::path::PathBuf;
use std::{fmt, io};

use parking_lot::Mutex;

#[cfg(feature = "keyring")]
use super::system_keyring::KeyringItem;
use crate::system::files;

/// The maximum number of bytes that are read, far above the size of any tokens.
const MAX_LOGIN_BYTES: u64 = 1024 * 1024;

/// The place of one login.
pub(super) enum LoginStore {
    /// The memory of this process. Locked only to copy or replace the text.
    Memory(Mutex<Option<Vec<u8>>>),
    /// A file, which is replaced as a whole.
    File(PathBuf),
    /// An item of the keyring.
    #[cfg(feature = "keyring")]
    Keyring(KeyringItem),
}

impl LoginStore {
    /// Returns the place of a login that outlives the process: the file, or the item of the keyring with its path as name.
    /// A system without a keyring has files only.
    pub(super) fn permanent(file: PathBuf) -> Self {
        #[cfg(feature = "keyring")]
        if KeyringItem::is_supported() {
            return Self::Keyring(KeyringItem::new(file.to_string_lossy()));
        }
        Self::File(file)
    }

    /// Returns the text, if there is one.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Memory(text) => Ok(text.lock().clone()),
            Self::File(path) => match files::read(path, MAX_LOGIN_BYTES) {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            #[cfg(feature = "keyring")]
            Self::Keyring(item) => item.read(),
        }
    }

    /// Replaces the text.
    pub(super) fn replace(&self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Memory(known) => {
                *known.lock() = Some(text.to_owned());
                Ok(())
            }
            Self::File(path) => files::replace_in_own_directory(path, text),
            #[cfg(feature = "keyring")]
            Self::Keyring(item) => item.replace(text),
        }
    }

    /// Removes the text. Returns whether there was one.
    pub(super) fn remove(&self) -> io::Result<bool> {
        match self {
            Self::Memory(text) => Ok(text.lock().take().is_some()),
            Self::File(path) => match std::fs::remove_file(path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            },
            #[cfg(feature = "keyring")]
            Self::Keyring(item) => item.remove(),
        }
    }

    /// Returns what a person can do if the text cannot be read.
    pub(super) fn repair_help(&self) -> &'static str {
        match self {
            Self::Memory(_) | Self::File(_) => "remove the file, and log in again",
            #[cfg(feature = "keyring")]
            Self::Keyring(_) => "unlock the keyring; if that does not help, remove the item, and log in again",
        }
    }
}

impl fmt::Display for LoginStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(_) => write!(f, "the memory of the process"),
            Self::File(path) => write!(f, "`{}`", path.display()),
            #[cfg(feature = "keyring")]
            Self::Keyring(item) => item.fmt(f),
        }
    }
}
