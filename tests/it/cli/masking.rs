//! Secrets from variables of an agents file that agents send back: masked before they are stored or shown.

use crate::support::workspace::{CommandOutput, Workspace};

const KEY: &str = "sk-made-up-0123456789";

fn workspace() -> Workspace {
    let place = Workspace::new();
    let env = "env = { SERVICE_KEY = \"${MY_VALUE}\", REGION = \"${MY_REGION}\" }";
    place.scripted_agent("leaks", "leaks.py", env).write(
        "plan.yaml",
        "
        name: leaks
        defaults: { on_failure: continue, effect: read_only }
        tasks:
          - { id: returns, agent: leaks, tool: returns }
          - { id: fails, agent: leaks, tool: fails }
          - { id: refuses, agent: leaks, tool: refuses }
          - { id: dies, needs: [returns, fails, refuses], agent: leaks, tool: dies }
        outputs: { returned: '${{ tasks.returns.output }}', text: '${{ tasks.returns.text }}' }
        ",
    );
    place
}

/// Runs kapell with this value of `KAPELL_LOG`, if any.
fn kapell(place: &Workspace, arguments: &[&str], log: Option<&str>) -> CommandOutput {
    let mut command = place.command(arguments);
    command.envs(log.map(|log| ("KAPELL_LOG", log)));
    CommandOutput::of(command.env("MY_VALUE", KEY).env("MY_REGION", "eu-central-1"))
}

#[test]
fn echoed_secret_is_masked_everywhere() {
    let place = workspace();
    let ended = kapell(&place, &["run", "plan.yaml", "--no-input", "--journal", "j.db", "--output", "json"], None);
    let result = ended.result();
    assert_eq!(result["outputs"]["text"], "*** in eu-central-1");
    assert_eq!(
        result["outputs"]["returned"],
        serde_json::json!({"key": "*** in eu-central-1", "***": "eu-central-1"}),
        "a value that is not a secret stays"
    );
    for task in ["fails", "refuses", "dies"] {
        let message = result["tasks"][task]["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("***"), "{task}: {message}");
    }
    let mut shown = vec![ended];
    for command in
        [&["logs", "last"][..], &["runs", "show", "last"], &["logs", "last", "--output", "json"], &["replay", "last"]]
    {
        let mut command = command.to_vec();
        command.extend(["--journal", "j.db"]);
        shown.push(kapell(&place, &command, None));
    }
    shown.push(kapell(&place, &["agents", "test"], None));
    // Libraries log messages of agents unchanged.
    shown.push(kapell(&place, &["run", "plan.yaml", "--no-input"], Some("trace")));
    for ended in shown {
        assert!(ended.stdout.contains("***") || ended.stderr.contains("***"), "{ended:?}");
        assert!(!ended.stdout.contains(KEY) && !ended.stderr.contains(KEY), "{ended:?}");
    }
    for file in std::fs::read_dir(place.path("")).expect("a folder") {
        let path = file.expect("an entry").path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("j.db"))
            && path.is_file()
        {
            let bytes = std::fs::read(&path).expect("readable");
            assert!(!bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes()), "{}", path.display());
        }
    }
}
