//! The keys of the plan file and of plan patches.

use super::common::{CONCURRENCY, EFFECTS, table};
use crate::config::schema::table::ValueType::{
    self, Any, AnyNumber, Array, Boolean, Choice, Condition, Duration, Integer, IntegerList, ItemList, Name, Number,
    Object, OneOf, PositiveDuration, Table, TableList, TableListMap, TableMap, Text, TextList, TextMap, TextOrList,
    Unsupported, VariableName,
};
use crate::config::schema::table::{KeySchema, TableSchema};

const ON_FAILURE: ValueType = Choice(&[
    ("fail", "The run fails and dependents are skipped; other tasks continue."),
    ("continue", "Dependents run without its output."),
    ("skip_dependents", "Dependents are skipped; the run ends as `partial`."),
    ("replan", "A language model replans the pending tasks. If it cannot, the failure counts as `fail`."),
]);

const ATTEMPTS: ValueType = Integer(1, 1_000);
const OUTPUT_SCHEMA: ValueType = OneOf("a JSON Schema, or the path of a file with one", &[Text, Object]);

table! {
    /// The plan file.
    PLAN: PlanKeys = "a plan", required [tasks], "A task graph that kapell runs on MCP agents.";
    name: Text, "The name of the plan. Default: the name of the file.";
    description: Text, "A description of the plan.";
    missing: Text, "The part of the goal that the tasks do not reach. A run ends as `partial` at best, and names it.";
    check_goal: Boolean,
        "Whether a language model checks, after all other tasks, that the goal in `description` is reached. What is missing \
         is planned within the limit of `replan`. Only for `result: synthesize`. Default: `false`.";
    inputs: TableMap(&INPUT.table), "The inputs of a run, available as `inputs.NAME` in expressions.";
    defaults: Table(&DEFAULTS), "Defaults for all tasks.";
    schedule: OneOf("a cron expression, or a map with `cron`", &[Text, Table(&SCHEDULE.table)]),
        "When `kapell serve` runs the plan by itself, such as `0 7 * * 1-5`.";
    max_parallel: CONCURRENCY, "Maximum number of concurrent calls of the run. Default: 8.";
    tasks: TableList(&TASK.table), "The tasks. Each task starts as soon as its dependencies have ended.";
    outputs: Object, "The outputs of the run, by name. Default: the answers of all tasks.";
    finally: TableList(&TASK.table), "Tasks that run after all others, whatever the outcome: also after a cancellation, Ctrl-C, or an \
         exhausted budget. Each runs at most once.";
    on_success: TableList(&TASK.table), "Tasks that run after a run whose other tasks have succeeded.";
    on_failure: TableList(&TASK.table), "Tasks that run after a run with failed tasks.";
    on_cancel: TableList(&TASK.table), "Tasks that run after a run that was cancelled or interrupted.";
    budget: Table(&BUDGET.table), "The budget of the run. When it is exhausted, no further task starts.";
    replan: Integer(0, 100), "Maximum number of replans of a run, for tasks with `on_failure: replan`. Default: 1.";
    result: OneOf("`merge`, `synthesize`, or a map", &[RESULT_KINDS, Table(&RESULT.table)]),
        "How the result is built from the tasks' answers: `merge` prints each answer, `synthesize` lets a language \
         model write one.";
}

table! {
    /// When a plan runs by itself.
    SCHEDULE: ScheduleKeys = "`schedule`", required [cron], "When `kapell serve` runs the plan by itself.";
    cron: Text, "The cron expression: minute, hour, day of the month, month, and day of the week, with seconds before them \
        if there are six fields.";
    timezone: Text, "The time zone, such as `Europe/Berlin`. Default: that of the system.";
    missed: Choice(&[
        ("skip", "They are ignored."),
        ("once", "The plan runs once for all of them."),
        ("all", "The plan runs once for each, one after another."),
    ]), "What becomes of occurrences that came while no scheduler ran, or while the previous run was in progress. Default: \
        `once`.";
}

const RESULT_KINDS: ValueType = Choice(&[
    ("merge", "The answer of each task under its title, or the plan's `outputs`."),
    ("synthesize", "One answer from all results, with verified citations of tasks."),
]);

table! {
    /// The result of a plan.
    RESULT: ResultKeys = "`result`", required [synthesize], "How the result is built from the tasks' answers.";
    synthesize: Table(&SYNTHESIS.table), "One answer from all results.";
}

table! {
    /// The synthesis of one answer from all results.
    SYNTHESIS: SynthesisKeys = "`synthesize`", required [],
        "Settings for the answer that a language model writes from all results.";
    prompt: Text, "Instructions for the answer. Default: the description of the plan.";
    model: Text, "The model: `llm`, or a name under `models` in the agents file.";
    output_schema: OUTPUT_SCHEMA, "The JSON Schema of the answer. Default: free text.";
    max_tokens: Integer(1, 1_000_000), "Maximum number of tokens of the answer. Default: 4096.";
}

/// The range of a length or a number of elements.
const LENGTH: ValueType = Integer(0, 1_000_000_000);

table! {
    /// An input of a plan.
    INPUT: InputKeys = "an input", required [kind], "An input of a run.";
    kind "type": Choice(&[
        ("string", "Text."),
        ("number", "An integer or a number with a fraction."),
        ("integer", "An integer."),
        ("boolean", "`true` or `false`."),
        ("array", "A list."),
        ("object", "A map."),
        ("file", "The text of a file. The value is its path, relative to the current directory."),
        ("secret", "Text that is never stored. Only the arguments of calls can contain it."),
    ]),
        "The type of the value.";
    required: Boolean, "Whether a value is required. `null` means no value.";
    default: Any, "The default value.";
    choices "enum": Array, "The allowed values.";
    pattern: Text, "A regular expression that must match a part of the text.";
    minimum: AnyNumber, "The minimum of a number.";
    maximum: AnyNumber, "The maximum of a number.";
    min_length: LENGTH, "The minimum length of a text, in characters.";
    max_length: LENGTH, "The maximum length of a text, in characters.";
    min_items: LENGTH, "The minimum number of elements of a list.";
    max_items: LENGTH, "The maximum number of elements of a list.";
    from_env: VariableName, "The environment variable with the value of a secret that is not given otherwise.";
    description: Text, "A description of the input.";
}

/// The defaults of tasks.
static DEFAULTS: TableSchema = TableSchema {
    name: "DEFAULTS",
    title: "`defaults`",
    description: "Defaults for all tasks.",
    required: &[],
    keys: &[
        &TASK.retry.schema,
        &TASK.effect.schema,
        &TASK.timeout.schema,
        &TASK.deadline.schema,
        &TASK.questions.schema,
        &KeySchema {
            name: "on_failure",
            aliases: &[],
            description: "What happens when the task fails. Default: `fail`.",
            value_type: ON_FAILURE,
        },
    ],
};

table! {
    /// A task of a plan.
    TASK: TaskKeys = "a task", required [id],
        "A tool call, a resource to read, a prompt, a group of tasks, or another step, run once or for each item of a \
         list. A call can have several routes.";
    id | "name": Name, "The ID of the task, for references in other tasks.";
    title: Text, "The title shown above its result.";
    description: Text, "A description for readers of the plan.";
    agent: Text, "The agent, as named in the agents file.";
    capability: Text, "Instead of `agent`: a capability; any agent that has it can run the task.";
    tool: Text, "The tool to call.";
    with | "args": Object, "The arguments of the tool. Strings may contain `${{ }}`.";
    read: Table(&READ.table), "Instead of a tool call: a resource to read. Its contents are the task's output.";
    shell: OneOf("a command, or a map with `command`, `cwd`, `env`, and `stdin`", &[Text, Table(&SHELL.table)]),
        "Instead of a tool call: a shell command that kapell runs. Each `${{ }}` in it becomes one quoted word.";
    http: OneOf("a URL, or a map with `url`, `method`, `headers`, and `body`", &[Text, Table(&HTTP.table)]),
        "Instead of a tool call: an HTTP request that kapell sends. A URL is short for `url`.";
    expect: EXPECTED_CODES,
        "The exit codes of `shell`, or the statuses of `http`, with which the task succeeds. Default: 0, or 200 to 299.";
    needs | "depends_on": TextOrList, "Tasks that must end first, in addition to those in expressions.";
    condition "if": Condition, "Skips the task if this expression is false. `${{ }}` is optional.";
    foreach: OneOf("a list, an expression that returns one, or a map with `matrix`", &[ItemList, Table(&FOREACH.table)]),
        "A list, or a `matrix` of lists; the task runs once for each of its items.";
    binding "as": Name, "The name of the current item in expressions. Default: `item`.";
    max_parallel: CONCURRENCY, "Maximum number of concurrent items of `foreach`.";
    retry: OneOf("a number of attempts, or a map with `max_attempts`, `backoff`, and `when`", &[ATTEMPTS, Table(&RETRY.table)]),
        "How a failed call is retried on the same agent. A number is short for `max_attempts`.";
    effect: EFFECTS,
        "The effect of a repeated call. It determines whether a call without a response can be retried or rerouted.";
    timeout: PositiveDuration,
        "Idle timeout of a call; progress resets it. Default: the agent's `tool_timeout`.";
    deadline: PositiveDuration,
        "Maximum duration of a call, regardless of progress, or of a `wait`, also across restarts of kapell.";
    awaits "await": Table(&AWAIT.table), "A resource to wait for after the tool call: one that its result links to.";
    fallback: TableList(&FALLBACK.table), "Alternative routes, in order, for calls that the agent cannot complete.";
    on_failure: OneOf("one of `fail`, `continue`, `skip_dependents`, and `replan`, or a list of tasks", &[ON_FAILURE, TableList(&TASK.table)]),
        "What happens when the task fails (default: `fail`), or tasks that run after its failure.";
    on_success: TableList(&TASK.table), "Tasks that run after the task has succeeded.";
    on_cancel: TableList(&TASK.table), "Tasks that run after the task was cancelled.";
    finally: TableList(&TASK.table), "Tasks that run after the task has ended, whatever its outcome, unless it was skipped.";
    approve: Text, "A question that a person must approve before each call.";
    questions: Table(&QUESTIONS.table),
        "How long questions of the task and its agents wait for an answer. Default: no limit.";
    prompt: Text, "Instead of a call: a prompt for the language model. May contain `${{ }}`.";
    use_prompt: Table(&USE_PROMPT.table), "Instead of `prompt`: the messages of a prompt that an agent offers.";
    model: Text, "The model: `llm`, or a name under `models` in the agents file.";
    system: Text, "The system prompt. May contain `${{ }}`.";
    output_schema: OUTPUT_SCHEMA,
        "The JSON Schema of the model's answer, inline or in a file relative to the plan. Default: free text.";
    tools: TextOrList, "The tools that the model can call: `agent.tool`, or `agent` for all tools of an agent.";
    max_turns: Integer(1, 100), "Maximum number of replies of the model, including its answer. Default: 8.";
    max_tokens: Integer(1, 1_000_000), "Maximum number of tokens of each reply of the model. Default: 4096.";
    tasks: TableList(&TASK.table),
        "Instead of a call: a group of tasks with IDs of its own. With `foreach`, the group runs once for each item.";
    otherwise "else": TableList(&TASK.table), "Tasks to run instead of `tasks` if `if` is false, or if no case of `switch` matches.";
    switch: Any, "Instead of a call: a value that selects one of `cases`.";
    cases: TableListMap(&TASK.table), "The tasks for each value of `switch`.";
    outputs: Object, "The output of a group, by name; `tasks.ID` refers to the tasks of the group.";
    plan: Text, "Instead of a call: the file of another plan, which runs as one task with the inputs in `with`. The path is relative to this plan.";
    repeat: Table(&REPEAT.table), "Repeats the task until a condition is true.";
    sleep: Text, "Instead of a call: a duration to wait, such as `10m`. The wait survives a restart of kapell.";
    until: Text, "Instead of a call: a time to wait for, such as `2026-12-24T18:00:00+01:00`.";
    wait: Table(&WAIT.table), "Instead of a call: an event to wait for.";
    ask: Table(&ASK.table), "Instead of a call: a question to a person. The answer is the task's output.";
    stop: OneOf("a reason, or a map with `status`, `message`, and `outputs`", &[Text, Table(&STOP.table)]),
        "Instead of a call: ends the run early. A text is short for `message`.";
    budget: Table(&TASK_BUDGET), "The budget of the task, including all items and model requests.";
    cache: OneOf("a duration, or a map with `ttl` and `key`", &[PositiveDuration, Table(&CACHE.table)]),
        "How long the result of a `read_only` call is reused, also in other runs. A duration is short for `ttl`.";
    save: Text,
        "The file that gets the output, relative to the saved files of the run. May contain `${{ }}`.";
    result: Unsupported("set the plan's `outputs`"), "";
}

table! {
    /// The items of a task that are combinations of lists.
    FOREACH: ForeachKeys = "`foreach`", required [matrix], "The combinations of the elements of several lists.";
    matrix: Object,
        "Lists, or expressions that return them, by name. Each item is a map with one element of each list; the last list \
         changes fastest.";
}

table! {
    /// The repetition of a task.
    REPEAT: RepeatKeys = "`repeat`", required [until, max],
        "Repeats a task until a condition is true. Each iteration is an item, such as `poll[0]`.";
    until: Condition,
        "The condition over the iteration that has ended: `output` and `text` are its results, `loop.index` its number. \
         `${{ }}` is optional. `previous` in other expressions is the output of the iteration before.";
    max: Integer(1, 100_000), "Maximum number of iterations. The task fails if the condition is still false.";
    delay: Duration, "The pause between iterations. Default: none.";
}

table! {
    /// An event to wait for.
    WAIT: WaitKeys = "`wait`", required [], "An event to wait for. The wait survives a restart of kapell.";
    webhook | "signal": Text, "The name of a signal, which `kapell signal` sends. Its data is the task's output.";
    question: Text, "A question to a person, who has to say yes.";
    file: Text, "The path of a file, relative to the directory of the plan. The wait ends when the file is there.";
    changed: Boolean, "Whether the `file` must differ from what it was when the wait began. Default: false.";
    resource: Text, "The URI of a resource. The wait ends when its contents differ from what they were when it began; \
        they are the task's output.";
    agent: Text, "The agent that offers the `resource`.";
}

table! {
    /// A question to a person.
    ASK: AskKeys = "`ask`", required [message], "A question to a person.";
    message: Text, "The question. May contain `${{ }}`.";
    schema: Object, "The form of the answer: a JSON Schema of an object with flat properties. Default: yes or no.";
}

table! {
    /// An early end of the run.
    STOP: StopKeys = "`stop`", required [], "An early end of the run.";
    status: Choice(&[("succeeded", "The run has succeeded."), ("failed", "The run has failed.")]),
        "The status of the run. Default: `succeeded`.";
    message: Text, "The reason. May contain `${{ }}`.";
    outputs: Object, "The outputs of the run, instead of those of the plan.";
}

table! {
    /// The resource that a task reads.
    READ: ReadKeys = "`read`", required [agent], "A resource to read: a `uri`, or a `template` with its values.";
    agent: Text, "The agent that offers the resource.";
    uri: Text, "The URI of the resource. May contain `${{ }}`.";
    template: Text, "Instead of `uri`: a URI template (RFC 6570), such as one that the agent lists.";
    with: Object, "The values of the variables in `template`. Strings may contain `${{ }}`.";
}

/// Exit codes and statuses are below 1000.
const EXPECTED_CODES: ValueType = OneOf("a number, or a list of numbers", &[Integer(0, 999), IntegerList(0, 999)]);

table! {
    /// A shell command.
    SHELL: ShellKeys = "`shell`", required [command], "A shell command, with its directory and its variables.";
    command: Text, "The command, which `sh` runs. Each `${{ }}` becomes one quoted word.";
    cwd: Text,
        "The working directory, relative to the directory of the plan. May contain `${{ }}`. Default: that directory.";
    env: TextMap, "Environment variables, in addition to those that agents inherit. Strings may contain `${{ }}`.";
    stdin: Any,
        "The standard input: text as it is, a map or a list as JSON, or the file of a large output. Strings may contain \
         `${{ }}`. Default: empty.";
    expect: EXPECTED_CODES, "The exit codes with which the task succeeds. Default: 0.";
}

table! {
    /// An HTTP request.
    HTTP: HttpKeys = "`http`", required [url], "An HTTP request to a host that the agents file allows.";
    url: Text, "The URL. May contain `${{ }}`.";
    method: HTTP_METHODS, "The method. Default: `GET`.";
    query: Object, "Query parameters to add to the URL. Values that are not text are sent as JSON, null is not sent.";
    headers: TextMap, "The headers. Strings may contain `${{ }}`.";
    body: Any, "The body: text is sent as it is, a map or a list as JSON. Strings may contain `${{ }}`.";
    expect: EXPECTED_CODES, "The statuses with which the task succeeds. Default: 200 to 299.";
}

const HTTP_METHODS: ValueType = Choice(&[
    ("GET", "Reads; the effect is `read_only`."),
    ("HEAD", "Reads only the headers; the effect is `read_only`."),
    ("POST", "Any effect: `at_most_once` unless the task sets another."),
    ("PUT", "Replaces; the effect is `idempotent`."),
    ("PATCH", "Changes a part: `at_most_once` unless the task sets another."),
    ("DELETE", "Removes; the effect is `idempotent`."),
    ("OPTIONS", "Reads what is possible; the effect is `read_only`."),
]);

table! {
    /// How long the result of a call is reused.
    CACHE: CacheKeys = "`cache`", required [ttl],
        "How long the result of a call is reused by later calls of the same tool, also in other runs.";
    ttl: PositiveDuration, "The age at which a result expires.";
    key: Text,
        "What identifies equal calls of the tool. May contain `${{ }}`. Default: the arguments.";
}

table! {
    /// The prompt of an agent that a task uses.
    USE_PROMPT: UsePromptKeys = "`use_prompt`", required [agent, name],
        "A prompt that an agent offers. Its messages are sent to the language model.";
    agent: Text, "The agent that offers the prompt.";
    name: Text, "The name of the prompt.";
    with: Object, "The arguments of the prompt. Strings may contain `${{ }}`; other values are passed as JSON.";
}

table! {
    /// The budget of a run.
    BUDGET: BudgetKeys = "the plan's `budget`", required [], "The budget of a run.";
    tokens: Integer(1, u64::MAX), "Maximum number of tokens of the language model, including requests and replies.";
    cost_usd: Number(0.0, f64::MAX), "Maximum cost in US dollars, based on the prices in the agents file.";
    llm_calls: Integer(0, u64::MAX), "Maximum number of requests to the language model.";
    tool_calls: Integer(0, u64::MAX), "Maximum number of call attempts.";
    time: PositiveDuration, "Maximum duration of the run; running tasks are then cancelled.";
}

/// The budget of a task.
static TASK_BUDGET: TableSchema = TableSchema {
    name: "TASK_BUDGET",
    title: "a task's `budget`",
    description: "The budget of a task. `deadline` limits its duration.",
    required: &[],
    keys: &[&BUDGET.tokens.schema, &BUDGET.cost_usd.schema, &BUDGET.llm_calls.schema, &BUDGET.tool_calls.schema],
};

table! {
    /// The condition that a call waits for.
    AWAIT: AwaitKeys = "`await`", required [resource],
        "A resource that a task waits for after its tool call: the first one that the result links to. Its final \
         contents become the task's output. Expressions refer to keys of the contents by name, and to all contents as \
         `resource`; a missing key is null. `${{ }}` is optional.";
    resource: Text, "A condition that is true once the contents are final, such as `status == 'completed'`.";
    failed: Text, "A condition that is true if the resource has failed; the call then fails.";
}

table! {
    /// A plan patch.
    PLAN_PATCH: PlanPatchKeys = "a plan patch", required [keep, tasks], "Changes to the pending tasks of a run.";
    keep: TextList, "The pending tasks to keep.";
    tasks: TableList(&TASK.table), "The new tasks.";
    missing: Text, "The part of the goal that the run will not reach.";
}

table! {
    /// Another route of a task.
    FALLBACK: FallbackKeys = "a fallback", required [agent], "An alternative route of the task.";
    agent: Text, "The agent.";
    tool: Text, "The tool. Default: the task's `tool`.";
}

table! {
    /// The retries of a task.
    RETRY: RetryKeys = "`retry`", required [], "How a failed call is retried on the same agent.";
    max_attempts: ATTEMPTS, "Maximum number of attempts, including the first.";
    backoff: OneOf("`exponential`, `fixed`, or a map", &[BACKOFF_KINDS, Table(&BACKOFF.table)]),
        "The delays between attempts.";
    when: Condition,
        "Retry or reroute only if this expression is true. It refers to `error`, with `kind`, `message`, `agent`, `tool`, \
         and `attempt`. `${{ }}` is optional.";
}

const BACKOFF_KINDS: ValueType = Choice(&[
    ("exponential", "Growing delays: 1s, 2s, 4s, … up to 30s, with 50% jitter."),
    ("fixed", "A fixed delay of 1s."),
]);

table! {
    /// The timeouts of questions.
    QUESTIONS: QuestionsKeys = "`questions`", required [timeout],
        "How long questions wait for an answer, and the default answer after that.";
    timeout: PositiveDuration, "How long a question waits for an answer.";
    default: Choice(&[
        ("accept", "Accept with the defaults of the form; decline if a required field has no default."),
        ("decline", "Decline. This is the default."),
        ("cancel", "Dismissed."),
    ]),
        "The answer after the timeout.";
}

table! {
    /// The delays between retries.
    BACKOFF: BackoffKeys = "`backoff`", required [], "The delays between attempts.";
    kind: BACKOFF_KINDS, "How delays grow. Default: `exponential`.";
    initial: Duration, "The first delay. Default: 1s.";
    factor: Number(1.0, 1_000.0), "The factor by which delays grow. Default: 2.";
    max: Duration, "The maximum delay. Default: 30s.";
    jitter: Number(0.0, 1.0), "The random part of a delay, from 0 to 1.";
}
