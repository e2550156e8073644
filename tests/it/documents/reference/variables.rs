//! `environment.md`: the variables in the help of commands, and a few that only libraries and imports read. It has every
//! variable that the sources read, and no other of kapell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::Visit;
use syn::{Expr, ExprCall, ExprMethodCall, Item, Lit};

use super::commands::each_help;
use super::page::{check_page, table};
use super::rust_items::{items_of, sources_below};
use crate::documents::markdown::{Document, root};

const HEAD: &str = "# Environment variables

The variables that commands read. The help of each command lists those that matter to it.

";

const TAIL: &str = "
`HOME` is the home directory, from which the defaults are derived. On macOS, state and configuration are in
`~/Library/Application Support/kapell`, and the `XDG_` variables are not read. `SSL_CERT_FILE` and `SSL_CERT_DIR` name
certificate authorities that replace those of the system.

## In the agents file

Variables that the agents file names (`${VAR}`, `api_key_env_var`, `bearer_token_env_var`, `env_vars`, …) are read from the
environment, or from a file `.env` beside the agents file. `${KAPELL}` is the path of the program itself, and `${PORT}` a
free port for each agent that has both `command` and `url`.

## Passed to agents

A child process inherits only some variables; [Agents](../agents.md#the-environment-of-a-child-process) lists them.

## Read by builds with the feature `otel`

The variables of OpenTelemetry, such as `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_EXPORTER`, `OTEL_BSP_MAX_QUEUE_SIZE`, and
`OTEL_SDK_DISABLED`; [Traces](../traces.md) lists them.

## Read by `kapell agents import`

`CLAUDE_CONFIG_DIR` is the directory of Claude Code's `.claude.json`, and `CODEX_HOME` that of Codex's `config.toml`.
";

/// Returns the page: the variables in the help of all commands, each once, and the text around them.
fn page() -> String {
    let mut meanings = BTreeMap::new();
    each_help(&mut |help| {
        let section = help.split("\nEnvironment:\n").nth(1).unwrap_or_default();
        let entries = section.lines().filter_map(|line| line.trim().split_once("  "));
        meanings.extend(entries.map(|(name, meaning)| (name.to_owned(), meaning.trim().to_owned())));
    });
    assert!(meanings.len() > 5, "{meanings:?}");
    let rows = meanings.into_iter().map(|(name, meaning)| vec![format!("`{name}`"), meaning]);
    HEAD.to_owned() + &table(&["variable", "meaning"], rows) + TAIL
}

#[test]
fn variables_are_up_to_date() {
    check_page("environment.md", &page());
}

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
                && is_name(&name.value())
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

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// Returns the variables that the sources read, and those of kapell that they name.
fn variables_of_sources() -> BTreeSet<String> {
    let mut readers = Readers::default();
    for path in sources_below("src") {
        let text = fs::read_to_string(root().join(path)).expect("a source file");
        readers.visit_file(&syn::parse_file(&text).expect("Rust"));
        let quoted = text.split('"').filter(|part| part.starts_with("KAPELL_") && part.len() < 40);
        readers.names.extend(quoted.filter(|part| is_name(part)).map(str::to_owned));
    }
    readers.names.retain(|name| !INTERNAL.contains(&name.as_str()));
    readers.names
}

#[test]
fn every_variable_is_documented() {
    let page = page();
    let variables = variables_of_sources();
    assert!(variables.contains("KAPELL_JOURNAL") && variables.contains("TERM"), "{variables:?}");
    let missing: Vec<_> = variables.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "add to `src/cli/help/variables.rs` or to this file: {missing:?}");
    let named = page.split('`').filter(|part| part.starts_with("KAPELL_"));
    let unknown: Vec<_> = named.filter(|name| !variables.contains(*name)).collect();
    assert!(unknown.is_empty(), "kapell does not read {unknown:?}");
}

/// The variables of a child process are in a table of another page, by their purpose.
#[test]
fn every_inherited_variable_is_documented() {
    let items = items_of("src/mcp/process/environment.rs");
    let inherited = items.into_iter().find_map(|item| match item {
        Item::Const(item) if item.ident == "INHERITED" => Some(*item.expr),
        _ => None,
    });
    let Some(Expr::Array(names)) = inherited else { panic!("`INHERITED` is a list") };
    let names = names.elems.iter().filter_map(|name| match name {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(name) => Some(name.value()),
            _ => None,
        },
        _ => None,
    });
    let page = Document::read(Path::new("docs/agents.md")).text;
    let (documented, missing): (Vec<_>, Vec<_>) = names.partition(|name| page.contains(&format!("`{name}`")));
    assert!(documented.len() > 50 && missing.is_empty(), "add to docs/agents.md: {missing:?}");
}
