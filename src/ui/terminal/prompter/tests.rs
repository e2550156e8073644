use std::io::BufRead;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::model::{Asker, InputSchema, ItemPlace, Origin, ProposedCall};
use crate::ui::terminal::keys::KeyDecoder;
use crate::ui::terminal::line_reader::tests::keyboard;
use crate::ui::terminal::screen::memory::MemoryDevice;
use crate::ui::terminal::screen::{Device, OutputStream, ScreenCapabilities, ScreenSize};
use crate::view::samples::agent_question;

/// Returns a prompter with typed `input`, and the contents of its screen.
fn prompter_with_input(input: impl BufRead + Send + 'static) -> (TerminalPrompter, MemoryDevice) {
    let memory = MemoryDevice::default();
    (before(memory.clone(), LineReader::new(input).expect("a thread")), memory)
}

/// Returns a prompter with typed `lines` on a screen on `device`.
fn before(device: impl Device + 'static, lines: LineReader) -> TerminalPrompter {
    let screen = Screen::with_device(device, ScreenCapabilities { live: false, color: false }).expect("a thread");
    let browser = Browser(|_| vec![std::process::Command::new("true")]);
    TerminalPrompter { browser, ..TerminalPrompter::new(screen, "0190".into(), Keyboard::Lines(lines)) }
}

#[tokio::test]
async fn question_that_cannot_be_shown_is_deferred() {
    struct UnusableDevice;
    impl Device for UnusableDevice {
        fn write(&mut self, _: OutputStream, _: &str) {
            panic!("a mistake in a device")
        }
        fn size(&self) -> ScreenSize {
            ScreenSize::default()
        }
    }
    let (_keys, input) = keyboard();
    let terminal = before(UnusableDevice, LineReader::new(input).expect("a thread"));
    assert_eq!(terminal.ask(&approval()).await, HumanResponse::Deferred { reason: FAILED.to_owned() });
    assert_eq!(terminal.confirm("Pay?").await, HumanResponse::Deferred { reason: FAILED.to_owned() });
}

fn approval() -> Question {
    Question { asker: Asker::Plan { task: "publish".into() }, ..agent_question("Post it?", Form::Approval) }
}

fn form(schema: Value) -> Form {
    Form::Fields { schema: schema.as_object().expect("an object").clone() }
}

fn url(url: &str) -> Question {
    agent_question("Sign in, please", Form::Url { url: url.to_owned(), id: None })
}

fn answered(answer: Answer) -> HumanResponse {
    HumanResponse::Answered { answer, answered_by: "person at terminal".to_owned() }
}

fn accepted_with(content: Value) -> HumanResponse {
    answered(Answer::Accept { content: Some(content) })
}

fn accepted_without_fields() -> HumanResponse {
    answered(Answer::Accept { content: None })
}

/// Returns the response to `question` with typed `input`, and the transcript.
async fn run_dialogue(question: &Question, input: &'static str) -> (HumanResponse, String) {
    let (terminal, memory) = prompter_with_input(input.as_bytes());
    let reply = terminal.ask(question).await;
    terminal.screen.flush();
    (reply, memory.text())
}

async fn response_to(question: &Question, input: &'static str) -> HumanResponse {
    run_dialogue(question, input).await.0
}

#[tokio::test]
async fn asks_again_until_each_field_is_valid() {
    let schema = json!({
        "type": "object",
        "properties": {
            "confirm": {"type": "boolean", "title": "Book it", "description": "Books\nthe trip"},
            "class": {"type": "string", "oneOf": [
                {"const": "eco", "title": "Economy"}, {"const": "biz", "title": "Business"},
            ], "default": "eco"},
            "seats": {"type": "integer", "minimum": 1, "maximum": 9},
            "notes": {"type": "string"},
        },
        "required": ["confirm", "seats"],
    });
    let (reply, screen) =
        run_dialogue(&agent_question("Book for\n120 EUR?", form(schema)), "maybe\n\nYES\n\n0\n2\n\ny\n").await;
    assert_eq!(reply, accepted_with(json!({"confirm": true, "class": "eco", "seats": 2})));
    insta::assert_snapshot!(screen);
}

#[tokio::test]
async fn digits_with_a_leading_zero_are_asked_for_again() {
    let asked = agent_question("How many?", form(json!({"properties": {"n": {"type": "integer"}}})));
    let (reply, screen) = run_dialogue(&asked, "007\n7\n").await;
    assert_eq!(reply, accepted_with(json!({"n": 7})));
    assert!(screen.contains("digits with a leading zero are text"), "{screen}");
}

#[tokio::test]
async fn declines_or_cancels_at_any_field() {
    let asked = agent_question("Two?", form(json!({"properties": {"a": {"type": "string"}, "b": {"type": "string"}}})));
    assert_eq!(response_to(&asked, "x\n :decline \n").await, answered(Answer::Decline));
    assert_eq!(response_to(&asked, ":cancel\n").await, answered(Answer::Cancel));
    assert_eq!(response_to(&asked, "\n\n\n").await, accepted_with(json!({})));
    assert_eq!(response_to(&asked, "x\ny\nn\n").await, answered(Answer::Decline));
}

#[tokio::test]
async fn form_without_fields_asks_yes_or_no() {
    let asked = agent_question("Sure?", form(json!({"type": "object", "properties": {}})));
    assert_eq!(response_to(&asked, "y\n").await, accepted_with(json!({})));
    assert_eq!(response_to(&asked, "n\n").await, answered(Answer::Decline));
}

#[tokio::test]
async fn approval_accepts_only_yes_or_no() {
    let (reply_, screen) = run_dialogue(&approval(), "\nsure\nYes\n").await;
    assert_eq!(reply_, accepted_without_fields());
    insta::assert_snapshot!(screen);
    assert_eq!(response_to(&approval(), "n\n").await, answered(Answer::Decline));
    assert_eq!(response_to(&approval(), ":cancel\n").await, answered(Answer::Cancel));
}

#[tokio::test]
async fn end_of_input_declines_and_defers_approvals() {
    let asked = agent_question("One?", form(json!({"properties": {"a": {"type": "string"}}})));
    let (reply_, screen) = run_dialogue(&asked, "").await;
    assert_eq!(reply_, answered(Answer::Decline));
    assert!(screen.ends_with("a [skip]> \n  Ctrl-D: declined\n"), "{screen}");
    let (reply_, screen) = run_dialogue(&approval(), "").await;
    assert_eq!(reply_, HumanResponse::Deferred { reason: UNANSWERED.to_owned() });
    assert!(screen.contains("approve? [y/n/?]> \n  Ctrl-D: left open; `kapell questions 0190`"), "{screen}");
}

#[tokio::test]
async fn agent_text_is_escaped() {
    let evil = "\x1b]0;owned\x07\u{202e}";
    let schema = json!({"properties": {(evil): {"type": "string", "title": evil, "description": evil,
        "pattern": evil, "default": evil}, "pick": {"enum": [evil]}}});
    let asker = Asker::Agent(Origin { agent: "travel".into(), attempt: None, key: None });
    let asked = Question { asker, ..agent_question(evil, form(schema)) };
    let (_, screen) = run_dialogue(&asked, "\x1b[31mx\n1\n").await;
    assert!(!screen.chars().any(|c| c == '\u{202e}' || (c.is_control() && c != '\n')), "{screen:?}");
    let (_, screen) = run_dialogue(&url(&format!("ftp://{evil}")), "").await;
    assert!(!screen.chars().any(|c| c == '\u{202e}' || (c.is_control() && c != '\n')), "{screen:?}");
}

#[tokio::test]
async fn page_opens_only_after_yes() {
    let (reply_, screen) = run_dialogue(&url("https://bank.com@xn--pple-43d.com/login?next=a"), "y\n").await;
    assert_eq!(reply_, accepted_without_fields());
    insta::assert_snapshot!(screen);

    let (mut terminal, _) = prompter_with_input("n\n".as_bytes());
    // If the browser were started, it would fail and the prompter would ask another question.
    terminal.browser = Browser(|_| vec![std::process::Command::new("false")]);
    assert_eq!(terminal.ask(&url("https://a.test")).await, answered(Answer::Decline));

    let (mut terminal, memory) = prompter_with_input("y\ny\n".as_bytes());
    terminal.browser = Browser(|_| vec![std::process::Command::new("false")]);
    assert_eq!(terminal.ask(&url("https://a.test")).await, accepted_without_fields());
    terminal.screen.flush();
    assert!(memory.text().contains("`false` failed: exit status: 1; open the address yourself"), "{}", memory.text());

    let by_the_host = HumanResponse::Answered { answer: Answer::Decline, answered_by: "the host".to_owned() };
    assert_eq!(response_to(&url("file:///etc/passwd"), "y\n").await, by_the_host);
}

#[tokio::test]
async fn questions_queue_and_can_be_withdrawn() {
    let (keys, input) = keyboard();
    let (terminal, memory) = prompter_with_input(input);
    let (first, second) = (approval(), agent_question("Second?", Form::Approval));
    {
        let first = terminal.ask(&first);
        let waiting = terminal.ask(&second);
        tokio::pin!(first, waiting);
        for _ in 0..3 {
            let both = futures::future::join(&mut first, &mut waiting);
            assert!(tokio::time::timeout(Duration::ZERO, both).await.is_err());
        }
        terminal.screen.flush();
        assert!(memory.text().contains("Post it?") && !memory.text().contains("Second?"));
    }
    let (reply, ()) = tokio::join!(terminal.ask(&second), async { keys.send("y\n").expect("a reader") });
    assert_eq!(reply, accepted_without_fields());
}

fn item(arguments: Value, of: usize) -> Question {
    let effect = crate::model::Effect::AtMostOnce;
    let input_schema = InputSchema::default();
    input_schema.set(json!({"properties": {"page": {"type": "string"}}}).as_object().expect("an object"));
    Question {
        asker: Asker::Plan { task: "publish[0]".into() },
        item: Some(ItemPlace { number: 1, of }),
        call: Some(ProposedCall { agent: "wiki".into(), tool: "create".into(), arguments, effect, input_schema }),
        ..approval()
    }
}

#[tokio::test]
async fn one_yes_can_be_for_all_calls_of_a_tool() {
    let (reply_, screen) = run_dialogue(&item(json!({"page": "A"}), 3), "d\n?\na\n").await;
    assert_eq!(reply_, HumanResponse::AllApproved { by: "person at terminal".to_owned() });
    insta::assert_snapshot!(screen);
    let single = response_to(&item(json!({"page": "A"}), 1), "a\n").await;
    assert_eq!(single, HumanResponse::AllApproved { by: "person at terminal".to_owned() });
    // Without a call, there are no further calls to approve.
    assert_eq!(response_to(&approval(), "all\ny\n").await, accepted_without_fields());
}

#[tokio::test]
async fn arguments_that_are_cut_can_be_shown_in_full() {
    let long = "x".repeat(500) + "\u{1b}[2Jend";
    let (reply_, screen) = run_dialogue(&item(json!({"page": long}), 1), "d\ny\n").await;
    assert_eq!(reply_, accepted_without_fields());
    let (before, after) = screen.split_once("[y/n/a/e/d/?]> ").expect("asked");
    assert!(!before.contains("end") && after.contains("\\u001b[2Jend"), "{screen}");
    let many: serde_json::Map<_, _> = (0..20).map(|n| (format!("a{n}"), n.into())).collect();
    let (_, screen) = run_dialogue(&item(many.into(), 1), "d\ny\n").await;
    assert!(screen.contains("and 8 more arguments") && screen.contains("\"a19\": 19"), "{screen}");
    let kept = ProposedCall::truncate_arguments(json!({"text": "y".repeat(20_000)}));
    let (_, screen) = run_dialogue(&item(kept, 1), "d\ny\n").await;
    assert!(screen.contains("the rest of the arguments is not stored"), "{screen}");
}

#[tokio::test]
async fn enter_confirms_a_host_action() {
    for (input, answer) in [
        ("\n", accepted_without_fields()),
        ("what\nY\n", accepted_without_fields()),
        ("n\n", answered(Answer::Decline)),
    ] {
        let (terminal, _) = prompter_with_input(input.as_bytes());
        assert_eq!(terminal.confirm("run this plan?").await, answer, "{input:?}");
    }
}

fn two_fields() -> Question {
    let schema = json!({
        "properties": {"a": {"type": "string", "title": "First"}, "n": {"type": "integer", "minimum": 2}},
        "required": ["n"],
    });
    agent_question("Two?", form(schema))
}

#[tokio::test]
async fn form_goes_back_and_is_reviewed() {
    let (reply, screen) = run_dialogue(&two_fields(), ":back\nx\n:back\n\n1\n7\n2\n8\n9\n?\n\n").await;
    assert_eq!(reply, accepted_with(json!({"a": "x", "n": 8})));
    insta::assert_snapshot!(screen);
    assert_eq!(response_to(&two_fields(), "x\n7\n:back\n3\ny\n").await, accepted_with(json!({"a": "x", "n": 3})));
}

/// Returns the response to `question` after these keys on a live screen, and what was written to the screen.
async fn type_keys(question: &Question, bytes: &str) -> (HumanResponse, String) {
    let keys = KeyDecoder::default().decode(bytes.as_bytes());
    let memory = MemoryDevice::default();
    let capabilities = ScreenCapabilities { live: true, color: false };
    let screen = Screen::with_device(memory.clone(), capabilities).expect("a thread");
    let terminal = TerminalPrompter::new(screen, "0190".into(), Keyboard::Keys(KeyReader::from_keys(keys)));
    let reply = terminal.ask(question).await;
    terminal.screen.flush();
    (reply, memory.text())
}

#[tokio::test]
async fn keys_edit_an_answer() {
    let (reply, screen) = type_keys(&two_fields(), "xy\x1b[Dz\r1\x7f123\x1b[D\x1b[3~\r\x1b[Z\x1b[A\r\r").await;
    assert_eq!(reply, accepted_with(json!({"a": "xzy", "n": 12})));
    // The live region may be erased before the bell rings.
    assert!(screen.matches('\x07').count() == 1 && screen.contains("  2) n: 12\n"), "{screen:?}");
}

#[tokio::test]
async fn one_paste_answers_one_question() {
    let (reply, screen) = type_keys(&two_fields(), "\x1b[200~one\n7\ny\n\x1b[201~\r\x0712\r\r").await;
    assert_eq!(reply, accepted_with(json!({"a": "one 7 y", "n": 12})));
    assert!(screen.contains("First: one 7 y"), "{screen:?}");
}

#[tokio::test]
async fn control_characters_are_refused_in_lines() {
    let (reply, screen) = run_dialogue(&two_fields(), "a\x1b[A\nb\n2\ny\n").await;
    assert_eq!(reply, accepted_with(json!({"a": "b", "n": 2})));
    assert!(screen.contains("`\\u{1b}` does not fit in an answer"), "{screen}");
}

#[tokio::test]
async fn arguments_are_changed_until_they_fit() {
    let question = item(json!({"page": "A"}), 1);
    // Without an editor, the line begins with the arguments.
    let keys = "e\r\x15{\"page\": 1}\r\r\x15{\"page\": \"B\"}\ry\r";
    let (reply, screen) = type_keys(&question, keys).await;
    assert_eq!(reply, accepted_with(json!({"page": "B"})));
    assert!(screen.contains("`/page` does not fit") && screen.contains("page: \"B\""), "{screen:?}");
    let (reply, screen) = type_keys(&question, "e\r\rn\r").await;
    assert_eq!(reply, answered(Answer::Decline));
    assert!(screen.contains("the arguments are unchanged"), "{screen:?}");
}
