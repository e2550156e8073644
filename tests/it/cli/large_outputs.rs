//! Outputs that are too large for values: files of the run that are passed on without being read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::http_server::{HttpServer, Reply};
use crate::support::workspace::{CommandOutput, Workspace, send_signal, wait_for};

const JOURNAL: [&str; 2] = ["--journal", "j.db"];
/// A command whose output is a file below the limits of [`workspace`].
const LARGE: &str = "head -c 200000 /dev/zero | tr \"\\\\0\" a";

/// Returns a workspace in which outputs above 64 KiB are files.
fn workspace() -> Workspace {
    let place = Workspace::new();
    let agents = "[shell]\nenabled = true\nmax_value_bytes = 65536\n\
                  [http]\nhosts = [\"127.0.0.1\"]\nmax_value_bytes = 65536\n";
    place.scripted_agent("features", "features.py", "");
    let scripted = fs::read_to_string(place.path("agents.toml")).expect("was written");
    place.write("agents.toml", format!("{agents}{scripted}"));
    place
}

/// Runs a plan with these tasks, and a journal in the workspace.
fn run(place: &Workspace, tasks: &str) -> CommandOutput {
    place.run_plan(&format!("name: x\ntasks:\n{tasks}"), &JOURNAL)
}

fn kapell(place: &Workspace, arguments: &[&str]) -> CommandOutput {
    place.kapell(&[arguments, &JOURNAL[..]].concat())
}

fn run_folder(place: &Workspace, result: &Value) -> PathBuf {
    place.path("j.files").join(result["run"].as_str().expect("an ID"))
}

/// Returns the names of the files of a run, sorted.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("reads").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Returns the message and the help of the failure of a task.
fn failure(ended: &CommandOutput, task: &str) -> String {
    let error = &ended.result()["tasks"][task]["error"];
    assert!(error["message"].is_string(), "no failure: {ended:?}");
    format!("{}; {}", error["message"], error["help"])
}

#[test]
fn feature_plan_passes_a_large_output_on() {
    let place = workspace();
    let plan = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/features/large-output.yaml").display().to_string();
    let ended = kapell(&place, &["run", &plan, "--output", "json", "--no-input"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.result();
    assert_eq!(result["outputs"]["lines"], json!(100_000));
    let list: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(fs::read_to_string(run_folder(&place, &result).join("saved/list.txt")).expect("is saved"), list);
    let smallest: String = list.lines().rev().take(3).map(|line| format!("{line}\n")).collect();
    assert_eq!(result["outputs"]["last"], json!(smallest.trim_end()));
}

#[test]
fn memory_does_not_grow_with_outputs() {
    if !cfg!(target_os = "linux") {
        println!("skipped: the memory of a process is read from /proc");
        return;
    }
    let place = Workspace::new();
    place.write("agents.toml", "[shell]\nenabled = true\n");
    let ended = run(
        &place,
        "\x20 - { id: big, shell: 'head -c 100000000 /dev/zero | tr \"\\\\0\" a', effect: read_only, save: big.txt }\n\
         \x20 - { id: count, shell: { command: wc -c, stdin: '${{ tasks.big.text }}' }, effect: read_only }\n\
         \x20 - id: memory\n\
         \x20   needs: [count]\n\
         \x20   shell: grep VmHWM /proc/$PPID/status\n\
         \x20   effect: read_only\n",
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let tasks = ended.result()["tasks"].clone();
    assert_eq!(tasks["count"]["output"]["stdout"].as_str().map(str::trim), Some("100000000"));
    assert_eq!(tasks["big"]["files"][0]["bytes"], json!(100_000_000));
    assert_eq!(tasks["big"]["files"][1]["bytes"], json!(100_000_000), "saved");
    let memory = tasks["memory"]["output"]["stdout"].as_str().expect("text").to_owned();
    let kilobytes: u64 = memory.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    assert!(kilobytes < 120_000, "{memory}");
    println!("peak: {kilobytes} kB");
}

#[test]
fn calls_get_texts_and_expressions_do_not() {
    let place = workspace();
    let ended = run(
        &place,
        &format!(
            "\x20 - {{ id: big, shell: '{LARGE}', effect: read_only }}\n\
             \x20 - {{ id: called, agent: features, tool: measure, with: {{ data: '${{{{ tasks.big.text }}}}' }} }}\n\
             \x20 - {{ id: within, agent: features, tool: shoot, with: {{ filename: '<${{{{ tasks.big.text }}}}>' }} }}\n\
             \x20 - {{ id: read, if: \"'b' in tasks.big.text\", shell: 'true' }}\n\
             \x20 - {{ id: length, shell: 'echo ${{{{ tasks.big.text | length }}}}' }}\n\
             \x20 - {{ id: word, shell: 'echo ${{{{ tasks.big.text }}}}' }}\n\
             \x20 - {{ id: variable, shell: {{ command: env, env: {{ BIG: '${{{{ tasks.big.text }}}}' }} }} }}\n\
             \x20 - {{ id: code, if: tasks.big.output.exit_code == 0, shell: 'echo fine', effect: read_only }}\n\
             outputs: {{ big: '${{{{ tasks.big.text }}}}', code: '${{{{ tasks.code.text }}}}' }}\n"
        ),
    );
    let result = ended.result();
    let output = |task: &str| result["tasks"][task]["output"].to_string();
    assert_eq!(output("called"), "\"150000 bytes\"", "Base64 of 200,000 letters");
    assert!(output("within").len() > 200_000, "{}", output("within").len());
    assert_eq!(result["outputs"]["code"], json!("fine"));
    for task in ["read", "length"] {
        let failure = failure(&ended, task);
        assert!(failure.contains("`tasks.big.text` is only in a file, which has 200000 bytes"), "{failure}");
    }
    for task in ["word", "variable"] {
        let failure = failure(&ended, task);
        assert!(failure.contains("which has 200000 bytes") && failure.contains("`stdin`"), "{failure}");
    }

    // The journal, the log, and the JSON of the result have the reference, and the printed output has the text.
    let reference = result["outputs"]["big"].as_str().expect("text");
    assert!(reference.starts_with("kapell-file:big-1.txt?bytes=200000&sha256="), "{reference}");
    assert!(fs::metadata(place.path("j.db")).expect("exists").len() < 400_000, "only what the agent returned");
    let logs = kapell(&place, &["logs", "last"]);
    assert!(logs.stdout.contains("result: in the file big-1.txt\n"), "{logs:?}");
    let printed = kapell(&place, &["result", "last"]);
    assert!(printed.stdout.contains(&"a".repeat(200_000)), "{}", printed.stdout.len());
    let path = run_folder(&place, &result).join("big-1.txt").display().to_string();
    for arguments in [&["result", "last", "big"][..], &["runs", "show", "last", "big"]] {
        let shown = kapell(&place, arguments).stdout;
        assert!(shown.len() < 2_000 && shown.contains(&format!("{path} (text/plain, 195.3 KiB)")), "{shown}");
    }
    kapell(&place, &["result", "last", "--save", "copies"]);
    assert_eq!(fs::read_to_string(place.path("copies/big-1.txt")).expect("is copied"), "a".repeat(200_000));
}

#[test]
fn secrets_are_masked_in_files() {
    const KEY: &str = "hunter22-correct-horse";
    let place = workspace();
    place.write("params.json", json!({"key": KEY}).to_string());
    let plan = "name: x\n\
         inputs: { key: { type: secret, required: true } }\n\
         tasks:\n\
         \x20 - id: x\n\
         \x20   shell:\n\
         \x20     command: \"for i in $(seq 1 40000); do printf '%s %s\\n' $i \\\"$KEY\\\"; done\"\n\
         \x20     env: { KEY: '${{ inputs.key }}' }\n\
         \x20   save: saved.txt\n";
    let ended = place.run_plan(plan, &[&JOURNAL[..], &["--params-file", "params.json", "--save", "copies"]].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let folder = run_folder(&place, &ended.result());
    let expected: String = (1..=40_000).map(|number| format!("{number} ***\n")).collect();
    for path in [folder.join("x-1.txt"), folder.join("saved/saved.txt"), place.path("copies/x-1.txt")] {
        assert!(fs::read_to_string(&path).expect("is there") == expected, "{}", path.display());
    }
}

#[test]
fn later_processes_and_runs_have_large_outputs() {
    let place = workspace();
    let ended = run(
        &place,
        &format!(
            "\x20 - {{ id: big, shell: '{LARGE}', effect: read_only, save: big.txt }}\n\
             \x20 - id: count\n\
             \x20   approve: Count it?\n\
             \x20   shell: {{ command: wc -c, stdin: '${{{{ tasks.big.text }}}}' }}\n\
             outputs: {{ path: '${{{{ tasks.big.saved }}}}' }}\n"
        ),
    );
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert_eq!(kapell(&place, &["answer", "last", "q1", "--accept"]).code, Some(0));
    let resumed = kapell(&place, &["resume", "--output", "json", "--no-input"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let count = |ended: &CommandOutput| {
        let stdout = ended.result()["tasks"]["count"]["output"]["stdout"].as_str().map(|text| text.trim().to_owned());
        stdout.unwrap_or_else(|| panic!("no output: {ended:?}"))
    };
    assert_eq!(count(&resumed), "200000");

    place.write("yes.yaml", "answers: [{ task: count, accept: true }]\n");
    let retry = "retry last --from count --allow-repeats --output json --no-input --answers yes.yaml";
    let retry: Vec<&str> = retry.split(' ').collect();
    let retried = kapell(&place, &retry);
    assert_eq!(count(&retried), "200000");
    let (first, second) = (run_folder(&place, &resumed.result()), run_folder(&place, &retried.result()));
    kapell(&place, &["runs", "prune", "--keep", "1"]);
    assert!(!first.exists());
    assert_eq!(file_names(&second), ["big-1.txt", "saved"]);
    assert_eq!(retried.result()["outputs"]["path"], json!(second.join("saved/big.txt")));

    fs::remove_file(second.join("big-1.txt")).expect("is there");
    let failed = kapell(&place, &retry);
    let message = failure(&failed, "count");
    assert!(message.contains("big-1.txt` cannot be read") && message.contains("kapell retry"), "{message}");
}

#[test]
fn files_of_killed_processes_are_removed() {
    let place = workspace();
    let plan = format!(
        "name: x\ntasks:\n  - {{ id: x, shell: 'test -e fast && echo ok || {{ {LARGE}; sleep 600; }}', effect: read_only }}\n"
    );
    place.write("plan.yaml", plan);
    let mut host = place.start(&["run", "plan.yaml", "--no-input", "--journal", "j.db"]);
    let folder = wait_for("the output", || {
        let run = fs::read_dir(place.path("j.files")).ok()?.next()?.ok()?.path();
        file_names(&run).iter().any(|name| name.starts_with(".spool-")).then_some(run)
    });
    send_signal(&host, "KILL");
    host.wait().expect("it ends");
    place.write("fast", "");
    let resumed = kapell(&place, &["resume", "--no-input"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(file_names(&folder), Vec::<String>::new());
}

#[test]
fn full_disks_are_reported_and_leave_no_file() {
    let place = workspace();
    place.write(
        "plan.yaml",
        "name: x\ntasks:\n  - { id: x, shell: 'head -c 80000000 /dev/zero', effect: read_only, retry: 1 }\n",
    );
    // A limit of the size of files stands for a full disk. Shells count blocks of 512 or of 1024 bytes.
    let kapell = place.command(["run", "plan.yaml", "--output", "json", "--no-input", "--journal", "j.db"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 40000; exec \"$0\" \"$@\""]).arg(kapell.get_program());
    limited.args(kapell.get_args()).current_dir(kapell.get_current_dir().expect("is set"));
    limited.env_clear().envs(kapell.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = CommandOutput::of(&mut limited);
    let error = &ended.result()["tasks"]["x"]["error"];
    assert_eq!(error["kind"], json!("result_too_large"), "{ended:?}");
    let message = error["message"].as_str().expect("text");
    assert!(
        message.starts_with("the standard output of the command cannot be written to a file of the run"),
        "{message}"
    );
    assert_eq!(file_names(&run_folder(&place, &ended.result())), Vec::<String>::new());
}

#[test]
fn data_and_failures_of_large_outputs() {
    let place = workspace();
    let ended = run(
        &place,
        &format!(
            "\x20 - {{ id: data, shell: 'head -c 200000 /dev/zero; printf \"\\\\377\"', effect: read_only, save: data.bin }}\n\
             \x20 - id: count\n\
             \x20   shell: {{ command: wc -c, stdin: '${{{{ tasks.data.content[0].resource.blob }}}}' }}\n\
             \x20   effect: read_only\n\
             \x20 - {{ id: failed, shell: 'seq 1 40000; echo the last line; exit 7', effect: read_only, retry: 1 }}\n\
             \x20 - {{ id: cached, shell: '{LARGE}', effect: read_only, cache: 1h }}\n"
        ),
    );
    let result = ended.result();
    assert_eq!(result["tasks"]["data"]["output"]["stdout"], Value::Null);
    assert_eq!(result["tasks"]["count"]["output"]["stdout"].as_str().map(str::trim), Some("200001"), "{ended:?}");
    let folder = run_folder(&place, &result);
    assert_eq!(file_names(&folder), ["cached-1.txt", "data-1.bin", "saved"], "a failed command leaves no file");
    assert_eq!(fs::metadata(folder.join("saved/data.bin")).expect("is saved").len(), 200_001);
    assert!(
        failure(&ended, "failed").contains("standard output: ") && failure(&ended, "failed").contains("the last line")
    );
    let logs = kapell(&place, &["logs", "last"]);
    assert!(logs.stdout.contains("the result is not in the cache for later calls"), "{logs:?}");
}

#[test]
fn responses_and_bodies_are_files() {
    let server = HttpServer::start(|request, _| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/text") => Reply::new("200 OK", vec![b'a'; 200_000]).with_header("content-type: text/html"),
        ("GET", "/data") => Reply::new("200 OK", vec![0xff; 200_000]),
        ("GET", "/latin") => {
            Reply::new("200 OK", vec![0xe9; 200_000]).with_header("content-type: text/plain; charset=latin1")
        }
        ("PUT", "/moved") => Reply::redirect("307 Temporary Redirect", "/put"),
        _ => Reply::new("200 OK", request.body.len().to_string()),
    });
    let place = workspace();
    let url = server.url();
    let ended = run(
        &place,
        &format!(
            "\x20 - {{ id: text, http: '{url}/text', save: page.html }}\n\
             \x20 - {{ id: data, http: '{url}/data' }}\n\
             \x20 - {{ id: latin, http: '{url}/latin' }}\n\
             \x20 - {{ id: put, http: {{ method: PUT, url: '{url}/moved', body: '${{{{ tasks.text.text }}}}' }} }}\n\
             \x20 - id: json\n\
             \x20   http: {{ method: PUT, url: '{url}/json', body: {{ a: '${{{{ tasks.text.output.body }}}}' }} }}\n\
             \x20 - id: raw\n\
             \x20   http: {{ method: PUT, url: '{url}/raw', body: '${{{{ tasks.data.content[0].resource.blob }}}}' }}\n\
             \x20 - {{ id: query, http: {{ url: '{url}/x', query: {{ q: '${{{{ tasks.text.text }}}}' }} }} }}\n"
        ),
    );
    let result = ended.result();
    let task = |id: &str| result["tasks"][id].clone();
    assert_eq!(
        (task("put")["output"]["body"].clone(), task("json")["output"]["body"].clone()),
        (json!("200000"), json!("200008")),
        "{ended:?}"
    );
    assert_eq!(task("raw")["status"], json!("succeeded"), "{ended:?}");
    let received = server.received();
    let sent = |path: &str| received.iter().find(|request| request.path == path).expect("was sent").headers.clone();
    assert_eq!(sent("/put")["content-length"], "200000");
    assert_eq!(sent("/put")["content-type"], "text/plain; charset=utf-8");
    assert_eq!(
        (sent("/raw")["content-length"].as_str(), sent("/raw")["content-type"].as_str()),
        ("200000", "application/octet-stream")
    );
    assert!(failure(&ended, "query").contains("send it as `body`"), "{ended:?}");
    let folder = run_folder(&place, &result);
    assert_eq!(file_names(&folder), ["data-1.bin", "latin-1.txt", "saved", "text-1.html"]);
    assert_eq!(fs::read(folder.join("saved/page.html")).expect("is saved"), vec![b'a'; 200_000]);
    assert_eq!(task("text")["files"][0]["mime_type"], json!("text/html"));
    assert_eq!(task("data")["output"]["body"], Value::Null);
}
