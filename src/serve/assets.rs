//! The files of the page, which are part of the program.

use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};

/// The page itself.
const PAGE: &[u8] = include_bytes!("../../web/dist/index.html");

/// The script and the style of the page.
pub(super) const SCRIPT: &str = include_str!("../../web/dist/app.js");
pub(super) const STYLE: &str = include_str!("../../web/dist/app.css");

/// The other files, each with its name and type.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("app.js", "text/javascript; charset=utf-8", SCRIPT.as_bytes()),
    ("app.css", "text/css; charset=utf-8", STYLE.as_bytes()),
    ("icon.svg", "image/svg+xml", include_bytes!("../../web/dist/icon.svg")),
    ("licenses.txt", "text/plain; charset=utf-8", include_bytes!("../../web/dist/licenses.txt")),
];

/// Returns the page. It holds no secret.
pub(super) async fn page() -> Response<Body> {
    file("text/html; charset=utf-8", PAGE)
}

/// Returns a file of the page.
pub(super) async fn asset(Path(name): Path<String>) -> Response<Body> {
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, media, contents)) => file(media, contents),
        None => {
            let mut response = Response::new(Body::from("no such file\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn file(media: &'static str, contents: &'static [u8]) -> Response<Body> {
    let mut response = Response::new(Body::from(contents));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    // The files of another version have the same names.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
