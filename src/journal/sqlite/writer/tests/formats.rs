//! Journals of other formats are rejected.

use miette::Diagnostic as _;

use super::*;

#[test]
fn other_formats_are_rejected_unchanged() {
    let (_folder, path) = folder();
    drop(SqliteWriter::open(&path, Durability::Normal).expect("opens"));
    let unknown = [-1, 0, schema::DEVELOPMENT_FORMATS.end() + 1, i64::from(i32::MAX)];
    let development = schema::DEVELOPMENT_FORMATS.map(|found| (found, "journal::development_format"));
    for (found, code) in development.chain(unknown.map(|found| (found, "journal::version"))) {
        Connection::open(&path).expect("opens").pragma_update(None, "user_version", found).expect("updates");
        let before = fs::read(&path).expect("reads");
        let errors = [
            SqliteWriter::open(&path, Durability::Full).expect_err("refuses"),
            SqliteReader::open(&path).expect_err("refuses"),
        ];
        for error in errors {
            assert_eq!(error.code().expect("a code").to_string(), code, "format {found}");
            let (JournalError::DevelopmentFormat { journal, found: named }
            | JournalError::UnsupportedVersion { journal, found: named, .. }) = error
            else {
                panic!("{error:?}");
            };
            assert_eq!((journal, named), (path.as_path().into(), found));
        }
        assert_eq!(fs::read(&path).expect("reads"), before);
    }
}

#[test]
fn format_errors_name_the_fix() {
    let journal = || Path::new("journal.db").into();
    let errors = [
        JournalError::DevelopmentFormat { journal: journal(), found: 5 },
        JournalError::UnsupportedVersion { journal: journal(), found: 6, expected: 1 },
    ];
    let text = |error: &JournalError| format!("{error}\n  help: {}", error.help().expect("a help"));
    insta::assert_snapshot!(errors.each_ref().map(text).join("\n"), @"
    the journal `journal.db` was written by a development version of kapell, in format 5
      help: no release reads this format: move the file away to start a new journal, or pass another path with `--journal PATH`; the file was not changed
    the journal `journal.db` has format 6, but this version of kapell supports format 1
      help: use the version of kapell that wrote it, or pass another path with `--journal PATH`; the file was not changed
    ");
}
