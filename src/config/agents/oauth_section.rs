//! Reads the OAuth settings of an agent, and checks that they fit together.

use url::Url;

use super::section_reader::{SectionReader, parse_url};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{AGENT, AgentKeys, OAUTH, OAuthKeys};
use crate::config::schema::table::CheckedTable;
use crate::model::{OAuthGrant, OAuthSpec};

impl SectionReader<'_, AgentKeys> {
    /// Reads `oauth`. Without it, the settings are the defaults.
    pub(super) fn read_oauth(&self, sink: &mut DiagnosticSink) -> OAuthSpec {
        let Some(node) = self.fields.node(&AGENT.oauth) else { return OAuthSpec::default() };
        if self.fields.has(&AGENT.bearer_token_env_var) {
            self.fields.report_useless(&[&AGENT.oauth], "with `bearer_token_env_var`", sink);
        }
        let span = self.fields.key_span(&AGENT.oauth).unwrap_or(node.span);
        let section = SectionReader {
            fields: CheckedTable::new(node),
            environment: self.environment,
            base: self.base,
            span,
            unset: self.unset,
        };
        section.read_oauth_keys(self.fields.text(&AGENT.url), sink)
    }
}

impl SectionReader<'_, OAuthKeys> {
    fn read_oauth_keys(&self, server: Option<&str>, sink: &mut DiagnosticSink) -> OAuthSpec {
        let fields = self.fields;
        let grant = fields.choice(&OAUTH.grant).unwrap_or_default();
        match grant {
            OAuthGrant::AuthorizationCode => {
                let reason = "without `grant = \"client_credentials\"`";
                fields.report_useless(&[&OAUTH.private_key_file], reason, sink);
                if !fields.has(&OAUTH.client_id) {
                    fields.report_useless(&[&OAUTH.client_secret_env_var], "without `client_id`", sink);
                }
            }
            OAuthGrant::ClientCredentials => self.check_client_credentials(sink),
        }
        let scopes = fields.text_list(&OAUTH.scopes).into_iter();
        OAuthSpec {
            grant,
            client_id: fields.text(&OAUTH.client_id).map(str::to_owned),
            client_secret: self.read_secret(&OAUTH.client_secret_env_var, sink),
            private_key_file: self.read_path(&OAUTH.private_key_file),
            scopes: scopes.map(|(scope, _)| scope.to_owned()).collect(),
            resource: self.read_resource(server, sink),
        }
    }

    /// Checks that the client can authenticate itself in exactly one way.
    fn check_client_credentials(&self, sink: &mut DiagnosticSink) {
        let fields = self.fields;
        if !fields.has(&OAUTH.client_id) {
            let error = sink.error("missing_key", self.span, "`grant = \"client_credentials\"` needs `client_id`");
            error.help("set it to the ID of the client that was registered at the authorization server");
        }
        match (fields.key_span(&OAUTH.client_secret_env_var), fields.key_span(&OAUTH.private_key_file)) {
            (None, None) => {
                let message = "`grant = \"client_credentials\"` needs `client_secret_env_var` or `private_key_file`";
                let error = sink.error("missing_key", self.span, message);
                error.help("set the one that the client was registered with");
            }
            (Some(_), Some(key)) => {
                let message = "`private_key_file` and `client_secret_env_var` are both set";
                sink.error("two_credentials", key, message).help("keep the one that the client was registered with");
            }
            _ => {}
        }
    }

    /// Returns the resource, which must have the origin of `server`: a token for another one must not be sent there.
    fn read_resource(&self, server: Option<&str>, sink: &mut DiagnosticSink) -> Option<String> {
        let node = self.fields.node(&OAUTH.resource)?;
        let resource = parse_url(node, &OAUTH.resource, sink)?;
        // An invalid `url` is reported where it is read.
        let Some(server) = server.and_then(|server| Url::parse(server).ok()) else { return Some(resource) };
        if Url::parse(&resource).is_ok_and(|resource| resource.origin() == server.origin()) {
            return Some(resource);
        }
        let origin = server.origin().ascii_serialization();
        let error = sink.error("other_origin", node.span, "`resource` has another origin than `url`");
        error.help(format!("a token for another server must not be sent to this one: expected an URL at `{origin}`"));
        None
    }
}
