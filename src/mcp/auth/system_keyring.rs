//! Keeps the text of a login in the keyring of the system: the Secret Service (GNOME Keyring, KWallet) or the Keychain of
//! macOS.

use std::sync::mpsc;
use std::time::Duration;
use std::{fmt, io, thread};

use keyring::Entry as SystemEntry;
use keyring_core::{Entry, Error};

/// The service under which a keyring lists the logins.
const SERVICE: &str = "kapell";
/// The maximum time for a request, which a locked keyring delays until a person unlocks it. Nothing else runs meanwhile.
const KEYRING_TIMEOUT: Duration = Duration::from_secs(5);

/// An item of the keyring.
pub(super) struct KeyringItem {
    name: String,
    open: fn(&str) -> Result<Entry, Error>,
}

impl KeyringItem {
    /// Returns the item with this name, whether it exists or not.
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), open: |name| SystemEntry::new(SERVICE, name).map(|entry| entry.inner) }
    }

    /// Returns whether the system has a keyring. One that does not respond may still do so later.
    pub(super) fn is_supported() -> bool {
        within_timeout(|| SystemEntry::store_status().is_ok()).unwrap_or(true)
    }

    /// Returns the secret of the item, if it exists.
    pub(super) fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match self.request(|entry| entry.get_secret()) {
            Ok(secret) => Ok(Some(secret)),
            Err(KeyringError::Refused(Error::NoEntry)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the secret of the item.
    pub(super) fn replace(&self, secret: &[u8]) -> io::Result<()> {
        let secret = secret.to_owned();
        Ok(self.request(move |entry| entry.set_secret(&secret))?)
    }

    /// Removes the item. Returns whether there was one.
    pub(super) fn remove(&self) -> io::Result<bool> {
        match self.request(|entry| entry.delete_credential()) {
            Ok(()) => Ok(true),
            Err(KeyringError::Refused(Error::NoEntry)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn request<T: Send + 'static>(
        &self,
        request: impl FnOnce(Entry) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, KeyringError> {
        let (name, open) = (self.name.clone(), self.open);
        let response = within_timeout(move || open(&name).and_then(request));
        response.ok_or(KeyringError::NoResponse)?.map_err(KeyringError::Refused)
    }
}

/// Does the work on a thread of its own, because requests to a keyring block. Returns `None` if it takes too long.
fn within_timeout<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, result) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    result.recv_timeout(KEYRING_TIMEOUT).ok()
}

impl fmt::Display for KeyringItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the item `{}` of `{SERVICE}` in the keyring of the system", self.name)
    }
}

/// The reason that a request to the keyring failed.
enum KeyringError {
    Refused(Error),
    NoResponse,
}

impl From<KeyringError> for io::Error {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Refused(error @ (Error::PlatformFailure(_) | Error::NoStorageAccess(_))) => {
                Self::other(error.to_string())
            }
            // Other errors can contain the secret.
            KeyringError::Refused(_) => Self::other("the keyring returned an unexpected item"),
            KeyringError::NoResponse => Self::new(io::ErrorKind::TimedOut, "the keyring did not respond"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};

    use keyring_core::CredentialStore;
    use keyring_core::mock::{Cred, Store};

    use super::*;

    /// Opens an item in a keyring of this process.
    fn open_mock(name: &str) -> Result<Entry, Error> {
        static STORE: OnceLock<Arc<CredentialStore>> = OnceLock::new();
        let store = STORE.get_or_init(|| Store::new().unwrap());
        Entry::new_in_store(store, SERVICE, name)
    }

    fn item(name: &str) -> KeyringItem {
        KeyringItem { name: name.to_owned(), open: open_mock }
    }

    #[test]
    fn items_are_replaced_shared_and_removed() {
        let (item, same, other) = (item("a"), item("a"), item("b"));
        assert!(item.read().unwrap().is_none() && !item.remove().unwrap());
        item.replace(b"one").unwrap();
        item.replace(b"two").unwrap();
        assert_eq!((same.read().unwrap(), other.read().unwrap()), (Some(b"two".to_vec()), None));
        assert!(same.remove().unwrap());
        assert_eq!(item.read().unwrap(), None);
    }

    #[test]
    fn errors_of_the_keyring_do_not_contain_the_secret() {
        let item = item("c");
        item.replace(b"secret").unwrap();
        let entry = open_mock("c").unwrap();
        let fail = |error| entry.as_any().downcast_ref::<Cred>().unwrap().set_error(error);
        fail(Error::BadEncoding(b"secret".to_vec()));
        let shown = item.read().unwrap_err().to_string();
        assert_eq!(shown, "the keyring returned an unexpected item");
        fail(Error::NoStorageAccess("it is locked".into()));
        assert!(item.read().unwrap_err().to_string().contains("it is locked"));
        assert_eq!(item.read().unwrap(), Some(b"secret".to_vec()));
    }
}
