//! `exit-codes.md`: the exit codes, as the help of commands shows them.

use kapell::cli::Exit;

use super::page::{check_page, table};

const HEAD: &str = "# Exit codes

Every command exits with one of these codes. A command that drives a run (`run`, `resume`, `retry`, `call`) exits with the
code of its result.

";

#[test]
fn exit_codes_are_up_to_date() {
    let rows = Exit::ALL.iter().map(|exit| vec![exit.code().to_string(), exit.meaning().to_owned()]);
    check_page("exit-codes.md", &(HEAD.to_owned() + &table(&["code", "meaning"], rows)));
}
