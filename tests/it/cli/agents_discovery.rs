//! Where agents files are found, how those of the project and of the user go together, and what their paths mean.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::workspace::{CommandOutput, Workspace};

const PLAN: &str = "name: x\ntasks: [{ id: a, agent: notes, tool: add }]\n";

/// Runs kapell in a folder of the workspace.
fn kapell_in(place: &Workspace, folder: &str, arguments: &[&str]) -> CommandOutput {
    CommandOutput::of(place.command(arguments).current_dir(place.path(folder)))
}

/// Writes an agents file with the agent `name`.
fn write_agent(place: &Workspace, path: &str, name: &str) {
    let path = place.path(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("created");
    fs::write(path, format!("[agents.{name}]\ncommand = \"{name}-program\"\n")).expect("written");
}

fn listed_agents(output: &CommandOutput) -> Vec<String> {
    let agents = output.result();
    let names =
        agents.as_array().expect("a list").iter().map(|agent| agent["agent"].as_str().unwrap_or_default().to_owned());
    names.collect()
}

#[test]
fn the_file_beside_the_plan_is_used_from_everywhere() {
    let place = Workspace::new();
    write_agent(&place, "project/agents.toml", "notes");
    write_agent(&place, "elsewhere/agents.toml", "other");
    place.write("project/plan.yaml", PLAN);
    for (folder, plan) in [("project", "plan.yaml"), ("elsewhere", "../project/plan.yaml"), ("", "project/plan.yaml")] {
        let ended = kapell_in(&place, folder, &["validate", "--offline", plan]);
        assert_eq!(ended.code, Some(0), "{folder}: {ended:?}");
    }
}

#[test]
fn directories_are_searched_up_to_the_root_of_the_repository() {
    let place = Workspace::new();
    fs::create_dir_all(place.path("repository/.git")).expect("created");
    fs::create_dir_all(place.path("repository/a/b")).expect("created");
    write_agent(&place, "agents.toml", "outside");
    let list = |folder: &str| kapell_in(&place, folder, &["agents", "list", "--output", "json"]);
    let missing = list("repository/a/b");
    assert_eq!((missing.code, missing.error_code()), (Some(2), "cli::no_agents_file"));
    for place in ["repository/a/agents.toml", "repository/agents.toml", "config/kapell/agents.toml"] {
        assert!(missing.stderr.contains(place), "{place}: {missing:?}");
    }
    assert!(missing.stderr.contains("kapell init"), "{missing:?}");

    write_agent(&place, "repository/agents.toml", "root");
    assert_eq!(listed_agents(&list("repository/a/b")), ["root"]);
    write_agent(&place, "repository/a/agents.toml", "nearer");
    assert_eq!(listed_agents(&list("repository/a/b")), ["nearer"]);
}

#[test]
fn the_file_of_the_user_adds_agents_to_that_of_the_project() {
    let place = Workspace::new();
    write_agent(&place, "agents.toml", "project");
    write_agent(&place, "config/kapell/agents.toml", "user");
    let list = |arguments: &[&str]| {
        listed_agents(&place.kapell(&[&["agents", "list", "--output", "json"], arguments].concat()))
    };
    assert_eq!(list(&[]), ["project", "user"]);
    // A file that is named is the only one.
    assert_eq!(list(&["--agents", "agents.toml"]), ["project"]);
    let listed = CommandOutput::of(
        place.command(["agents", "list", "--output", "json"]).env("KAPELL_AGENTS", place.path("agents.toml")),
    );
    assert_eq!(listed_agents(&listed), ["project"]);
}

#[test]
fn interrupted_runs_keep_both_files() {
    let place = Workspace::new();
    let demo =
        |name: &str| format!("[agents.{name}]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"archive\"]\n");
    fs::create_dir_all(place.path("config/kapell")).expect("created");
    place.write("config/kapell/agents.toml", demo("mine")).write("agents.toml", demo("ours"));
    let plan = "name: x\ntasks:\n\
        \x20 - { id: a, agent: mine, tool: store_document, with: { title: A, text: b }, approve: Store it? }\n";
    let paused = place.run_plan(plan, &[]);
    assert_eq!(paused.code, Some(4), "{paused:?}");
    fs::create_dir(place.path("elsewhere")).expect("created");
    assert_eq!(place.kapell(&["answer", "last", "q1", "--accept"]).code, Some(0));
    let resumed = kapell_in(&place, "elsewhere", &["resume"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
}

#[test]
fn the_journal_can_be_named_by_a_variable() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let plan = "name: x\ntasks: [{ id: a, agent: archive, tool: store_document, with: { title: A, text: b } }]\n";
    place.write("plan.yaml", plan);
    let run =
        |arguments: &[&str]| CommandOutput::of(place.command(arguments).env("KAPELL_JOURNAL", place.path("own.db")));
    run(&["run", "plan.yaml"]);
    assert!(place.path("own.db").exists() && !place.path("state/kapell/journal.db").exists());
    let runs: Value = run(&["runs", "list", "--output", "json"]).result();
    assert_eq!(runs.as_array().map(Vec::len), Some(1));
}

#[test]
fn relative_programs_start_at_the_agents_file() {
    let place = Workspace::new();
    fs::create_dir_all(place.path("project/bin")).expect("created");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kapell"), place.path("project/bin/server")).expect("linked");
    place.write(
        "project/agents.toml",
        "[agents.local]\ncommand = \"./bin/server\"\nargs = [\"demo-agent\", \"archive\"]\n",
    );
    let tested = place.kapell(&["agents", "test", "--agents", "project/agents.toml"]);
    assert_eq!(tested.code, Some(0), "{tested:?}");
}

#[test]
fn a_dotenv_file_sets_variables_but_no_environment_of_children() {
    let place = Workspace::new();
    let program = "import os, pathlib\n\
        pathlib.Path('seen').write_text(' '.join(os.environ.get(name, '-') for name in ['NAMED', 'OTHER']))\n";
    place
        .write("program.py", program)
        .write(".env", "# Mine.\nNAMED=one\nOTHER='two words'\nHOST=example.com\nexport OVERRIDDEN=file\n")
        .write(
            "agents.toml",
            "[agents.a]\ncommand = \"python3\"\nargs = [\"program.py\"]\nenv_vars = [\"NAMED\"]\n\
             [agents.b]\nurl = \"https://${HOST}/${OVERRIDDEN}\"\n",
        );
    let kapell = |arguments: &[&str]| CommandOutput::of(place.command(arguments).env("OVERRIDDEN", "set"));
    let listed = kapell(&["agents", "list", "--output", "json"]).result();
    assert_eq!(listed[1]["address"], "https://example.com/set");
    kapell(&["agents", "test", "a"]);
    assert_eq!(fs::read_to_string(place.path("seen")).expect("the program ran"), "one -");

    place.write(".env", "A=1\nhunter22 hunter22\n");
    let broken = kapell(&["agents", "list"]);
    assert_eq!((broken.code, broken.error_code()), (Some(2), "file::invalid_dotenv"));
    assert!(broken.stderr.contains("line 2") && !broken.stderr.contains("hunter22"), "{broken:?}");
}

#[test]
fn plans_are_checked_and_drawn_without_an_agents_file() {
    let place = Workspace::new();
    let plan = "name: x\ntasks:\n\
        \x20 - { id: a, agent: notes, tool: add, fallback: [{ agent: other, tool: put }] }\n\
        \x20 - { id: b, capability: web-search, needs: [a] }\n\
        \x20 - { id: c, needs: [b], prompt: Hello., tools: [notes.add], model: small, max_turns: 2 }\n";
    place.write("plan.yaml", plan).write("broken.yaml", plan.replace("needs: [a]", "needs: [z]"));
    let ended = place.kapell(&["validate", "--offline", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let drawn = place.kapell(&["graph", "plan.yaml"]);
    assert!(drawn.code == Some(0) && drawn.stdout.contains("notes"), "{drawn:?}");
    let broken = place.kapell(&["validate", "--offline", "broken.yaml"]);
    assert_eq!((broken.code, broken.error_code()), (Some(2), "plan::unknown_task"));
    let online = place.kapell(&["validate", "plan.yaml"]);
    assert_eq!((online.code, online.error_code()), (Some(2), "cli::no_agents_file"));
    assert!(!Path::new(&place.path("agents.toml")).exists());
}

#[test]
fn unset_variables_disable_only_what_needs_them() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let agents = fs::read_to_string(place.path("agents.toml")).expect("agents");
    let unset = "[agents.remote]\nurl = \"https://${NO_SUCH_HOST}/mcp\"\nbearer_token_env_var = \"NO_SUCH_TOKEN\"\n\
                 [llm]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"small\"\napi_key_env_var = \"NO_SUCH_KEY\"\n";
    place.write("agents.toml", format!("{agents}{unset}"));
    let store = "agent: archive, tool: store_document, with: { title: A, text: b }";

    let listed = place.kapell(&["agents", "list"]);
    assert!(listed.code == Some(0) && listed.stdout.contains("`NO_SUCH_HOST`, `NO_SUCH_TOKEN`"), "{listed:?}");
    let ended = place.run_plan(&format!("name: x\ntasks: [{{ id: a, {store} }}]\n"), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let plan = format!(
        "name: x\ndefaults: {{ on_failure: continue, retry: {{ max_attempts: 1 }} }}\ntasks:\n\
         \x20 - {{ id: a, {store} }}\n\
         \x20 - {{ id: b, agent: remote, tool: search }}\n\
         \x20 - {{ id: c, prompt: Hello. }}\n\
         \x20 - {{ id: d, agent: remote, tool: search, fallback: [{{ agent: archive, tool: fetch_document }}] }}\n"
    );
    let ended = place.run_plan(&plan, &[]);
    let result = ended.result();
    assert_eq!(result["tasks"]["a"]["status"], "succeeded", "{ended:?}");
    for (task, names) in [("b", "`NO_SUCH_HOST`, `NO_SUCH_TOKEN` are not set"), ("c", "`NO_SUCH_KEY` is not set")] {
        let message = result["tasks"][task]["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(names), "{task}: {message}");
    }
    assert_eq!(result["tasks"]["d"]["agent"], "archive", "{ended:?}");
}
