//! Resolves the references in a plan's expressions and reports invalid ones. Expressions are not evaluated.

use std::borrow::Cow;
use std::collections::HashSet;

use indexmap::IndexMap;

use super::graph::DependencyEdge;
use super::symbols::{Names, SymbolTable};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{PLAN, PlanKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::{DocumentNode, NodeLocation, NodeValue};
use crate::expression::{
    self, ExpressionError, ITEMS_FIELD, LOOP_NAME, RUN_OBJECTS, Reference, TASK_FIELDS, TIME_FUNCTION, TemplatePart,
};
use crate::model::TaskId;

/// The inputs and resources that expressions refer to.
#[derive(Default)]
pub(super) struct UsedNames<'n> {
    inputs: HashSet<String>,
    /// The environment variables that expressions use, with their values if they are set.
    env: IndexMap<String, Option<String>>,
    /// True if an expression refers to all inputs at once.
    all_inputs: bool,
    /// The resources, by the IDs of the tasks that read them. Their indices start after those of all other tasks.
    pub(super) resources: IndexMap<TaskId, UsedResource<'n>>,
}

/// A resource that expressions read with `resource()`.
pub(super) struct UsedResource<'n> {
    /// The name of the agent.
    pub(super) agent: String,
    /// The expression of the URI.
    pub(super) uri: String,
    /// The first call.
    pub(super) location: NodeLocation<'n>,
    /// The dependencies of the URI.
    pub(super) edges: Vec<DependencyEdge<'n>>,
}

impl UsedNames<'_> {
    /// Returns the ID of the task that reads a resource, by its index in the scope of the plan.
    pub(super) fn resource_id(&self, index: usize, names: &SymbolTable<'_>) -> Option<&TaskId> {
        let (id, _) = self.resources.get_index(index.checked_sub(names.len())?)?;
        Some(id)
    }

    /// Returns the environment variables that expressions use and that are set.
    pub(super) fn used_env(&mut self) -> IndexMap<String, String> {
        std::mem::take(&mut self.env).into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    pub(super) fn warn_of_unused_inputs(&self, plan: CheckedTable<'_, PlanKeys>, sink: &mut DiagnosticSink) {
        // Next to errors the warning would only be noise: a misspelled reference may be the reason.
        if self.all_inputs || sink.has_errors() {
            return;
        }
        for (name, entry) in plan.entries(&PLAN.inputs) {
            if !self.inputs.contains(name) {
                sink.warning("unused_input", entry.key_span, format!("no expression uses the input `{name}`"));
            }
        }
    }
}

/// Checks the expressions of all texts below `node`. Returns the tasks that they refer to as edges.
pub(super) fn check_references<'n>(
    node: &'n DocumentNode<'n>,
    names: &Names<'_, 'n>,
    own: &[&'n str],
    sink: &mut DiagnosticSink,
    used: &mut UsedNames<'n>,
) -> Vec<DependencyEdge<'n>> {
    let bindings: Vec<&str> = names.bindings.iter().chain(own).copied().collect();
    let mut checker = ReferenceChecker::new(names, ReferenceContext::Run { bindings: &bindings }, sink, used);
    checker.check_node(node);
    checker.edges
}

/// Checks a text that is one expression, with or without `${{ }}`. Returns the bare expression and its edges.
///
/// `own` are the names that the task itself binds, if the expression may refer to them. An expression that does is
/// evaluated for each item, any other once for the task.
pub(super) fn check_expression<'n>(
    node: &'n DocumentNode<'n>,
    names: &Names<'_, 'n>,
    own: &[&'n str],
    sink: &mut DiagnosticSink,
    used: &mut UsedNames<'n>,
) -> (&'n str, Vec<DependencyEdge<'n>>) {
    let bindings: Vec<&str> = names.bindings.iter().chain(own).copied().collect();
    let mut checker = ReferenceChecker::new(names, ReferenceContext::Run { bindings: &bindings }, sink, used);
    let text = node.as_text().unwrap_or_default();
    let bare = checker.strip_delimiters(node, text);
    (bare, checker.edges)
}

/// Checks a text that is one expression about a document, with or without `${{ }}`. Returns the bare expression.
///
/// The keys of the document are unknown, so any name is valid.
pub(super) fn check_document_expression<'n>(node: &'n DocumentNode<'n>, sink: &mut DiagnosticSink) -> &'n str {
    let (inputs, mut used) = (IndexMap::new(), UsedNames::default());
    let names = SymbolTable::without_tasks(&inputs);
    let names = Names::of_plan(&names);
    let mut checker = ReferenceChecker::new(&names, ReferenceContext::Document, sink, &mut used);
    checker.strip_delimiters(node, node.as_text().unwrap_or_default())
}

/// The object that `retry.when` refers to, and its fields.
const ERROR_NAME: &str = "error";
const ERROR_FIELDS: [&str; 5] = ["kind", "message", "agent", "tool", "attempt"];

/// Checks a text that is one expression about a failure, with or without `${{ }}`. Returns the bare expression.
pub(super) fn check_error_expression<'n>(node: &'n DocumentNode<'n>, sink: &mut DiagnosticSink) -> &'n str {
    let (inputs, mut used) = (IndexMap::new(), UsedNames::default());
    let names = SymbolTable::without_tasks(&inputs);
    let names = Names::of_plan(&names);
    let mut checker = ReferenceChecker::new(&names, ReferenceContext::Error, sink, &mut used);
    checker.strip_delimiters(node, node.as_text().unwrap_or_default())
}

/// The context of an expression.
#[derive(Clone, Copy)]
enum ReferenceContext<'c> {
    /// The run, and the names that tasks bind.
    Run { bindings: &'c [&'c str] },
    /// The URI of `resource()`, where tasks bind these names. The resource is read once, not for each item.
    Uri { bindings: &'c [&'c str] },
    /// A document with unknown keys.
    Document,
    /// The failure of an attempt.
    Error,
}

struct ReferenceChecker<'c, 'n> {
    names: &'c Names<'c, 'n>,
    context: ReferenceContext<'c>,
    sink: &'c mut DiagnosticSink,
    used: &'c mut UsedNames<'n>,
    /// True if the current text is a template, which may contain a literal `${{`.
    is_text: bool,
    edges: Vec<DependencyEdge<'n>>,
}

/// The help for text with a literal `${{`, such as a GitHub workflow.
const LITERAL_HELP: &str = "a literal `${{` is written `$${{`";

impl<'c, 'n> ReferenceChecker<'c, 'n> {
    fn new(
        names: &'c Names<'c, 'n>,
        context: ReferenceContext<'c>,
        sink: &'c mut DiagnosticSink,
        used: &'c mut UsedNames<'n>,
    ) -> Self {
        Self { names, context, sink, used, is_text: false, edges: Vec::new() }
    }

    /// Checks a node recursively. The recursion is as deep as the file, whose depth the reader bounds.
    fn check_node(&mut self, node: &'n DocumentNode<'n>) {
        match &node.value {
            NodeValue::Text(text) => {
                self.is_text = true;
                match expression::split_template(text) {
                    Ok(parts) => {
                        for part in parts {
                            if let TemplatePart::Expression(expression, range) = part {
                                self.check_expression_at(node, expression, range.start);
                            }
                        }
                    }
                    Err(error) => self.report(node, error, 0),
                }
                self.is_text = false;
            }
            NodeValue::List(nodes) => nodes.iter().for_each(|node| self.check_node(node)),
            NodeValue::Map(map) => map.values().for_each(|entry| self.check_node(&entry.node)),
            NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) => {}
        }
    }

    fn strip_delimiters<'t>(&mut self, node: &'n DocumentNode<'n>, text: &'t str) -> &'t str {
        let trimmed = text.trim();
        if !trimmed.contains("${{") {
            self.check_expression_at(node, text, 0);
            return trimmed;
        }
        let start = text.len() - text.trim_start().len();
        match expression::split_template(trimmed).as_deref() {
            Ok([TemplatePart::Expression(expression, range)]) => {
                self.check_expression_at(node, expression, start + range.start);
                expression.trim()
            }
            Ok(_) => {
                let message = "expected a single expression, not text with `${{ }}`";
                self.sink.error("expression", node.span, message).help("remove the text around the expression");
                trimmed
            }
            Err(error) => {
                self.report(node, error.clone(), start);
                trimmed
            }
        }
    }

    /// Checks an expression that starts at byte `offset` of the text of `node`.
    fn check_expression_at(&mut self, node: &'n DocumentNode<'n>, expression: &str, offset: usize) {
        match expression::check(expression) {
            Err(error) => self.report(node, error, offset),
            Ok(checked) if matches!(self.context, ReferenceContext::Error) => {
                for (root, field, range) in checked.paths() {
                    let range = range.start + offset..range.end + offset;
                    self.check_error_path((root, field.as_deref()), NodeLocation { node, range: Some(range) });
                }
            }
            Ok(checked) => {
                self.used.all_inputs |= checked.uses_all_inputs();
                for (mut reference, range) in checked.references() {
                    let range = range.start + offset..range.end + offset;
                    if let Reference::Resource { offset: uri_offset, .. } = &mut reference {
                        *uri_offset += offset;
                    }
                    self.check_reference(reference, NodeLocation { node, range: Some(range) });
                }
            }
        }
    }

    fn report(&mut self, node: &'n DocumentNode<'n>, error: ExpressionError, offset: usize) {
        let range = error.range.map(|range| range.start + offset..range.end + offset);
        let at = NodeLocation { node, range }.span(self.sink);
        let is_suggested = |help: &String| help.contains("did you mean") || help.contains("$${{");
        let help = match error.help {
            Some(help) if is_suggested(&help) => Some(help),
            help => self.with_literal_help(help),
        };
        self.sink.error("expression", at, error.message).help_if_known(help);
    }

    /// Adds to the help how to write a literal `${{`.
    fn with_literal_help(&self, help: Option<String>) -> Option<String> {
        match help {
            Some(help) if self.is_text => Some(format!("{help}; {LITERAL_HELP}")),
            None if self.is_text => Some(LITERAL_HELP.to_owned()),
            help => help,
        }
    }

    fn check_reference(&mut self, reference: Reference<'_>, location: NodeLocation<'n>) {
        let bindings = match (self.context, &reference) {
            (ReferenceContext::Run { bindings }, _) => bindings,
            (ReferenceContext::Uri { bindings }, Reference::Name(name))
                if bindings.contains(name) || !bindings.is_empty() && *name == LOOP_NAME =>
            {
                let at = location.span(self.sink);
                let message = format!("the URI of `resource()` cannot depend on `{name}`: the resource is read once");
                let error = self.sink.error("unknown_name", at, message);
                error.help("read a resource for each item in a `foreach` task with `read`");
                return;
            }
            (ReferenceContext::Uri { .. }, _) => &[],
            // These names are keys of the document.
            (ReferenceContext::Document, Reference::Name(_)) => return,
            (ReferenceContext::Document, Reference::Run { object, .. }) if *object != TIME_FUNCTION => return,
            (ReferenceContext::Error, _) => return,
            (ReferenceContext::Document, _) => {
                let at = location.span(self.sink);
                let error = self.sink.error("unknown_name", at, "this expression refers to a resource, not to the run");
                error.help("`resource` has all of its contents; `resource.tasks` is a key of that name");
                return;
            }
        };
        match reference {
            Reference::Input(name) => {
                let inputs = self.names.own().inputs;
                if !inputs.contains_key(&*name) {
                    let at = location.span(self.sink);
                    let names = || inputs.keys().map(String::as_str);
                    let help = self.sink.did_you_mean(&name, names()).or_else(|| {
                        let names = expression::list_names(names(), ("the plan has", "the plan has no `inputs`"));
                        self.with_literal_help(Some(names))
                    });
                    self.sink.error("unknown_input", at, format!("the plan has no input `{name}`")).help_if_known(help);
                }
                if !self.used.inputs.contains(&*name) {
                    self.used.inputs.insert(name.into_owned());
                }
            }
            Reference::Task { id, path } => self.check_task_reference(&id, &path, location),
            Reference::Resource { agent, uri, offset } => self.check_resource((agent, uri, offset), location),
            Reference::Run { object, field, is_optional } => {
                self.check_run_reference((object, field.as_deref()), is_optional, location);
            }
            Reference::Name(name) => {
                if !bindings.contains(&name) && (bindings.is_empty() || name != LOOP_NAME) {
                    let at = location.span(self.sink);
                    let known = bindings.iter().copied().chain(["inputs", "tasks"]).chain(RUN_OBJECTS);
                    let text = location.node.as_text().zip(location.range.as_ref());
                    let hyphen_help = text.and_then(|(text, range)| expression::hyphenated_key_help(text, range.start));
                    let help = hyphen_help
                        .or_else(|| self.with_literal_help(Some(self.sink.suggest(name, known, ("available:", "")))));
                    let message = format!("unknown name `{name}`");
                    self.sink.error("unknown_name", at, message).help_if_known(help);
                }
            }
        }
    }

    /// Checks a path of an expression about a failure.
    fn check_error_path(&mut self, (root, field): (&str, Option<&str>), location: NodeLocation<'n>) {
        let at = location.span(self.sink);
        if root != ERROR_NAME {
            let message = format!("`retry.when` refers to `error` only, not to `{root}`");
            let help = format!("`error` has {}", ERROR_FIELDS.map(|field| format!("`{field}`")).join(", "));
            self.sink.error("unknown_name", at, message).help(help);
        } else if let Some(field) = field.filter(|field| !ERROR_FIELDS.contains(field)) {
            let help = self.sink.suggest(field, ERROR_FIELDS.into_iter(), ("it has", ""));
            self.sink.error("unknown_field", at, format!("`error` has no `{field}`")).help(help);
        }
    }

    /// Checks a reference to `run`, `plan`, `env`, or `now()`.
    fn check_run_reference(
        &mut self,
        (object, field): (&str, Option<&str>),
        is_optional: bool,
        location: NodeLocation<'n>,
    ) {
        let at = location.span(self.sink);
        if let Some((_, fields)) = expression::RUN_FIELDS.iter().find(|(name, _)| *name == object) {
            if let Some(field) = field.filter(|field| !fields.contains(field)) {
                let similar = self.sink.did_you_mean(field, fields.iter().copied());
                let help = similar.unwrap_or_else(|| expression::run_field_help(object, fields));
                self.sink.error("unknown_field", at, format!("`{object}` has no `{field}`")).help(help);
            }
            return;
        }
        if object == TIME_FUNCTION {
            return;
        }
        let Some(name) = field else {
            let message = "`env` must be followed by the name of an environment variable";
            self.sink.error("unknown_env", at, message).help("write `env.NAME`");
            return;
        };
        match self.names.plan().1.env.get_key_value(name) {
            None => {
                let known = self.names.plan().1.env.keys().map(String::as_str);
                let similar = self.sink.did_you_mean(name, known);
                let help = format!("add it to `env` under `[plans]` in the agents file: `env = [\"{name}\"]`");
                let help = similar.map(|similar| format!("{similar} Or {help}")).unwrap_or(help);
                let message = format!("the agents file does not allow plans to use the environment variable `{name}`");
                self.sink.error("unknown_env", at, message).help(help);
            }
            Some((name, value)) => {
                if value.is_none() && !is_optional && !self.used.env.contains_key(name) {
                    let message = format!("the environment variable `{name}` is not set");
                    self.sink.warning("unset_env", at, message).help("set it before the run, or write `| default(…)`");
                }
                self.used.env.insert(name.clone(), value.clone());
            }
        }
    }

    /// Adds the task that reads the resource, unless another expression did, and depends on it. `offset` is that of the
    /// URI in the text of the node.
    fn check_resource(&mut self, (agent, uri, offset): (&str, &str, usize), location: NodeLocation<'n>) {
        let id = TaskId::resource_read(agent, uri);
        let (level, plan) = self.names.plan();
        let existing = plan.find(id.as_str()).map(|(index, _)| index);
        if existing.is_none() && plan.existing.contains_key(id.as_str()) {
            let at = location.span(self.sink);
            let message = format!("the resource of agent `{agent}` was not read, and will not be read");
            self.sink.error("unknown_task", at, message);
            return;
        }
        let needs = existing.unwrap_or_else(|| match self.used.resources.get_index_of(&id) {
            Some(known) => plan.len() + known,
            None => {
                let bindings = match self.context {
                    ReferenceContext::Run { bindings } => bindings,
                    ReferenceContext::Uri { .. } | ReferenceContext::Document | ReferenceContext::Error => &[],
                };
                let context = ReferenceContext::Uri { bindings };
                // The resource is read by a task of the plan, whatever group the expression is in.
                let names = Names::of_plan(plan);
                let mut checker = ReferenceChecker::new(&names, context, self.sink, self.used);
                checker.is_text = self.is_text;
                checker.check_expression_at(location.node, uri, offset);
                let (agent, uri, edges) = (agent.to_owned(), uri.to_owned(), checker.edges);
                let resource = UsedResource { agent, uri, location: location.clone(), edges };
                plan.len() + self.used.resources.insert_full(id, resource).0
            }
        });
        self.edges.push(DependencyEdge { needs, level, location });
    }

    fn check_task_reference(&mut self, id: &str, path: &[Cow<'_, str>], location: NodeLocation<'n>) {
        let Some((level, index, is_foreach)) = self.names.find(id) else {
            let at = location.span(self.sink);
            let (problem, help) = self.names.explain_unusable(id, self.sink);
            let message = format!("`tasks.{id}` refers to a task that {problem}");
            self.sink.error("unknown_task", at, message).help_if_known(help);
            return;
        };
        self.edges.push(DependencyEdge { needs: index, level, location: location.clone() });
        let Some(field) = path.first().map(AsRef::as_ref) else { return };
        let fields = || TASK_FIELDS.into_iter().chain([ITEMS_FIELD]);
        let (message, help) = if !fields().any(|known| known == field) {
            let help = self.sink.did_you_mean(field, fields());
            let help = help.unwrap_or_else(|| format!("a task has {}", fields().collect::<Vec<_>>().join(", ")));
            (format!("a task has no `{field}`"), help)
        } else if !is_foreach && matches!(field, "outputs" | ITEMS_FIELD) {
            let message = format!("`{id}` is not a `foreach` task and has no `{field}`");
            (message, "its output is `output`".to_owned())
        } else if is_foreach && matches!(field, "text" | "content" | "resources" | "saved") {
            let message = format!("`{id}` is a `foreach` task and has no `{field}`");
            let help =
                format!("`tasks.{id}.items[0].{field}` is that of an item; `tasks.{id}.outputs` has all outputs");
            (message, help)
        } else {
            return;
        };
        let at = location.span(self.sink);
        self.sink.error("unknown_field", at, message).help(help);
    }
}
