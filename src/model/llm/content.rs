//! Converts content of MCP messages to parts of a chat.

use serde_json::Value;

use crate::model::{ChatMessage, ChatPart, ChatRole};

impl ChatMessage {
    /// Converts a message of an agent's prompt: an object with a `role`, and a list of blocks as its `content`.
    ///
    /// # Errors
    /// Returns a description of content that a language model does not accept.
    pub fn from_prompt_message(message: &Value) -> Result<Self, String> {
        let role = match message.get("role").and_then(Value::as_str) {
            Some("user") => ChatRole::User,
            Some("assistant") => ChatRole::Assistant,
            other => return Err(format!("`role` must be `user` or `assistant`, not `{}`", other.unwrap_or("nothing"))),
        };
        let blocks = message.get("content").and_then(Value::as_array).ok_or("a message has no `content`")?;
        let parts = blocks.iter().map(|block| ChatPart::from_prompt_block(role, block)).collect::<Result<_, _>>()?;
        Ok(Self { role, parts })
    }
}

impl ChatPart {
    /// Converts a block of an agent's prompt. An embedded resource becomes its text or image, after a line that names
    /// it. A link to a resource becomes that line.
    fn from_prompt_block(role: ChatRole, block: &Value) -> Result<Self, String> {
        let text_of = |object: &Value, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let kind = block.get("type").and_then(Value::as_str).unwrap_or("unknown");
        match (kind, role) {
            ("text", _) => {
                Ok(Self::Text { text: text_of(block, "text").ok_or("content of type `text` has no `text`")? })
            }
            ("image" | "audio", ChatRole::User) => Self::media(block, kind),
            ("resource_link", _) => {
                let uri = text_of(block, "uri").ok_or("content of type `resource_link` has no `uri`")?;
                Ok(Self::Text { text: format!("[resource {uri}]") })
            }
            ("resource", _) => {
                let resource = block.get("resource").unwrap_or(&Value::Null);
                let uri = text_of(resource, "uri").unwrap_or_default();
                let mime_type = text_of(resource, "mimeType").unwrap_or_default();
                match text_of(resource, "text") {
                    Some(text) => Ok(Self::Text { text: format!("[resource {uri}]\n{text}") }),
                    None if role == ChatRole::User => {
                        let kind = if mime_type.starts_with("audio/") { "audio" } else { "image" };
                        let data = resource.get("blob").cloned().unwrap_or_default();
                        Self::media(&serde_json::json!({"mimeType": mime_type, "data": data}), kind).map_err(|_| {
                            format!("the resource `{uri}` is neither text nor an image nor audio (`{mime_type}`)")
                        })
                    }
                    None => Err(format!("the resource `{uri}` in a message of the assistant has no text")),
                }
            }
            ("image" | "audio", ChatRole::Assistant) => {
                Err(format!("content of type `{kind}` is not supported in a message of the assistant"))
            }
            _ => Err(format!("content of type `{kind}` is not supported")),
        }
    }

    /// Converts an image or audio block. Its MIME type and data become part of a URL, so they are validated.
    ///
    /// # Errors
    /// Returns a description of the invalid member.
    pub fn media(block: &Value, kind: &str) -> Result<Self, String> {
        let text = |key: &str| block.get(key).and_then(Value::as_str).map(str::to_owned);
        let plain = |c: char| c.is_ascii_alphanumeric() || "/+-.".contains(c);
        let mime_type = text("mimeType")
            .filter(|mime_type| mime_type.starts_with(&format!("{kind}/")) && mime_type.chars().all(plain))
            .ok_or_else(|| format!("content of type `{kind}` must have a `mimeType` such as `{kind}/…`"))?;
        let base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        let data = text("data").filter(|data| !data.is_empty() && data.chars().all(base64));
        let data = data.ok_or_else(|| format!("content of type `{kind}` must have `data` in base64"))?;
        Ok(match kind {
            "audio" => Self::Audio { mime_type, data },
            _ => Self::Image { mime_type, data },
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn prompt_messages_become_chat_messages() {
        let message = json!({"role": "user", "content": [
            {"type": "text", "text": "Look:"},
            {"type": "image", "mimeType": "image/png", "data": "AAA="},
            {"type": "resource", "resource": {"uri": "note://1", "mimeType": "text/plain", "text": "milk"}},
            {"type": "resource", "resource": {"uri": "pic://1", "mimeType": "image/gif", "blob": "BBB="}},
            {"type": "resource_link", "uri": "note://2", "name": "two"},
        ]});
        let text = |text: &str| ChatPart::Text { text: text.to_owned() };
        let image = |mime_type: &str, data: &str| ChatPart::Image { mime_type: mime_type.into(), data: data.into() };
        let parts = vec![
            text("Look:"),
            image("image/png", "AAA="),
            text("[resource note://1]\nmilk"),
            image("image/gif", "BBB="),
            text("[resource note://2]"),
        ];
        assert_eq!(ChatMessage::from_prompt_message(&message), Ok(ChatMessage { role: ChatRole::User, parts }));
    }

    #[test]
    fn unsupported_content_is_named() {
        let read = |role: &str, block: Value| {
            ChatMessage::from_prompt_message(&json!({"role": role, "content": [block]})).unwrap_err()
        };
        let pdf =
            json!({"type": "resource", "resource": {"uri": "doc://1", "mimeType": "application/pdf", "blob": "A"}});
        assert!(read("user", pdf.clone()).contains("`doc://1`"));
        assert!(read("assistant", pdf).contains("`doc://1`"));
        assert!(read("assistant", json!({"type": "image"})).contains("assistant"));
        assert!(read("user", json!({"type": "image", "mimeType": "image/png", "data": "é"})).contains("base64"));
        assert!(read("user", json!({"type": "hologram"})).contains("`hologram`"));
        assert!(read("system", json!({"type": "text", "text": "x"})).contains("`system`"));
    }
}
