use std::{io::BufRead, time::Duration};

use serde_json::json;

use super::*;
use crate::{
    human::lines::tests::keyboard,
    model::{Asker, AttemptId, ItemPlace, Origin, ProposedCall},
    report::screen::{Abilities, Device, Output, Size, memory::Memory},
};

/// A person who types `input`, and what is on the screen.
fn person(input: impl BufRead + Send + 'static) -> (Terminal, Memory) {
    let memory = Memory::default();
    (before(memory.clone(), Lines::of(input).expect("a thread")), memory)
}

/// A person before a screen on `device`, who types `lines`.
fn before(device: impl Device + 'static, lines: Lines) -> Terminal {
    let screen = Screen::over(device, Abilities { live: false, colour: false }).expect("a thread");
    Terminal { screen, run: "0190".into(), lines, browser: Browser("true"), turn: tokio::sync::Mutex::default() }
}

#[tokio::test]
async fn a_question_that_cannot_be_shown_waits_for_nobody() {
    struct Broken;
    impl Device for Broken {
        fn write(&mut self, _: Output, _: &str) {
            panic!("a mistake in a device")
        }
        fn size(&self) -> Size {
            Size::default()
        }
    }
    let (_keys, input) = keyboard();
    let terminal = before(Broken, Lines::of(input).expect("a thread"));
    assert_eq!(terminal.ask(&approval()).await, Reply::LeftOpen { reason: FAILED.to_owned() });
    assert_eq!(terminal.confirm("Pay?").await, Reply::LeftOpen { reason: FAILED.to_owned() });
}

fn question(message: &str, form: Form) -> Question {
    let attempt = AttemptId { task: "book".into(), number: 1 };
    let asker = Asker::Agent(Origin { agent: "travel".into(), attempt: Some(attempt), key: None });
    Question {
        id: "q1".into(),
        asker,
        item: None,
        tool: None,
        message: message.to_owned(),
        form,
        call: None,
        deadline: None,
    }
}

fn approval() -> Question {
    Question { asker: Asker::Plan { task: "publish".into() }, ..question("Post it?", Form::Approval) }
}

fn form(schema: Value) -> Form {
    Form::Fields { schema: schema.as_object().expect("an object").clone() }
}

fn url(url: &str) -> Question {
    question("Sign in, please", Form::Url { url: url.to_owned() })
}

fn said(answer: Answer) -> Reply {
    Reply::Answered { answer, by: "person at terminal".to_owned() }
}

fn accepted(content: Value) -> Reply {
    said(Answer::Accept { content: Some(content) })
}

fn yes() -> Reply {
    said(Answer::Accept { content: None })
}

/// The reply to `question` of a person who types `input`, and the transcript.
async fn dialogue(question: &Question, input: &'static str) -> (Reply, String) {
    let (terminal, memory) = person(input.as_bytes());
    let reply = terminal.ask(question).await;
    terminal.screen.flush();
    (reply, memory.text())
}

async fn reply(question: &Question, input: &'static str) -> Reply {
    dialogue(question, input).await.0
}

#[tokio::test]
async fn asks_for_every_field_until_it_fits() {
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
    let (reply, screen) = dialogue(&question("Book for\n120 EUR?", form(schema)), "maybe\n\nYES\n\n0\n2\n\n").await;
    assert_eq!(reply, accepted(json!({"confirm": true, "class": "eco", "seats": 2})));
    insta::assert_snapshot!(screen);
}

#[tokio::test]
async fn digits_with_a_leading_zero_are_asked_for_again() {
    let asked = question("How many?", form(json!({"properties": {"n": {"type": "integer"}}})));
    let (reply, screen) = dialogue(&asked, "007\n7\n").await;
    assert_eq!(reply, accepted(json!({"n": 7})));
    assert!(screen.contains("digits with a leading zero are text"), "{screen}");
}

#[tokio::test]
async fn a_person_can_decline_or_dismiss_at_any_field() {
    let asked = question("Two?", form(json!({"properties": {"a": {"type": "string"}, "b": {"type": "string"}}})));
    assert_eq!(reply(&asked, "x\n :decline \n").await, said(Answer::Decline));
    assert_eq!(reply(&asked, ":cancel\n").await, said(Answer::Cancel));
    assert_eq!(reply(&asked, "\n\n").await, accepted(json!({})));
}

#[tokio::test]
async fn a_form_without_fields_is_a_yes_or_a_no() {
    let asked = question("Sure?", form(json!({"type": "object", "properties": {}})));
    assert_eq!(reply(&asked, "y\n").await, accepted(json!({})));
    assert_eq!(reply(&asked, "n\n").await, said(Answer::Decline));
}

#[tokio::test]
async fn an_approval_takes_a_yes_or_a_no_and_nothing_else() {
    let (reply_, screen) = dialogue(&approval(), "\nsure\nYes\n").await;
    assert_eq!(reply_, yes());
    insta::assert_snapshot!(screen);
    assert_eq!(reply(&approval(), "n\n").await, said(Answer::Decline));
    assert_eq!(reply(&approval(), ":cancel\n").await, said(Answer::Cancel));
}

#[tokio::test]
async fn the_end_of_the_input_declines_and_leaves_approvals_open() {
    let asked = question("One?", form(json!({"properties": {"a": {"type": "string"}}})));
    let declined = Reply::Answered { answer: Answer::Decline, by: "no input".to_owned() };
    assert_eq!(reply(&asked, "").await, declined);
    let (reply_, screen) = dialogue(&approval(), "").await;
    assert_eq!(reply_, Reply::LeftOpen { reason: "standard input is closed".to_owned() });
    assert!(screen.ends_with("[y/n, :cancel]> \n"), "{screen}");
}

#[tokio::test]
async fn text_of_agents_cannot_command_the_terminal() {
    let evil = "\x1b]0;owned\x07\u{202e}";
    let schema = json!({"properties": {(evil): {"type": "string", "title": evil, "description": evil,
        "pattern": evil, "default": evil}, "pick": {"enum": [evil]}}});
    let asker = Asker::Agent(Origin { agent: "travel".into(), attempt: None, key: None });
    let asked = Question { asker, ..question(evil, form(schema)) };
    let (_, screen) = dialogue(&asked, "\x1b[31mx\n1\n").await;
    assert!(!screen.chars().any(|c| c == '\u{202e}' || (c.is_control() && c != '\n')), "{screen:?}");
    let (_, screen) = dialogue(&url(&format!("ftp://{evil}")), "").await;
    assert!(!screen.chars().any(|c| c == '\u{202e}' || (c.is_control() && c != '\n')), "{screen:?}");
}

#[tokio::test]
async fn a_page_is_opened_only_after_a_yes() {
    let (reply_, screen) = dialogue(&url("https://bank.com@xn--pple-43d.com/login?next=a"), "y\n").await;
    assert_eq!(reply_, yes());
    insta::assert_snapshot!(screen);

    let (mut terminal, _) = person("n\n".as_bytes());
    // Were it started, the question would be another.
    terminal.browser = Browser("false");
    assert_eq!(terminal.ask(&url("https://a.test")).await, said(Answer::Decline));

    let (mut terminal, memory) = person("y\ny\n".as_bytes());
    terminal.browser = Browser("false");
    assert_eq!(terminal.ask(&url("https://a.test")).await, yes());
    terminal.screen.flush();
    assert!(memory.text().contains("`false` failed: exit status: 1; open the address yourself"), "{}", memory.text());

    let by_the_host = Reply::Answered { answer: Answer::Decline, by: "the host".to_owned() };
    assert_eq!(reply(&url("file:///etc/passwd"), "y\n").await, by_the_host);
}

#[tokio::test]
async fn questions_queue_and_a_withdrawn_one_makes_room_for_the_next() {
    let (keys, input) = keyboard();
    let (terminal, memory) = person(input);
    let (first, second) = (approval(), question("Second?", Form::Approval));
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
    assert_eq!(reply, yes());
}

fn item(arguments: Value, of: usize) -> Question {
    let effect = crate::model::Effect::AtMostOnce;
    Question {
        asker: Asker::Plan { task: "publish[0]".into() },
        item: Some(ItemPlace { number: 1, of }),
        call: Some(ProposedCall { agent: "wiki".into(), tool: "create".into(), arguments, effect }),
        ..approval()
    }
}

#[tokio::test]
async fn one_yes_can_be_for_all_calls_of_a_task() {
    let (reply_, screen) = dialogue(&item(json!({"page": "A"}), 3), "d\n?\na\n").await;
    assert_eq!(reply_, Reply::AllApproved { by: "person at terminal".to_owned() });
    insta::assert_snapshot!(screen);
    // One call has no others.
    assert_eq!(reply(&item(json!({"page": "A"}), 1), "a\nn\n").await, said(Answer::Decline));
    assert_eq!(reply(&approval(), "all\ny\n").await, yes());
}

#[tokio::test]
async fn arguments_that_are_cut_can_be_shown_in_full() {
    let long = "x".repeat(500) + "\u{1b}[2Jend";
    let (reply_, screen) = dialogue(&item(json!({"page": long}), 1), "d\ny\n").await;
    assert_eq!(reply_, yes());
    let (before, after) = screen.split_once("[y/n/d, :cancel]> ").expect("asked");
    assert!(!before.contains("end") && after.contains("\\u001b[2Jend"), "{screen}");
    let many: serde_json::Map<_, _> = (0..20).map(|n| (format!("a{n}"), n.into())).collect();
    let (_, screen) = dialogue(&item(many.into(), 1), "d\ny\n").await;
    assert!(screen.contains("and 8 more arguments") && screen.contains("\"a19\": 19"), "{screen}");
    let kept = ProposedCall::shortened(json!({"text": "y".repeat(20_000)}));
    let (_, screen) = dialogue(&item(kept, 1), "d\ny\n").await;
    assert!(screen.contains("the rest of the arguments is not kept"), "{screen}");
}

#[tokio::test]
async fn enter_is_a_yes_to_what_the_person_has_just_asked_for() {
    for (input, answer) in [("\n", yes()), ("what\nY\n", yes()), ("n\n", said(Answer::Decline))] {
        let (terminal, _) = person(input.as_bytes());
        assert_eq!(terminal.confirm("run this plan?").await, answer, "{input:?}");
    }
}
