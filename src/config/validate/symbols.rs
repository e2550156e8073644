//! The names that the expressions of a plan can use.

use indexmap::{IndexMap, map};

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{TASK, TaskKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::NameHasher;
use crate::model::{Hook, InputSpec, TaskId};

/// A task that expressions can refer to.
pub(super) struct TaskDeclaration<'n> {
    pub(super) id: TaskId,
    pub(super) fields: CheckedTable<'n, TaskKeys>,
    pub(super) is_foreach: bool,
    pub(super) role: TaskRole,
}

/// What a task is, apart from its own keys.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskRole {
    /// The end after which it runs, if it is a hook.
    pub(super) hook: Option<Hook>,
    /// The condition of the branch that it belongs to: a checked expression.
    pub(super) guard: Option<String>,
}

/// The names that an expression can use: those of its scope, and of the scopes around it.
#[derive(Clone)]
pub(super) struct Names<'c, 'n> {
    /// The tasks of each scope, innermost first. The last one is that of the plan.
    pub(super) scopes: Vec<&'c SymbolTable<'n>>,
    /// The names that tasks around the scope bind.
    pub(super) bindings: Vec<&'n str>,
}

impl<'c, 'n> Names<'c, 'n> {
    /// Returns the names of a plan.
    pub(super) fn of_plan(plan: &'c SymbolTable<'n>) -> Self {
        Self { scopes: vec![plan], bindings: Vec::new() }
    }

    /// Returns the names in a group of a task that binds `bindings`.
    pub(super) fn in_group<'g>(&self, group: &'g SymbolTable<'n>, bindings: &[&'n str]) -> Names<'g, 'n>
    where
        'c: 'g,
    {
        let scopes = std::iter::once(group).chain(self.scopes.iter().copied()).collect();
        Names { scopes, bindings: self.bindings.iter().chain(bindings).copied().collect() }
    }

    /// Returns the innermost scope.
    pub(super) fn own(&self) -> &'c SymbolTable<'n> {
        self.scopes[0]
    }

    /// Returns the scope of the plan, and its level.
    pub(super) fn plan(&self) -> (usize, &'c SymbolTable<'n>) {
        let level = self.scopes.len() - 1;
        (level, self.scopes[level])
    }

    /// Returns the level of the innermost scope with this task, the index of the task in it, and whether it is a `foreach`
    /// task.
    pub(super) fn find(&self, id: &str) -> Option<(usize, usize, bool)> {
        let found = |(level, scope): (usize, &&SymbolTable<'n>)| {
            scope.find(id).map(|(index, is_foreach)| (level, index, is_foreach))
        };
        self.scopes.iter().enumerate().find_map(found)
    }

    /// Returns the problem with a task that cannot be referred to, and a suggestion if a similar task exists.
    pub(super) fn explain_unusable(&self, id: &str, sink: &DiagnosticSink) -> (&'static str, Option<String>) {
        let explained = self.scopes.iter().map(|scope| scope.explain_unusable(id, sink));
        explained.max_by_key(|(_, help)| help.is_some()).unwrap_or(("is not in the plan", None))
    }
}

/// The inputs and tasks that expressions can refer to.
pub(super) struct SymbolTable<'n> {
    pub(super) inputs: &'n IndexMap<String, InputSpec>,
    /// The tasks with unique IDs, in the order of the file.
    pub(super) tasks: IndexMap<&'n str, TaskDeclaration<'n>, NameHasher>,
    /// The existing tasks of the run, for a plan patch. Their indices start at the number of `tasks`.
    pub(super) existing: IndexMap<&'n str, ExistingTask<'n>, NameHasher>,
    /// The environment variables that the plan can use, with their values if they are set.
    pub(super) env: IndexMap<String, Option<String>>,
}

/// An existing task of a run that new tasks can refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExistingTask<'n> {
    pub(super) id: &'n TaskId,
    pub(super) is_foreach: bool,
    /// True if it has a result, or may still get one.
    pub(super) is_usable: bool,
}

impl<'n> SymbolTable<'n> {
    /// Collects the tasks by their IDs. Reports a duplicate ID and omits its task.
    pub(super) fn new(
        inputs: &'n IndexMap<String, InputSpec>,
        task_tables: Vec<(CheckedTable<'n, TaskKeys>, TaskRole)>,
        sink: &mut DiagnosticSink,
    ) -> Self {
        let mut tasks: IndexMap<&str, TaskDeclaration<'n>, NameHasher> =
            IndexMap::with_capacity_and_hasher(task_tables.len(), NameHasher::default());
        for (fields, role) in task_tables {
            let Some(id) = fields.text(&TASK.id) else { continue };
            match tasks.entry(id) {
                map::Entry::Vacant(free) => {
                    let is_foreach = fields.has(&TASK.foreach);
                    free.insert(TaskDeclaration { id: id.into(), fields, is_foreach, role });
                }
                map::Entry::Occupied(first) => {
                    let at = |fields: CheckedTable<'_, TaskKeys>| {
                        fields.node(&TASK.id).map_or(fields.span(), |node| node.span)
                    };
                    let line = sink.source.line(at(first.get().fields));
                    let error = sink.error("duplicate_task", at(fields), format!("duplicate task ID `{id}`"));
                    error.help(format!("the first is in line {line}; rename this task"));
                }
            }
        }
        Self { inputs, tasks, existing: IndexMap::default(), env: IndexMap::new() }
    }
}

impl<'n> SymbolTable<'n> {
    /// Returns a table for expressions that do not refer to a run.
    pub(super) fn without_tasks(inputs: &'n IndexMap<String, InputSpec>) -> Self {
        Self { inputs, tasks: IndexMap::default(), existing: IndexMap::default(), env: IndexMap::new() }
    }
}

impl SymbolTable<'_> {
    /// Returns the index of a task that can be referred to, and whether it is a `foreach` task.
    pub(super) fn find(&self, id: &str) -> Option<(usize, bool)> {
        let own = self.tasks.get_full(id).map(|(index, _, known)| (index, known.is_foreach));
        own.or_else(|| {
            let (index, _, existing) = self.existing.get_full(id).filter(|(.., existing)| existing.is_usable)?;
            Some((self.tasks.len() + index, existing.is_foreach))
        })
    }

    /// Returns the ID of the task at an index from [`Self::find`].
    pub(super) fn id(&self, index: usize) -> Option<&TaskId> {
        let own = self.tasks.get_index(index).map(|(_, known)| &known.id);
        own.or_else(|| Some(self.existing.get_index(index.checked_sub(self.tasks.len())?)?.1.id))
    }

    /// Returns the number of tasks with an index.
    pub(super) fn len(&self) -> usize {
        self.tasks.len() + self.existing.len()
    }

    /// Returns the problem with a task that cannot be referred to, and a suggestion if a similar task exists.
    pub(super) fn explain_unusable(&self, id: &str, sink: &DiagnosticSink) -> (&'static str, Option<String>) {
        if self.existing.contains_key(id) {
            return ("has no result and will not have one", None);
        }
        let usable = self.existing.iter().filter(|(_, existing)| existing.is_usable).map(|(id, _)| *id);
        ("is not in the plan", sink.did_you_mean(id, self.tasks.keys().copied().chain(usable)))
    }
}
