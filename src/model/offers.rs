//! The resources and prompts that an agent offers, and completion of their arguments. Descriptions can be read from
//! MCP JSON, too.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The resources, resource templates, and prompts of an agent, as far as they could be listed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentOffers {
    /// The resources; absent if the agent refused to list them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Vec<ResourceInfo>>,
    /// The templates of further resources; absent if the agent refused to list them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_templates: Option<Vec<ResourceTemplateInfo>>,
    /// The prompts; absent if the agent refused to list them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Vec<PromptInfo>>,
}

/// A resource, as described by an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceInfo {
    /// The URI.
    pub uri: String,
    /// The rest of the description.
    #[serde(flatten)]
    pub details: ResourceDetails,
}

/// A template of resources, as described by an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceTemplateInfo {
    /// The URI template (RFC 6570).
    #[serde(alias = "uriTemplate")]
    pub uri_template: String,
    /// The rest of the description, which holds for all resources that match the template.
    #[serde(flatten)]
    pub details: ResourceDetails,
}

/// The description of a resource, or of all resources of a template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceDetails {
    /// The name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The description from the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The MIME type.
    #[serde(default, alias = "mimeType", skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
}

/// A prompt, as described by an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptInfo {
    /// The name.
    pub name: String,
    /// The display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The description from the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The arguments, which are texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<PromptArgument>,
}

/// An argument of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptArgument {
    /// The name.
    pub name: String,
    /// The description from the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// True if the prompt requires a value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

/// A request to complete the value of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletionRequest {
    /// The prompt or resource template that has the argument.
    pub target: CompletionTarget,
    /// The argument of the prompt, or the variable of the template.
    pub argument: String,
    /// The beginning of its value.
    pub value: String,
    /// The values of other arguments.
    pub context: IndexMap<String, String>,
}

/// The owner of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompletionTarget {
    /// A prompt, by its name.
    Prompt(String),
    /// A resource template, as the agent lists it.
    ResourceTemplate(String),
}

/// The values that complete an argument.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The values, best first.
    pub values: Vec<String>,
    /// The number of all values, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// True if there are more values.
    pub has_more: bool,
}
