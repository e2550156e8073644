//! The providers that a model's section can name: where each is, and how it wants to be asked.
//! Never decides for a person: every key of the section counts more.

use crate::model::{Dialect, ForcedToolChoice, MaxTokensField, StructuredOutput};

/// What a section means that names a provider and says no more.
pub(super) struct Preset {
    /// How the file spells it.
    pub(super) name: &'static str,
    /// Where it is; none where that differs from account to account.
    pub(super) base_url: Option<&'static str>,
    pub(super) dialect: Dialect,
}

/// What a server takes that is run by oneself; tools and pictures depend on the model.
const LOCAL: Dialect = Dialect {
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

const HOSTED: Dialect = Dialect { tools: true, ..LOCAL };

/// What every model of OpenAI's takes, the reasoning ones included. They are shown the schema of their reply.
const OPENAI: Dialect = Dialect {
    max_tokens_field: MaxTokensField::MaxCompletionTokens,
    temperature: false,
    stop: false,
    schema_in_prompt: false,
    images: true,
    ..HOSTED
};

/// The preset of that name.
pub(super) fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// All presets; the words of the key `provider` are theirs.
pub(super) static PRESETS: [Preset; 12] = [
    Preset { name: "openai", base_url: Some("https://api.openai.com/v1"), dialect: OPENAI },
    Preset { name: "azure", base_url: None, dialect: OPENAI },
    Preset {
        name: "anthropic",
        base_url: Some("https://api.anthropic.com/v1"),
        // It ignores `response_format`, and some of its models refuse to be made to use a tool.
        dialect: Dialect {
            structured_output: StructuredOutput::Text,
            tool_choice: ForcedToolChoice::Auto,
            images: true,
            ..HOSTED
        },
    },
    Preset {
        name: "gemini",
        base_url: Some("https://generativelanguage.googleapis.com/v1beta/openai"),
        // Its schemas are part of the prompt already.
        dialect: Dialect { schema_in_prompt: false, images: true, ..HOSTED },
    },
    Preset {
        name: "openrouter",
        base_url: Some("https://openrouter.ai/api/v1"),
        // It drops a schema that the provider behind it does not take, so the schema has to be in the prompt.
        dialect: Dialect { structured_output: StructuredOutput::JsonObject, ..HOSTED },
    },
    Preset {
        name: "groq",
        base_url: Some("https://api.groq.com/openai/v1"),
        // Its structured output does not go together with a stream.
        dialect: Dialect {
            max_tokens_field: MaxTokensField::MaxCompletionTokens,
            structured_output: StructuredOutput::Text,
            ..HOSTED
        },
    },
    Preset {
        name: "deepseek",
        base_url: Some("https://api.deepseek.com/v1"),
        // It refuses schemas, and its reasoning models a forced tool and a conversation without their thoughts.
        dialect: Dialect {
            structured_output: StructuredOutput::JsonObject,
            tool_choice: ForcedToolChoice::Auto,
            echo_reasoning: true,
            ..HOSTED
        },
    },
    Preset {
        name: "mistral",
        base_url: Some("https://api.mistral.ai/v1"),
        // It refuses every field that it does not know, tells its usage unasked, and adds the schema to the prompt itself.
        dialect: Dialect { tool_choice: ForcedToolChoice::Any, stream_usage: false, schema_in_prompt: false, ..HOSTED },
    },
    Preset {
        name: "xai",
        base_url: Some("https://api.x.ai/v1"),
        // Its reasoning models refuse stop sequences.
        dialect: Dialect { max_tokens_field: MaxTokensField::MaxCompletionTokens, stop: false, ..HOSTED },
    },
    Preset { name: "ollama", base_url: Some("http://127.0.0.1:11434/v1"), dialect: LOCAL },
    Preset { name: "llama.cpp", base_url: Some("http://127.0.0.1:8080/v1"), dialect: LOCAL },
    Preset { name: "vllm", base_url: Some("http://127.0.0.1:8000/v1"), dialect: LOCAL },
];
