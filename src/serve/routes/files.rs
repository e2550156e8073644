//! The files of a run: images and large contents of results, and saved outputs.

use std::fs::File;
use std::io;
use std::path::{Component, Path as FilePath, PathBuf};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use tokio_util::io::ReaderStream;

use crate::serve::documents::is_inline_image;
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{Shared, blocking};

/// Returns a file of a run. Only images are shown in the page; a browser saves everything else.
pub(super) async fn file(
    State(state): State<Shared>,
    Path((run, name)): Path<(String, String)>,
) -> Result<Response<Body>, PageApiError> {
    let (file, length, name) = blocking(&state, move |state| {
        let run = state.find_run(&run)?;
        let path = FilePath::new(&name);
        let unknown = || PageApiError::not_found("serve::unknown_file", "the run has no such file");
        if path.components().any(|part| !matches!(part, Component::Normal(_))) || name.contains(['\\', '\0']) {
            return Err(unknown());
        }
        let (file, length) = open(&state.settings.content_root.join(run.as_str()), path).map_err(|_| unknown())?;
        Ok((file, length, name))
    })
    .await?;
    let media = media_type(&name);
    let mut response = Response::new(Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file))));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox; frame-ancestors 'none'"),
    );
    if !is_inline_image(media) {
        headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
    Ok(response)
}

/// Opens a file within the directory of a run. A link that leads out of it is not followed.
fn open(directory: &FilePath, name: &FilePath) -> io::Result<(File, u64)> {
    let directory = directory.canonicalize()?;
    let path: PathBuf = directory.join(name).canonicalize()?;
    if !path.starts_with(&directory) {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let file = File::open(path)?;
    let details = file.metadata()?;
    if details.is_file() { Ok((file, details.len())) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
}

/// Returns the type of a file by its name. Anything that a browser might execute is of no type.
fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("avif") => "image/avif",
        Some("txt" | "md" | "csv" | "yaml") => "text/plain; charset=utf-8",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}
