//! The examples, exit codes, and environment variables of each command.

use super::variables::{BROWSER, CONNECTIONS, DEMO, JOURNAL, LIVE_VIEW, PROVIDER_KEYS, TIMES, Variable};
use crate::cli::common::exit::Exit;

/// What the help of a command adds to its options.
#[derive(Debug)]
pub(super) struct CommandHelp {
    /// The command without the name of the program, such as `runs list`; empty for the program itself.
    pub(super) command: &'static str,
    /// Command lines. A test executes each.
    pub(super) examples: &'static [&'static str],
    /// The exit codes.
    pub(super) exits: &'static [Exit],
    /// The variables that the options of the command do not imply.
    pub(super) variables: &'static [&'static [Variable]],
}

/// The exit codes of commands that read or write something.
const LOOKUP: &[Exit] = &[Exit::Success, Exit::Failed, Exit::Usage];
/// The exit codes of commands that connect to agents.
const CONNECT: &[Exit] = &[Exit::Success, Exit::Failed, Exit::Usage, Exit::AgentUnavailable];

const fn help(
    command: &'static str,
    examples: &'static [&'static str],
    exits: &'static [Exit],
    variables: &'static [&'static [Variable]],
) -> CommandHelp {
    CommandHelp { command, examples, exits, variables }
}

/// The help of all commands.
pub(super) const COMMANDS: &[CommandHelp] = &[
    help("", &["kapell init", "kapell run plan.yaml", "kapell result"], &Exit::ALL, &[JOURNAL, TIMES, CONNECTIONS]),
    help("init", &["kapell init", "kapell init --yes"], LOOKUP, &[PROVIDER_KEYS]),
    help(
        "run",
        &[
            "kapell run plan.yaml -p topic=Kyoto",
            "kapell run plan.yaml --no-input --json",
            "kapell run \"Find books about Lisbon\" --yes",
        ],
        &Exit::ALL,
        &[LIVE_VIEW, TIMES, CONNECTIONS],
    ),
    help(
        "call",
        &[
            "kapell call demo-research.research topic=Lisbon depth=2",
            "kapell call demo-archive.store_document --json '{\"title\": \"Lisbon\", \"text\": \"Read more.\"}'",
        ],
        &Exit::ALL,
        &[LIVE_VIEW, TIMES, CONNECTIONS],
    ),
    help("repl", &["kapell repl", "echo list | kapell repl"], &Exit::ALL, &[LIVE_VIEW, TIMES, CONNECTIONS]),
    help(
        "read",
        &["kapell read demo-archive archive:///lisbon-77f653cbafcb9f1e.md"],
        &Exit::ALL,
        &[LIVE_VIEW, TIMES, CONNECTIONS],
    ),
    help(
        "resume",
        &["kapell resume", "kapell resume last --accept-changes", "kapell resume last --detach"],
        &Exit::ALL,
        &[LIVE_VIEW, TIMES, CONNECTIONS],
    ),
    help(
        "retry",
        &[
            "kapell retry",
            "kapell retry last --from store",
            "kapell retry --plan plan.yaml",
            "kapell retry last --dry-run",
        ],
        &Exit::ALL,
        &[LIVE_VIEW, TIMES, CONNECTIONS],
    ),
    help(
        "plan",
        &["kapell plan \"Find books about Lisbon\"", "kapell plan \"Find books about Lisbon\" -o books.yaml"],
        CONNECT,
        &[JOURNAL, CONNECTIONS],
    ),
    help("validate", &["kapell validate plan.yaml", "kapell validate plan.yaml --offline"], LOOKUP, &[CONNECTIONS]),
    help("plans", &["kapell plans save first", "kapell plans list"], LOOKUP, &[]),
    help("plans save", &["kapell plans save first", "kapell plans save weekend plan.yaml --force"], LOOKUP, &[]),
    help("plans list", &["kapell plans list", "kapell plans list --json"], LOOKUP, &[]),
    help("plans show", &["kapell plans show weekend", "kapell plans show weekend | kapell run -"], LOOKUP, &[]),
    help("plans remove", &["kapell plans remove weekend"], LOOKUP, &[]),
    help("fmt", &["kapell fmt plan.yaml", "kapell fmt plan.yaml --check"], LOOKUP, &[]),
    help("graph", &["kapell graph plan.yaml", "kapell graph last --format svg"], LOOKUP, &[JOURNAL]),
    help("agents", &["kapell agents list", "kapell agents test", "kapell agents tools"], CONNECT, &[CONNECTIONS]),
    help("agents list", &["kapell agents list", "kapell agents list --json"], LOOKUP, &[]),
    help(
        "agents add",
        &[
            "kapell agents add files -- npx -y @modelcontextprotocol/server-filesystem .",
            "kapell agents add research https://research.example.com/mcp",
        ],
        LOOKUP,
        &[],
    ),
    help("agents remove", &["kapell agents remove demo-archive"], LOOKUP, &[]),
    help(
        "agents import",
        &["kapell agents import", "kapell agents import .mcp.json --yes", "kapell agents import --from cursor"],
        LOOKUP,
        &[],
    ),
    help("agents test", &["kapell agents test", "kapell agents test demo-research --json"], CONNECT, &[CONNECTIONS]),
    help(
        "agents tools",
        &["kapell agents tools", "kapell agents tools demo-archive.store_document"],
        CONNECT,
        &[CONNECTIONS],
    ),
    help("agents resources", &["kapell agents resources demo-archive"], CONNECT, &[CONNECTIONS]),
    help("agents prompts", &["kapell agents prompts"], CONNECT, &[CONNECTIONS]),
    help(
        "agents complete",
        &["kapell agents complete demo-archive --resource 'archive:///{name}' name=lis"],
        LOOKUP,
        &[CONNECTIONS],
    ),
    help("agents logs", &["kapell agents logs demo-research --lines 20"], LOOKUP, &[]),
    help("agents login", &["kapell agents login wiki"], LOOKUP, &[BROWSER, CONNECTIONS]),
    help("agents logout", &["kapell agents logout wiki"], LOOKUP, &[]),
    help("doctor", &["kapell doctor", "kapell doctor --json"], LOOKUP, &[LIVE_VIEW, CONNECTIONS]),
    help("runs", &["kapell runs list", "kapell runs show last"], LOOKUP, &[TIMES]),
    help("runs list", &["kapell runs list", "kapell runs list --plan first --limit 5"], LOOKUP, &[TIMES]),
    help("runs show", &["kapell runs show", "kapell runs show last read"], LOOKUP, &[TIMES]),
    help("runs diff", &["kapell runs diff 3f2a91bc last"], LOOKUP, &[]),
    help("runs prune", &["kapell runs prune --older-than 30d", "kapell runs prune --keep 100 --dry-run"], LOOKUP, &[]),
    help("runs clean-tokens", &["kapell runs clean-tokens", "kapell runs clean-tokens --json"], LOOKUP, &[]),
    help("result", &["kapell result", "kapell result last read --json"], LOOKUP, &[]),
    help("logs", &["kapell logs -f", "kapell logs last --task read --since 2h"], LOOKUP, &[TIMES]),
    help("replay", &["kapell replay last --speed 10"], LOOKUP, &[LIVE_VIEW, TIMES]),
    help("report", &["kapell report last -o report.html"], LOOKUP, &[TIMES]),
    help("questions", &["kapell questions", "kapell questions last --json"], LOOKUP, &[TIMES]),
    help(
        "answer",
        &[
            "kapell answer last q1 --field confirm=yes",
            "kapell answer last q1 --decline",
            "kapell answer last q1 --arguments '{\"title\": \"Lisbon\", \"text\": \"Read more.\"}'",
        ],
        LOOKUP,
        &[],
    ),
    help(
        "signal",
        &["kapell signal last deployed", "kapell signal last deployed --data '{\"build\": 7}'"],
        LOOKUP,
        &[],
    ),
    help("cancel", &["kapell cancel last"], LOOKUP, &[]),
    help("serve", &["kapell serve", "kapell serve --addr 127.0.0.1:0 --plans plans"], LOOKUP, &[BROWSER, CONNECTIONS]),
    help("schema", &["kapell schema plan > plan.schema.json"], LOOKUP, &[]),
    help("demo-agent", &["kapell demo-agent research"], LOOKUP, &[DEMO]),
    help("completions", &["source <(kapell completions bash)"], LOOKUP, &[]),
];
