//! Asks a person to log in during a run, and waits until there is a token.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::authorizer::Authorizer;
use super::challenge::Challenge;
use super::error::AuthorizationError;
use super::login::{LOGIN_TIMEOUT, Login};
use super::login_file::AccessToken;
use crate::model::{Answer, Elicitation, Failure, FailureKind, Form, HumanDuration};

/// The maximum number of logins that one request may cause.
pub(crate) const MAX_LOGINS: u32 = 3;
/// The interval between checks whether another process has logged in.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A login that a refused request requires.
pub(crate) struct RequiredLogin {
    authorizer: Arc<Authorizer>,
    challenge: Challenge,
}

impl RequiredLogin {
    /// Returns the login that a person has to do for `authorizer`, if any.
    pub(crate) fn of(authorizer: &Arc<Authorizer>) -> Option<Self> {
        Some(Self { authorizer: authorizer.clone(), challenge: authorizer.required_login()? })
    }

    /// Asks a person to log in on the page of the authorization server, and waits until this process or another one has
    /// a token. Concurrent requests share one question, and its outcome. `refusal` is the failure of the refused request.
    ///
    /// # Errors
    /// Returns a failure if the person declines, or the login fails.
    pub(crate) async fn ask(
        self,
        refusal: Failure,
        ask_person: impl AsyncFnOnce(Elicitation) -> Answer,
    ) -> Result<(), Failure> {
        let authorizer = self.authorizer.clone();
        let _login = authorizer.login.lock().await;
        // Another request may have waited for the same login.
        if authorizer.required_login().is_none() {
            return Ok(());
        }
        if authorizer.has_login_failed.load(Ordering::Relaxed) {
            return Err(refusal);
        }
        let logged_in = self.ask_once(refusal, ask_person).await;
        if logged_in.as_ref().is_err_and(|failure| failure.kind == FailureKind::Unauthorized) {
            authorizer.has_login_failed.store(true, Ordering::Relaxed);
        }
        logged_in
    }

    async fn ask_once(
        self,
        refusal: Failure,
        ask_person: impl AsyncFnOnce(Elicitation) -> Answer,
    ) -> Result<(), Failure> {
        let Self { authorizer, challenge } = self;
        let failure = |error: AuthorizationError| error.to_failure(&authorizer.agent);
        let before = authorizer.file.read().map_err(failure)?.access_token();
        let mut login = Login::begin(&authorizer, Some(&challenge)).await.map_err(failure)?;
        let agent = &authorizer.agent;
        let question = Elicitation {
            message: format!(
                "agent `{agent}` requires a login. Open the page in a browser on this machine, or run `kapell agents \
                 login {agent}`. On another machine, the browser ends at an address that it cannot load: pass that \
                 address to `kapell answer RUN QUESTION --redirect-url ADDRESS`"
            ),
            form: Form::Url { url: login.url.clone(), id: None },
        };
        let logged_in = {
            let mut asking = pin!(ask_person(question));
            let mut elsewhere = pin!(logged_in_elsewhere(&authorizer, before));
            let mut completing = pin!(login.complete());
            tokio::select! {
                completed = &mut completing => completed.map_err(failure),
                () = &mut elsewhere => Ok(()),
                answer = &mut asking => match answer {
                    // The person has opened the page, and completes the login there.
                    Answer::Accept { .. } => tokio::select! {
                        completed = completing => completed.map_err(failure),
                        () = elsewhere => Ok(()),
                        () = tokio::time::sleep(LOGIN_TIMEOUT) => {
                            let limit = HumanDuration(LOGIN_TIMEOUT);
                            let late = format!("the login was not completed within {limit}");
                            Err(failure(AuthorizationError::LoginRequired(late)))
                        }
                    },
                    Answer::Decline | Answer::Cancel => Err(refusal),
                },
            }
        };
        login.close().await;
        logged_in
    }
}

/// Waits until another process has stored another token than `before`, and uses it.
async fn logged_in_elsewhere(authorizer: &Authorizer, before: Option<AccessToken>) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if let Ok(stored) = authorizer.file.read()
            && stored.access_token().is_some()
            && stored.access_token() != before
        {
            authorizer.adopt(&stored);
            return;
        }
    }
}
