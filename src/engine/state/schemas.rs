//! A cache of the compiled answer schemas of prompts. It is not part of the state of a run.

use std::collections::HashMap;
use std::sync::Arc;

use crate::json_schema::{CompiledSchema, SchemaCheckError};
use crate::model::NodeIndex;

/// A compiled schema, or the reason why answers cannot be checked.
pub(crate) type CompiledAnswerSchema = Result<CompiledSchema, SchemaCheckError>;

/// The compiled answer schemas by planned task. The items of a task share one schema.
#[derive(Debug, Default)]
pub(crate) struct Schemas(pub(crate) HashMap<NodeIndex, Arc<CompiledAnswerSchema>>);
