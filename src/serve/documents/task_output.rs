//! The output of a task by the kind of its contents.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::markdown::{markdown_html, safe_address};
use crate::model::text::floor_char_boundary;
use crate::model::{ContentBlock, RunId, ToolOutput};
use crate::view::text::{printable, printable_text};

/// The maximum size of a text or of JSON in the page, in bytes. Longer ones are files.
const MAX_SHOWN_BYTES: usize = 64 << 10;
/// The maximum size of an image within the document, in bytes of Base64.
const MAX_INLINE_IMAGE_BYTES: usize = 256 << 10;

/// Returns whether a browser may show contents of this type as an image. Scalable images may contain scripts.
pub(crate) fn is_inline_image(media: &str) -> bool {
    matches!(media, "image/png" | "image/jpeg" | "image/gif" | "image/webp" | "image/avif")
}

/// Returns the output: `{text, html, json, truncated, images, links, files}`.
pub(crate) fn output_json(run: &RunId, output: &ToolOutput) -> Value {
    let mut object = json!({});
    let text = output.text();
    if let Some(file) = output.file_of_text() {
        // It is one of the files.
        object["truncated"] = file.bytes.into();
    } else if !text.is_empty() {
        let shown = &text[..floor_char_boundary(&text, MAX_SHOWN_BYTES)];
        object["text"] = printable_text(shown).into();
        object["html"] = markdown_html(shown).into();
        if shown.len() < text.len() {
            object["truncated"] = (text.len() - shown.len()).into();
        }
    }
    if let Some(structured) = &output.structured {
        let length = structured.to_string().len();
        if length <= MAX_SHOWN_BYTES {
            object["json"] = structured.clone();
        } else {
            object["truncated"] = length.into();
        }
    }
    let (mut images, mut links, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for block in &output.content {
        add_block(run, block, (&mut images, &mut files));
        links.extend(link_json(block));
    }
    if let Some(file) = output.structured_file.as_deref() {
        files.push(file_json(run, &file.name, (file.bytes, Some("application/json"))));
    }
    if let Some(saved) = output.saved.as_deref() {
        files.push(file_json(run, &format!("saved/{}", saved.name), (saved.bytes, None)));
    }
    object["images"] = images.into();
    object["links"] = links.into();
    object["files"] = files.into();
    if let Some(warning) = &output.warning {
        object["warning"] = printable(warning).into();
    }
    object
}

fn add_block(run: &RunId, block: &ContentBlock, (images, files): (&mut Vec<Value>, &mut Vec<Value>)) {
    let media = block.mime_type().unwrap_or_default();
    let is_image = is_inline_image(media);
    if let Some(file) = block.saved_file() {
        let url = file_url(run, &file.name);
        if is_image {
            images.push(json!({"url": url, "mime": media}));
        }
        files.push(file_json(run, &file.name, (file.bytes, block.mime_type())));
    } else if is_image
        && let Some(data) = block.data().filter(|data| data.len() <= MAX_INLINE_IMAGE_BYTES)
        && STANDARD.decode(data).is_ok()
    {
        images.push(json!({"url": format!("data:{media};base64,{data}"), "mime": media}));
    }
}

fn link_json(block: &ContentBlock) -> Option<Value> {
    let resource = block.as_non_text()?;
    let kind = resource.get("type")?.as_str()?;
    let resource = match kind {
        "resource_link" => resource,
        "resource" => resource.get("resource")?,
        _ => return None,
    };
    let uri = resource.get("uri")?.as_str()?;
    let name = ["title", "name"].iter().find_map(|key| resource.get(*key)?.as_str()).unwrap_or(uri);
    let mut link = json!({"uri": printable(uri), "title": printable(name)});
    if let Some(address) = safe_address(uri) {
        link["url"] = address.into();
    }
    Some(link)
}

fn file_json(run: &RunId, name: &str, (bytes, media): (u64, Option<&str>)) -> Value {
    json!({
        "name": name.rsplit('/').next().unwrap_or(name),
        "bytes": bytes,
        "mime": media.unwrap_or("application/octet-stream"),
        "url": file_url(run, name),
    })
}

fn file_url(run: &RunId, name: &str) -> String {
    let parts = name
        .split('/')
        .map(|part| percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string());
    format!("/api/runs/{run}/files/{}", parts.collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SavedFile;

    #[test]
    fn contents_are_sorted_by_kind() {
        let blocks = [
            json!({"type": "text", "text": "**done**"}),
            json!({"type": "image", "mimeType": "image/png", "data": "aGk="}),
            json!({"type": "image", "mimeType": "image/svg+xml", "data": "PHN2Zz4="}),
            json!({"type": "image", "mimeType": "image/png", "data": "\"><script>"}),
            json!({"type": "resource_link", "uri": "javascript:alert(1)", "name": "bad"}),
            json!({"type": "resource_link", "uri": "https://example.com/a", "title": "good"}),
        ];
        let output = ToolOutput::new(blocks, Some(json!({"a": 1})));
        let shown = output_json(&"r".into(), &output);
        assert_eq!(shown["html"], "<p><strong>done</strong></p>\n");
        assert_eq!(shown["json"], json!({"a": 1}));
        assert_eq!(shown["images"], json!([{"url": "data:image/png;base64,aGk=", "mime": "image/png"}]));
        assert_eq!(
            shown["links"],
            json!([
                {"uri": "javascript:alert(1)", "title": "bad"},
                {"uri": "https://example.com/a", "title": "good", "url": "https://example.com/a"},
            ])
        );
    }

    #[test]
    fn texts_that_are_only_in_files_are_links() {
        let file = SavedFile { name: "t-1.txt".to_owned(), bytes: 9, sha256: "0".repeat(64), is_text: true };
        let output = ToolOutput::new([ContentBlock::text_in_file(file, None)], None);
        let shown = output_json(&"r".into(), &output);
        let listed =
            json!([{"name": "t-1.txt", "bytes": 9, "mime": "text/plain", "url": "/api/runs/r/files/t%2D1%2Etxt"}]);
        assert_eq!((&shown["truncated"], &shown["files"], shown.get("text")), (&json!(9), &listed, None));
    }

    #[test]
    fn long_texts_are_cut() {
        let output = ToolOutput::new([json!({"type": "text", "text": "é".repeat(MAX_SHOWN_BYTES)})], None);
        let shown = output_json(&"r".into(), &output);
        assert_eq!(shown["truncated"], json!(MAX_SHOWN_BYTES));
    }
}
