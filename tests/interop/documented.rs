//! Checks the table of protocol features in `docs/interop.md`: each test, server, and scenario that it names exists.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use libtest_mimic::{Failed, Trial};

use crate::root;

/// The comments around the table.
const MARKS: [&str; 2] = ["<!-- features -->", "<!-- end of the features -->"];

/// Returns the trial that checks the table, given all others.
pub(crate) fn trial(others: &[Trial]) -> Trial {
    let trials: HashSet<String> = others.iter().map(|trial| trial.name().to_owned()).collect();
    Trial::test("documented_features_have_their_tests", move || check(trials))
}

fn check(mut known: HashSet<String>) -> Result<(), Failed> {
    let document = fs::read_to_string(root().join("docs/interop.md"))?;
    let servers = fs::read_to_string(root().join("tests/interop/table/servers.toml"))?;
    known.extend(servers.lines().filter_map(|line| Some(line.strip_prefix('[')?.strip_suffix(']')?.to_owned())));
    // The conformance table names each scenario in its first column.
    known.extend(
        document.lines().filter_map(|line| Some(line.strip_prefix("| ")?.split([' ', '|']).next()?.to_owned())),
    );
    add_functions(&root().join("tests/it"), &mut known)?;

    let table = document.split(MARKS[0]).nth(1).and_then(|rest| rest.split(MARKS[1]).next()).ok_or("no table")?;
    let mut problems = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, feature, supported, tests, reason, _] = cells.as_slice() else {
            problems.push(format!("it does not have four columns: {row}"));
            continue;
        };
        // The names are the parts between backticks.
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        let unknown = names.iter().filter(|name| !known.contains(**name));
        problems.extend(unknown.map(|name| format!("{feature}: there is neither a test nor a server `{name}`")));
        if names.is_empty() && reason.is_empty() || *supported == "no" && reason.is_empty() {
            problems.push(format!("{feature}: it has neither a test nor a reason"));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
}

/// Adds the names of the functions below a folder.
fn add_functions(folder: &Path, known: &mut HashSet<String>) -> Result<(), Failed> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            add_functions(&path, known)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            known.extend(text.lines().filter_map(|line| Some(line.split_once("fn ")?.1.split('(').next()?.to_owned())));
        }
    }
    Ok(())
}
