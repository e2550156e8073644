//! The keys of the plan file and of plan patches.

use super::common::{CONCURRENCY, EFFECTS, key};
use crate::config::schema::table::{KeySchema, TableSchema, ValueType};

const fn with_aliases(aliases: &'static [&'static str], key: KeySchema) -> KeySchema {
    KeySchema { name: key.name, aliases, description: key.description, value_type: key.value_type }
}

const ON_FAILURE: ValueType = ValueType::Choice(&[
    ("fail", "The run fails and dependents are skipped; other tasks continue."),
    ("continue", "Dependents run without its output."),
    ("skip_dependents", "Dependents are skipped; the run ends as `partial`."),
    ("replan", "A language model replans the pending tasks. If it cannot, the failure counts as `fail`."),
]);

/// The plan file.
pub(crate) static PLAN: TableSchema = TableSchema {
    title: "a plan",
    definition: "plan",
    description: "A task graph that kapell runs on MCP agents.",
    required: &["tasks"],
    keys: &[
        key("name", ValueType::Text, "The name of the plan. Default: the name of the file."),
        key("description", ValueType::Text, "A description of the plan."),
        key("inputs", ValueType::TableMap(&INPUT), "The inputs of a run, available as `inputs.NAME` in expressions."),
        key("defaults", ValueType::Table(&DEFAULTS), "Defaults for all tasks."),
        key("max_parallel", CONCURRENCY, "Maximum number of concurrent calls of the run. Default: 8."),
        key(
            "tasks",
            ValueType::TableList(&TASK),
            "The tasks. Each task starts as soon as its dependencies have ended.",
        ),
        key("outputs", ValueType::Object, "The outputs of the run, by name. Default: the answers of all tasks."),
        key(
            "budget",
            ValueType::Table(&BUDGET),
            "The budget of the run. When it is exhausted, no further task starts.",
        ),
        key(
            "replan",
            ValueType::Integer(0, 100),
            "Maximum number of replans of a run, for tasks with `on_failure: replan`. Default: 1.",
        ),
        key(
            "result",
            ValueType::OneOf("`merge`, `synthesize`, or a map", &RESULT_SHAPES),
            "How the result is built from the tasks' answers: `merge` prints each answer, `synthesize` lets a \
             language model write one.",
        ),
    ],
};

static RESULT_SHAPES: [ValueType; 2] = [
    ValueType::Choice(&[
        ("merge", "The answer of each task under its title, or the plan's `outputs`."),
        ("synthesize", "One answer from all results, with verified citations of tasks."),
    ]),
    ValueType::Table(&RESULT),
];

/// The result of a plan.
pub(crate) static RESULT: TableSchema = TableSchema {
    title: "`result`",
    definition: "result",
    description: "How the result is built from the tasks' answers.",
    required: &["synthesize"],
    keys: &[key("synthesize", ValueType::Table(&SYNTHESIS), "One answer from all results.")],
};

/// The synthesis of one answer from all results.
pub(crate) static SYNTHESIS: TableSchema = TableSchema {
    title: "`synthesize`",
    definition: "synthesis",
    description: "Settings for the answer that a language model writes from all results.",
    required: &[],
    keys: &[
        key("prompt", ValueType::Text, "Instructions for the answer. Default: the description of the plan."),
        key("model", ValueType::Text, "The model: `llm`, or a name under `models` in the agents file."),
        key(
            "output_schema",
            ValueType::OneOf("a JSON Schema, or the path of a file with one", &[ValueType::Text, ValueType::Object]),
            "The JSON Schema of the answer. Default: free text.",
        ),
        key("max_tokens", ValueType::Integer(1, 1_000_000), "Maximum number of tokens of the answer. Default: 4096."),
    ],
};

/// An input of a plan.
pub(crate) static INPUT: TableSchema = TableSchema {
    title: "an input",
    definition: "input",
    description: "An input of a run.",
    required: &["type"],
    keys: &[
        key(
            "type",
            ValueType::Choice(&[
                ("string", "Text."),
                ("number", "An integer or a number with a fraction."),
                ("integer", "An integer."),
                ("boolean", "`true` or `false`."),
                ("array", "A list."),
                ("object", "A map."),
            ]),
            "The JSON type of the value.",
        ),
        key("required", ValueType::Boolean, "Whether a value is required. `null` means no value."),
        key("default", ValueType::Any, "The default value."),
        key("description", ValueType::Text, "A description of the input."),
    ],
};

/// The defaults of tasks.
pub(crate) static DEFAULTS: TableSchema = TableSchema {
    title: "`defaults`",
    definition: "defaults",
    description: "Defaults for all tasks.",
    required: &[],
    keys: &[RETRY_KEY, EFFECT_KEY, TIMEOUT_KEY, DEADLINE_KEY, QUESTIONS_KEY, ON_FAILURE_KEY],
};

const RETRY_KEY: KeySchema = key(
    "retry",
    ValueType::OneOf("a number of attempts, or a map with `max_attempts` and `backoff`", &RETRY_SHAPES),
    "How a failed call is retried on the same agent. A number is short for `max_attempts`.",
);
static RETRY_SHAPES: [ValueType; 2] = [ValueType::Integer(1, 1_000), ValueType::Table(&RETRY)];
const EFFECT_KEY: KeySchema = key(
    "effect",
    EFFECTS,
    "The effect of a repeated call. It determines whether a call without a response can be retried or rerouted.",
);
const TIMEOUT_KEY: KeySchema = key(
    "timeout",
    ValueType::PositiveDuration,
    "Idle timeout of a call; progress resets it. Default: the agent's `tool_timeout`.",
);
const DEADLINE_KEY: KeySchema =
    key("deadline", ValueType::PositiveDuration, "Maximum duration of a call, regardless of progress.");
const QUESTIONS_KEY: KeySchema = key(
    "questions",
    ValueType::Table(&QUESTIONS),
    "How long questions of the task and its agents wait for an answer. Default: no limit.",
);
const ON_FAILURE_KEY: KeySchema = key("on_failure", ON_FAILURE, "What happens when the task fails. Default: `fail`.");

/// A task of a plan.
pub(crate) static TASK: TableSchema = TableSchema {
    title: "a task",
    definition: "task",
    description: "A tool call or a prompt, run once or for each item of a list. A tool call can have several routes.",
    required: &["id"],
    keys: &[
        with_aliases(&["name"], key("id", ValueType::Name, "The ID of the task, for references in other tasks.")),
        key("title", ValueType::Text, "The title shown above its result."),
        key("description", ValueType::Text, "A description for readers of the plan."),
        key("agent", ValueType::Text, "The agent, as named in the agents file."),
        key("capability", ValueType::Text, "Instead of `agent`: a capability; any agent that has it can run the task."),
        key("tool", ValueType::Text, "The tool to call."),
        with_aliases(
            &["args"],
            key("with", ValueType::Object, "The arguments of the tool. Strings may contain `${{ }}`."),
        ),
        with_aliases(
            &["depends_on"],
            key("needs", ValueType::TextOrList, "Tasks that must end first, in addition to those in expressions."),
        ),
        key("if", ValueType::Condition, "Skips the task if this expression is false. `${{ }}` is optional."),
        key("foreach", ValueType::ItemList, "A list; the task runs once for each of its items."),
        key("as", ValueType::Name, "The name of the current item in expressions. Default: `item`."),
        key("max_parallel", CONCURRENCY, "Maximum number of concurrent items of `foreach`."),
        RETRY_KEY,
        EFFECT_KEY,
        TIMEOUT_KEY,
        DEADLINE_KEY,
        key(
            "await",
            ValueType::Table(&AWAIT),
            "A resource to wait for after the tool call: one that its result links to.",
        ),
        key(
            "fallback",
            ValueType::TableList(&FALLBACK),
            "Alternative routes, in order, for calls that the agent cannot complete.",
        ),
        ON_FAILURE_KEY,
        key("approve", ValueType::Text, "A question that a person must approve before each call."),
        QUESTIONS_KEY,
        key("prompt", ValueType::Text, "Instead of a call: a prompt for the language model. May contain `${{ }}`."),
        key("model", ValueType::Text, "The model: `llm`, or a name under `models` in the agents file."),
        key("system", ValueType::Text, "The system prompt. May contain `${{ }}`."),
        key(
            "output_schema",
            ValueType::OneOf("a JSON Schema, or the path of a file with one", &[ValueType::Text, ValueType::Object]),
            "The JSON Schema of the model's answer, inline or in a file relative to the plan. Default: free text.",
        ),
        key(
            "tools",
            ValueType::TextOrList,
            "The tools that the model can call: `agent.tool`, or `agent` for all tools of an agent.",
        ),
        key(
            "max_turns",
            ValueType::Integer(1, 100),
            "Maximum number of replies of the model, including its answer. Default: 8.",
        ),
        key(
            "max_tokens",
            ValueType::Integer(1, 1_000_000),
            "Maximum number of tokens of each reply of the model. Default: 4096.",
        ),
        key("plan", ValueType::Unsupported("copy the tasks of the other plan into this plan"), ""),
        key("tasks", ValueType::Unsupported("move these tasks to the plan's `tasks`"), ""),
        key(
            "budget",
            ValueType::Table(&TASK_BUDGET),
            "The budget of the task, including all items and model requests.",
        ),
        key("result", ValueType::Unsupported("set the plan's `outputs`"), ""),
    ],
};

const SPENDING: [KeySchema; 4] = [
    key(
        "tokens",
        ValueType::Integer(1, u64::MAX),
        "Maximum number of tokens of the language model, including requests and replies.",
    ),
    key(
        "cost_usd",
        ValueType::Number(0.0, f64::MAX),
        "Maximum cost in US dollars, based on the prices in the agents file.",
    ),
    key("llm_calls", ValueType::Integer(0, u64::MAX), "Maximum number of requests to the language model."),
    key("tool_calls", ValueType::Integer(0, u64::MAX), "Maximum number of call attempts."),
];
static BUDGET_KEYS: [KeySchema; 5] = {
    let [tokens, cost, llm_calls, tool_calls] = SPENDING;
    let time =
        key("time", ValueType::PositiveDuration, "Maximum duration of the run; running tasks are then cancelled.");
    [tokens, cost, llm_calls, tool_calls, time]
};
static TASK_BUDGET_KEYS: [KeySchema; 4] = SPENDING;

/// The budget of a run.
pub(crate) static BUDGET: TableSchema = TableSchema {
    title: "the plan's `budget`",
    definition: "budget",
    description: "The budget of a run.",
    required: &[],
    keys: &BUDGET_KEYS,
};

/// The budget of a task.
pub(crate) static TASK_BUDGET: TableSchema = TableSchema {
    title: "a task's `budget`",
    definition: "task_budget",
    description: "The budget of a task. `deadline` limits its duration.",
    required: &[],
    keys: &TASK_BUDGET_KEYS,
};

/// The condition that a call waits for.
pub(crate) static AWAIT: TableSchema = TableSchema {
    title: "`await`",
    definition: "await",
    description: "A resource that a task waits for after its tool call: the first one that the result links to. Its \
                  final contents become the task's output. Expressions refer to keys of the contents by name, and to \
                  all contents as `resource`; a missing key is null. `${{ }}` is optional.",
    required: &["resource"],
    keys: &[
        key(
            "resource",
            ValueType::Text,
            "A condition that is true once the contents are final, such as `status == 'completed'`.",
        ),
        key("failed", ValueType::Text, "A condition that is true if the resource has failed; the call then fails."),
    ],
};

/// A plan patch.
pub(crate) static PLAN_PATCH: TableSchema = TableSchema {
    title: "a plan patch",
    definition: "remainder",
    description: "Changes to the pending tasks of a run.",
    required: &["keep", "tasks"],
    keys: &[
        key("keep", ValueType::TextList, "The pending tasks to keep."),
        key("tasks", ValueType::TableList(&TASK), "The new tasks."),
    ],
};

/// Another route of a task.
pub(crate) static FALLBACK: TableSchema = TableSchema {
    title: "a fallback",
    definition: "fallback",
    description: "An alternative route of the task.",
    required: &["agent"],
    keys: &[
        key("agent", ValueType::Text, "The agent."),
        key("tool", ValueType::Text, "The tool. Default: the task's `tool`."),
    ],
};

/// The retries of a task.
pub(crate) static RETRY: TableSchema = TableSchema {
    title: "`retry`",
    definition: "retry",
    description: "How a failed call is retried on the same agent.",
    required: &[],
    keys: &[
        key("max_attempts", ValueType::Integer(1, 1_000), "Maximum number of attempts, including the first."),
        key(
            "backoff",
            ValueType::OneOf("`exponential`, `fixed`, or a map", &[BACKOFF_KINDS, ValueType::Table(&BACKOFF)]),
            "The delays between attempts.",
        ),
    ],
};

const BACKOFF_KINDS: ValueType = ValueType::Choice(&[
    ("exponential", "Growing delays: 1s, 2s, 4s, … up to 30s, with 50% jitter."),
    ("fixed", "A fixed delay of 1s."),
]);

/// The timeouts of questions.
pub(crate) static QUESTIONS: TableSchema = TableSchema {
    title: "`questions`",
    definition: "questions",
    description: "How long questions wait for an answer, and the default answer after that.",
    required: &["timeout"],
    keys: &[
        key("timeout", ValueType::PositiveDuration, "How long a question waits for an answer."),
        key(
            "default",
            ValueType::Choice(&[
                ("accept", "Accept with the defaults of the form; decline if a required field has no default."),
                ("decline", "Decline. This is the default."),
                ("cancel", "Dismissed."),
            ]),
            "The answer after the timeout.",
        ),
    ],
};

/// The delays between retries.
pub(crate) static BACKOFF: TableSchema = TableSchema {
    title: "`backoff`",
    definition: "backoff",
    description: "The delays between attempts.",
    required: &[],
    keys: &[
        key("kind", BACKOFF_KINDS, "How delays grow. Default: `exponential`."),
        key("initial", ValueType::Duration, "The first delay. Default: 1s."),
        key("factor", ValueType::Number(1.0, 1_000.0), "The factor by which delays grow. Default: 2."),
        key("max", ValueType::Duration, "The maximum delay. Default: 30s."),
        key("jitter", ValueType::Number(0.0, 1.0), "The random part of a delay, from 0 to 1."),
    ],
};
