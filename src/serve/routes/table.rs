//! The table of all routes.

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, get, post};

use super::{actions, comparing, files, listing, metrics, openapi, plans, running, session, starting, stream, tasks};
use crate::serve::assets;
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::Shared;

/// Returns all routes of the API: a path in the syntax of OpenAPI, its methods, and what serves it.
pub(super) fn routes() -> Vec<(&'static str, &'static [&'static str], MethodRouter<Shared>)> {
    vec![
        ("/api/session", &["post"], post(session::create)),
        ("/api/info", &["get"], get(session::info)),
        ("/api/runs", &["get", "post"], get(listing::list).post(starting::start)),
        ("/api/runs/{run}", &["get"], get(running::show)),
        ("/api/runs/{run}/tasks", &["get"], get(tasks::search)),
        ("/api/runs/{run}/tasks/{task}", &["get"], get(tasks::show)),
        ("/api/runs/{run}/events", &["get"], get(running::events)),
        ("/api/runs/{run}/answers/{question}", &["post"], post(actions::answer)),
        ("/api/runs/{run}/signals/{signal}", &["post"], post(actions::signal)),
        ("/api/runs/{run}/cancel", &["post"], post(actions::cancel)),
        ("/api/runs/{run}/resume", &["post"], post(starting::resume)),
        ("/api/runs/{run}/retry", &["get", "post"], get(starting::preview_retry).post(starting::retry)),
        ("/api/runs/{run}/diff/{other}", &["get"], get(comparing::diff)),
        ("/api/runs/{run}/files/{file}", &["get"], get(files::file)),
        ("/api/stream", &["get"], get(stream::stream)),
        ("/api/plans", &["get"], get(plans::list)),
        ("/api/plans/{file}", &["get"], get(plans::show)),
        ("/api/openapi.json", &["get"], get(openapi::document)),
        ("/metrics", &["get"], get(metrics::metrics)),
    ]
}

/// Returns the router of the page and of the API.
pub(crate) fn router() -> Router<Shared> {
    let page = Router::new().route("/", get(assets::page)).route("/assets/{name}", get(assets::asset));
    let all = routes().into_iter().fold(page, |router, (path, _, method_router)| {
        // The file of a task may be in a folder.
        router
            .route(&path.replace("{file}", if path.contains("/files/") { "{*file}" } else { "{file}" }), method_router)
    });
    let unknown =
        || async { PageApiError::not_found("serve::unknown_path", "there is nothing at this path").into_response() };
    all.fallback(unknown)
}
