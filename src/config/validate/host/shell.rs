//! Reads shell commands.

use serde_json::json;

use super::common::{OTHER_WORK_KEYS, expected_codes, warn_not_allowed};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{SHELL, ShellKeys, TASK, TaskKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::validate::routes::RouteResolver;
use crate::config::validate::work_keys::report_other_work;
use crate::config::yaml::document::{DocumentNode, NodeLocation};
use crate::expression;
use crate::model::{Call, JsonObject, Operation, Template};

/// Returns the call of a task that runs a shell command, if it does.
pub(in crate::config::validate) fn read_command<'n>(
    fields: CheckedTable<'n, TaskKeys>,
    router: &mut RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> Option<Call> {
    let node = fields.node(&TASK.shell)?;
    report_other_work(fields, TASK.shell.name, OTHER_WORK_KEYS, "put it in a task of its own", sink);
    let at = fields.key_span(&TASK.shell).unwrap_or(node.span);
    warn_not_allowed(router.host_settings().check_shell(), at, sink);
    // A text has no keys.
    let shell: CheckedTable<'n, ShellKeys> = CheckedTable::new(node);
    let command = if node.as_text().is_some() { Some(node) } else { shell.node(&SHELL.command) };
    if let Some(command) = command {
        check_command(command, sink);
    }
    for (name, entry) in shell.entries(&SHELL.env) {
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("`{name}` is not the name of an environment variable");
            sink.error("bad_name", entry.key_span, message).help("expected a name such as `LANG`");
        }
    }
    let mut parameters = JsonObject::new();
    parameters.insert(SHELL.command.name.to_owned(), command.map_or_else(|| json!(""), DocumentNode::to_json));
    for key in [&SHELL.cwd, &SHELL.env, &SHELL.stdin] {
        parameters.extend(shell.node(key).map(|node| (key.name.to_owned(), node.to_json())));
    }
    let expect = expected_codes(fields, (shell, &SHELL.expect), sink);
    parameters.extend(expect.map(|codes| (SHELL.expect.name.to_owned(), codes)));
    let routes = vec![router.host_route(Operation::RunCommand)];
    let arguments = Template(parameters.into());
    Some(Call { operation: Operation::RunCommand, routes, arguments, awaits: None })
}

/// Reports a `${{ }}` in a place of the command where its value would not be one word.
fn check_command<'n>(node: &'n DocumentNode<'n>, sink: &mut DiagnosticSink) {
    let Some(command) = node.as_text() else { return };
    if command.contains('\0') {
        sink.error("bad_command", node.span, "a command cannot contain a null character");
    }
    // An invalid template is reported with its references.
    if let (Err(error), Ok(_)) = (expression::check_shell_command(command), expression::split_template(command)) {
        let at = NodeLocation { node, range: error.range }.span(sink);
        sink.error("unquoted_value", at, error.message).help_if_known(error.help);
    }
}
