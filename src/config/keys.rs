//! Every key of the plan file and of the agents file: its spelling, its meaning, its shape.
//! Never says what follows from a value.

use super::shape::{Key, Section, Shape};

const fn key(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key { name, aliases: &[], about, shape }
}

const fn also(aliases: &'static [&'static str], key: Key) -> Key {
    Key { name: key.name, aliases, about: key.about, shape: key.shape }
}

const EFFECTS: Shape = Shape::Choice(&[
    ("read_only", "It changes nothing."),
    ("idempotent", "A second call adds nothing to the first."),
    ("at_most_once", "A second call may do the thing twice, so a call without an answer is never repeated."),
]);

const ON_FAILURE: Shape = Shape::Choice(&[
    ("fail", "The run fails and dependents are skipped; what does not depend on it goes on."),
    ("continue", "Dependents run without its output."),
    ("skip_dependents", "Dependents are skipped; the run ends as partly done."),
    ("replan", "A language model plans anew what has not started; where it cannot, the same as `fail`."),
]);

const PARALLEL: Shape = Shape::Whole(1, 100_000);

/// More than any run needs.
const CAP: Shape = Shape::Whole(1, 1_000_000_000_000);

/// The plan file.
pub(super) static PLAN: Section = Section {
    title: "a plan",
    definition: "plan",
    about: "A task graph that kapell runs on MCP agents.",
    required: &["tasks"],
    keys: &[
        key("name", Shape::Text, "The plan's name; the file's where absent."),
        key("description", Shape::Text, "What the plan is for."),
        key("inputs", Shape::SectionMap(&INPUT), "What a run is given, as `inputs.NAME` in expressions."),
        key("defaults", Shape::Section(&DEFAULTS), "What holds for every task that does not say otherwise."),
        key("max_parallel", PARALLEL, "Most calls in flight at once, over the whole run; 8 where absent."),
        key("tasks", Shape::Sections(&TASK), "The tasks. Each starts as soon as all that it needs has ended."),
        key("outputs", Shape::Object, "What the run returns, by name; without it, every task's own answer."),
        key("budget", Shape::Section(&BUDGET), "What the run may spend; when it is spent, nothing more is started."),
        key(
            "replan",
            Shape::Whole(0, 100),
            "How often a run may plan anew what has not started, where `on_failure: replan` asks for it; 1 where absent.",
        ),
        key(
            "result",
            Shape::Either("`merge`, `synthesize` or a map", &RESULT_SHAPES),
            "What is made of the tasks' answers: `merge` prints each, `synthesize` has a language model write one.",
        ),
    ],
};

static RESULT_SHAPES: [Shape; 2] = [
    Shape::Choice(&[
        ("merge", "Each task's answer under its title, or the plan's `outputs`."),
        ("synthesize", "One answer from all results, with citations of tasks that are checked."),
    ]),
    Shape::Section(&RESULT),
];

/// What is made of the tasks' answers.
pub(super) static RESULT: Section = Section {
    title: "`result`",
    definition: "result",
    about: "What is made of the tasks' answers.",
    required: &["synthesize"],
    keys: &[key("synthesize", Shape::Section(&SYNTHESIS), "One answer from all results.")],
};

/// How one answer is written from all results.
pub(super) static SYNTHESIS: Section = Section {
    title: "`synthesize`",
    definition: "synthesis",
    about: "How a language model writes one answer from all results.",
    required: &[],
    keys: &[
        key("prompt", Shape::Text, "What the answer is to be; the plan's description where absent."),
        key("model", Shape::Text, "The model to ask: `llm`, or a name under `models` in the agents file."),
        key(
            "output_schema",
            Shape::Either("a JSON Schema or the path of a file that holds one", &[Shape::Text, Shape::Object]),
            "The JSON Schema of the answer; free text where absent.",
        ),
        key("max_tokens", Shape::Whole(1, 1_000_000), "Most tokens of the answer; 4096 where absent."),
    ],
};

/// An input of a plan.
pub(super) static INPUT: Section = Section {
    title: "an input",
    definition: "input",
    about: "What a run can be given.",
    required: &["type"],
    keys: &[
        key(
            "type",
            Shape::Choice(&[
                ("string", "Text."),
                ("number", "A number with or without a fraction."),
                ("integer", "A whole number."),
                ("boolean", "`true` or `false`."),
                ("array", "A list."),
                ("object", "A map."),
            ]),
            "The JSON type that a value must have.",
        ),
        key("required", Shape::Flag, "Whether a run must be given a value; `null` stands for one that is not given."),
        key("default", Shape::Any, "The value where none is given."),
        key("description", Shape::Text, "What the input is for."),
    ],
};

/// What tasks share.
pub(super) static DEFAULTS: Section = Section {
    title: "`defaults`",
    definition: "defaults",
    about: "What holds for every task that does not say otherwise.",
    required: &[],
    keys: &[RETRY_KEY, EFFECT_KEY, TIMEOUT_KEY, DEADLINE_KEY, QUESTIONS_KEY, ON_FAILURE_KEY],
};

const RETRY_KEY: Key = key(
    "retry",
    Shape::Either("a number of tries, or a map with `max_attempts` and `backoff`", &RETRY_SHAPES),
    "How often and when a failed call is tried again on the same agent. A number is `max_attempts`.",
);
static RETRY_SHAPES: [Shape; 2] = [Shape::Whole(1, 1_000), Shape::Section(&RETRY)];
const EFFECT_KEY: Key = key(
    "effect",
    EFFECTS,
    "What a repeated call does; decides whether a call that got no answer may be repeated or rerouted.",
);
const TIMEOUT_KEY: Key = key(
    "timeout",
    Shape::PositiveDuration,
    "Longest silence of a call; progress starts it again. The agent's `tool_timeout` where absent.",
);
const DEADLINE_KEY: Key = key("deadline", Shape::PositiveDuration, "Longest duration of a call, progress or not.");
const QUESTIONS_KEY: Key = key(
    "questions",
    Shape::Section(&QUESTIONS),
    "How long its questions wait, those of its agents included; for ever where absent.",
);
const ON_FAILURE_KEY: Key = key("on_failure", ON_FAILURE, "What a failure means for others; `fail` where absent.");

/// A task of a plan.
pub(super) static TASK: Section = Section {
    title: "a task",
    definition: "task",
    about: "A call of one tool, on one of several agents, or a prompt; once or for each item of a list.",
    required: &["id"],
    keys: &[
        also(&["name"], key("id", Shape::Name, "The name by which others refer to it.")),
        key("title", Shape::Text, "What a person reads above its result."),
        key("description", Shape::Text, "What it is for; of no consequence."),
        key("agent", Shape::Text, "The agent to call: a section of the agents file."),
        key("capability", Shape::Text, "Instead of `agent`: any agent that lists this capability."),
        key("tool", Shape::Text, "The tool to call."),
        also(&["args"], key("with", Shape::Object, "The tool's arguments. Texts may hold `${{ }}`.")),
        also(
            &["depends_on"],
            key("needs", Shape::TextOrTexts, "Tasks that must end first, beside those that expressions refer to."),
        ),
        key("if", Shape::Condition, "Runs the task only if this holds. An expression, with or without `${{ }}`."),
        key("foreach", Shape::Items, "Runs the task once for each item of this list."),
        key("as", Shape::Name, "The name of the current item in the other expressions; `item` where absent."),
        key("max_parallel", PARALLEL, "Most items of a `foreach` in flight at once."),
        RETRY_KEY,
        EFFECT_KEY,
        TIMEOUT_KEY,
        DEADLINE_KEY,
        key(
            "await",
            Shape::Section(&AWAIT),
            "What to wait for once the tool has ended: a resource to which its result links.",
        ),
        key("fallback", Shape::Sections(&FALLBACK), "Where to go, in this order, when the agent cannot do it."),
        ON_FAILURE_KEY,
        key("approve", Shape::Text, "A question that a person must say yes to before each call."),
        QUESTIONS_KEY,
        key("prompt", Shape::Text, "Instead of a call: a question to the language model. May hold `${{ }}`."),
        key("model", Shape::Text, "The model to ask: `llm`, or a name under `models` in the agents file."),
        key("system", Shape::Text, "What the model is told before the question. May hold `${{ }}`."),
        key(
            "output_schema",
            Shape::Either("a JSON Schema or the path of a file that holds one", &[Shape::Text, Shape::Object]),
            "The JSON Schema of the model's answer, here or in a file beside the plan; free text where absent.",
        ),
        key("tools", Shape::TextOrTexts, "The only tools that the model may call: `agent.tool`, or `agent` for all."),
        key("max_turns", Shape::Whole(1, 100), "Most replies of the model, its answer included; 8 where absent."),
        key("max_tokens", Shape::Whole(1, 1_000_000), "Most tokens of one reply of the model; 4096 where absent."),
        key("plan", Shape::NotYet("put the other plan's tasks into this one"), ""),
        key("tasks", Shape::NotYet("put these tasks into the plan's own list"), ""),
        key("budget", Shape::Section(&TASK_BUDGET), "What the task may spend, all its items and turns together."),
        key("result", Shape::NotYet("say what the run returns under the plan's `outputs`"), ""),
    ],
};

const SPENDING: [Key; 4] = [
    key("tokens", Shape::Whole(1, u64::MAX), "Tokens of the language model, requests and replies together."),
    key("cost_usd", Shape::Number(0.0, f64::MAX), "US dollars, as far as the agents file has prices."),
    key("llm_calls", Shape::Whole(0, u64::MAX), "Requests to the language model."),
    key("tool_calls", Shape::Whole(0, u64::MAX), "Attempts of calls."),
];
static BUDGET_KEYS: [Key; 5] = {
    let [tokens, cost, llm_calls, tool_calls] = SPENDING;
    let time = key("time", Shape::PositiveDuration, "Time from the start of the run; what runs then is cancelled.");
    [tokens, cost, llm_calls, tool_calls, time]
};
static TASK_BUDGET_KEYS: [Key; 4] = SPENDING;

/// What a run may spend.
pub(super) static BUDGET: Section = Section {
    title: "the plan's `budget`",
    definition: "budget",
    about: "What a run may spend.",
    required: &[],
    keys: &BUDGET_KEYS,
};

/// What a task may spend.
pub(super) static TASK_BUDGET: Section = Section {
    title: "a task's `budget`",
    definition: "task_budget",
    about: "What a task may spend; its time is bounded by `deadline`.",
    required: &[],
    keys: &TASK_BUDGET_KEYS,
};

/// What a call waits for.
pub(super) static AWAIT: Section = Section {
    title: "`await`",
    definition: "await",
    about: "What a call waits for once the tool has ended: the first resource to which its result links. Its final \
            contents are the task's output. In the expressions, with or without `${{ }}`, the keys of the contents are \
            names, and `resource` is all of them; a key that is not there (yet) is null.",
    required: &["resource"],
    keys: &[
        key("resource", Shape::Text, "Holds once the contents are final, such as `status == 'completed'`."),
        key("failed", Shape::Text, "Holds once they never will be, which fails the call."),
    ],
};

/// What a planner writes as the remainder of a run.
pub(super) static REMAINDER: Section = Section {
    title: "a remainder",
    definition: "remainder",
    about: "What is left of a run to do.",
    required: &["keep", "tasks"],
    keys: &[
        key("keep", Shape::Texts, "The tasks that have not started and stay as they are."),
        key("tasks", Shape::Sections(&TASK), "New tasks."),
    ],
};

/// Another place where a task can run.
pub(super) static FALLBACK: Section = Section {
    title: "a fallback",
    definition: "fallback",
    about: "Another place where the task can run.",
    required: &["agent"],
    keys: &[
        key("agent", Shape::Text, "The agent to call."),
        key("tool", Shape::Text, "Its tool; the task's `tool` where absent."),
    ],
};

/// Tries of a task.
pub(super) static RETRY: Section = Section {
    title: "`retry`",
    definition: "retry",
    about: "How often and when a failed call is tried again on the same agent.",
    required: &[],
    keys: &[
        key("max_attempts", Shape::Whole(1, 1_000), "Most tries, the first included."),
        key(
            "backoff",
            Shape::Either("`exponential`, `fixed` or a map", &[BACKOFF_KINDS, Shape::Section(&BACKOFF)]),
            "The pauses between tries.",
        ),
    ],
};

const BACKOFF_KINDS: Shape = Shape::Choice(&[
    ("exponential", "Each pause is longer than the last: 1s, 2s, 4s, … up to 30s, half of it left to chance."),
    ("fixed", "Every pause is the same: 1s."),
]);

/// How long questions wait.
pub(super) static QUESTIONS: Section = Section {
    title: "`questions`",
    definition: "questions",
    about: "How long questions wait for a person, and what answers them then.",
    required: &["timeout"],
    keys: &[
        key("timeout", Shape::PositiveDuration, "How long a question waits from the moment that it is asked."),
        key(
            "default",
            Shape::Choice(&[
                ("accept", "Yes, with the defaults of the form; no, where a required field has none."),
                ("decline", "No. This is what counts where nothing is said."),
                ("cancel", "Dismissed."),
            ]),
            "The answer that it gets then.",
        ),
    ],
};

/// Pauses between tries.
pub(super) static BACKOFF: Section = Section {
    title: "`backoff`",
    definition: "backoff",
    about: "The pauses between tries.",
    required: &[],
    keys: &[
        key("kind", BACKOFF_KINDS, "How pauses grow; `exponential` where absent."),
        key("initial", Shape::Duration, "The first pause; 1s where absent."),
        key("factor", Shape::Number(1.0, 1_000.0), "What each further pause is multiplied by; 2 where absent."),
        key("max", Shape::Duration, "The longest pause; 30s where absent."),
        key("jitter", Shape::Number(0.0, 1.0), "The part of a pause that is left to chance, from 0 to 1."),
    ],
};

/// The agents file.
pub(super) static AGENTS_FILE: Section = Section {
    title: "an agents file",
    definition: "agents_file",
    about: "The MCP servers that kapell may use, and the language models that answer their sampling requests.",
    required: &[],
    keys: &[
        key("agents", Shape::SectionMap(&AGENT), "The agents, by name."),
        key(
            "llm",
            Shape::Section(&LLM),
            "The language model that is asked where nothing else is said; its name is `llm`.",
        ),
        key("models", Shape::SectionMap(&LLM), "Further language models, by name."),
        key("planner", Shape::Section(&PLANNER), "How goals are planned."),
    ],
};

/// How goals are planned.
pub(super) static PLANNER: Section = Section {
    title: "the planner",
    definition: "planner",
    about: "How goals are planned, and anew what is left of a run.",
    required: &["model"],
    keys: &[key("model", Shape::Text, "The model that plans: `llm`, or a name under `models`.")],
};

/// An agent.
pub(super) static AGENT: Section = Section {
    title: "an agent",
    definition: "agent",
    about: "An MCP server: a `command` that is started, a `url` that is connected to, or both. Texts may hold \
            `${VAR}` and `${VAR:-default}`; `${KAPELL}` is this program, and `${PORT}` a free port where both \
            `command` and `url` are given.",
    required: &[],
    keys: &[
        key("command", Shape::Text, "The program to start. With `url` too, it is the server behind that."),
        key("args", Shape::Texts, "Its arguments."),
        key("env", Shape::TextMap, "Its environment, on top of a minimal one."),
        key("env_vars", Shape::Texts, "Names of variables that it is given from kapell's own environment, if set."),
        key("cwd", Shape::Text, "Its working directory; kapell's own where absent."),
        key("url", Shape::Text, "The address of a Streamable HTTP server."),
        key("http_headers", Shape::TextMap, "Headers of every request."),
        key("env_http_headers", Shape::TextMap, "Headers whose values are read from the variables named here."),
        key("bearer_token_env_var", Shape::Text, "The variable that holds the bearer token."),
        key(
            "protocol",
            Shape::Choice(&[
                ("auto", "Ask the server."),
                ("legacy", "The `initialize` handshake: 2025-11-25 and before."),
                ("modern", "2026-07-28 and later: no handshake."),
            ]),
            "The protocol era to speak; `auto` where absent.",
        ),
        key("required", Shape::Flag, "Whether a run fails when the agent cannot be reached; `false` where absent."),
        key("enabled", Shape::Flag, "Whether the agent may be used; `true` where absent."),
        key("max_concurrency", PARALLEL, "Most calls in flight on this agent at once; 8 where absent."),
        key(
            "max_processes",
            PARALLEL,
            "Most processes of a `command` without `url`; 1 where absent. Only an agent that asks back (sampling, \
             elicitation) without saying for which call gets more than one: then each process takes one call at a time.",
        ),
        key("startup_timeout", Shape::PositiveDuration, "Longest that connecting may take; 30s where absent."),
        key("tool_timeout", Shape::PositiveDuration, "Longest silence of a call; 5m where absent."),
        key("effect", EFFECTS, "What a repeated call of this agent's tools does, where no task says so."),
        key(
            "sampling",
            Shape::Either(
                "`allow`, `ask`, `deny`, or a map with `policy`, `max_tokens` and `max_requests`",
                &[CONSENT, Shape::Section(&SAMPLING)],
            ),
            "Whether and how much the agent may ask the language model. A word is `policy`.",
        ),
        key("enabled_tools", Shape::Texts, "The only tools that may be called."),
        key("disabled_tools", Shape::Texts, "Tools that may not be called."),
        key(
            "capabilities",
            Shape::Either(
                "a map from capabilities to tools, or a list of capabilities",
                &[Shape::TextMap, Shape::Texts],
            ),
            "What the agent can stand in for: each capability with the tool that serves it, or names alone.",
        ),
    ],
};

const CONSENT: Shape = Shape::Choice(&[
    ("allow", "It may."),
    ("ask", "A person is asked before each request; with nobody to ask, it is refused."),
    ("deny", "It may not: the agent is told that there is no language model."),
]);

/// What an agent may ask of the language model.
pub(super) static SAMPLING: Section = Section {
    title: "`sampling`",
    definition: "sampling",
    about: "Whether and how much an agent may ask the language model.",
    required: &[],
    keys: &[
        key("policy", CONSENT, "Whether it may ask; `allow` where absent."),
        key("max_tokens", CAP, "Most tokens that its requests may use in a run, prompts and replies together."),
        key("max_requests", CAP, "Most requests that it may make in a run."),
    ],
};

/// A language model.
pub(super) static LLM: Section = Section {
    title: "a language model",
    definition: "llm",
    about: "A model behind an OpenAI-compatible endpoint. Where `provider` is given, it says what absent keys mean.",
    required: &["model"],
    keys: &[
        key("provider", Shape::Choice(&PROVIDERS), "Sets `base_url` and how the endpoint wants to be asked."),
        key("base_url", Shape::Text, "The base of the API, such as `http://127.0.0.1:11434/v1`."),
        key("model", Shape::Text, "The model, as the endpoint calls it."),
        key("api_key_env_var", Shape::Text, "The variable that holds the key; read from nowhere else, never logged."),
        key("timeout", Shape::PositiveDuration, "Longest that a request may take, retries included; 2m where absent."),
        key("http_headers", Shape::TextMap, "Further headers of every request."),
        key("env_http_headers", Shape::TextMap, "Headers whose values are read from the variables named here."),
        key("query", Shape::TextMap, "What follows `?` in the address of every request."),
        key(
            "max_tokens_field",
            Shape::Choice(&[
                ("max_tokens", "What most endpoints take."),
                ("max_completion_tokens", "What OpenAI's reasoning models insist on."),
            ]),
            "What the endpoint calls the output limit; `max_tokens` where absent.",
        ),
        key("max_output_tokens", Shape::Whole(1, 4_294_967_295), "Most tokens of a reply, whatever is asked for."),
        key(
            "temperature",
            Shape::Flag,
            "Whether a request may set the temperature; `true` where absent. Where not, it is left out.",
        ),
        key(
            "stop",
            Shape::Flag,
            "Whether a request may name stop sequences; `true` where absent. Where not, replies are cut there.",
        ),
        key(
            "structured_output",
            Shape::Choice(&[
                ("json_schema", "The endpoint holds the model to a JSON Schema."),
                ("json_object", "The endpoint holds the model to JSON; the schema is in the prompt."),
                ("text", "The schema is in the prompt, and nothing else asks for it."),
            ]),
            "How the form of a reply is asked for; `json_schema` where absent.",
        ),
        key(
            "tool_choice",
            Shape::Choice(&[
                ("required", "What most endpoints take."),
                ("any", "Mistral's word for the same."),
                ("auto", "The model cannot be made to; a request that demands it is refused."),
            ]),
            "How a model is made to ask for a tool; `required` where absent.",
        ),
        key(
            "system_role",
            Shape::Choice(&[("system", "What every endpoint takes."), ("developer", "OpenAI's newer word.")]),
            "The role of the system prompt; `system` where absent.",
        ),
        key("stream_usage", Shape::Flag, "Whether requests ask for their usage; `true` where absent."),
        key(
            "echo_reasoning",
            Shape::Flag,
            "Whether what the model thought before it asked for tools is sent back to it; `false` where absent.",
        ),
        key("tools", Shape::Flag, "Whether the model can be given tools; `false` where absent."),
        key("images", Shape::Flag, "Whether the model takes images; `false` where absent."),
        key("audio", Shape::Flag, "Whether the model takes sound; `false` where absent."),
        key("prices", Shape::Section(&PRICES), "What it costs."),
        key("scores", Shape::Section(&SCORES), "How it compares with the others, where an agent has priorities."),
    ],
};

const PROVIDERS: [(&str, &str); 12] = [
    ("openai", "OpenAI."),
    ("azure", "Azure OpenAI; `base_url` is your resource's."),
    ("anthropic", "Anthropic."),
    ("gemini", "Google's Gemini API."),
    ("openrouter", "OpenRouter."),
    ("groq", "Groq."),
    ("deepseek", "DeepSeek."),
    ("mistral", "Mistral."),
    ("xai", "xAI."),
    ("ollama", "Ollama on this machine."),
    ("llama.cpp", "llama.cpp's server on this machine."),
    ("vllm", "vLLM on this machine."),
];

/// What a model costs.
pub(super) static PRICES: Section = Section {
    title: "`prices`",
    definition: "prices",
    about: "US dollars for a million tokens.",
    required: &["input", "output"],
    keys: &[
        key("input", Shape::Number(0.0, f64::MAX), "Of the request."),
        key("output", Shape::Number(0.0, f64::MAX), "Of the reply."),
    ],
};

/// How a model compares.
pub(super) static SCORES: Section = Section {
    title: "`scores`",
    definition: "scores",
    about: "From 0 to 1; 0.5 where absent.",
    required: &[],
    keys: &[
        key("cost", Shape::Number(0.0, 1.0), "How cheap it is."),
        key("speed", Shape::Number(0.0, 1.0), "How fast it is."),
        key("intelligence", Shape::Number(0.0, 1.0), "How able it is."),
    ],
};
