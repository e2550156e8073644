//! Builds the request of a client that authenticates itself: with a secret, or with a signed assertion.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::transport::auth::{ClientCredentialsConfig, JwtSigningAlgorithm};

use super::error::AuthorizationError;
use crate::model::{AgentId, OAuthSpec};
use crate::system::files;

/// The maximum size of a key file, far above that of any key.
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// The object identifiers of the supported kinds of keys, as a key file contains them, and the algorithm of each.
const KEY_KINDS: [(&[u8], JwtSigningAlgorithm); 3] = [
    // rsaEncryption
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01], JwtSigningAlgorithm::RS256),
    // prime256v1 (P-256)
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], JwtSigningAlgorithm::ES256),
    // secp384r1 (P-384)
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], JwtSigningAlgorithm::ES384),
];

/// Returns the request for a token with `scopes` for `resource`.
///
/// # Errors
/// Returns [`AuthorizationError::Refused`] if the key file cannot be used.
pub(crate) fn token_request(
    agent: &AgentId,
    spec: &OAuthSpec,
    scopes: Vec<String>,
    resource: String,
) -> Result<ClientCredentialsConfig, AuthorizationError> {
    let client_id = spec.client_id.clone().unwrap_or_default();
    let resource = Some(resource);
    let Some(path) = &spec.private_key_file else {
        let client_secret = spec.client_secret.clone().unwrap_or_default();
        return Ok(ClientCredentialsConfig::ClientSecret { client_id, client_secret, scopes, resource });
    };
    let unusable = |problem: String| AuthorizationError::Refused {
        message: format!("the key in `{}` cannot be used: {problem}", path.display()),
        help: Some(format!("set `private_key_file` in `[agents.{agent}.oauth]` to a PEM file with an RSA or EC key")),
    };
    let (signing_key, signing_algorithm) = read_key(path).map_err(unusable)?;
    Ok(ClientCredentialsConfig::PrivateKeyJwt {
        client_id,
        signing_key,
        signing_algorithm,
        token_endpoint_audience: None,
        scopes,
        resource,
    })
}

/// Reads a private key, and detects the algorithm that it signs with. Other parts of the file, such as certificates, are
/// ignored.
fn read_key(path: &Path) -> Result<(Vec<u8>, JwtSigningAlgorithm), String> {
    let text = files::read(path, MAX_KEY_BYTES).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&text);
    let (label, base64) = private_key(&text).ok_or("it contains no private key in PEM format")?;
    if label == "ENCRYPTED " {
        return Err("it is encrypted".to_owned());
    }
    let pem = format!("-----BEGIN {label}PRIVATE KEY-----{base64}-----END {label}PRIVATE KEY-----\n").into_bytes();
    // Only the other formats name the kind of the key.
    if label == "RSA " {
        return Ok((pem, JwtSigningAlgorithm::RS256));
    }
    let base64: String = base64.split_whitespace().collect();
    let der = STANDARD.decode(base64).map_err(|_| "its Base64 text is invalid".to_owned())?;
    let kind = KEY_KINDS.iter().find(|(identifier, _)| der.windows(identifier.len()).any(|part| part == *identifier));
    match kind {
        Some((_, algorithm)) => Ok((pem, *algorithm)),
        None => Err("it is neither an RSA key nor an EC key on P-256 or P-384".to_owned()),
    }
}

/// Returns the prefix of the label and the Base64 text of the first private key in a PEM text.
fn private_key(text: &str) -> Option<(&str, &str)> {
    let (before, after) = text.split_once("PRIVATE KEY-----")?;
    let (_, label) = before.rsplit_once("-----BEGIN ")?;
    let (base64, _) = after.split_once("-----END ")?;
    Some((label, base64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a PEM text whose key has this object identifier.
    fn pem(label: &str, identifier: &[u8]) -> String {
        let der = [&[0x30, 0x81, 0x06][..], identifier, &[0x04, 0x01, 0x00]].concat();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    fn algorithm(text: &str) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_key(file.path()).map(|(_, algorithm)| format!("{algorithm:?}"))
    }

    #[test]
    fn algorithm_is_that_of_the_key() {
        for (identifier, expected) in KEY_KINDS {
            let found = algorithm(&pem("PRIVATE KEY", identifier));
            assert_eq!(found, Ok(format!("{expected:?}")));
        }
        let p256 = KEY_KINDS[1].0;
        assert_eq!(algorithm(&pem("EC PRIVATE KEY", p256)).as_deref(), Ok("ES256"));
        assert_eq!(algorithm(&pem("RSA PRIVATE KEY", &[])).as_deref(), Ok("RS256"));
        let with_certificate = format!("text\n{}{}", pem("CERTIFICATE", KEY_KINDS[0].0), pem("PRIVATE KEY", p256));
        assert_eq!(algorithm(&with_certificate).as_deref(), Ok("ES256"));
    }

    #[test]
    fn unusable_keys_are_described() {
        for (text, problem) in [
            ("", "no private key"),
            ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----", "Base64"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "neither an RSA key"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----", "encrypted"),
        ] {
            let error = algorithm(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
