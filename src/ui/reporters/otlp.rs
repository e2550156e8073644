//! Exports the spans of a run by OTLP over HTTP, as the standard variables of OpenTelemetry say
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>).

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};

use super::reporter::Reporter;
use crate::model::{Record, RunId, Timestamp, TraceContext};
use crate::system::environment;
use crate::view::RunView;
use crate::view::spans::{AttributeValue, RunSpan, SpanEvent, SpanFold};

/// The name of the service, unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` has one.
const SERVICE_NAME: &str = "kapell";
/// The number of spans that wait for export, unless `OTEL_BSP_MAX_QUEUE_SIZE` says otherwise. More are dropped.
const MAX_QUEUED_SPANS: usize = 65_536;
/// The longest wait for the export at the end of a run.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// The time before the end of an earlier process whose spans it may not have exported. They are exported again: equal
/// IDs show that they are the same.
const UNCERTAIN_EXPORT_TIME: Duration = Duration::from_secs(15);
/// Set to `true` to export what is said: arguments, results, and messages.
const CAPTURE_CONTENT: &str = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT";

/// A reporter that exports the spans of a run. It never delays the run: a thread sends them.
#[derive(Debug)]
pub struct OtlpReporter {
    fold: SpanFold,
    processor: BatchSpanProcessor,
}

impl OtlpReporter {
    /// Starts the export of `run` if an endpoint is configured.
    ///
    /// # Errors
    /// Returns an error if the configuration is invalid.
    pub fn start(run: &RunId, trace: TraceContext) -> Result<Option<Self>, ExporterBuildError> {
        if !is_enabled() || !trace.is_sampled() {
            return Ok(None);
        }
        let mut queue = BatchConfigBuilder::default();
        if variable("OTEL_BSP_MAX_QUEUE_SIZE").is_none() {
            queue = queue.with_max_queue_size(MAX_QUEUED_SPANS);
        }
        let exporter = SpanExporter::builder().with_http().with_headers(headers()).build()?;
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(queue.build()).build();
        processor.set_resource(&resource());
        let with_content = variable(CAPTURE_CONTENT).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Ok(Some(Self { fold: SpanFold::new(run, trace, with_content), processor }))
    }

    /// Exports what has ended, and waits for it.
    pub fn finish(mut self) {
        self.export_ended();
        if let Err(error) = self.processor.shutdown_with_timeout(END_TIMEOUT) {
            tracing::warn!(%error, "some spans of the run could not be exported");
        }
    }

    fn export_ended(&mut self) {
        for span in self.fold.drain_ended() {
            self.processor.on_end(span_data(span, self.fold.trace()));
        }
    }
}

impl Reporter for OtlpReporter {
    fn report(&mut self, _before: &RunView, record: &Record) {
        self.fold.apply(record);
    }

    fn flush(&mut self) {
        self.export_ended();
    }

    fn catch_up(&mut self, records: &[Record]) {
        let Some(last) = records.last() else { return };
        records.iter().for_each(|record| self.fold.apply(record));
        for span in self.fold.drain_ended() {
            if last.at.since(span.ended_at) < UNCERTAIN_EXPORT_TIME {
                self.processor.on_end(span_data(span, self.fold.trace()));
            }
        }
    }
}

fn variable(name: &str) -> Option<String> {
    environment::variable(name)?.into_string().ok().filter(|value| !value.is_empty())
}

/// Returns the headers for the receiver. The library does not see the variables, since they may contain a key.
fn headers() -> HashMap<String, String> {
    let names = ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"];
    let mut headers = HashMap::new();
    for list in names.into_iter().filter_map(variable) {
        let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
        headers.extend(pairs.map(|(name, value)| {
            let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8_lossy().into_owned();
            (name.trim().to_owned(), value)
        }));
    }
    headers
}

/// Returns whether spans are exported: an endpoint or the exporter is named, and the SDK is not disabled.
fn is_enabled() -> bool {
    let is_named = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER"]
        .into_iter()
        .any(|name| variable(name).is_some());
    let is_disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let other_exporter = variable("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter != "otlp");
    is_named && !is_disabled && !other_exporter
}

fn resource() -> Resource {
    let detected = Resource::builder().build();
    let name = detected.get(&"service.name".into()).map(|name| name.to_string());
    // Without a configured name, the library writes `unknown_service`.
    let is_named = name.is_some_and(|name| !name.starts_with("unknown_service"));
    let builder = Resource::builder();
    let builder = if is_named { builder } else { builder.with_service_name(SERVICE_NAME) };
    builder.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

fn span_data(span: RunSpan, trace: &TraceContext) -> SpanData {
    let context = SpanContext::new(
        TraceId::from(trace.trace_id()),
        SpanId::from(span.id),
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    );
    let events = span.events.into_iter().map(|SpanEvent { at, name, attributes }| {
        opentelemetry::trace::Event::new(name, time(at), key_values(attributes), 0)
    });
    let mut span_events = SpanEvents::default();
    span_events.events = events.collect();
    SpanData {
        span_context: context,
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: span.parent.is_some() && span.parent == trace.caller_span(),
        span_kind: if span.is_client { SpanKind::Client } else { SpanKind::Internal },
        name: span.name.into(),
        start_time: time(span.started_at),
        end_time: time(span.ended_at),
        attributes: key_values(span.attributes),
        dropped_attributes_count: 0,
        events: span_events,
        links: SpanLinks::default(),
        status: span.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: InstrumentationScope::builder(SERVICE_NAME)
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

fn key_values(attributes: Vec<(&'static str, AttributeValue)>) -> Vec<KeyValue> {
    let value = |value| match value {
        AttributeValue::Text(text) => Value::from(text),
        AttributeValue::List(texts) => Value::Array(Array::String(texts.into_iter().map(Into::into).collect())),
        AttributeValue::Count(count) => Value::I64(i64::try_from(count).unwrap_or(i64::MAX)),
        AttributeValue::Amount(amount) => Value::F64(amount),
    };
    attributes.into_iter().map(|(name, attribute)| KeyValue::new(name, value(attribute))).collect()
}

fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at.0)
}
