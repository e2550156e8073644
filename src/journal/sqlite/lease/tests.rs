use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

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
fn released_lease_leaves_no_file() {
    let (_folder, journal) = journal();
    drop(FileLease::acquire(&journal, &run()).expect("acquires"));
    let remaining: Vec<_> = fs::read_dir(journal.with_extension("db.leases")).expect("a folder").collect();
    assert!(remaining.is_empty(), "{remaining:?}");
}

#[test]
fn symlinked_journal_shares_leases() {
    let (folder, journal) = journal();
    let link = folder.path().join("link.db");
    symlink(&journal, &link).expect("links");
    let _lease = FileLease::acquire(&journal, &run()).expect("takes");
    assert!(matches!(FileLease::acquire(&link, &run()), Err(JournalError::Driven { .. })));
}

#[test]
fn lease_files_are_private() {
    let (_folder, journal) = journal();
    let _lease = FileLease::acquire(&journal, &run()).expect("takes");
    let folder = journal.with_extension("db.leases");
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!([mode(&folder), mode(&folder.join("0199-a"))], [0o700, 0o600]);
}

#[test]
fn run_id_cannot_escape_folder() {
    let (_folder, journal) = journal();
    for id in ["", "..", "../x", "/etc/passwd", "a/b"] {
        assert!(matches!(FileLease::acquire(&journal, &id.into()), Err(JournalError::LeaseUnavailable { .. })), "{id}");
        assert!(matches!(holder(&journal, &id.into()), Err(JournalError::LeaseUnavailable { .. })), "{id}");
    }
}

#[test]
fn unusable_lease_folder_is_reported() {
    let (_folder, journal) = journal();
    let folder = journal.with_extension("db.leases");
    fs::write(&folder, "no folder").expect("written");
    let error = FileLease::acquire(&journal, &run()).expect_err("refuses");
    let file = folder.join("0199-a");
    assert!(matches!(&error, JournalError::LeaseUnavailable { path, .. } if *path == file), "{error:?}");
}

#[test]
fn concurrent_drivers_exclude_each_other() {
    let (_folder, journal) = journal();
    let (driving, acquired) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..40 {
                    if let Ok(lease) = FileLease::acquire(&journal, &run()) {
                        assert_eq!(driving.fetch_add(1, Ordering::SeqCst), 0, "two drive one run");
                        acquired.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        driving.fetch_sub(1, Ordering::SeqCst);
                        drop(lease);
                    }
                }
            });
        }
        // Readers do not block the lease.
        scope.spawn(|| {
            for _ in 0..500 {
                holder(&journal, &run()).expect("looks");
            }
        });
    });
    assert!(acquired.into_inner() > 0);
}

const CHILD_JOURNAL: &str = "KAPELL_TEST_LEASE";

/// Helper for the test below, which kills this process and its child. It does nothing when run as a test.
#[test]
fn child_process_holds_lease() {
    let Some(journal) = std::env::var_os(CHILD_JOURNAL) else { return };
    let _lease = FileLease::acquire(Path::new(&journal), &run()).expect("takes");
    let mut sleeper = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().expect("starts");
    println!("\nheld {}", sleeper.id());
    sleeper.wait().expect("ends");
}

fn spawn_lease_holder(journal: &Path) -> (Child, u32) {
    use std::io::{BufRead as _, BufReader};
    let mut child = Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", "journal::sqlite::lease::tests::child_process_holds_lease", "--nocapture"])
        .env(CHILD_JOURNAL, journal)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let sleeper = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("held ")?.parse().ok());
    (child, sleeper.expect("holds"))
}

#[test]
fn killed_process_loses_lease_despite_children() {
    let (_folder, journal) = journal();
    let (mut child, sleeper) = spawn_lease_holder(&journal);
    let error = FileLease::acquire(&journal, &run()).expect_err("refuses");
    assert!(
        matches!(&error, JournalError::Driven { holder: Holder { pid: Some(pid) }, .. } if *pid == child.id()),
        "{error:?}"
    );
    child.kill().expect("kills");
    child.wait().expect("ends");
    assert_eq!(holder(&journal, &run()).expect("looks"), None);
    drop(FileLease::acquire(&journal, &run()).expect("takes"));
    let killed = Command::new("kill").arg(sleeper.to_string()).status().expect("kill");
    assert!(killed.success(), "the child of the killed process was gone already");
}
