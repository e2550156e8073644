//! Presets of known model providers: the address and the dialect of each. Keys of a model's section override them.

use crate::model::{Dialect, ForcedToolChoice, MaxTokensField, StructuredOutput};

/// The defaults of a provider.
pub(crate) struct ProviderPreset {
    /// The name in the file.
    pub(crate) name: &'static str,
    /// The address of its API. Absent if it depends on the account.
    pub(crate) base_url: Option<&'static str>,
    pub(crate) dialect: Dialect,
}

/// The dialect of a self-hosted server. Support for tools and images depends on the model. Its grammars support bounds.
const LOCAL_DIALECT: Dialect = Dialect { schema_bounds: true, ..Dialect::TEXT_ONLY };

const HOSTED_DIALECT: Dialect = Dialect { tools: true, ..Dialect::TEXT_ONLY };

/// The dialect that all OpenAI models support, including reasoning models. The endpoint shows them the schema of their
/// reply.
const OPENAI_DIALECT: Dialect = Dialect {
    max_tokens_field: MaxTokensField::MaxCompletionTokens,
    temperature: false,
    stop: false,
    schema_in_prompt: false,
    images: true,
    ..HOSTED_DIALECT
};

/// Returns the preset with this name.
pub(crate) fn find_preset(name: &str) -> Option<&'static ProviderPreset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// All presets. Their names are the values of the key `provider`.
pub(crate) static PRESETS: [ProviderPreset; 12] = [
    ProviderPreset { name: "openai", base_url: Some("https://api.openai.com/v1"), dialect: OPENAI_DIALECT },
    ProviderPreset { name: "azure", base_url: None, dialect: OPENAI_DIALECT },
    ProviderPreset {
        name: "anthropic",
        base_url: Some("https://api.anthropic.com/v1"),
        // It ignores `response_format`, and some of its models reject a forced tool call.
        dialect: Dialect {
            structured_output: StructuredOutput::Text,
            tool_choice: ForcedToolChoice::Auto,
            images: true,
            ..HOSTED_DIALECT
        },
    },
    ProviderPreset {
        name: "gemini",
        base_url: Some("https://generativelanguage.googleapis.com/v1beta/openai"),
        // It already includes schemas in the prompt.
        dialect: Dialect { schema_in_prompt: false, images: true, ..HOSTED_DIALECT },
    },
    ProviderPreset {
        name: "openrouter",
        base_url: Some("https://openrouter.ai/api/v1"),
        // It drops a schema that the upstream provider does not support, so the prompt must contain the schema.
        dialect: Dialect { structured_output: StructuredOutput::JsonObject, ..HOSTED_DIALECT },
    },
    ProviderPreset {
        name: "groq",
        base_url: Some("https://api.groq.com/openai/v1"),
        // Its structured output cannot be combined with streaming.
        dialect: Dialect {
            max_tokens_field: MaxTokensField::MaxCompletionTokens,
            structured_output: StructuredOutput::Text,
            ..HOSTED_DIALECT
        },
    },
    ProviderPreset {
        name: "deepseek",
        base_url: Some("https://api.deepseek.com/v1"),
        // It rejects schemas. Its reasoning models reject a forced tool call, and a conversation without their
        // reasoning.
        dialect: Dialect {
            structured_output: StructuredOutput::JsonObject,
            tool_choice: ForcedToolChoice::Auto,
            echo_reasoning: true,
            ..HOSTED_DIALECT
        },
    },
    ProviderPreset {
        name: "mistral",
        base_url: Some("https://api.mistral.ai/v1"),
        // It rejects unknown fields, always reports usage, and adds the schema to the prompt itself.
        dialect: Dialect {
            tool_choice: ForcedToolChoice::Any,
            stream_usage: false,
            schema_in_prompt: false,
            ..HOSTED_DIALECT
        },
    },
    ProviderPreset {
        name: "xai",
        base_url: Some("https://api.x.ai/v1"),
        // Its reasoning models reject stop sequences.
        dialect: Dialect { max_tokens_field: MaxTokensField::MaxCompletionTokens, stop: false, ..HOSTED_DIALECT },
    },
    ProviderPreset { name: "ollama", base_url: Some("http://127.0.0.1:11434/v1"), dialect: LOCAL_DIALECT },
    ProviderPreset { name: "llama.cpp", base_url: Some("http://127.0.0.1:8080/v1"), dialect: LOCAL_DIALECT },
    ProviderPreset { name: "vllm", base_url: Some("http://127.0.0.1:8000/v1"), dialect: LOCAL_DIALECT },
];
