//! Whole goals over npm server-everything, with scripted model replies. The snapshots contain all output and the
//! details in the journal.

use std::sync::Barrier;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::root;
use crate::support::scripted_endpoint::{ScriptedEndpoint, ScriptedReply};
use crate::support::workspace::Workspace;

const SERVER: &str = ".interop/npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js";
const GOAL: &str = "Add 2 and 40, and say that together with the weather in Chicago";

/// The limit on processes of the server over stdio.
const MAX_PROCESSES: usize = 4;

/// A transport to the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ServerTransport {
    Stdio,
    Http,
}

/// Returns a workspace with the server and the scripted model.
pub(crate) fn place(transport: ServerTransport, endpoint: &ScriptedEndpoint) -> Workspace {
    let place = Workspace::new();
    let server = root().join(SERVER);
    let reached = match transport {
        ServerTransport::Stdio => format!("args = [{server:?}, \"stdio\"]\nmax_processes = {MAX_PROCESSES}"),
        ServerTransport::Http => format!(
            "url = \"http://127.0.0.1:${{PORT}}/mcp\"\nenv = {{ PORT = \"${{PORT}}\" }}\n\
             args = [{server:?}, \"streamableHttp\"]"
        ),
    };
    let agent = format!("[agents.everything]\ncommand = \"node\"\n{reached}\nstartup_timeout = \"30s\"\n");
    place.write("agents.toml", format!("{}{agent}", endpoint.config_section()));
    place
}

fn run(place: &Workspace, goal: &str) -> String {
    place.normalized_output(&place.kapell(&["run", goal, "--yes", "--no-input", "--journal", "journal.db"]))
}

/// Returns the plan file that the run saved.
fn saved_plan(place: &Workspace) -> Result<String, Failed> {
    let mut entries = std::fs::read_dir(place.path("journal.plans"))?.filter_map(|entry| Some(entry.ok()?.path()));
    let is_plan = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    Ok(std::fs::read_to_string(entries.find(is_plan).ok_or("no plan was saved")?)?)
}

/// Returns a plan of sequential tasks: a sum, the weather, and an echo of both.
fn chain_plan() -> Value {
    json!({
        "tasks": [
            {"title": "The sum", "tool": "everything.get-sum", "args": {"a": 2, "b": 40}},
            {
                "title": "The weather", "tool": "everything.get-structured-content", "args": {"location": "Chicago"},
                "after": [1],
            },
            {
                "title": "Both", "tool": "everything.echo",
                "args": {"message": "{$1} Chicago has {$2.conditions}."},
            },
        ],
    })
}

const CHAIN_ANSWER: &str = "2 and 40 make 42 [t1], and Chicago has drizzle at 36 degrees [t2]. In the server's own words: \
                      \"The sum of 2 and 40 is 42. Chicago has Light rain / drizzle.\" [t3]";

pub(crate) fn valid_plan(transport: ServerTransport) -> Result<(), Failed> {
    let place = place(transport, &ScriptedEndpoint::with_replies([&*chain_plan().to_string(), CHAIN_ANSWER]));
    insta::assert_snapshot!("good", run(&place, GOAL));
    insta::assert_snapshot!("good_plan", saved_plan(&place)?);
    Ok(())
}

pub(crate) fn repaired_plan() -> Result<(), Failed> {
    let unknown = chain_plan().to_string().replace("get-sum", "add-numbers");
    let endpoint = ScriptedEndpoint::with_replies([&*unknown, &*chain_plan().to_string(), CHAIN_ANSWER]);
    let place = place(ServerTransport::Stdio, &endpoint);
    insta::assert_snapshot!("repaired", run(&place, GOAL));
    endpoint.next_request();
    let repair = endpoint.next_request()["messages"][3]["content"].clone();
    insta::assert_snapshot!("repair_request", repair.as_str().ok_or("no repair was requested")?);
    Ok(())
}

pub(crate) fn invalid_plan() -> Result<(), Failed> {
    let chain = chain_plan().to_string();
    let elsewhere = chain.replace("Chicago\"", "Atlantis\"").replace("\"a\":2,", "");
    let backwards = elsewhere.replace("[1]", "[3]");
    let place = place(
        ServerTransport::Stdio,
        &ScriptedEndpoint::with_replies(["Let me think about it.", &*elsewhere, &*backwards]),
    );
    insta::assert_snapshot!("never_valid", run(&place, GOAL));
    insta::assert_snapshot!("never_valid_plan", saved_plan(&place)?);
    assert!(!place.path("journal.db").exists(), "something ran");
    Ok(())
}

const READ_GOAL: &str = "Add 2 and 40, and read resource 0 of the server";

/// Returns a plan of a sum, and an echo of a resource that the server does not have.
fn plan_with_missing_resource() -> Value {
    json!({
        "tasks": [
            {"title": "The sum", "tool": "everything.get-sum", "args": {"a": 2, "b": 40}},
            resource_task(0),
            echo_task(2),
        ],
    })
}

fn resource_task(resource: u64) -> Value {
    let arguments = json!({"resourceType": "Text", "resourceId": resource});
    json!({
        "title": format!("Resource {resource}"), "tool": "everything.get-resource-reference", "args": arguments,
        "after": ["$1"],
    })
}

fn echo_task(of: usize) -> Value {
    json!({"title": "Where it is", "tool": "everything.echo", "args": {"message": format!("${of}")}})
}

pub(crate) fn replanned_goal(transport: ServerTransport) -> Result<(), Failed> {
    let patch = json!({
        "keep": [],
        "tasks": [resource_task(1), echo_task(4)],
    });
    let answer = "2 and 40 make 42 [t1]. Resource 0 does not exist, so t2 failed; the first one is at \
                  \"demo://resource/dynamic/text/1\" [t4, t5].";
    let endpoint =
        ScriptedEndpoint::with_replies([&*plan_with_missing_resource().to_string(), &*patch.to_string(), answer]);
    let place = place(transport, &endpoint);
    insta::assert_snapshot!("replanned", run(&place, READ_GOAL));
    let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db"]);
    let (_, spent) = shown.stdout.split_once("\nsampling\n").ok_or("nothing was spent")?;
    insta::assert_snapshot!("replanned_spent", spent);
    Ok(())
}

/// Returns a plan of eight parallel tasks. In each, the server asks the model with the ID of the task.
fn fan_out_plan() -> Value {
    let task = |number: usize| {
        json!({
            "title": format!("Word {number}"), "tool": "everything.trigger-sampling-request",
            "args": {"prompt": format!("t{number}"), "maxTokens": 20},
        })
    };
    json!({"tasks": (1..=8).map(task).collect::<Vec<_>>()})
}

/// Returns a model that writes the fan-out plan and then summarizes. It replies `word of t3` to the request for `t3`,
/// with a usage of 1003 tokens. Requests of the server are answered only when `concurrency` of them are open at once.
fn fan_out_endpoint(concurrency: usize) -> ScriptedEndpoint {
    let barrier = Barrier::new(concurrency);
    ScriptedEndpoint::with_script(move |request| {
        let messages = request["messages"].as_array().into_iter().flatten();
        let texts: Vec<&str> = messages.filter_map(|message| message["content"].as_str()).collect();
        let asked = texts.iter().find_map(|text| text.strip_prefix("Resource trigger-sampling-request context: t"));
        match asked.and_then(|number| number.parse::<u64>().ok()) {
            Some(number) => {
                barrier.wait();
                ScriptedReply { text: format!("word of t{number}"), tokens: 1_000 + number }
            }
            None if texts[0].starts_with("You plan how to reach a goal") => {
                ScriptedReply { text: fan_out_plan().to_string(), tokens: 12 }
            }
            None => ScriptedReply { text: "Eight words came [t1, t2, t3, t4, t5, t6, t7, t8].".to_owned(), tokens: 12 },
        }
    })
}

/// Returns the JSON of `runs show` without times. Requests are sorted by task and tokens, since their numbers and
/// positions depend on the order of arrival.
fn run_details(place: &Workspace) -> Result<String, Failed> {
    let shown = place.kapell(&["runs", "show", "last", "--output", "json", "--journal", "journal.db"]);
    let mut details = shown.result();
    details["run"] = "RUN".into();
    details["started"] = "TIME".into();
    details["ended"] = "TIME".into();
    // The prompt names the date and the day of the week, whose length varies.
    for exchange in details["planning"]["exchanges"].as_array_mut().ok_or("no planning")? {
        exchange["estimated_tokens"] = "TOKENS".into();
    }
    let times = details["times"].as_object_mut().ok_or("no times")?;
    times.sort_keys();
    for task in times.values_mut() {
        assert!(task["started"].as_u64() <= task["ended"].as_u64(), "{task}");
        *task = json!({"started": "TIME", "ended": "TIME"});
    }
    let requests = details["sampling"].as_object().ok_or("no requests")?;
    let mut requests: Vec<Value> = requests.values().cloned().collect();
    requests.sort_by_key(|request| (request["task"].to_string(), request["usage"].to_string()));
    details["sampling"] = requests.into();
    Ok(serde_json::to_string_pretty(&details)?)
}

pub(crate) fn fan_out(transport: ServerTransport) -> Result<(), Failed> {
    // Over stdio each process gets one call at a time, since requests do not identify their call.
    let together = match transport {
        ServerTransport::Stdio => MAX_PROCESSES,
        ServerTransport::Http => 8,
    };
    let place = place(transport, &fan_out_endpoint(together));
    let shown = run(&place, "Have the model say eight words");
    // Parallel calls are reported in the order of events, which varies.
    let (head, progress) = shown.split_at(shown.find("[TIME]").ok_or("the run reported no progress")?);
    let mut progress: Vec<&str> = progress.lines().collect();
    progress.sort_unstable();
    insta::assert_snapshot!("fan_out", format!("{head}{}", progress.join("\n")));
    insta::assert_snapshot!("fan_out_details", run_details(&place)?);
    Ok(())
}
