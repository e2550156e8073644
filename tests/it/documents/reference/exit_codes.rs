//! `exit-codes.md`: the exit codes, from their doc comments.

use syn::{Expr, ExprLit, Lit};

use super::page::{check_page, table};
use super::rust_items::{doc_of, enum_of};

const HEAD: &str = "# Exit codes

Every command exits with one of these codes. A command that drives a run (`run`, `resume`, `retry`, `call`) exits with the
code of its result.

";

#[test]
fn exit_codes_are_up_to_date() {
    let exit = enum_of("src/cli/common/exit.rs", "Exit");
    let rows = exit.variants.iter().map(|variant| {
        let Some((_, Expr::Lit(ExprLit { lit: Lit::Int(code), .. }))) = &variant.discriminant else {
            panic!("`{}` has no code", variant.ident);
        };
        vec![code.to_string(), doc_of(&variant.attrs)]
    });
    check_page("exit-codes.md", &(HEAD.to_owned() + &table(&["code", "meaning"], rows)));
}
