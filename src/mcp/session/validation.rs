//! Validates arguments and results against the schemas of tools. Cheap checks run inline; others run on their own
//! threads, so that the runtime can handle signals and deadlines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore, oneshot};

use crate::json_schema::{self, CompiledSchema, FormatValidation, STACK_BYTES, SchemaCheckError, SchemaLimits};
use crate::model::{JsonObject, ToolInfo};

/// The maximum number of schema violations in a failure.
const MAX_VIOLATIONS: usize = 10;
/// The maximum length of the description of a violation, in bytes.
const MAX_VIOLATION_BYTES: usize = 200;
/// The timeout of a check, including the wait for a thread. Its steps are limited too, so this is a second barrier.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);
/// The maximum number of concurrent check threads.
const MAX_CHECK_THREADS: usize = 2;
/// The permits for check threads.
static CHECK_THREADS: Semaphore = Semaphore::const_new(MAX_CHECK_THREADS);

/// A schema of a tool, compiled on first use.
#[derive(Debug, Default)]
pub(crate) struct ToolSchema {
    formats: FormatValidation,
    compiled: OnceCell<Result<Arc<CompiledSchema>, SchemaCheckError>>,
    /// Whether it was reported that the schema or a value cannot be checked.
    is_reported: AtomicBool,
}

/// Warms up the meta-schemas of jsonschema while an agent starts. This takes a few milliseconds once.
pub(crate) fn warm_up() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let warm = || {
            CompiledSchema::compile(
                json!({"type": "object"}),
                FormatValidation::DraftDefault,
                &SchemaLimits::BACKGROUND,
            )
        };
        drop(tokio::task::spawn_blocking(warm));
    });
}

impl ToolSchema {
    /// Returns a schema of arguments. Their formats are not checked: many servers do not check them either.
    pub(crate) fn of_arguments() -> Self {
        Self { formats: FormatValidation::Never, ..Self::default() }
    }

    /// Validates `arguments`. If they are invalid, applies the defaults of the schema and validates them again.
    ///
    /// # Errors
    /// Returns a description of the violations that remain.
    pub(crate) async fn check_arguments(
        &self,
        schema: &JsonObject,
        arguments: &mut Value,
    ) -> Result<Option<String>, String> {
        let checked = self.check(schema, arguments).await;
        if checked.is_ok() {
            return checked;
        }
        json_schema::apply_defaults(schema, arguments);
        self.check(schema, arguments).await
    }

    /// Validates `value` without changing it. Returns the reason if it cannot be validated, but only the first time.
    ///
    /// # Errors
    /// Returns a description of the violations.
    pub(crate) async fn check(&self, schema: &JsonObject, value: &mut Value) -> Result<Option<String>, String> {
        let violations = match self.compiled.get_or_init(|| compile(schema, self.formats)).await {
            Ok(compiled) => violations(compiled, value).await,
            Err(error) => Err(error.clone()),
        };
        match violations {
            Ok(violations) if violations.is_empty() => Ok(None),
            Ok(violations) => Err(violations),
            Err(error) => {
                let is_first = !self.is_reported.swap(true, Ordering::Relaxed);
                Ok(is_first.then(|| error.to_string()))
            }
        }
    }
}

/// The maximum number of schemas that [`schema_warnings`] reports for one agent.
const MAX_WARNINGS: usize = 20;

/// Returns warnings about the tool schemas that cannot be checked. Problems that depend on argument or result values
/// only occur in a run.
pub async fn schema_warnings(tools: &[ToolInfo]) -> Vec<String> {
    let mut warnings = Vec::new();
    for tool in tools {
        let schemas = [("arguments of", Some(&tool.input_schema)), ("results of", tool.output_schema.as_ref())];
        for (what, schema) in schemas {
            let Some(schema) = schema else { continue };
            let checked = match compile(schema, FormatValidation::DraftDefault).await {
                Ok(compiled) => violations(&compiled, &mut json!({})).await,
                Err(error) => Err(error),
            };
            if let Err(error) = checked {
                warnings.push(format!("the {what} `{}` are not checked: {error}", tool.name));
            }
        }
        if warnings.len() >= MAX_WARNINGS {
            warnings.push("the other schemas are not compiled".to_owned());
            break;
        }
    }
    warnings
}

async fn compile(schema: &JsonObject, formats: FormatValidation) -> Result<Arc<CompiledSchema>, SchemaCheckError> {
    let schema = Value::Object(schema.clone());
    let compiled = match json_schema::is_small(&schema) {
        true => CompiledSchema::compile(schema, formats, &SchemaLimits::INLINE),
        false => run_on_thread(move || CompiledSchema::compile(schema, formats, &SchemaLimits::BACKGROUND)).await?,
    };
    compiled.map(Arc::new)
}

async fn violations(schema: &Arc<CompiledSchema>, value: &mut Value) -> Result<String, SchemaCheckError> {
    if schema.check_cost(value, &SchemaLimits::INLINE).is_ok() {
        return describe(schema, value, &SchemaLimits::INLINE);
    }
    let (checked, schema) = (Arc::new(std::mem::take(value)), Arc::clone(schema));
    let shared = Arc::clone(&checked);
    let described = run_on_thread(move || {
        let described = describe(&schema, &shared, &SchemaLimits::BACKGROUND);
        drop(shared);
        described
    })
    .await;
    *value = Arc::unwrap_or_clone(checked);
    described?
}

/// Describes the violations of the schema by `value`. Returns an empty string if `value` is valid.
fn describe(schema: &CompiledSchema, value: &Value, limits: &SchemaLimits) -> Result<String, SchemaCheckError> {
    let violations = schema.violations(value, limits)?;
    let mut described: Vec<_> = violations
        .iter()
        .take(MAX_VIOLATIONS)
        .map(|error| {
            let what = json_schema::bounded_message(error, MAX_VIOLATION_BYTES);
            let path = error.instance_path().to_string();
            if path.is_empty() { what } else { format!("`{path}`: {what}") }
        })
        .collect();
    match violations.len().saturating_sub(MAX_VIOLATIONS) {
        0 => {}
        more => described.push(format!("{more} more")),
    }
    Ok(described.join("; "))
}

/// Runs `work` on its own thread with a timeout of [`CHECK_TIMEOUT`]. Unlike a blocking task of the runtime, a thread
/// does not prevent the process from exiting.
async fn run_on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SchemaCheckError> {
    let run = async {
        let permit = CHECK_THREADS.acquire().await.ok()?;
        let (sender, result) = oneshot::channel();
        let thread = std::thread::Builder::new().name("schema".to_owned()).stack_size(STACK_BYTES);
        let spawned = thread.spawn(move || {
            let _permit = permit;
            // The caller may have timed out.
            let _ = sender.send(work());
        });
        spawned.ok()?;
        result.await.ok()
    };
    match tokio::time::timeout(CHECK_TIMEOUT, run).await {
        Ok(Some(result)) => Ok(result),
        Ok(None) => Err(SchemaCheckError::CheckTooExpensive("the check failed to run".to_owned())),
        Err(_) => Err(SchemaCheckError::CheckTooExpensive(format!("more than {CHECK_TIMEOUT:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn object(schema: Value) -> JsonObject {
        schema.as_object().cloned().unwrap()
    }

    /// Returns a schema in which each definition refers to the next one twice.
    fn doubling_schema(levels: usize) -> JsonObject {
        let reference = |level: usize| json!({"$ref": format!("#/$defs/d{level}")});
        let mut definitions = JsonObject::new();
        for level in 0..levels {
            let next = reference(level + 1);
            definitions.insert(format!("d{level}"), json!({"allOf": [next, next]}));
        }
        definitions.insert(format!("d{levels}"), json!({"type": "object"}));
        object(json!({"type": "object", "$defs": definitions, "$ref": "#/$defs/d0"}))
    }

    #[tokio::test]
    async fn expensive_checks_are_reported_once() {
        let (schema, tool) = (doubling_schema(60), ToolSchema::default());
        let value = json!({"s": "x"});
        let mut checked = value.clone();
        // On a busy machine, the limit of time is reached first.
        let reason = tool.check(&schema, &mut checked).await.expect("no violation").expect("a reason");
        assert!(reason.starts_with("checking it takes too much work: more than"), "{reason}");
        assert_eq!(tool.check(&schema, &mut checked).await, Ok(None));
        assert_eq!(checked, value);
    }

    #[tokio::test]
    async fn threaded_and_inline_checks_agree() {
        let schema = object(json!({"properties": {"n": {"items": {"type": "integer"}}}}));
        let tool = ToolSchema::default();
        let mut many = json!({"n": (0..60_000).collect::<Vec<_>>()});
        assert_eq!(tool.check(&schema, &mut many).await, Ok(None));
        many["n"][59_999] = json!("x");
        let violation = "`/n/59999`: \"x\" is not of type \"integer\"".to_owned();
        assert_eq!(tool.check(&schema, &mut many).await, Err(violation.clone()));
        let mut few = json!({"n": ["x"]});
        let violation = violation.replace("59999", "0");
        assert_eq!(tool.check(&schema, &mut few).await, Err(violation));
    }

    #[tokio::test]
    async fn failed_threads_leave_the_value_unchecked() {
        let failed = run_on_thread(|| -> u8 { panic!("as planned") }).await;
        assert_eq!(failed, Err(SchemaCheckError::CheckTooExpensive("the check failed to run".to_owned())));
        assert_eq!(run_on_thread(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn runtime_continues_while_a_thread_works() {
        let (sender, receiver) = std::sync::mpsc::channel();
        // The work completes only if the other future is polled meanwhile.
        let work = run_on_thread(move || receiver.recv());
        let (outcome, sent) = tokio::join!(work, async move { sender.send(7) });
        assert_eq!((outcome, sent), (Ok(Ok(7)), Ok(())));
    }

    #[tokio::test]
    async fn costly_checks_wait_for_a_thread_and_small_ones_do_not() {
        let costly = compile(&doubling_schema(15), FormatValidation::Never).await.expect("is small");
        let small = compile(&doubling_schema(3), FormatValidation::Never).await.expect("is small");
        let large = object(json!({"properties": {"s": {"enum": (0..20_000).collect::<Vec<_>>()}}}));
        // No thread is free, so all checks that need one have to wait.
        let _permits = CHECK_THREADS.acquire_many(MAX_CHECK_THREADS as u32).await.expect("is never closed");
        assert_eq!(violations(&costly, &mut json!({"s": "x"})).now_or_never(), None);
        assert_eq!(violations(&small, &mut json!({})).now_or_never(), Some(Ok(String::new())));
        assert!(compile(&large, FormatValidation::Never).now_or_never().is_none());
    }

    #[tokio::test]
    async fn tools_whose_schemas_are_not_checked_are_named() {
        let tool = |name: &str, input: JsonObject, output: Option<JsonObject>| ToolInfo {
            name: name.to_owned(),
            title: None,
            description: None,
            input_schema: input,
            output_schema: output,
            effect: None,
        };
        let wrong = object(json!({"type": "nonsense"}));
        let plain = object(json!({"type": "object", "required": ["s"]}));
        let tools =
            [tool("a", plain.clone(), Some(doubling_schema(60))), tool("b", plain, None), tool("c", wrong, None)];
        let warnings = schema_warnings(&tools).await;
        let expected = "the results of `a` are not checked: checking it takes too much work: more than";
        assert!(warnings[0].starts_with(expected), "{warnings:?}");
        assert!(warnings[1].starts_with("the arguments of `c` are not checked: invalid JSON Schema: "), "{warnings:?}");
        assert_eq!(warnings.len(), 2);
    }

    #[tokio::test]
    async fn only_invalid_arguments_get_defaults() {
        let schema = object(json!({
            "type": "object", "required": ["scale"], "$schema": "http://json-schema.org/draft-07/schema#",
            "properties": {
                "scale": {"enum": ["css", "device"], "default": "css"},
                "file": {"type": "string"}, "url": {"type": "string", "format": "uri"},
            },
        }));
        let tool = ToolSchema::of_arguments();
        for (given, sent) in [
            (json!({}), json!({"scale": "css"})),
            (json!({"scale": "device", "file": null}), json!({"scale": "device"})),
            (json!({"scale": "device", "url": "not a url"}), json!({"scale": "device", "url": "not a url"})),
        ] {
            let mut arguments = given;
            assert_eq!(tool.check_arguments(&schema, &mut arguments).await, Ok(None));
            assert_eq!(arguments, sent);
        }
        let remaining = tool.check_arguments(&schema, &mut json!({"file": 7})).await;
        assert_eq!(remaining, Err("`/file`: 7 is not of type \"string\"".to_owned()));
    }

    #[tokio::test]
    async fn further_violations_are_counted() {
        let schema = object(json!({"items": {"type": "string"}}));
        let Err(violations) = ToolSchema::default().check(&schema, &mut json!(vec![1; 14])).await else {
            panic!("is invalid");
        };
        assert!(violations.ends_with("; 4 more"), "{violations}");
    }
}
