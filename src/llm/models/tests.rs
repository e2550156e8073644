use super::*;
use crate::llm::samples::spec;
use crate::model::{ChatMessage, ChatPart, ChatRole, ChatTool, Dialect, JsonObject, Scores, ToolChoice};

fn model_spec(name: &str, model: &str, scores: [f32; 3], dialect: Dialect) -> LlmSpec {
    let [cost, speed, intelligence] = scores;
    LlmSpec {
        name: name.to_owned(),
        model: model.to_owned(),
        scores: Scores { cost, speed, intelligence },
        dialect,
        ..spec("http://endpoint.test")
    }
}

/// Returns a text-only default, a cheap model, and a model that supports everything.
fn models() -> Models {
    let plain = Dialect::default();
    let able = Dialect { tools: true, images: true, audio: true, ..plain };
    let specs = [
        model_spec("llm", "qwen3:8b", [0.5, 0.5, 0.5], plain),
        model_spec("quick", "Tiny-1B", [1.0, 1.0, 0.1], plain),
        model_spec("able", "gpt-5", [0.1, 0.2, 1.0], able),
    ];
    Models::new(specs).expect("valid specs").expect("some models")
}

fn question() -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage::text(ChatRole::User, "Hi").into()],
        max_tokens: 9,
        ..ChatRequest::default()
    }
}

fn preferring(preferences: ModelPreferences) -> ChatRequest {
    ChatRequest { preferences, ..question() }
}

fn hinting(hints: &[&str]) -> ChatRequest {
    let hints = hints.iter().map(|&hint| hint.to_owned()).collect();
    preferring(ModelPreferences { hints, cost: Some(1.0), ..ModelPreferences::default() })
}

fn chosen(request: &ChatRequest) -> String {
    let models = models();
    models.select(request).map_or_else(|error| error.to_string(), |model| model.spec().name.clone())
}

#[test]
fn explicit_name_wins() {
    let named = |name: &str| ChatRequest { model: Some(name.to_owned()), ..hinting(&["gpt"]) };
    assert_eq!(chosen(&named("quick")), "quick");
    assert!(matches!(models().select(&named("best")), Err(ChatError::Unsupported { .. })));
    insta::assert_snapshot!("unknown_model", chosen(&named("best")));
}

#[test]
fn selects_by_hints_then_priorities_then_default() {
    assert_eq!(chosen(&question()), "llm");
    assert_eq!(chosen(&hinting(&["claude", "TINY", "gpt"])), "quick");
    assert_eq!(chosen(&hinting(&["able"])), "able");
    assert_eq!(chosen(&hinting(&["claude", "", " "])), "quick");
    let priorities = |cost, speed, intelligence| {
        let [cost, speed, intelligence] = [cost, speed, intelligence].map(Some);
        chosen(&preferring(ModelPreferences { hints: Vec::new(), cost, speed, intelligence }))
    };
    assert_eq!(priorities(0.0, 0.0, 0.0), "llm");
    assert_eq!(priorities(0.1, 0.1, 1.0), "able");
    assert_eq!(priorities(0.9, 0.0, 0.2), "quick");
    assert_eq!(priorities(f32::NAN, -1.0, 0.0), "llm");
}

#[test]
fn selects_a_model_that_supports_the_request() {
    let tool = ChatTool { name: "find".to_owned(), description: None, input_schema: JsonObject::new() };
    let offering = ChatRequest { tools: vec![tool], ..hinting(&["tiny"]) };
    assert_eq!(chosen(&offering), "able");
    let named = ChatRequest { model: Some("quick".to_owned()), ..offering };
    let models = models();
    let quick = models.select(&named).expect("is configured");
    assert_eq!(quick.spec().name, "quick");
    assert!(matches!(quick.check_support(&named), Err(ChatError::Unsupported { .. })));
    // If no model supports the request, the default reports why.
    assert_eq!(chosen(&ChatRequest { tool_choice: ToolChoice::Required, ..question() }), "llm");
    let sound = ChatPart::Audio { mime_type: "audio/wav".to_owned(), data: "UklG".to_owned() };
    let sound =
        ChatRequest { messages: vec![ChatMessage { role: ChatRole::User, parts: vec![sound] }.into()], ..question() };
    assert_eq!(chosen(&sound), "able");
}

#[test]
fn no_models_without_specs() {
    assert!(Models::new([]).expect("no invalid specs").is_none());
}
