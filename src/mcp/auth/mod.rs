//! Authorizes requests with OAuth: tokens, their storage and renewal, and logins.

pub(crate) mod authorizer;
pub(crate) mod challenge;
pub(crate) mod client_credentials;
pub(crate) mod error;
pub(crate) mod login;
pub(crate) mod login_file;
pub(crate) mod redirect;
pub(crate) mod required_login;
