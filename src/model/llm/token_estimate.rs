//! Estimates the tokens of requests before an endpoint has counted them, for budgets and sampling quotas. The estimate
//! is high rather than low, since it is reserved until the endpoint reports its usage.

use crate::model::{ChatMessage, ChatPart, ChatRequest, ChatTool, JsonObject};

/// Bytes of text per token. Common tokenizers produce fewer tokens for most texts.
const BYTES_PER_TOKEN: u64 = 3;
/// Tokens per image. Models scale images down first, so the size in bytes is irrelevant. Few charge more than this.
const TOKENS_PER_IMAGE: u64 = 1_600;
/// Bytes of compressed audio per token. Models charge up to 32 tokens a second; this assumes 32 kbit/s, a low rate for
/// speech.
const COMPRESSED_AUDIO_BYTES_PER_TOKEN: u64 = 125;
/// Bytes of uncompressed audio per token, for 16-bit samples at 8 kHz.
const PCM_AUDIO_BYTES_PER_TOKEN: u64 = 500;

impl ChatRequest {
    /// Returns the maximum number of tokens that the request may use: its reply limit, messages, tools, and format.
    pub fn estimate_tokens(&self) -> u64 {
        let messages: u64 = self.messages.iter().map(|message| message_bytes(message)).sum();
        let system = self.system.as_ref().map_or(0, |system| byte_count(system));
        let tools: u64 = self.tools.iter().map(tool_bytes).sum();
        let format = self.output.as_ref().map_or(0, |format| byte_count(&format.instruction()));
        (messages + system + tools + format) / BYTES_PER_TOKEN + u64::from(self.max_tokens)
    }

    /// Returns the minimum number of tokens of its messages: one for each word.
    ///
    /// Tokenizers split text at spaces and punctuation first, so each word is at least one token. A sequence of
    /// non-ASCII letters counts as one word, since not every script has spaces.
    pub fn min_tokens(&self) -> u64 {
        let texts = self.messages.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
            ChatPart::Text { text } | ChatPart::ToolResult { text, .. } => Some(text),
            _ => None,
        });
        self.system.iter().chain(texts).map(|text| words(text)).sum()
    }
}

fn words(text: &str) -> u64 {
    let is_separator = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric();
    text.split(is_separator).filter(|word| !word.is_empty()).count() as u64
}

/// Returns the weight of a message in bytes of text.
fn message_bytes(message: &ChatMessage) -> u64 {
    let weight = |part: &ChatPart| match part {
        ChatPart::Text { text } | ChatPart::Reasoning { text, .. } | ChatPart::ToolResult { text, .. } => {
            byte_count(text)
        }
        ChatPart::Image { .. } => TOKENS_PER_IMAGE * BYTES_PER_TOKEN,
        ChatPart::Audio { mime_type, data } => audio_tokens(mime_type, data) * BYTES_PER_TOKEN,
        ChatPart::ToolUse { name, input, .. } => byte_count(name) + json_bytes(input),
        // It is sent back without its arguments.
        ChatPart::UnreadableToolUse { name, .. } => byte_count(name),
    };
    message.parts.iter().map(weight).sum()
}

fn audio_tokens(mime_type: &str, base64: &str) -> u64 {
    let is_plain = ["wav", "wave", "pcm", "l16", "aiff"].iter().any(|kind| mime_type.to_lowercase().contains(kind));
    let per_token = if is_plain { PCM_AUDIO_BYTES_PER_TOKEN } else { COMPRESSED_AUDIO_BYTES_PER_TOKEN };
    (byte_count(base64) / 4 * 3).div_ceil(per_token)
}

fn tool_bytes(tool: &ChatTool) -> u64 {
    byte_count(&tool.name)
        + tool.description.as_ref().map_or(0, |text| byte_count(text))
        + json_bytes(&tool.input_schema)
}

fn json_bytes(object: &JsonObject) -> u64 {
    serde_json::to_string(object).map_or(0, |json| byte_count(&json))
}

fn byte_count(text: &str) -> u64 {
    text.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ChatRole;

    fn request(parts: Vec<ChatPart>) -> ChatRequest {
        let messages = vec![ChatMessage { role: ChatRole::User, parts }.into()];
        ChatRequest { messages, max_tokens: 100, ..ChatRequest::default() }
    }

    #[test]
    fn estimate_adds_text_bytes_and_reply_limit() {
        assert_eq!(request(vec![ChatPart::Text { text: "x".repeat(300) }]).estimate_tokens(), 200);
    }

    #[test]
    fn each_word_is_at_least_a_token() {
        let min_tokens = |text: &str| request(vec![ChatPart::Text { text: text.to_owned() }]).min_tokens();
        for (text, tokens) in [
            ("", 0),
            ("One two  three.\n\nFour!", 4),
            ("{\"key\":[1,2]}", 3),
            ("計画を立ててください", 1),
            ("Grüße an alle", 3),
            ("========    ", 0),
            ("iVBORw0KGgoAAAANSUhEUgAA", 1),
        ] {
            assert_eq!(min_tokens(text), tokens, "{text}");
        }
        let result = ChatPart::ToolResult { id: "a b".to_owned(), text: "c d".to_owned(), is_error: false };
        let image = ChatPart::Image { mime_type: "image/png".to_owned(), data: "a b".to_owned() };
        assert_eq!(ChatRequest { system: Some("a b".to_owned()), ..request(vec![result, image]) }.min_tokens(), 4);
    }

    #[test]
    fn image_estimate_is_independent_of_size() {
        for size in [100, 1_400_000, 20_000_000] {
            let image = ChatPart::Image { mime_type: "image/png".into(), data: "A".repeat(size) };
            assert_eq!(request(vec![image]).estimate_tokens(), 1_700, "{size}");
        }
    }

    #[test]
    fn audio_estimate_depends_on_duration() {
        // A minute of speech costs 1,920 tokens at 32 a second.
        for (mime_type, bytes_per_second) in [("audio/mpeg", 4_000), ("audio/wav", 16_000)] {
            let data = "A".repeat(bytes_per_second * 60 / 3 * 4);
            let audio = ChatPart::Audio { mime_type: mime_type.into(), data };
            assert_eq!(request(vec![audio]).estimate_tokens(), 2_020, "{mime_type}");
        }
    }
}
