//! `environment.md` is written by hand; this checks that it has every variable that kapell reads, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use syn::visit::Visit;
use syn::{Expr, ExprCall, ExprMethodCall, Lit};

use super::rust_items::sources_below;
use crate::documents::markdown::{Document, root};

/// Variables that are for tests, that mark processes, or that only Windows has.
const INTERNAL: [&str; 4] = ["APPDATA", "KAPELL_AGENT", "KAPELL_TEST_SIGNALS", "LOCALAPPDATA"];

/// Finds the literal names of variables in calls such as `environment::variable("NAME")`.
#[derive(Default)]
struct Readers {
    names: BTreeSet<String>,
}

impl Readers {
    fn add<'e>(&mut self, called: &str, arguments: impl IntoIterator<Item = &'e Expr>) {
        if !["variable", "path_variable", "var", "var_os"].contains(&called) {
            return;
        }
        for argument in arguments {
            if let Expr::Lit(literal) = argument
                && let Lit::Str(name) = &literal.lit
            {
                self.names.insert(name.value());
            }
        }
    }
}

impl<'ast> Visit<'ast> for Readers {
    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(path) = &*call.func
            && let Some(last) = path.path.segments.last()
        {
            self.add(&last.ident.to_string(), &call.args);
        }
        syn::visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.add(&call.method.to_string(), &call.args);
        syn::visit::visit_expr_method_call(self, call);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.ident != "tests" {
            syn::visit::visit_item_mod(self, module);
        }
    }
}

/// Returns the variables that the sources read, and those of kapell that they name.
fn variables_of_sources() -> BTreeSet<String> {
    let mut readers = Readers::default();
    for path in sources_below("src") {
        let text = fs::read_to_string(root().join(path)).expect("a source file");
        readers.visit_file(&syn::parse_file(&text).expect("Rust"));
        let quoted = text.split('"').filter(|part| part.starts_with("KAPELL_") && part.len() < 40);
        let is_name = |part: &&str| part.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        readers.names.extend(quoted.filter(is_name).map(str::to_owned));
    }
    readers.names.retain(|name| !INTERNAL.contains(&name.as_str()));
    readers.names
}

#[test]
fn every_variable_is_documented() {
    let page = Document::read(Path::new("docs/reference/environment.md")).text;
    let variables = variables_of_sources();
    assert!(variables.contains("KAPELL_JOURNAL") && variables.contains("TERM"), "{variables:?}");
    let missing: Vec<_> = variables.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "add to docs/reference/environment.md: {missing:?}");
    let named = page.split('`').filter(|part| part.starts_with("KAPELL_"));
    let unknown: Vec<_> = named.filter(|name| !variables.contains(*name)).collect();
    assert!(unknown.is_empty(), "kapell does not read {unknown:?}");
}
