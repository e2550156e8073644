use std::{
    os::unix::fs::{PermissionsExt as _, symlink},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use super::*;

fn journal() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    fs::write(&path, "").expect("written");
    (folder, path)
}

fn run() -> RunId {
    RunId::from("0199-a")
}

#[test]
fn a_run_has_one_driver_and_another_when_that_one_is_done() {
    let (_folder, journal) = journal();
    assert_eq!(Lease::holder(&journal, &run()).expect("looks"), None);
    let lease = Lease::take(&journal, &run()).expect("takes");
    let me = Holder { process: Some(std::process::id()) };
    assert_eq!(Lease::holder(&journal, &run()).expect("looks"), Some(me));
    let error = Lease::take(&journal, &run()).expect_err("refuses");
    assert_eq!(error.to_string(), format!("run `0199-a` is being driven by process {}", std::process::id()));
    let other = Lease::take(&journal, &"0199-b".into()).expect("another run is free");
    drop((lease, other));
    assert_eq!(Lease::holder(&journal, &run()).expect("looks"), None);
    drop(Lease::take(&journal, &run()).expect("takes"));
    let left: Vec<_> = fs::read_dir(journal.with_extension("db.leases")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_journal_that_is_reached_through_a_link_has_the_same_drivers() {
    let (folder, journal) = journal();
    let link = folder.path().join("link.db");
    symlink(&journal, &link).expect("links");
    let _lease = Lease::take(&journal, &run()).expect("takes");
    assert!(matches!(Lease::take(&link, &run()), Err(JournalError::Driven { .. })));
}

#[test]
fn the_files_are_for_this_user_alone() {
    let (_folder, journal) = journal();
    let _lease = Lease::take(&journal, &run()).expect("takes");
    let folder = journal.with_extension("db.leases");
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!([mode(&folder), mode(&folder.join("0199-a"))], [0o700, 0o600]);
}

#[test]
fn an_id_leads_nowhere_else() {
    let (_folder, journal) = journal();
    for id in ["", "..", "../x", "/etc/passwd", "a/b"] {
        assert!(matches!(Lease::take(&journal, &id.into()), Err(JournalError::Lease { .. })), "{id}");
        assert!(matches!(Lease::holder(&journal, &id.into()), Err(JournalError::Lease { .. })), "{id}");
    }
}

#[test]
fn a_place_without_room_for_a_lease_is_named() {
    let (_folder, journal) = journal();
    let folder = journal.with_extension("db.leases");
    fs::write(&folder, "no folder").expect("written");
    let error = Lease::take(&journal, &run()).expect_err("refuses");
    let file = folder.join("0199-a");
    assert_eq!(error.to_string(), format!("the lease `{}` cannot be taken", file.display()));
}

#[test]
fn of_many_that_want_a_run_exactly_one_has_it_at_a_time() {
    let (_folder, journal) = journal();
    let (driving, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..40 {
                    if let Ok(lease) = Lease::take(&journal, &run()) {
                        assert_eq!(driving.fetch_add(1, Ordering::SeqCst), 0, "two drive one run");
                        taken.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        driving.fetch_sub(1, Ordering::SeqCst);
                        drop(lease);
                    }
                }
            });
        }
        // Who only looks is in nobody's way.
        scope.spawn(|| {
            for _ in 0..500 {
                Lease::holder(&journal, &run()).expect("looks");
            }
        });
    });
    assert!(taken.into_inner() > 0);
}

const CHILD_JOURNAL: &str = "KAPELL_TEST_LEASE";

/// Not a test of its own: the process that the test below kills, with a child of its own.
#[test]
fn as_a_child_holds_the_lease() {
    let Some(journal) = std::env::var_os(CHILD_JOURNAL) else { return };
    let _lease = Lease::take(Path::new(&journal), &run()).expect("takes");
    let mut sleeper = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("starts");
    println!("\nheld {}", sleeper.id());
    sleeper.wait().expect("ends");
}

fn child(journal: &Path) -> (Child, u32) {
    use std::io::{BufRead as _, BufReader};
    let mut child = Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", "journal::lease::tests::as_a_child_holds_the_lease", "--nocapture"])
        .env(CHILD_JOURNAL, journal)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let sleeper = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("held ")?.parse().ok());
    (child, sleeper.expect("holds"))
}

#[test]
fn a_process_that_is_killed_loses_the_lease_at_once_though_its_children_live() {
    let (_folder, journal) = journal();
    let (mut child, sleeper) = child(&journal);
    let error = Lease::take(&journal, &run()).expect_err("refuses");
    assert_eq!(error.to_string(), format!("run `0199-a` is being driven by process {}", child.id()));
    child.kill().expect("kills");
    child.wait().expect("ends");
    assert_eq!(Lease::holder(&journal, &run()).expect("looks"), None);
    drop(Lease::take(&journal, &run()).expect("takes"));
    let killed = Command::new("kill").arg(sleeper.to_string()).status().expect("kill");
    assert!(killed.success(), "the child of the killed process was gone already");
}
