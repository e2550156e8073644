//! The names of spans and attributes: the conventions for generative AI and MCP
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>), and `kapell.…` for what they have no name for.

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(super) const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(super) const INPUT_MESSAGES: &str = "gen_ai.input.messages";
pub(super) const OUTPUT_MESSAGES: &str = "gen_ai.output.messages";
pub(super) const TOOL_NAME: &str = "gen_ai.tool.name";
pub(super) const TOOL_ARGUMENTS: &str = "gen_ai.tool.call.arguments";
pub(super) const TOOL_RESULT: &str = "gen_ai.tool.call.result";

pub(super) const METHOD: &str = "mcp.method.name";
pub(super) const PROTOCOL_VERSION: &str = "mcp.protocol.version";
pub(super) const NETWORK_TRANSPORT: &str = "network.transport";
pub(super) const ERROR_TYPE: &str = "error.type";

pub(super) const RUN_ID: &str = "kapell.run.id";
pub(super) const RUN_STATUS: &str = "kapell.run.status";
pub(super) const PLAN_NAME: &str = "kapell.plan.name";
pub(super) const TASK_ID: &str = "kapell.task.id";
pub(super) const TASK_OUTCOME: &str = "kapell.task.outcome";
pub(super) const AGENT: &str = "kapell.agent.name";
pub(super) const ATTEMPT: &str = "kapell.attempt.number";
pub(super) const COST: &str = "kapell.cost.usd";
pub(super) const QUESTION_ID: &str = "kapell.question.id";
pub(super) const ANSWER_ACTION: &str = "kapell.answer.action";
pub(super) const ANSWERED_BY: &str = "kapell.answer.by";
pub(super) const RETRY_REASON: &str = "kapell.retry.reason";
pub(super) const REPLAN: &str = "kapell.replan.number";

/// The values of [`OPERATION`].
pub(super) const CHAT: &str = "chat";
pub(super) const EXECUTE_TOOL: &str = "execute_tool";
pub(super) const INVOKE_WORKFLOW: &str = "invoke_workflow";
