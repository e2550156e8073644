//! Runs the commands of the pages that show them, as written, and compares what they print with what the page shows.
//!
//! A page runs in an empty home directory of its own. A block with the comment `file: NAME` before it is written to that
//! file. A `console` block has commands after `$ ` and their output; a line `…` stands for any number of lines. A `sh`
//! block has commands whose output is not shown. The comment `not run: REASON` excludes a block; `shown later` repeats
//! a block until its output is as shown, which is for what a background process does. `at a terminal: STEPS` runs a block
//! on a terminal without a live view, and types: the steps are a JSON list of what is shown and the text typed then.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::markdown::{CodeBlock, Document, documents, root};
use crate::support::workspace::Workspace;

/// The time after which a command that is repeated until it prints what is shown has failed.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The home directory that pages show.
const SHOWN_HOME: &str = "/home/anna";

/// The pages whose `sh` blocks run too.
const WHOLLY_RUN: [&str; 1] = ["docs/tutorial.md"];

#[test]
fn commands_of_pages_print_what_is_shown() {
    let pages = documents().into_iter().filter(|page| page.is_in_book());
    let pages: Vec<Document> =
        pages.filter(|page| blocks_to_run(page).iter().any(|b| b.language == "console")).collect();
    assert!(pages.iter().any(|page| page.path == Path::new(WHOLLY_RUN[0])));
    let problems: Vec<String> = pages.iter().filter_map(|page| Session::new().run(page).err()).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// Returns the blocks of a page that write a file or run commands.
fn blocks_to_run(page: &Document) -> Vec<CodeBlock> {
    let runs_sh = WHOLLY_RUN.iter().any(|path| page.path == Path::new(path));
    let is_run = |block: &CodeBlock| {
        let comment = block.comment.as_deref().unwrap_or_default();
        let is_command = block.language == "console" || block.language == "sh" && runs_sh;
        comment.starts_with("file: ") || is_command && !comment.starts_with("not run: ")
    };
    page.code_blocks().into_iter().filter(is_run).collect()
}

/// A command of a block, and the lines below it.
struct ShownCommand {
    line: usize,
    command: String,
    /// The output, unless the block does not show it.
    output: Option<Vec<String>>,
}

impl ShownCommand {
    fn of_block(block: &CodeBlock) -> Vec<Self> {
        let mut commands: Vec<Self> = Vec::new();
        for (index, text) in block.text.lines().enumerate() {
            let line = block.line + index;
            match (block.language.as_str(), text.strip_prefix("$ "), commands.last_mut()) {
                ("console", Some(command), _) => {
                    commands.push(Self { line, command: command.to_owned(), output: Some(Vec::new()) });
                }
                ("console", None, Some(last)) => last.output.get_or_insert_default().push(text.to_owned()),
                ("console", None, None) => panic!("line {line}: a block starts with a command after `$ `"),
                _ if text.trim().is_empty() => {}
                _ => commands.push(Self { line, command: text.to_owned(), output: None }),
            }
        }
        commands
    }
}

/// A shell in a home directory of its own.
struct Session {
    home: Workspace,
    directory: PathBuf,
    code: i32,
}

impl Session {
    fn new() -> Self {
        let home = Workspace::new();
        let directory = home.path("");
        Self { home, directory, code: 0 }
    }

    fn run(&mut self, page: &Document) -> Result<(), String> {
        let mut failed = None;
        for block in blocks_to_run(page) {
            let comment = block.comment.as_deref().unwrap_or_default();
            if let Some(name) = comment.strip_prefix("file: ") {
                fs::write(self.directory.join(name), &block.text).expect("written");
                continue;
            }
            for shown in ShownCommand::of_block(&block) {
                let place = format!("{}:{}: `{}`", page.path.display(), shown.line, shown.command);
                if let Some(earlier) = failed.take().filter(|_| !shown.command.contains("$?")) {
                    return Err(format!("{earlier} failed, and `echo $?` does not show it"));
                }
                let output = match comment.strip_prefix("at a terminal: ") {
                    Some(steps) => self.execute(&shown.command, Some(steps)),
                    None if comment == "shown later" => self.execute_until_shown(&shown),
                    None => self.execute(&shown.command, None),
                };
                if let Some(difference) = difference(&shown, &output) {
                    return Err(format!("{place}: {difference}\n--- printed\n{}", self.shown(&output)));
                }
                failed = (self.code != 0).then_some(format!("{place} exited with {} and", self.code));
            }
        }
        failed.map_or(Ok(()), |failed| Err(format!("{failed} `echo $?` does not show it")))
    }

    /// Runs a command until it prints what is shown, and returns the last output.
    fn execute_until_shown(&mut self, shown: &ShownCommand) -> String {
        let start = Instant::now();
        loop {
            let output = self.execute(&shown.command, None);
            if difference(shown, &output).is_none() || start.elapsed() > MAX_WAIT {
                return output;
            }
        }
    }

    /// Runs a command in the current directory, which it may change, on a terminal if there are `steps` to type. Returns
    /// stdout and stderr.
    fn execute(&mut self, command: &str, steps: Option<&str>) -> String {
        let binaries = Path::new(env!("CARGO_BIN_EXE_kapell")).parent().expect("a folder").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([binaries].into_iter().chain(std::env::split_paths(&path))).expect("paths");
        let moved = self.home.path(".directory");
        let script = format!("(exit {}); {command}\ncode=$?; pwd > '{}'; exit $code", self.code, moved.display());
        let mut shell = match steps {
            Some(steps) => {
                let mut typist = Command::new("python3");
                typist.arg(root().join("tests/agents/typist.py")).args([steps, "null", "sh", "-c", &script]);
                typist
            }
            None => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("exec 2>&1; {script}")]);
                shell
            }
        };
        let ended = shell
            .current_dir(&self.directory)
            .env_clear()
            .envs([("HOME", self.home.path("").as_os_str()), ("PATH", path.as_os_str())])
            .envs([("LANG", "C.UTF-8"), ("TZ", "UTC"), ("NO_COLOR", "1")])
            .stdin(Stdio::null())
            // In the background of a terminal on which the tests run, so that no question is asked there.
            .process_group(0)
            .output()
            .expect("a shell");
        self.code = ended.status.code().expect("an exit code");
        self.directory = PathBuf::from(fs::read_to_string(moved).expect("written").trim_end());
        // The typist adds lines about what was not read, and about the terminal.
        let text = String::from_utf8([ended.stdout, ended.stderr].concat()).expect("UTF-8");
        let lines = text.lines().filter(|line| !line.contains(" the terminal: "));
        self.shown(&lines.map(|line| line.to_owned() + "\n").collect::<String>())
    }

    fn shown(&self, output: &str) -> String {
        let home = self.home.path("").display().to_string();
        // A question rings the bell.
        output.replace(home.trim_end_matches('/'), SHOWN_HOME).replace('\u{7}', "")
    }
}

/// Returns how an output differs from what is shown: a missing line, or one too many. Tasks run side by side, so the
/// order of lines is not compared.
fn difference(shown: &ShownCommand, output: &str) -> Option<String> {
    let expected = shown.output.as_ref()?;
    let is_partial = expected.iter().any(|line| line == "…");
    let mut remaining: Vec<String> = output.lines().map(normalized).filter(|line| !line.is_empty()).collect();
    for line in expected.iter().filter(|line| *line != "…" && !line.trim().is_empty()) {
        let wanted = normalized(line);
        match remaining.iter().position(|line| *line == wanted) {
            Some(at) => drop(remaining.remove(at)),
            None => return Some(format!("it does not print `{line}`; the other lines are {remaining:#?}")),
        }
    }
    match remaining.first() {
        Some(line) if !is_partial => Some(format!("it also prints `{line}`")),
        _ => None,
    }
}

/// Returns a line without what differs from run to run: times, durations, IDs of runs, and the width of columns.
fn normalized(line: &str) -> String {
    let mut line = line.to_owned();
    let is_id = |part: &str| part.len() == 36 && part.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    while let Some(at) = (0..line.len()).find(|&at| line.get(at..at + 36).is_some_and(is_id)) {
        line.replace_range(at..at + 36, "RUN");
    }
    let is_mark = |c: char| "[](),:;`".contains(c);
    let words: Vec<&str> = line.split_whitespace().collect();
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let is_month = |index: usize| words.get(index).is_some_and(|word| MONTHS.contains(word));
    let placed = words.iter().enumerate().map(|(index, word)| {
        let core = word.trim_matches(is_mark);
        let is_before_unit = words.get(index + 1).is_some_and(|next| matches!(next.trim_matches(is_mark), "ms" | "s"));
        let is_process = index > 0 && words[index - 1] == "process" && core.bytes().all(|byte| byte.is_ascii_digit());
        let is_date = is_month(index) || index > 0 && is_month(index - 1) && core.parse::<u8>().is_ok();
        let by_place = is_process.then_some("PROCESS").or(is_date.then_some("TIME"));
        match placeholder(core, is_before_unit).or(by_place) {
            Some(placeholder) => word.replacen(core, placeholder, 1),
            None => (*word).to_owned(),
        }
    });
    placed.collect::<Vec<_>>().join(" ")
}

/// Whether a number is followed by a unit changes its meaning, and nothing else.
fn placeholder(word: &str, is_before_unit: bool) -> Option<&'static str> {
    let has_form = |form: &str| {
        word.len() == form.len()
            && word.bytes().zip(form.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                b'x' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
                other => byte == other,
            })
    };
    let is_number = |text: &str| text.parse::<f64>().is_ok() && text.starts_with(|c: char| c.is_ascii_digit());
    let unit = ["ms", "s", "m"].into_iter().find_map(|unit| word.strip_suffix(unit).filter(|rest| is_number(rest)));
    match word {
        _ if ["00:00", "00:00:00", "00:00:00.000", "0000-00-00"].into_iter().any(has_form) => Some("TIME"),
        _ if has_form("xxxxxxxx") && word.bytes().any(|byte| byte.is_ascii_digit()) => Some("RUN"),
        _ if unit.is_some() || is_before_unit && is_number(word) => Some("DURATION"),
        _ => None,
    }
}

#[test]
fn lines_are_compared_without_times_and_ids() {
    let line = "[16:31:33] first: succeeded: 2 succeeded in 413ms, run 01a22d4c-1f55-7703-83bf-fe37ff4bb232";
    assert_eq!(normalized(line), "[TIME] first: succeeded: 2 succeeded in DURATION, run RUN");
    assert_eq!(normalized("ff4bb232  first   succeeded  2026-11-30 16:31:33"), "RUN first succeeded TIME TIME");
    assert_eq!(normalized("first  2/3   Nov 30 16:31  413ms"), "first 2/3 TIME TIME TIME DURATION");
    assert_eq!(normalized("ok  86 ms, 3 tools"), "ok DURATION ms, 3 tools");
}

#[test]
fn missing_and_additional_lines_are_differences() {
    let shown = |output: &[&str]| ShownCommand {
        line: 1,
        command: String::new(),
        output: Some(output.iter().map(|&line| line.to_owned()).collect()),
    };
    assert!(difference(&shown(&["a", "b"]), "b\na\n").is_none());
    assert!(difference(&shown(&["a"]), "a\nb\n").is_some());
    assert!(difference(&shown(&["a", "…"]), "a\nb\n").is_none());
    assert!(difference(&shown(&["a", "c", "…"]), "a\nb\n").is_some());
}
