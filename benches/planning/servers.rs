//! Twelve goals over real servers: the servers that `tests/interop/setup.sh` installs, and the demo agents. Each goal is
//! planned by the program itself, with the tools that it needs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::BenchResult;

/// A goal, and the tools that it needs as `AGENT.TOOL`. `{files}` and `{repository}` are folders.
const GOALS: [(&str, &str, &[&str]); 12] = [
    ("time", "What time is it in Tokyo right now?", &["time.get_current_time", "time.convert_time"]),
    ("sum", "Add 17 and 25.", &["everything.get-sum", "everything.echo"]),
    ("list", "List the files in {files}.", &["files.list_directory", "files.read_text_file"]),
    (
        "read",
        "Read {files}/meeting.txt and say who tests the installer.",
        &["files.list_directory", "files.read_text_file"],
    ),
    (
        "archive",
        "Find books about Lisbon with the research agent, store the summary in the archive as a document titled \
         'Lisbon', then fetch the stored document again.",
        &["research.research", "archive.store_document", "archive.fetch_document"],
    ),
    (
        "log",
        "Get the log of the last 3 commits of the git repository {repository} and write it to the file {files}/log.txt.",
        &["git.git_log", "files.write_file"],
    ),
    (
        "commit",
        "Look at what is not staged in {repository}, stage new.txt, and then commit it with the message 'Add new'.",
        &["git.git_diff_unstaged", "git.git_add", "git.git_commit"],
    ),
    (
        "parallel",
        "What is the time in New York when it is 15:00 in Paris, and what is 15 plus 6?",
        &["time.convert_time", "everything.get-sum"],
    ),
    (
        "e-mail",
        "Send an email to bob@example.com that the release has moved to 14 April.",
        &["time.get_current_time", "files.write_file", "files.read_text_file"],
    ),
    (
        "French",
        "Réserve un voyage de deux nuits à Kyoto et trouve quelque chose à lire sur le Japon.",
        &["travel.book_trip", "research.research"],
    ),
    ("vague", "Help me get organised.", &["files.list_directory", "archive.store_document"]),
    (
        "each file",
        "For every file in {files} store its text as a document in the archive.",
        &["files.list_directory", "files.read_text_file", "archive.store_document"],
    ),
];

/// Plans the goals with the model at `base_url`, and prints what came of each.
pub(crate) fn measure(base_url: &str, model: &str, provider: &str, form: &str) -> BenchResult<()> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".interop");
    if !installed.join("npm/stamp").exists() || !installed.join("python/stamp").exists() {
        println!("\nskipped: the servers are installed by `tests/interop/setup.sh npm python`");
        return Ok(());
    }
    println!("\n| goal | outcome | requests | prompt tokens | reply tokens | seconds |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    for (name, goal, tools) in GOALS {
        let place = tempfile::tempdir()?;
        let goal = prepare(place.path(), goal)?;
        let model = format!(
            "[llm]\nprovider = {provider:?}\nbase_url = {base_url:?}\nmodel = {model:?}\n[planner]\nform = {form:?}\n"
        );
        std::fs::write(place.path().join("agents.toml"), model + &agents(&installed, place.path(), tools))?;
        let start = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kapell"));
        command.current_dir(place.path()).args(["plan", "--goal", &goal, "--agents", "agents.toml"]);
        let output = command.env("KAPELL_JOURNAL", place.path().join("journal.db")).output()?;
        let messages = String::from_utf8_lossy(&output.stderr);
        let (outcome, seconds) = (outcome(&messages, output.status.code()), start.elapsed().as_secs());
        let [requests, read, written] = usage(&messages);
        println!("| {name} | {outcome} | {requests} | {read} | {written} | {seconds} |");
    }
    Ok(())
}

/// Makes the folders of a goal. Returns the goal with their paths.
fn prepare(place: &Path, goal: &str) -> BenchResult<String> {
    let (files, repository) = (place.join("files"), place.join("repository"));
    std::fs::create_dir(&files)?;
    std::fs::write(files.join("meeting.txt"), "Ada tests the installer, and Bob writes the release notes.\n")?;
    std::fs::write(files.join("todo.txt"), "Buy milk.\n")?;
    std::fs::create_dir(&repository)?;
    let git = |arguments: &[&str]| -> BenchResult<()> {
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        let status = Command::new("git").arg("-C").arg(&repository).args(identity).args(arguments).status()?;
        if status.success() { Ok(()) } else { Err(format!("`git {}` failed", arguments.join(" ")).into()) }
    };
    git(&["init", "--quiet"])?;
    for change in 1..=4 {
        std::fs::write(repository.join("file.txt"), format!("{change}\n"))?;
        git(&["add", "file.txt"])?;
        git(&["commit", "--quiet", "--message", &format!("Change {change}")])?;
    }
    std::fs::write(repository.join("new.txt"), "new\n")?;
    let path = |path: PathBuf| path.display().to_string();
    Ok(goal.replace("{files}", &path(files)).replace("{repository}", &path(repository)))
}

/// Returns the agents of these tools, each with only these.
fn agents(installed: &Path, place: &Path, tools: &[&str]) -> String {
    let node = |server: &str, argument: &str| {
        let program = installed.join(format!("npm/node_modules/@modelcontextprotocol/server-{server}/dist/index.js"));
        format!("command = \"node\"\nargs = [{program:?}, {argument:?}]\n")
    };
    let python =
        |arguments: &str| format!("command = {:?}\nargs = [{arguments}]\n", installed.join("python/bin/python"));
    let demo = |name: &str| {
        let documents = place.join("documents");
        format!(
            "command = \"${{KAPELL}}\"\nargs = [\"demo-agent\", {name:?}]\nenv = {{ KAPELL_DEMO_DIR = {documents:?} }}\n"
        )
    };
    let mut text = String::new();
    for agent in ["time", "everything", "files", "git", "research", "archive", "travel"] {
        let used = tools.iter().filter_map(|tool| tool.strip_prefix(agent)?.strip_prefix('.'));
        let used: Vec<&str> = used.collect();
        if used.is_empty() {
            continue;
        }
        let reached = match agent {
            "time" => python("\"-m\", \"mcp_server_time\", \"--local-timezone\", \"UTC\""),
            "git" => python("\"-m\", \"mcp_server_git\""),
            "everything" => node("everything", "stdio"),
            "files" => node("filesystem", &place.join("files").display().to_string()),
            demonstration => demo(demonstration),
        };
        text += &format!("[agents.{agent}]\n{reached}startup_timeout = \"60s\"\nenabled_tools = {used:?}\n");
    }
    text
}

/// Returns what came of a goal: a plan, an answer, a question, a refusal, or an error.
fn outcome(messages: &str, exit: Option<i32>) -> String {
    if let Some(planned) = messages.lines().find_map(|line| line.strip_prefix("planned ")) {
        return format!("valid plan, {}", planned.split(" in ").next().unwrap_or(planned));
    }
    let code = messages.split("error[").nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    match code {
        "planner::no_tasks" => "answer".to_owned(),
        "planner::question" => "question".to_owned(),
        "planner::impossible" => "refused: no tool can do it".to_owned(),
        "planner::refused" => "refused by the model".to_owned(),
        code if code.starts_with("plan::") => format!("refused: no valid plan (`{code}`)"),
        code => format!("**error** `{code}`, exit {exit:?}"),
    }
}

/// Returns the requests and tokens of planning, as the program prints them.
fn usage(messages: &str) -> [String; 3] {
    let line = messages.lines().find(|line| line.starts_with("planned ") || line.starts_with("no plan "));
    let rest = line.and_then(|line| line.split(" in ").nth(1)).unwrap_or_default();
    let whole = line.and_then(|line| line.split_once(" in ")).map_or("", |(_, rest)| rest);
    let numbers = whole.split([' ', ',']).filter(|word| word.parse::<u64>().is_ok()).map(str::to_owned);
    let numbers: Vec<String> = numbers.collect();
    let at = |index: usize| numbers.get(index).cloned().unwrap_or_default();
    [rest.split(' ').next().unwrap_or_default().to_owned(), at(1), at(2)]
}
