//! The keys of the plan file and of plan patches.

use super::common::{CONCURRENCY, EFFECTS, key};
use crate::config::schema::table::{KeySchema, TableSchema, ValueType};

const fn with_aliases(aliases: &'static [&'static str], key: KeySchema) -> KeySchema {
    KeySchema { name: key.name, aliases, description: key.description, value_type: key.value_type }
}

const ON_FAILURE: ValueType = ValueType::Choice(&[
    ("fail", "The run fails and dependents are skipped; what does not depend on it goes on."),
    ("continue", "Dependents run without its output."),
    ("skip_dependents", "Dependents are skipped; the run ends as partly done."),
    ("replan", "A language model plans anew what has not started; where it cannot, the same as `fail`."),
]);

/// The plan file.
pub(crate) static PLAN: TableSchema = TableSchema {
    title: "a plan",
    definition: "plan",
    description: "A task graph that kapell runs on MCP agents.",
    required: &["tasks"],
    keys: &[
        key("name", ValueType::Text, "The plan's name; the file's where absent."),
        key("description", ValueType::Text, "What the plan is for."),
        key("inputs", ValueType::TableMap(&INPUT), "What a run is given, as `inputs.NAME` in expressions."),
        key("defaults", ValueType::Table(&DEFAULTS), "What holds for every task that does not say otherwise."),
        key("max_parallel", CONCURRENCY, "Most calls in flight at once, over the whole run; 8 where absent."),
        key("tasks", ValueType::TableList(&TASK), "The tasks. Each starts as soon as all that it needs has ended."),
        key("outputs", ValueType::Object, "What the run returns, by name; without it, every task's own answer."),
        key("budget", ValueType::Table(&BUDGET), "What the run may spend; when it is spent, nothing more is started."),
        key(
            "replan",
            ValueType::Integer(0, 100),
            "How often a run may plan anew what has not started, where `on_failure: replan` asks for it; 1 where absent.",
        ),
        key(
            "result",
            ValueType::OneOf("`merge`, `synthesize` or a map", &RESULT_SHAPES),
            "What is made of the tasks' answers: `merge` prints each, `synthesize` has a language model write one.",
        ),
    ],
};

static RESULT_SHAPES: [ValueType; 2] = [
    ValueType::Choice(&[
        ("merge", "Each task's answer under its title, or the plan's `outputs`."),
        ("synthesize", "One answer from all results, with citations of tasks that are checked."),
    ]),
    ValueType::Table(&RESULT),
];

/// The result of a plan.
pub(crate) static RESULT: TableSchema = TableSchema {
    title: "`result`",
    definition: "result",
    description: "What is made of the tasks' answers.",
    required: &["synthesize"],
    keys: &[key("synthesize", ValueType::Table(&SYNTHESIS), "One answer from all results.")],
};

/// The synthesis of one answer from all results.
pub(crate) static SYNTHESIS: TableSchema = TableSchema {
    title: "`synthesize`",
    definition: "synthesis",
    description: "How a language model writes one answer from all results.",
    required: &[],
    keys: &[
        key("prompt", ValueType::Text, "What the answer is to be; the plan's description where absent."),
        key("model", ValueType::Text, "The model to ask: `llm`, or a name under `models` in the agents file."),
        key(
            "output_schema",
            ValueType::OneOf(
                "a JSON Schema or the path of a file that holds one",
                &[ValueType::Text, ValueType::Object],
            ),
            "The JSON Schema of the answer; free text where absent.",
        ),
        key("max_tokens", ValueType::Integer(1, 1_000_000), "Most tokens of the answer; 4096 where absent."),
    ],
};

/// An input of a plan.
pub(crate) static INPUT: TableSchema = TableSchema {
    title: "an input",
    definition: "input",
    description: "What a run can be given.",
    required: &["type"],
    keys: &[
        key(
            "type",
            ValueType::Choice(&[
                ("string", "Text."),
                ("number", "A number with or without a fraction."),
                ("integer", "A whole number."),
                ("boolean", "`true` or `false`."),
                ("array", "A list."),
                ("object", "A map."),
            ]),
            "The JSON type that a value must have.",
        ),
        key(
            "required",
            ValueType::Boolean,
            "Whether a run must be given a value; `null` stands for one that is not given.",
        ),
        key("default", ValueType::Any, "The value where none is given."),
        key("description", ValueType::Text, "What the input is for."),
    ],
};

/// The defaults of tasks.
pub(crate) static DEFAULTS: TableSchema = TableSchema {
    title: "`defaults`",
    definition: "defaults",
    description: "What holds for every task that does not say otherwise.",
    required: &[],
    keys: &[RETRY_KEY, EFFECT_KEY, TIMEOUT_KEY, DEADLINE_KEY, QUESTIONS_KEY, ON_FAILURE_KEY],
};

const RETRY_KEY: KeySchema = key(
    "retry",
    ValueType::OneOf("a number of tries, or a map with `max_attempts` and `backoff`", &RETRY_SHAPES),
    "How often and when a failed call is tried again on the same agent. A number is `max_attempts`.",
);
static RETRY_SHAPES: [ValueType; 2] = [ValueType::Integer(1, 1_000), ValueType::Table(&RETRY)];
const EFFECT_KEY: KeySchema = key(
    "effect",
    EFFECTS,
    "What a repeated call does; decides whether a call that got no answer may be repeated or rerouted.",
);
const TIMEOUT_KEY: KeySchema = key(
    "timeout",
    ValueType::PositiveDuration,
    "Longest silence of a call; progress starts it again. The agent's `tool_timeout` where absent.",
);
const DEADLINE_KEY: KeySchema =
    key("deadline", ValueType::PositiveDuration, "Longest duration of a call, progress or not.");
const QUESTIONS_KEY: KeySchema = key(
    "questions",
    ValueType::Table(&QUESTIONS),
    "How long its questions wait, those of its agents included; for ever where absent.",
);
const ON_FAILURE_KEY: KeySchema =
    key("on_failure", ON_FAILURE, "What a failure means for others; `fail` where absent.");

/// A task of a plan.
pub(crate) static TASK: TableSchema = TableSchema {
    title: "a task",
    definition: "task",
    description: "A call of one tool, on one of several agents, or a prompt; once or for each item of a list.",
    required: &["id"],
    keys: &[
        with_aliases(&["name"], key("id", ValueType::Name, "The name by which others refer to it.")),
        key("title", ValueType::Text, "What a person reads above its result."),
        key("description", ValueType::Text, "What it is for; of no consequence."),
        key("agent", ValueType::Text, "The agent to call: a section of the agents file."),
        key("capability", ValueType::Text, "Instead of `agent`: any agent that lists this capability."),
        key("tool", ValueType::Text, "The tool to call."),
        with_aliases(&["args"], key("with", ValueType::Object, "The tool's arguments. Texts may hold `${{ }}`.")),
        with_aliases(
            &["depends_on"],
            key("needs", ValueType::TextOrList, "Tasks that must end first, beside those that expressions refer to."),
        ),
        key("if", ValueType::Condition, "Runs the task only if this holds. An expression, with or without `${{ }}`."),
        key("foreach", ValueType::ItemList, "Runs the task once for each item of this list."),
        key("as", ValueType::Name, "The name of the current item in the other expressions; `item` where absent."),
        key("max_parallel", CONCURRENCY, "Most items of a `foreach` in flight at once."),
        RETRY_KEY,
        EFFECT_KEY,
        TIMEOUT_KEY,
        DEADLINE_KEY,
        key(
            "await",
            ValueType::Table(&AWAIT),
            "What to wait for once the tool has ended: a resource to which its result links.",
        ),
        key("fallback", ValueType::TableList(&FALLBACK), "Where to go, in this order, when the agent cannot do it."),
        ON_FAILURE_KEY,
        key("approve", ValueType::Text, "A question that a person must say yes to before each call."),
        QUESTIONS_KEY,
        key("prompt", ValueType::Text, "Instead of a call: a question to the language model. May hold `${{ }}`."),
        key("model", ValueType::Text, "The model to ask: `llm`, or a name under `models` in the agents file."),
        key("system", ValueType::Text, "What the model is told before the question. May hold `${{ }}`."),
        key(
            "output_schema",
            ValueType::OneOf(
                "a JSON Schema or the path of a file that holds one",
                &[ValueType::Text, ValueType::Object],
            ),
            "The JSON Schema of the model's answer, here or in a file beside the plan; free text where absent.",
        ),
        key(
            "tools",
            ValueType::TextOrList,
            "The only tools that the model may call: `agent.tool`, or `agent` for all.",
        ),
        key("max_turns", ValueType::Integer(1, 100), "Most replies of the model, its answer included; 8 where absent."),
        key(
            "max_tokens",
            ValueType::Integer(1, 1_000_000),
            "Most tokens of one reply of the model; 4096 where absent.",
        ),
        key("plan", ValueType::Unsupported("put the other plan's tasks into this one"), ""),
        key("tasks", ValueType::Unsupported("put these tasks into the plan's own list"), ""),
        key("budget", ValueType::Table(&TASK_BUDGET), "What the task may spend, all its items and turns together."),
        key("result", ValueType::Unsupported("say what the run returns under the plan's `outputs`"), ""),
    ],
};

const SPENDING: [KeySchema; 4] = [
    key("tokens", ValueType::Integer(1, u64::MAX), "Tokens of the language model, requests and replies together."),
    key("cost_usd", ValueType::Number(0.0, f64::MAX), "US dollars, as far as the agents file has prices."),
    key("llm_calls", ValueType::Integer(0, u64::MAX), "Requests to the language model."),
    key("tool_calls", ValueType::Integer(0, u64::MAX), "Attempts of calls."),
];
static BUDGET_KEYS: [KeySchema; 5] = {
    let [tokens, cost, llm_calls, tool_calls] = SPENDING;
    let time = key("time", ValueType::PositiveDuration, "Time from the start of the run; what runs then is cancelled.");
    [tokens, cost, llm_calls, tool_calls, time]
};
static TASK_BUDGET_KEYS: [KeySchema; 4] = SPENDING;

/// The budget of a run.
pub(crate) static BUDGET: TableSchema = TableSchema {
    title: "the plan's `budget`",
    definition: "budget",
    description: "What a run may spend.",
    required: &[],
    keys: &BUDGET_KEYS,
};

/// The budget of a task.
pub(crate) static TASK_BUDGET: TableSchema = TableSchema {
    title: "a task's `budget`",
    definition: "task_budget",
    description: "What a task may spend; its time is bounded by `deadline`.",
    required: &[],
    keys: &TASK_BUDGET_KEYS,
};

/// The condition that a call waits for.
pub(crate) static AWAIT: TableSchema = TableSchema {
    title: "`await`",
    definition: "await",
    description: "What a call waits for once the tool has ended: the first resource to which its result links. Its final \
            contents are the task's output. In the expressions, with or without `${{ }}`, the keys of the contents are \
            names, and `resource` is all of them; a key that is not there (yet) is null.",
    required: &["resource"],
    keys: &[
        key("resource", ValueType::Text, "Holds once the contents are final, such as `status == 'completed'`."),
        key("failed", ValueType::Text, "Holds once they never will be, which fails the call."),
    ],
};

/// A plan patch.
pub(crate) static PLAN_PATCH: TableSchema = TableSchema {
    title: "a remainder",
    definition: "remainder",
    description: "What is left of a run to do.",
    required: &["keep", "tasks"],
    keys: &[
        key("keep", ValueType::TextList, "The tasks that have not started and stay as they are."),
        key("tasks", ValueType::TableList(&TASK), "New tasks."),
    ],
};

/// Another route of a task.
pub(crate) static FALLBACK: TableSchema = TableSchema {
    title: "a fallback",
    definition: "fallback",
    description: "Another place where the task can run.",
    required: &["agent"],
    keys: &[
        key("agent", ValueType::Text, "The agent to call."),
        key("tool", ValueType::Text, "Its tool; the task's `tool` where absent."),
    ],
};

/// The retries of a task.
pub(crate) static RETRY: TableSchema = TableSchema {
    title: "`retry`",
    definition: "retry",
    description: "How often and when a failed call is tried again on the same agent.",
    required: &[],
    keys: &[
        key("max_attempts", ValueType::Integer(1, 1_000), "Most tries, the first included."),
        key(
            "backoff",
            ValueType::OneOf("`exponential`, `fixed` or a map", &[BACKOFF_KINDS, ValueType::Table(&BACKOFF)]),
            "The pauses between tries.",
        ),
    ],
};

const BACKOFF_KINDS: ValueType = ValueType::Choice(&[
    ("exponential", "Each pause is longer than the last: 1s, 2s, 4s, … up to 30s, half of it left to chance."),
    ("fixed", "Every pause is the same: 1s."),
]);

/// The timeouts of questions.
pub(crate) static QUESTIONS: TableSchema = TableSchema {
    title: "`questions`",
    definition: "questions",
    description: "How long questions wait for a person, and what answers them then.",
    required: &["timeout"],
    keys: &[
        key("timeout", ValueType::PositiveDuration, "How long a question waits from the moment that it is asked."),
        key(
            "default",
            ValueType::Choice(&[
                ("accept", "Yes, with the defaults of the form; no, where a required field has none."),
                ("decline", "No. This is what counts where nothing is said."),
                ("cancel", "Dismissed."),
            ]),
            "The answer that it gets then.",
        ),
    ],
};

/// The delays between retries.
pub(crate) static BACKOFF: TableSchema = TableSchema {
    title: "`backoff`",
    definition: "backoff",
    description: "The pauses between tries.",
    required: &[],
    keys: &[
        key("kind", BACKOFF_KINDS, "How pauses grow; `exponential` where absent."),
        key("initial", ValueType::Duration, "The first pause; 1s where absent."),
        key("factor", ValueType::Number(1.0, 1_000.0), "What each further pause is multiplied by; 2 where absent."),
        key("max", ValueType::Duration, "The longest pause; 30s where absent."),
        key("jitter", ValueType::Number(0.0, 1.0), "The part of a pause that is left to chance, from 0 to 1."),
    ],
};
