//! Goals: planned by a scripted model over the demo agents, shown, saved and run.

use serde_json::{Value, json};

use crate::{
    endpoint::Endpoint,
    support::{Ended, Place},
    terminal_answers::typing,
};

const GOAL: &str = "Plan a weekend in Lisbon and tell me what to read first";

/// A place with the demo agents and a model that answers so.
fn place<'r>(answers: impl IntoIterator<Item = &'r str>) -> (Place, Endpoint) {
    let endpoint = Endpoint::answering(answers);
    let place = Place::new();
    place.agents(&[]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}\n{agents}", endpoint.section()));
    (place, endpoint)
}

/// What the model answers to plan reading, and a note on the first of what was found.
fn good() -> Value {
    json!({
        "analysis": "Reading comes from the research agent; the archive keeps a note on the first find.",
        "tasks": [
            {
                "id": "t1", "title": "What to read", "depends_on": [],
                "call": {"tool": "research.research", "args": {"topic": "Lisbon", "depth": 1, "delay_ms": 1}},
                "bindings": [],
            },
            {
                "id": "t2", "title": "A note", "depends_on": ["t1"],
                "call": {"tool": "archive.store_document", "args": {
                    "title": null, "text": "Read this first:\n\n${{ tasks.t1.output.findings[0].note }}", "format": null,
                    "delay_ms": null,
                }},
                "bindings": [{"arg": "title", "task": "t1", "output": "/findings/0/title"}],
            },
        ],
    })
}

/// The same with a tool that the agent does not have.
fn with_unknown_tool() -> String {
    good().to_string().replace("store_document", "store_documents")
}

/// What it was and what it printed, without what differs from run to run and without what the run told on its way,
/// which comes in the order in which agents answer.
fn shown(place: &Place, ended: &Ended) -> String {
    let err = ended.err.lines().filter(|line| !line.starts_with('[')).map(|line| format!("{line}\n")).collect();
    place.shown(&Ended { code: ended.code, out: ended.out.clone(), err })
}

#[test]
fn a_goal_becomes_a_plan_that_people_can_edit_and_run() {
    let (place, endpoint) = place([&*good().to_string()]);
    let ended = place.kapell(&["plan", GOAL, "-o", "plan.yaml"]);
    insta::assert_snapshot!(shown(&place, &ended));
    insta::assert_snapshot!("plan", std::fs::read_to_string(place.path("plan.yaml")).expect("written"));
    let request = endpoint.request();
    assert_eq!((&request["model"], request["messages"].as_array().map(Vec::len)), (&json!("tiny"), Some(2)));
    let asked = request["messages"][1]["content"].as_str().expect("text");
    assert!(asked.contains(GOAL) && asked.contains("travel.book_trip"), "{asked}");
    assert_eq!(place.kapell(&["validate", "plan.yaml"]).code, Some(0));
    let printed = place.kapell(&["plan", GOAL]);
    assert_eq!(printed.out, std::fs::read_to_string(place.path("plan.yaml")).expect("written"));
}

#[test]
fn a_goal_is_planned_and_run() {
    let (place, _endpoint) = place([&*good().to_string(), "Read the first one [t1]; it is noted down [t2]."]);
    let ended = place.kapell(&["run", GOAL, "--no-input", "--journal", "journal.db"]);
    insta::assert_snapshot!(shown(&place, &ended));
}

#[test]
fn what_a_goal_has_spent_is_shown_by_task_with_its_planning() {
    let (place, _endpoint) =
        place([&*with_unknown_tool(), &*good().to_string(), "Read the first one [t1]; noted [t2]."]);
    let ended = place.kapell(&["run", GOAL, "--no-input", "--output", "json", "--journal", "journal.db"]);
    let calls = |llm: u64, tool: u64| {
        json!({
            "llm_calls": llm, "tool_calls": tool, "input_tokens": 12 * llm, "output_tokens": 3 * llm,
            "untold_replies": 0, "cost_usd": 0.0,
        })
    };
    assert_eq!(ended.result()["spent"], calls(4, 2), "{ended:?}");
    let json = place.kapell(&["runs", "show", "last", "--output", "json", "--journal", "journal.db"]).result();
    let tasks = json!({"t1": calls(1, 1), "t2": calls(0, 1), "answer": calls(1, 0)});
    assert_eq!(json["spending"], json!({"planning": calls(2, 0), "tasks": tasks, "agents": {}}));
    let turn = json["planning"]["turns"][1].clone();
    let usage = json!({"input_tokens": 12, "output_tokens": 3});
    assert_eq!((&turn["model"], &turn["usage"]), (&json!("tiny-7b"), &usage));
    assert_eq!(json["planning"]["goal"], GOAL);
    let text = place.kapell(&["runs", "show", "last", "--journal", "journal.db"]);
    let (head, spent) = text.out.split_once("\nspent\n").expect("a section");
    assert!(head.contains(&format!("goal     {GOAL}\n")), "{head}");
    insta::assert_snapshot!("spent", spent);
    let logs = place.kapell(&["logs", "last", "--journal", "journal.db"]);
    let planned = format!("run: planned in 2 turns, 24 tokens in, 6 out, for the goal: {GOAL}");
    assert!(logs.out.lines().nth(1).is_some_and(|line| line.ends_with(&planned)), "{}", logs.out);
}

#[test]
fn a_plan_with_an_unknown_tool_is_repaired() {
    let prose = format!("Here you are:\n```json\n{}\n```\nEnjoy!", good());
    let (place, endpoint) = place([&*with_unknown_tool(), &*prose]);
    let ended = place.kapell(&["run", GOAL, "--no-input", "--dry-run"]);
    insta::assert_snapshot!(shown(&place, &ended));
    endpoint.request();
    let messages = endpoint.request()["messages"].clone();
    assert_eq!(messages.as_array().map(Vec::len), Some(4), "{messages}");
    assert_eq!(messages[2], json!({"role": "assistant", "content": with_unknown_tool()}));
    insta::assert_snapshot!("repair", messages[3]["content"].as_str().expect("text"));
}

#[test]
fn a_plan_that_never_becomes_valid_is_saved_with_its_mistakes_shown() {
    let nonsense = json!({"analysis": "Hm.", "tasks": [
        {"id": "t1", "title": "x", "depends_on": ["t9"], "call": {"tool": "nobody.nothing", "args": {}}, "bindings": []},
        {"id": "t1", "title": "y", "depends_on": [], "call": {"tool": "travel.book_trip", "args_json": "{city"},
         "bindings": [], "extra": true},
        {"id": "t3", "title": "z", "depends_on": [], "call": {"tool": "research.research", "args": {"depth": 9}},
         "bindings": []},
    ]});
    let (place, endpoint) = place(["I cannot do that.", &*with_unknown_tool(), &*nonsense.to_string()]);
    let ended = place.kapell(&["run", GOAL, "--no-input", "--journal", "journal.db"]);
    insta::assert_snapshot!(shown(&place, &ended));
    endpoint.request();
    let messages = endpoint.request()["messages"].clone();
    assert_eq!(messages[2]["content"], "I cannot do that.");
    let saved = std::fs::read_dir(place.path("journal.plans")).expect("saved").next().expect("one").expect("an entry");
    let again = place.kapell(&["validate", saved.path().to_str().expect("UTF-8")]);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(!place.path("journal.db").exists(), "nothing ran");
}

#[test]
fn an_answer_that_is_no_plan_is_saved_as_it_was() {
    let (place, _endpoint) = place(["I cannot do that.\nReally not."]);
    let ended = place.kapell(&["plan", GOAL, "-o", "plan.yaml"]);
    insta::assert_snapshot!(shown(&place, &ended));
    assert!(!place.path("plan.yaml").exists());
    let plans = place.path("state/kapell/journal.plans");
    let saved = std::fs::read_dir(plans).expect("saved").next().expect("one").expect("an entry");
    insta::assert_snapshot!("no_plan", std::fs::read_to_string(saved.path()).expect("reads"));
}

#[test]
fn each_model_of_the_readme_plans_and_answers_a_goal() {
    let sections =
        include_str!("../../README.md").split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let models: Vec<&str> = sections.filter(|section| section.contains("\nprovider = ")).collect();
    assert_eq!(models.len(), 3, "OpenAI, Ollama and llama.cpp");
    for model in models {
        let (place, endpoint) = place([&*good().to_string(), "Read the first one [t1]; it is noted down [t2]."]);
        let demo = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
        let (_, agents) = demo.split_once("\n[agents").expect("the demo agents");
        let base_url = endpoint.section().lines().nth(1).map(str::to_owned).expect("an address");
        // As the README has it, but at another address.
        place.write("agents.toml", format!("{model}{base_url}\n\n[agents{agents}"));
        let mut command = place.command(["run", GOAL, "--no-input"]);
        let ended = Ended::of(command.env("OPENAI_API_KEY", "key").output().expect("kapell starts"));
        assert_eq!(ended.code, Some(0), "{model}\n{ended:?}");
        assert_eq!(ended.out, "Read the first one [t1]; it is noted down [t2].\n", "{model}");
        let asked = endpoint.request()["model"].clone();
        assert!(asked.as_str().is_some_and(|name| model.contains(name)), "{asked}");
    }
}

#[test]
fn a_goal_without_a_model_says_what_to_configure() {
    let place = Place::new();
    place.agents(&[]);
    for arguments in [vec!["run", GOAL], vec!["plan", GOAL]] {
        let ended = place.kapell(&arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{ended:?}");
        for expected in ["needs a language model", "[llm]", "base_url", "agents file"] {
            assert!(ended.err.contains(expected), "`{expected}` is missing in:\n{}", ended.err);
        }
    }
    let missing = place.kapell(&["run", "plans/lisbon.yml"]);
    assert!(missing.code == Some(2) && missing.err.contains("plans/lisbon.yml"), "{missing:?}");
}

#[test]
fn a_plan_is_run_only_after_a_yes() {
    let (place, _endpoint) = place([&*good().to_string()]);
    let arguments = ["run", GOAL, "--approve", "plan", "--journal", "journal.db", "--output", "json"];
    let nobody = place.kapell(&arguments);
    insta::assert_snapshot!(shown(&place, &nobody));
    assert!(!place.path("journal.db").exists(), "nothing ran");
    let said = |answer: &str| typing(&place, &[("[Y/n, :cancel]> ", answer)], None, &arguments);
    let no = said("n\n");
    assert_eq!((no.code, no.out.as_str()), (Some(7), ""), "{no:?}");
    let yes = said("y\n");
    assert_eq!((yes.code, yes.task("t2").0.as_str()), (Some(0), "succeeded"), "{yes:?}");
    let saved = std::fs::read_dir(place.path("journal.plans")).expect("saved").next().expect("one").expect("an entry");
    let written = place.kapell(&["run", saved.path().to_str().expect("UTF-8"), "--approve", "plan", "--no-input"]);
    assert_eq!((written.code, written.out.as_str()), (Some(4), ""), "{written:?}");
}

#[test]
fn a_person_at_a_terminal_sees_what_a_goal_would_do_before_it_runs() {
    let (place, _endpoint) = place([&*good().to_string()]);
    let run = |steps: &[(&str, &str)], further: &[&str]| {
        let arguments = [&["run", GOAL, "--journal", "journal.db", "--output", "json"], further].concat();
        typing(&place, steps, None, &arguments)
    };
    let no = run(&[("[Y/n, :cancel]> ", "n\n")], &[]);
    assert_eq!((no.code, no.out.as_str()), (Some(7), ""), "{no:?}");
    for line in ["t1: research.research (", "t2: archive.store_document (may be repeated), after t1"] {
        assert!(no.err.contains(line), "`{line}` is missing in:\n{}", no.err);
    }
    assert!(!place.path("journal.db").exists(), "nothing ran");
    let enter = run(&[("[Y/n, :cancel]> ", "\n")], &[]);
    assert_eq!((enter.code, enter.task("t2").0.as_str()), (Some(0), "succeeded"), "{enter:?}");
    for further in [&["--yes"][..], &["--no-input"]] {
        let unasked = run(&[], further);
        assert_eq!((unasked.code, unasked.err.contains("[Y/n")), (Some(0), false), "{unasked:?}");
    }
}

#[test]
fn planning_goes_on_without_agents_that_do_not_answer_and_uses_none_of_them() {
    let asks_it = good().to_string().replace("archive.store_document", "gone.store_document");
    let (place, endpoint) = place([&*asks_it, &*good().to_string()]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{agents}[agents.gone]\ncommand = \"no-such-program\"\n"));
    let ended = place.kapell(&["plan", GOAL]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("planning without agent `gone`"), "{}", ended.err);
    endpoint.request();
    let told = endpoint.request()["messages"][3]["content"].to_string();
    assert!(told.contains("in task `t2`: the agent `gone` could not be asked for its tools"), "{told}");
}

#[test]
fn an_endpoint_that_fails_and_what_goals_cannot_have_are_named() {
    let (place, _endpoint) = place(["never asked"]);
    let inputs = place.kapell(&["run", GOAL, "--param", "city=Lisbon"]);
    assert!(inputs.code == Some(2) && inputs.err.contains("only a plan has inputs"), "{inputs:?}");
    let folder = place.kapell(&["plan", GOAL, "-o", "nowhere/plan.yaml"]);
    assert!(folder.code == Some(2) && folder.err.contains("nowhere"), "{folder:?}");
    let agents = "[llm]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\ntimeout = \"1s\"\n";
    place.write("agents.toml", agents);
    let nothing = place.kapell(&["plan", GOAL]);
    assert!(nothing.code == Some(1) && nothing.err.contains("no agent offers a tool"), "{nothing:?}");
    place.agents(&[]);
    let demo = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{agents}{demo}"));
    let away = place.kapell(&["plan", GOAL]);
    assert!(away.code == Some(1) && away.err.contains("127.0.0.1:9"), "{away:?}");
}
