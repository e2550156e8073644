//! Binary contents and large texts of results: their files, the calls that get them, and their end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace};

const JOURNAL: [&str; 2] = ["--journal", "j.db"];

/// The picture of `tests/agents/features.py`.
fn picture() -> Vec<u8> {
    let signature = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];
    let pixels = (0..4).flat_map(|_| 0..=u8::MAX);
    signature.into_iter().chain(pixels).collect()
}

fn workspace() -> Workspace {
    let place = Workspace::new();
    place.scripted_agent("features", "features.py", "");
    place
}

/// Returns the folder with the files of the run that printed this result.
fn run_folder(place: &Workspace, result: &Value) -> PathBuf {
    place.path("j.files").join(result["run"].as_str().expect("an ID"))
}

/// Reruns the latest run from the task `sized`, which is approved.
fn retried_from_sized(place: &Workspace) -> CommandOutput {
    place.write("yes.yaml", "answers: [{ task: sized, accept: true }]\n");
    let retry = "retry last --from sized --allow-repeats --output json --no-input --answers yes.yaml";
    place.kapell(&[&retry.split(' ').collect::<Vec<_>>()[..], &JOURNAL[..]].concat())
}

#[test]
fn contents_are_files_and_calls_get_them() {
    let place = workspace();
    let ended = place.run_plan(
        "name: x\ntasks:\n\
         \x20 - { id: shot, agent: features, tool: media }\n\
         \x20 - { id: sized, agent: features, tool: measure, with: { data: \"${{ tasks.shot.content[1].data }}\" } }\n\
         \x20 - { id: each, foreach: [1, 2], agent: features, tool: media }\n\
         outputs: { picture: \"${{ tasks.shot.content[1].data }}\" }\n",
        &[&JOURNAL[..], &["--save", "pictures"]].concat(),
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.result();
    assert_eq!(result["tasks"]["sized"]["output"], json!("png"));
    assert_eq!(result["outputs"]["picture"], json!(BASE64_STANDARD.encode(picture())));

    // The same for a run of the past, and for one of its tasks.
    let saved = place.kapell(&[&["result", "last", "each[1]", "--save", "later"], &JOURNAL[..]].concat());
    assert!(saved.stdout.contains("later/each-1-1.png (image/png, 1.0 KiB)"), "{saved:?}");
    assert_eq!(fs::read(place.path("later/each-1-1.png")).expect("reads"), picture());
    assert!(!place.path("later/shot-1.png").exists());
    let again = place.kapell(&[&["result", "--output", "json", "--save", "later"], &JOURNAL[..]].concat()).result();
    assert_eq!(again["outputs"]["picture"], result["outputs"]["picture"]);
    assert_eq!(fs::read(place.path("later/shot-1.png")).expect("reads"), picture());

    // With `--save`, the result names the copies of the user.
    let copy = |name: &str| place.path("pictures").join(name).display().to_string();
    let expected = json!([
        {"path": copy("shot-1.png"), "mime_type": "image/png", "bytes": 1_032},
        {"path": copy("shot-2.bin"), "mime_type": "audio/../../wav", "bytes": 4},
        {"path": copy("shot-3.pdf"), "mime_type": "application/pdf", "bytes": 8},
    ]);
    assert_eq!(result["tasks"]["shot"]["files"], expected);
    assert_eq!(result["tasks"]["each"]["items"][1]["files"][0]["path"], json!(copy("each-1-1.png")));
    assert_eq!(fs::read(place.path("pictures/shot-1.png")).expect("reads"), picture());

    let folder = run_folder(&place, &result);
    assert_eq!(fs::metadata(&folder).expect("exists").permissions().mode() & 0o777, 0o700);
    let entries = fs::read_dir(&folder).expect("exists").map(|entry| entry.expect("reads").file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().expect("UTF-8")).collect();
    names.sort();
    let each = |task: &str| ["1.png", "2.bin", "3.pdf"].map(|name| format!("{task}-{name}"));
    assert_eq!(names, [each("each-0"), each("each-1"), each("shot")].concat());

    let succeeded = place.logged_events("j.db", "attempt_succeeded");
    let shot = succeeded.iter().find(|event| event["attempt"]["task"] == "shot").expect("succeeded");
    let shot = &shot["output"]["content"];
    let reference = shot[1]["data"].as_str().expect("text");
    assert!(reference.starts_with("kapell-file:shot-1.png?bytes=1032&sha256="), "{reference}");
    assert_eq!((&shot[4]["uri"], &shot[5]["data"]), (&json!("https://example.org/report"), &json!("not base64!")));
    assert_eq!(shot[6]["data"], json!(""), "an agent does not refer to files");

    let shown = place.kapell(&[&["runs", "show", "last", "shot"], &JOURNAL[..]].concat());
    let line = format!("    {} (image/png, 1.0 KiB)\n", folder.join("shot-1.png").display());
    assert!(shown.stdout.contains(&line) && shown.stdout.contains("report: https://example.org/report"), "{shown:?}");
    let shown = place.kapell(&[&["runs", "show", "last", "shot", "--output", "json"], &JOURNAL[..]].concat());
    assert_eq!(shown.result()["files"][0]["path"], json!(folder.join("shot-1.png")));

    let pruned = place.kapell(&[&["runs", "prune", "--keep", "0"], &JOURNAL[..]].concat());
    assert_eq!((pruned.code, folder.exists(), place.path("pictures/shot-1.png").exists()), (Some(0), false, true));
}

#[test]
fn later_processes_and_runs_have_the_contents() {
    let place = workspace();
    let ended = place.run_plan(
        "name: x\ntasks:\n\
         \x20 - { id: shot, agent: features, tool: media }\n\
         \x20 - id: sized\n\
         \x20   approve: Measure it?\n\
         \x20   agent: features\n\
         \x20   tool: measure\n\
         \x20   with: { data: \"${{ tasks.shot.content[1].data }}\" }\n",
        &JOURNAL,
    );
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let answered = place.kapell(&[&["answer", "last", "q1", "--accept"], &JOURNAL[..]].concat());
    assert_eq!(answered.code, Some(0), "{answered:?}");
    let resumed = place.kapell(&[&["resume", "--output", "json", "--no-input"], &JOURNAL[..]].concat());
    assert_eq!(resumed.result()["tasks"]["sized"]["output"], json!("png"), "{resumed:?}");
    let first = run_folder(&place, &resumed.result());
    assert_eq!(resumed.result()["tasks"]["shot"]["files"][0]["path"], json!(first.join("shot-1.png")));

    let retried = retried_from_sized(&place);
    assert_eq!(retried.result()["tasks"]["sized"]["output"], json!("png"), "{retried:?}");
    let pruned = place.kapell(&[&["runs", "prune", "--keep", "1"], &JOURNAL[..]].concat());
    assert_eq!((pruned.code, first.exists()), (Some(0), false), "{pruned:?}");
    let second = run_folder(&place, &retried.result());
    assert_eq!(fs::read(second.join("shot-1.png")).expect("is kept"), picture());
    assert!(!second.join("sized-1.bin").exists());
}

#[test]
fn large_texts_are_files_and_expressions_contain_them() {
    const BYTES: usize = 1_500_000;
    let place = workspace();
    let ended = place.run_plan(
        "name: x\ntasks:\n\
         \x20 - { id: big, agent: features, tool: large, with: { bytes: 1500000 } }\n\
         \x20 - id: sized\n\
         \x20   if: \"'xxx' in tasks.big.text\"\n\
         \x20   approve: Count it?\n\
         \x20   agent: features\n\
         \x20   tool: shoot\n\
         \x20   with: { filename: \"${{ tasks.big.output | length }} bytes\" }\n\
         outputs: { big: \"${{ tasks.big.output }}\" }\n",
        &[&JOURNAL[..], &["--save", "texts"]].concat(),
    );
    assert_eq!(ended.code, Some(4), "{}", ended.stderr);
    assert_eq!(fs::read(place.path("texts/big-1.txt")).expect("is there").len(), BYTES);
    let succeeded = place.logged_events("j.db", "attempt_succeeded");
    let block = &succeeded[0]["output"]["content"][0];
    let reference = block["text_file"].as_str().expect("a reference");
    assert!(reference.starts_with("kapell-file:big-1.txt?bytes=1500000&sha256="), "{block}");
    let logs = place.kapell(&[&["logs", "last"], &JOURNAL[..]].concat());
    assert!(logs.stdout.contains("result: in the file big-1.txt\n"), "{logs:?}");

    let answered = place.kapell(&[&["answer", "last", "q1", "--accept"], &JOURNAL[..]].concat());
    assert_eq!(answered.code, Some(0), "{answered:?}");
    let resumed = place.kapell(&[&["resume", "--output", "json", "--no-input"], &JOURNAL[..]].concat());
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    let result = resumed.result();
    let file = run_folder(&place, &result).join("big-1.txt");
    let length = |value: &Value| value.as_str().map(str::len);
    assert!(result["tasks"]["sized"]["output"].to_string().contains("1500000 bytes"), "{}", resumed.stderr);
    assert_eq!(
        (length(&result["outputs"]["big"]), length(&result["tasks"]["big"]["output"])),
        (Some(BYTES), Some(BYTES))
    );
    let expected = json!([{"path": file, "mime_type": "text/plain", "bytes": BYTES}]);
    assert_eq!(result["tasks"]["big"]["files"], expected);
    let shown = place.kapell(&[&["runs", "show", "last", "big", "--output", "json"], &JOURNAL[..]].concat());
    assert_eq!(length(&shown.result()["output"]), Some(BYTES));

    let retried = retried_from_sized(&place);
    assert_eq!(length(&retried.result()["outputs"]["big"]), Some(BYTES), "{}", retried.stderr);
    fs::remove_file(run_folder(&place, &retried.result()).join("big-1.txt")).expect("is there");
    let failed = retried_from_sized(&place);
    assert_eq!((failed.code, failed.error_code()), (Some(1), "cli::missing_file"), "{}", failed.stderr);
}
