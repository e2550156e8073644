//! Authorizes requests with OAuth: tokens, their storage and renewal, and logins.

mod address_policy;
pub(crate) mod authorizer;
pub(crate) mod challenge;
pub(crate) mod client_credentials;
pub(crate) mod error;
pub(crate) mod login;
pub(crate) mod login_file;
mod login_store;
mod network_client;
pub(crate) mod pasted_redirect;
pub(crate) mod redirect;
pub(crate) mod required_login;
#[cfg(feature = "keyring")]
mod system_keyring;
