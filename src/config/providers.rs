//! The providers that a model's section can name: where each is, and how it wants to be asked.
//! Never decides for a person: every key of the section counts more.

use crate::model::{Dialect, ForcedToolChoice, MaxTokensField, StructuredOutput};

/// What a section means that names a provider and says no more.
pub(super) struct ProviderPreset {
    /// How the file spells it.
    pub(super) name: &'static str,
    /// Where it is; none where that differs from account to account.
    pub(super) base_url: Option<&'static str>,
    pub(super) dialect: Dialect,
}

/// What a server takes that is run by oneself; tools and pictures depend on the model.
const LOCAL_DIALECT: Dialect = Dialect {
    max_tokens_field: MaxTokensField::MaxTokens,
    max_output_tokens: None,
    temperature: true,
    stop: true,
    structured_output: StructuredOutput::JsonSchema,
    schema_in_prompt: true,
    tool_choice: ForcedToolChoice::Required,
    system_role: crate::model::SystemRole::System,
    stream_usage: true,
    echo_reasoning: false,
    tools: false,
    images: false,
    audio: false,
};

const HOSTED_DIALECT: Dialect = Dialect { tools: true, ..LOCAL_DIALECT };

/// What every model of OpenAI's takes, the reasoning ones included. They are shown the schema of their reply.
const OPENAI_DIALECT: Dialect = Dialect {
    max_tokens_field: MaxTokensField::MaxCompletionTokens,
    temperature: false,
    stop: false,
    schema_in_prompt: false,
    images: true,
    ..HOSTED_DIALECT
};

/// The preset of that name.
pub(super) fn find_preset(name: &str) -> Option<&'static ProviderPreset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// All presets; the words of the key `provider` are theirs.
pub(super) static PRESETS: [ProviderPreset; 12] = [
    ProviderPreset { name: "openai", base_url: Some("https://api.openai.com/v1"), dialect: OPENAI_DIALECT },
    ProviderPreset { name: "azure", base_url: None, dialect: OPENAI_DIALECT },
    ProviderPreset {
        name: "anthropic",
        base_url: Some("https://api.anthropic.com/v1"),
        // It ignores `response_format`, and some of its models refuse to be made to use a tool.
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
        // Its schemas are part of the prompt already.
        dialect: Dialect { schema_in_prompt: false, images: true, ..HOSTED_DIALECT },
    },
    ProviderPreset {
        name: "openrouter",
        base_url: Some("https://openrouter.ai/api/v1"),
        // It drops a schema that the provider behind it does not take, so the schema has to be in the prompt.
        dialect: Dialect { structured_output: StructuredOutput::JsonObject, ..HOSTED_DIALECT },
    },
    ProviderPreset {
        name: "groq",
        base_url: Some("https://api.groq.com/openai/v1"),
        // Its structured output does not go together with a stream.
        dialect: Dialect {
            max_tokens_field: MaxTokensField::MaxCompletionTokens,
            structured_output: StructuredOutput::Text,
            ..HOSTED_DIALECT
        },
    },
    ProviderPreset {
        name: "deepseek",
        base_url: Some("https://api.deepseek.com/v1"),
        // It refuses schemas, and its reasoning models a forced tool and a conversation without their thoughts.
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
        // It refuses every field that it does not know, tells its usage unasked, and adds the schema to the prompt itself.
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
        // Its reasoning models refuse stop sequences.
        dialect: Dialect { max_tokens_field: MaxTokensField::MaxCompletionTokens, stop: false, ..HOSTED_DIALECT },
    },
    ProviderPreset { name: "ollama", base_url: Some("http://127.0.0.1:11434/v1"), dialect: LOCAL_DIALECT },
    ProviderPreset { name: "llama.cpp", base_url: Some("http://127.0.0.1:8080/v1"), dialect: LOCAL_DIALECT },
    ProviderPreset { name: "vllm", base_url: Some("http://127.0.0.1:8000/v1"), dialect: LOCAL_DIALECT },
];
