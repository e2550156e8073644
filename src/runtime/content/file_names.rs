//! Names the files of a run. Nothing that an agent sends becomes a part of a path, except a known type.

use crate::model::TaskId;

/// The maximum length of the part of a name that comes from the task.
const MAX_STEM_CHARS: usize = 100;
/// The maximum length of an extension that is taken from an unknown MIME type.
const MAX_EXTENSION_CHARS: usize = 10;

/// The extensions of common MIME types whose subtype is not the usual extension.
const EXTENSIONS: [(&str, &str); 28] = [
    ("application/gzip", "gz"),
    ("application/javascript", "js"),
    ("application/msword", "doc"),
    ("application/octet-stream", "bin"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.ms-powerpoint", "ppt"),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/x-gzip", "gz"),
    ("application/x-tar", "tar"),
    ("application/x-yaml", "yaml"),
    ("audio/mp4", "m4a"),
    ("audio/mpeg", "mp3"),
    ("audio/vnd.wave", "wav"),
    ("audio/wave", "wav"),
    ("audio/x-wav", "wav"),
    ("image/jpeg", "jpg"),
    ("image/svg+xml", "svg"),
    ("image/vnd.microsoft.icon", "ico"),
    ("image/x-icon", "ico"),
    ("text/calendar", "ics"),
    ("text/javascript", "js"),
    ("text/markdown", "md"),
    ("text/plain", "txt"),
    ("text/x-python", "py"),
    ("video/quicktime", "mov"),
    ("video/x-msvideo", "avi"),
];

/// Returns the name of file `number` of a task, from 1. `copy` counts the names that are taken already.
pub(super) fn file_name(task: &TaskId, number: usize, mime_type: Option<&str>, copy: usize) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut stem = String::new();
    for c in task.as_str().chars().take(MAX_STEM_CHARS) {
        match is_allowed(c) {
            true => stem.push(c),
            // `read[3]` becomes `read-3`.
            false if !stem.ends_with('-') => stem.push('-'),
            false => {}
        }
    }
    let stem = stem.trim_matches('-');
    let stem = if stem.is_empty() { "task" } else { stem };
    let extension = mime_type.and_then(extension).unwrap_or_else(|| "bin".to_owned());
    match copy {
        0 => format!("{stem}-{number}.{extension}"),
        copy => format!("{stem}-{number}-{}.{extension}", copy + 1),
    }
}

/// Returns the extension for a MIME type, such as `image/png`.
pub(super) fn extension(mime_type: &str) -> Option<String> {
    let name = mime_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if let Some((_, extension)) = EXTENSIONS.iter().find(|(known, _)| *known == name) {
        return Some((*extension).to_owned());
    }
    let (_, subtype) = name.split_once('/')?;
    // `application/ld+json` is JSON.
    let subtype = subtype.rsplit('+').next().unwrap_or(subtype);
    let is_plain = subtype.len() <= MAX_EXTENSION_CHARS && subtype.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_plain && !subtype.is_empty()).then(|| subtype.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_state_the_task_the_number_and_the_type() {
        for (task, mime_type, name) in [
            ("shot", Some("image/png"), "shot-1.png"),
            ("read[3]", Some("Image/JPEG; q=1"), "read-3-1.jpg"),
            ("ask/2", Some("audio/x-wav"), "ask-2-1.wav"),
            ("a_b-c", Some("application/ld+json"), "a_b-c-1.json"),
            ("shot", None, "shot-1.bin"),
            ("shot", Some("audio/../../wav"), "shot-1.bin"),
            ("shot", Some("x/ä"), "shot-1.bin"),
            ("shot", Some("nonsense"), "shot-1.bin"),
            ("../..", Some("application/pdf"), "task-1.pdf"),
        ] {
            assert_eq!(file_name(&TaskId::from(task), 1, mime_type, 0), name);
        }
        assert_eq!(file_name(&TaskId::from("shot"), 2, Some("image/png"), 1), "shot-2-2.png");
        assert_eq!(file_name(&TaskId::from("x".repeat(256)), 1, None, 0).len(), MAX_STEM_CHARS + "-1.bin".len());
    }
}
