//! Resolves the references of a reply: which results they mean, and as which expressions a plan file states them.

use super::result_shape::ResultShape;
use super::task_reference::{ReferenceStart, Step, TaskReference, path_expression};

/// A task whose result can be referred to.
#[derive(Debug, Clone)]
pub(super) struct ScopeTask<'s> {
    /// The ID in the plan file.
    pub(super) id: String,
    /// True if it runs once for each element of a list.
    pub(super) is_each: bool,
    /// The shape of one result.
    pub(super) result: ResultShape<'s>,
}

/// The results that the references of a reply can mean.
#[derive(Debug, Default)]
pub(super) struct ReferenceScope<'s> {
    /// The existing tasks of a run.
    pub(super) existing: Vec<ScopeTask<'s>>,
    /// The tasks of the reply.
    pub(super) tasks: Vec<ScopeTask<'s>>,
    /// The number of the first task of the reply.
    pub(super) first_number: usize,
    /// The names of the run's inputs.
    pub(super) inputs: Vec<&'s str>,
}

/// A task of the reply whose references are resolved.
pub(super) struct ReferringTask<'s> {
    /// The index in the reply.
    pub(super) index: usize,
    /// The shape of the current element, if it runs once for each element of a list.
    pub(super) item: Option<ResultShape<'s>>,
}

/// What a reference means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Resolution<'s> {
    /// It is not a reference but text.
    Literal,
    /// A value.
    Value(ResolvedReference<'s>),
}

/// A value that a reference means.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ResolvedReference<'s> {
    /// The expression.
    pub(super) expression: String,
    /// The expression for the same value as text, if it is a whole result.
    pub(super) text_expression: Option<String>,
    /// The ID of the task whose result it is.
    pub(super) task: Option<String>,
    /// The shape of the value.
    pub(super) shape: ResultShape<'s>,
}

impl<'s> ReferenceScope<'s> {
    /// Returns the task with a number.
    fn numbered(&self, number: usize) -> Option<(Option<usize>, &ScopeTask<'s>)> {
        match number.checked_sub(self.first_number) {
            Some(index) => self.tasks.get(index).map(|task| (Some(index), task)),
            None => self.named(&format!("t{number}")),
        }
    }

    /// Returns the task with an ID.
    fn named(&self, id: &str) -> Option<(Option<usize>, &ScopeTask<'s>)> {
        let own = || self.tasks.iter().enumerate().find(|(_, task)| task.id == id);
        let existing = self.existing.iter().find(|task| task.id == id).map(|task| (None, task));
        existing.or_else(|| own().map(|(index, task)| (Some(index), task)))
    }

    /// Returns the ID of the task that `text` names: `1`, `$1`, `t1`, or an ID.
    pub(super) fn task_id(&self, text: &str) -> Option<&str> {
        let name = text.trim().trim_start_matches('$');
        let task = match name.parse() {
            Ok(number) => self.numbered(number),
            Err(_) => self.named(name),
        };
        task.map(|(_, task)| task.id.as_str())
    }

    /// Resolves a reference in a task of the reply.
    ///
    /// # Errors
    /// The problem, if it is a reference to a result that does not exist.
    pub(super) fn resolve(
        &self,
        reference: &TaskReference<'_>,
        by: &ReferringTask<'s>,
    ) -> Result<Resolution<'s>, String> {
        let (own, task) = match reference.start {
            ReferenceStart::Name("item") => {
                let Some(item) = &by.item else { return Ok(Resolution::Literal) };
                let shape = item.part(&reference.path)?;
                let expression = path_expression("item", &reference.path);
                return Ok(value(expression, None, None, shape));
            }
            ReferenceStart::Name("inputs") => {
                let Some(Step::Key(name)) = reference.path.first() else { return Ok(Resolution::Literal) };
                if !self.inputs.contains(&name.as_str()) {
                    return Ok(Resolution::Literal);
                }
                let expression = path_expression("inputs", &reference.path);
                return Ok(value(expression, None, None, ResultShape::Unknown));
            }
            ReferenceStart::Name(id) => match self.named(id) {
                Some(found) => found,
                None => return Ok(Resolution::Literal),
            },
            ReferenceStart::Number(number) => {
                self.numbered(number).ok_or_else(|| format!("no task has the number {number}"))?
            }
        };
        if own == Some(by.index) {
            return Err("a task cannot use its own result".to_owned());
        }
        let id = task.id.clone();
        if !task.is_each {
            let shape = task.result.part(&reference.path)?;
            let text = reference.path.is_empty().then(|| format!("tasks.{id}.text"));
            let expression = path_expression(&format!("tasks.{id}.output"), &reference.path);
            return Ok(value(expression, text, Some(id), shape));
        }
        // The result is the list of all results.
        let base = format!("tasks.{id}.outputs");
        let mut path = reference.path.clone();
        if matches!(path.first(), Some(Step::Key(_))) {
            path.insert(0, Step::All);
        }
        let shape = match path.split_first() {
            Some((Step::Index(_), rest)) => task.result.part(rest)?,
            Some((_, rest)) => task.result.part(rest).map(|_| ResultShape::Unknown)?,
            None => ResultShape::Unknown,
        };
        let expression = path_expression(&base, &path);
        let is_list = !matches!(path.first(), Some(Step::Index(_)));
        let text = is_list.then(|| format!("{expression} | tojson"));
        Ok(value(expression, text, Some(id), shape))
    }
}

fn value<'s>(
    expression: String,
    text_expression: Option<String>,
    task: Option<String>,
    shape: ResultShape<'s>,
) -> Resolution<'s> {
    Resolution::Value(ResolvedReference { expression, text_expression, task, shape })
}
