//! Finds what the expressions of a plan refer to, and every reference that cannot mean anything.
//! Never evaluates an expression.

use std::{borrow::Cow, collections::HashSet};

use indexmap::{IndexMap, map};

use super::graph::Edge;
use crate::{
    config::{
        findings::Findings,
        map::NameHasher,
        shape::Fields,
        tree::{Node, Spot, Tree},
    },
    expression::{self, ExpressionError, ITEMS_FIELD, LOOP, Piece, Reference, TASK_FIELDS},
    model::{InputSpec, TaskId},
};

/// A task as far as others can refer to it.
pub(super) struct Known<'n> {
    pub(super) id: TaskId,
    pub(super) fields: Fields<'n>,
    pub(super) repeats: bool,
}

/// What there is to refer to.
pub(super) struct Names<'n> {
    pub(super) inputs: &'n IndexMap<String, InputSpec>,
    /// Every task with an id of its own, in the order of the file.
    pub(super) tasks: IndexMap<&'n str, Known<'n>, NameHasher>,
    /// For a remainder, the tasks that the run has; an edge to one counts on from the number of `tasks`.
    pub(super) earlier: IndexMap<&'n str, Earlier<'n>, NameHasher>,
}

/// A task that the run of a remainder has, as far as new tasks can refer to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Earlier<'n> {
    pub(super) id: &'n TaskId,
    pub(super) repeats: bool,
    /// Whether it has a result, or may still get one.
    pub(super) usable: bool,
}

impl<'n> Names<'n> {
    /// Collects the tasks' ids; one that is taken already is a mistake, and its task is left out.
    pub(super) fn new(
        inputs: &'n IndexMap<String, InputSpec>,
        written: Vec<Fields<'n>>,
        findings: &mut Findings,
    ) -> Self {
        let mut tasks: IndexMap<&str, Known<'n>, NameHasher> =
            IndexMap::with_capacity_and_hasher(written.len(), NameHasher::default());
        for fields in written {
            let Some(id) = fields.text("id") else { continue };
            match tasks.entry(id) {
                map::Entry::Vacant(free) => {
                    let repeats = fields.has("foreach");
                    free.insert(Known { id: id.into(), fields, repeats });
                }
                map::Entry::Occupied(taken) => {
                    let at = |fields: &Fields<'_>| fields.node("id").map_or(fields.extent, |node| node.extent);
                    let line = findings.source.line(at(&taken.get().fields));
                    let found = findings.error("duplicate_task", at(&fields), format!("two tasks are called `{id}`"));
                    found.help(format!("the first is in line {line}; call this one something else"));
                }
            }
        }
        Self { inputs, tasks, earlier: IndexMap::default() }
    }
}

impl Names<'_> {
    /// The place of a task among all that can be referred to, and whether it repeats.
    pub(super) fn find(&self, id: &str) -> Option<(usize, bool)> {
        let own = self.tasks.get_full(id).map(|(index, _, known)| (index, known.repeats));
        own.or_else(|| {
            let (index, _, earlier) = self.earlier.get_full(id).filter(|(.., earlier)| earlier.usable)?;
            Some((self.tasks.len() + index, earlier.repeats))
        })
    }

    /// The id at a place that [`Self::find`] gave.
    pub(super) fn id(&self, index: usize) -> Option<&TaskId> {
        let own = self.tasks.get_index(index).map(|(_, known)| &known.id);
        own.or_else(|| Some(self.earlier.get_index(index.checked_sub(self.tasks.len())?)?.1.id))
    }

    /// What is wrong with a task that cannot be referred to, and what was meant instead, where that can be guessed.
    pub(super) fn unusable(&self, id: &str, findings: &Findings) -> (&'static str, Option<String>) {
        if self.earlier.contains_key(id) {
            return ("has no result and will get none", None);
        }
        let usable = self.earlier.iter().filter(|(_, earlier)| earlier.usable).map(|(id, _)| *id);
        ("is not in the plan", findings.did_you_mean(id, self.tasks.keys().copied().chain(usable)))
    }
}

/// What was referred to.
#[derive(Default)]
pub(super) struct Used {
    inputs: HashSet<String>,
    /// Whether some expression takes all inputs at once.
    all_inputs: bool,
}

impl Used {
    pub(super) fn warn_of_unused_inputs(&self, plan: &Fields<'_>, findings: &mut Findings) {
        // Next to mistakes it would only be noise: the name may be the one that is misspelled elsewhere.
        if self.all_inputs || findings.has_errors() {
            return;
        }
        for (name, entry) in plan.node("inputs").and_then(Node::as_map).into_iter().flatten() {
            if !self.inputs.contains(&**name) {
                findings.warning("unused_input", entry.key, format!("no expression uses the input `{name}`"));
            }
        }
    }
}

/// Checks the expressions of all texts below `node`; gives the tasks that they refer to, as edges.
pub(super) fn check<'n>(
    node: &'n Node<'n>,
    names: &Names<'n>,
    binding: Option<&str>,
    findings: &mut Findings,
    used: &mut Used,
) -> Vec<Edge<'n>> {
    let mut checker =
        Checker { names, ground: Ground::Run { binding }, findings, used, is_text: false, edges: Vec::new() };
    checker.node(node);
    checker.edges
}

/// Checks a text that is an expression as a whole, with or without `${{ }}`; gives the bare expression too. One that
/// names what `foreach` binds is about each item, any other about the task.
pub(super) fn check_expression<'n>(
    node: &'n Node<'n>,
    names: &Names<'n>,
    binding: Option<&str>,
    findings: &mut Findings,
    used: &mut Used,
) -> (&'n str, Vec<Edge<'n>>) {
    let mut checker =
        Checker { names, ground: Ground::Run { binding }, findings, used, is_text: false, edges: Vec::new() };
    let text = node.as_text().unwrap_or_default();
    let bare = checker.bare(node, text);
    (bare, checker.edges)
}

/// Checks a text that is an expression about a document as a whole, with or without `${{ }}`; gives the bare one. What
/// the document's keys are is not known.
pub(super) fn check_document_expression<'n>(node: &'n Node<'n>, findings: &mut Findings) -> &'n str {
    let (inputs, mut used) = (IndexMap::new(), Used::default());
    let names = Names { inputs: &inputs, tasks: IndexMap::default(), earlier: IndexMap::default() };
    let ground = Ground::Document;
    let mut checker = Checker { names: &names, ground, findings, used: &mut used, is_text: false, edges: Vec::new() };
    checker.bare(node, node.as_text().unwrap_or_default())
}

/// What an expression is about.
#[derive(Clone, Copy)]
enum Ground<'c> {
    /// The run, and what `foreach` binds.
    Run { binding: Option<&'c str> },
    /// A document of which nothing is known.
    Document,
}

struct Checker<'c, 'n> {
    names: &'c Names<'n>,
    ground: Ground<'c>,
    findings: &'c mut Findings,
    used: &'c mut Used,
    /// Whether a text with expressions in it is checked, where a `${{` may be meant literally.
    is_text: bool,
    edges: Vec<Edge<'n>>,
}

/// What helps where text such as a GitHub workflow is taken for an expression.
const LITERAL: &str = "a literal `${{` is written `$${{`";

impl<'n> Checker<'_, 'n> {
    /// As deep as the file, which is bounded where it is read.
    fn node(&mut self, node: &'n Node<'n>) {
        match &node.tree {
            Tree::Text(text) => {
                self.is_text = true;
                match expression::pieces(text) {
                    Ok(pieces) => {
                        for piece in pieces {
                            if let Piece::Expression(expression, range) = piece {
                                self.expression(node, expression, range.start);
                            }
                        }
                    }
                    Err(error) => self.report(node, error, 0),
                }
                self.is_text = false;
            }
            Tree::List(nodes) => nodes.iter().for_each(|node| self.node(node)),
            Tree::Map(map) => map.values().for_each(|entry| self.node(&entry.node)),
            Tree::Null | Tree::Bool(_) | Tree::Number(_) => {}
        }
    }

    fn bare<'t>(&mut self, node: &'n Node<'n>, text: &'t str) -> &'t str {
        let trimmed = text.trim();
        if !trimmed.contains("${{") {
            self.expression(node, text, 0);
            return trimmed;
        }
        let start = text.len() - text.trim_start().len();
        match expression::pieces(trimmed).as_deref() {
            Ok([Piece::Expression(expression, range)]) => {
                self.expression(node, expression, start + range.start);
                expression.trim()
            }
            Ok(_) => {
                let message = "this mixes text and `${{ }}`, but must be one expression";
                self.findings.error("expression", node.extent, message).help("write the expression alone");
                trimmed
            }
            Err(error) => {
                self.report(node, error.clone(), start);
                trimmed
            }
        }
    }

    /// Checks an expression that starts at byte `offset` of the text of `node`.
    fn expression(&mut self, node: &'n Node<'n>, expression: &str, offset: usize) {
        match expression::check(expression) {
            Err(error) => self.report(node, error, offset),
            Ok(checked) => {
                self.used.all_inputs |= checked.takes_all_inputs();
                for (reference, range) in checked.references() {
                    let range = range.start + offset..range.end + offset;
                    self.reference(reference, Spot { node, range: Some(range) });
                }
            }
        }
    }

    fn report(&mut self, node: &'n Node<'n>, error: ExpressionError, offset: usize) {
        let range = error.range.map(|range| range.start + offset..range.end + offset);
        let at = Spot { node, range }.extent(self.findings);
        let is_suggested = |help: &String| help.contains("did you mean") || help.contains("$${{");
        let help = match error.help {
            Some(help) if is_suggested(&help) => Some(help),
            help => self.or_literal(help),
        };
        self.findings.error("expression", at, error.message).maybe_help(help);
    }

    /// Adds to what helps how a `${{` is written that is no expression.
    fn or_literal(&self, help: Option<String>) -> Option<String> {
        match help {
            Some(help) if self.is_text => Some(format!("{help}; {LITERAL}")),
            None if self.is_text => Some(LITERAL.to_owned()),
            help => help,
        }
    }

    fn reference(&mut self, reference: Reference<'_>, spot: Spot<'n>) {
        let binding = match (self.ground, &reference) {
            (Ground::Run { binding }, _) => binding,
            (Ground::Document, Reference::Name(_)) => return,
            (Ground::Document, Reference::Input { .. } | Reference::Task { .. }) => {
                let at = spot.extent(self.findings);
                let found = self.findings.error("unknown_name", at, "this is about a resource, and not about the run");
                found.help("`resource` is all of its contents, and `resource.tasks` a key of that name");
                return;
            }
        };
        match reference {
            Reference::Input { name, .. } => {
                if !self.names.inputs.contains_key(&*name) {
                    let at = spot.extent(self.findings);
                    let names = || self.names.inputs.keys().map(String::as_str);
                    let help = self.findings.did_you_mean(&name, names()).or_else(|| {
                        self.or_literal(Some(match self.names.inputs.is_empty() {
                            true => "the plan has no `inputs`".to_owned(),
                            false => format!("the plan has {}", expression::listed(names())),
                        }))
                    });
                    self.findings.error("unknown_input", at, format!("there is no input `{name}`")).maybe_help(help);
                }
                if !self.used.inputs.contains(&*name) {
                    self.used.inputs.insert(name.into_owned());
                }
            }
            Reference::Task { id, path } => self.task(&id, &path, spot),
            Reference::Name(name) => {
                if binding != Some(name) && (binding.is_none() || name != LOOP) {
                    let at = spot.extent(self.findings);
                    let known = binding.into_iter().chain(["inputs", "tasks"]);
                    let text = spot.node.as_text().zip(spot.range.as_ref());
                    let hyphen_help = text.and_then(|(text, range)| expression::hyphen_help(text, range.start));
                    let help = hyphen_help.or_else(|| {
                        let help = self.findings.did_you_mean(name, known.clone());
                        let help = help.unwrap_or_else(|| format!("there is {}", expression::listed(known)));
                        self.or_literal(Some(help))
                    });
                    let message = format!("`{name}` means nothing here");
                    self.findings.error("unknown_name", at, message).maybe_help(help);
                }
            }
        }
    }

    fn task(&mut self, id: &str, path: &[Cow<'_, str>], spot: Spot<'n>) {
        let Some((index, repeats)) = self.names.find(id) else {
            let at = spot.extent(self.findings);
            let (problem, help) = self.names.unusable(id, self.findings);
            let message = format!("`tasks.{id}` refers to a task that {problem}");
            self.findings.error("unknown_task", at, message).maybe_help(help);
            return;
        };
        self.edges.push(Edge { needs: index, spot: spot.clone() });
        let Some(field) = path.first().map(AsRef::as_ref) else { return };
        let fields = || TASK_FIELDS.into_iter().chain([ITEMS_FIELD]);
        let (message, help) = if !fields().any(|known| known == field) {
            let help = self.findings.did_you_mean(field, fields());
            let help = help.unwrap_or_else(|| format!("a task has {}", fields().collect::<Vec<_>>().join(", ")));
            (format!("a task has no `{field}`"), help)
        } else if !repeats && matches!(field, "outputs" | ITEMS_FIELD) {
            let message = format!("`{id}` is no `foreach` task, so it has no `{field}`");
            (message, "its output is `output`".to_owned())
        } else if repeats && matches!(field, "text" | "content" | "resources") {
            let message = format!("`{id}` runs once for each item, so it has no `{field}` of its own");
            let help = format!("an item's own is `tasks.{id}.items[0].{field}`; all outputs are `tasks.{id}.outputs`");
            (message, help)
        } else {
            return;
        };
        let at = spot.extent(self.findings);
        self.findings.error("unknown_field", at, message).help(help);
    }
}
