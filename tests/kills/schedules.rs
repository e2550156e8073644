//! Two processes drive the same schedule with one journal, and are killed at random moments, like the runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kapell::journal::{self, RunSummary};
use kapell::model::{Asker, Event, QuestionId, Record, RunId, RunStatus};

use crate::audit::Effects;
use crate::rng::Rng;
use crate::support::workspace::{Workspace, wait_for};
use crate::{first_seed, wanted_kills};

/// The time between two occurrences of the schedule in [`PLAN`], in milliseconds.
const INTERVAL: u64 = 2_000;
const PLAN: &str = "\
name: tick
schedule: { cron: '*/2 * * * * *', timezone: UTC, missed: all }
defaults: { effect: at_most_once, retry: { max_attempts: 1 } }
tasks:
- { id: first, agent: archive, tool: store_document, with: { title: a, text: x, delay_ms: 200 } }
- { id: nap, needs: [first], sleep: 150ms }
- { id: last, needs: [nap], agent: archive, tool: store_document, with: { title: b, text: x } }
";
/// A killed run leaves time for its resumption, since a run that repeatedly fails to resume is given up.
const MAX_KILLS_OF_A_RUN: u32 = 2;

/// The processes that drive the schedule. They end with the test.
struct Schedulers<'w> {
    place: &'w Workspace,
    running: Vec<Child>,
}

impl<'w> Schedulers<'w> {
    fn start(place: &'w Workspace, count: usize) -> Self {
        let mut schedulers = Self { place, running: Vec::new() };
        for _ in 0..count {
            let started = schedulers.start_one();
            schedulers.running.push(started);
        }
        schedulers
    }

    fn start_one(&self) -> Child {
        let arguments = ["serve", "--plans", "plans", "--addr", "127.0.0.1:0", "--journal", "journal.db"];
        let talk = std::fs::File::options().create(true).append(true).open(self.place.path("talk")).expect("a file");
        let mut command = self.place.command([&arguments[..], &["--agents", "agents.toml"]].concat());
        command.stdout(Stdio::null()).stderr(talk).spawn().expect("kapell starts")
    }

    fn kill_and_restart(&mut self, index: usize) {
        end(&mut self.running[index]);
        self.running[index] = self.start_one();
    }
}

impl Drop for Schedulers<'_> {
    fn drop(&mut self) {
        self.running.iter_mut().for_each(end);
    }
}

fn end(process: &mut Child) {
    process.kill().expect("killed, or ended before");
    process.wait().expect("ended");
}

/// Returns the time of the occurrence, which is in the ID of its run.
fn occurrence(run: &RunId) -> u64 {
    let digits: String = run.as_str().chars().filter(|digit| *digit != '-').take(12).collect();
    u64::from_str_radix(&digits, 16).expect("the time of a UUID")
}

fn journal_path(place: &Workspace) -> PathBuf {
    place.path("journal.db")
}

/// Returns the runs, the latest first.
fn runs(place: &Workspace) -> Vec<RunSummary> {
    // Until the journal has been created, there are none.
    let reader = journal::store(&journal_path(place).into()).open_reader();
    reader.and_then(|reader| reader.runs(100_000)).unwrap_or_default()
}

fn records(place: &Workspace, run: &RunId) -> Vec<Record> {
    let reader = journal::store(&journal_path(place).into()).open_reader().expect("a journal");
    reader.records(run, 0).collect::<Result<_, _>>().expect("its events")
}

/// Answers whether the interrupted calls took effect, like a person who looks at the agents' record.
fn answer_questions(place: &Workspace) {
    for run in runs(place).into_iter().filter(|run| run.driver.is_some()) {
        let records = records(place, &run.run);
        let is_answered = |id: &QuestionId| {
            records
                .iter()
                .any(|record| matches!(&record.event, Event::QuestionAnswered { question, .. } if question == id))
        };
        for record in &records {
            let Event::QuestionAsked { question, .. } = &record.event else { continue };
            let Asker::Host { attempt } = &question.asker else { continue };
            if is_answered(&question.id) {
                continue;
            }
            // Until the agent of the killed process has ended, the call may still take effect.
            wait_for("the agents of killed processes to end", || (!has_orphaned_agents(place)).then_some(()));
            let effects = Effects::by_run(&place.path("effects.jsonl"));
            let attempts = effects.get(run.run.as_str()).map(|effects| effects.attempts_of(&attempt.task));
            let outcome = if attempts.is_some_and(|attempts| !attempts.is_empty()) { "done" } else { "repeat" };
            let field = format!("outcome={outcome}");
            // The process that asks may have been killed, or may have ended.
            place.kapell(&[
                "answer",
                run.run.as_str(),
                question.id.as_str(),
                "--field",
                &field,
                "--journal",
                "journal.db",
            ]);
        }
    }
}

/// Returns whether an agent of this workspace outlives the process that started it.
fn has_orphaned_agents(place: &Workspace) -> bool {
    let place = place.path("").display().to_string();
    let read = |pid: &str, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let processes = std::fs::read_dir("/proc").expect("a list of processes").filter_map(Result::ok);
    let mut pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    pids.any(|pid| {
        let is_agent = read(&pid, "cmdline").contains("demo-agent") && read(&pid, "environ").contains(&place);
        // The parent is the second field after the name in parentheses.
        let stat = read(&pid, "stat");
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        is_agent && parent.is_some_and(|parent| !read(parent, "environ").contains(&place))
    })
}

#[test]
fn each_occurrence_has_one_run_despite_kills() {
    let seed = first_seed();
    let mut rng = Rng::new(seed);
    let place = Workspace::new();
    let effects = place.path("effects.jsonl");
    let agents = format!(
        "[agents.archive]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"archive\"]\n\
         env = {{ KAPELL_DEMO_EFFECTS = {effects:?}, KAPELL_DEMO_DIR = {:?} }}\n",
        place.path("documents")
    );
    std::fs::create_dir(place.path("plans")).expect("a folder");
    place.write("agents.toml", agents).write("plans/tick.yaml", PLAN);
    let mut schedulers = Schedulers::start(&place, 2);
    wait_for("the first run", || (!runs(&place).is_empty()).then_some(()));

    let mut killed: BTreeMap<RunId, u32> = BTreeMap::new();
    let (mut of_schedulers, mut of_runs) = (0, 0);
    while of_schedulers + of_runs < wanted_kills() / 10 {
        std::thread::sleep(Duration::from_millis(rng.below(900)));
        answer_questions(&place);
        if rng.below(2) == 0 {
            schedulers.kill_and_restart(usize::from(rng.below(2) == 0));
            of_schedulers += 1;
            continue;
        }
        let driven = runs(&place).into_iter().find_map(|run| Some((run.driver?.pid?, run.run)));
        if let Some((pid, run)) = driven
            && killed.get(&run).is_none_or(|kills| *kills < MAX_KILLS_OF_A_RUN)
        {
            // It may have ended by itself since.
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
            *killed.entry(run).or_default() += 1;
            of_runs += 1;
        }
    }

    // Runs follow one another, so all occurrences before one that is done are done.
    let since_epoch = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970");
    let until = u64::try_from(since_epoch.as_millis()).expect("milliseconds");
    let is_done = |run: &RunSummary| run.status == RunStatus::Succeeded;
    wait_for("the missed occurrences", || {
        answer_questions(&place);
        runs(&place).iter().any(|run| occurrence(&run.run) >= until && is_done(run)).then_some(())
    });
    drop(schedulers);

    let mut done: Vec<RunSummary> = runs(&place).into_iter().filter(|run| occurrence(&run.run) <= until).collect();
    done.sort_by_key(|run| occurrence(&run.run));
    let context = || {
        let talk = std::fs::read_to_string(place.path("talk")).unwrap_or_default();
        format!("KAPELL_KILL_SEED={seed}\n{talk}")
    };
    for (index, run) in done.iter().enumerate() {
        let expected = occurrence(&done[0].run) + INTERVAL * index as u64;
        assert_eq!(occurrence(&run.run), expected, "an occurrence has no run\n{}", context());
        assert!(is_done(run), "{run:?}\n{}", context());
        if let Some(next) = done.get(index + 1) {
            let end = records(&place, &run.run).iter().rev().find_map(|record| match &record.event {
                Event::RunEnded { .. } => Some(record.at),
                _ => None,
            });
            assert!(end.is_some_and(|end| end <= next.started), "two runs at a time: {run:?}, {next:?}\n{}", context());
        }
    }
    let is_question = |record: &Record| matches!(record.event, Event::QuestionAsked { .. });
    let questions: usize =
        done.iter().map(|run| records(&place, &run.run).into_iter().filter(is_question).count()).sum();
    let by_run = Effects::by_run(&effects);
    for run in &done {
        let found = by_run.get(run.run.as_str());
        for task in ["first", "last"] {
            let count = found.map_or(0, |effects| effects.attempts_of(&task.into()).len());
            assert_eq!(count, 1, "`{task}` of {run:?} took effect {count} times\n{}", context());
        }
    }
    eprintln!(
        "{} occurrences, {of_schedulers} kills of schedulers and {of_runs} of runs, {questions} questions of runs",
        done.len()
    );
}
