//! The semantics of `resource()`.

use super::*;
use crate::model::TaskId;

/// The resources `note://1`, which is JSON, and `note://2`, which could not be read.
struct ReadResource(ToolOutput);

impl TaskLookup for ReadResource {
    fn task(&self, id: &str) -> Option<TaskView<'_>> {
        let read = |uri: &str| TaskId::resource_read("docs", uri).as_str() == id;
        let output = Some(&self.0).filter(|_| read("inputs.uri") || read("'note://1'"));
        let status = if output.is_some() { "succeeded" } else { "failed" };
        let is_known = output.is_some() || read("'note://2'");
        is_known.then_some(TaskView { status, agent: Some("docs"), error: None, output, items: None })
    }

    fn item(&self, _: usize) -> Option<TaskView<'_>> {
        None
    }
}

fn evaluate_text(text: &str) -> Result<Value, ExpressionError> {
    let documents =
        ReadResource(ToolOutput::new([json!({"type": "text", "text": "-"})], Some(json!({"items": ["milk", "tea"]}))));
    let inputs = json!({"uri": "note://1", "deep": {"x": 1}});
    evaluate(&expression(text), &Scope::new(&inputs, &documents))
}

#[test]
fn calls_are_the_contents_of_their_resource() {
    for (text, value) in [
        ("resource('docs', 'note://1')", json!({"items": ["milk", "tea"]})),
        ("resource( \"docs\" ,'note://1' ).items[-1]", json!("tea")),
        ("resource('docs', inputs.uri).items | length", json!(2)),
        ("'tea' in resource('docs', inputs.uri)['items'] and inputs.deep.x == 1", json!(true)),
        ("resource('docs', 'note://2') | default('none')", json!("none")),
        ("resource('docs', inputs.uri).missing is defined", json!(false)),
    ] {
        assert_eq!(evaluate_text(text), Ok(value), "{text}");
    }
}

#[test]
fn missing_contents_and_keys_are_reported() {
    for (text, kind) in [
        ("resource('docs', 'note://2')", ExpressionErrorKind::NoOutput),
        ("resource('docs', 'note://3')", ExpressionErrorKind::UnknownTask),
        ("resource('docs', inputs.uri).missing", ExpressionErrorKind::UnknownKey),
        ("resource('docs', inputs.uri).items[7]", ExpressionErrorKind::IndexOutOfRange),
    ] {
        assert_eq!(evaluate_text(text).map_err(|error| error.kind), Err(kind), "{text}");
    }
    let error = evaluate_text("resource('docs', inputs.uri).missing").unwrap_err();
    assert!(error.message.starts_with("`resource('docs', inputs.uri)` has no key `missing`"), "{error}");
}

#[test]
fn calls_are_references_with_literal_agents() {
    let found = |text: &str| {
        let (text, checked) = (text.to_owned(), check(text).map_err(|error| error.kind));
        checked.map(|checked| {
            let references = checked.references().map(|(reference, range)| match reference {
                Reference::Resource { agent, uri, offset } => {
                    assert_eq!(&text[offset..offset + uri.len()], uri);
                    (agent.to_owned(), uri.to_owned(), text[range].to_owned())
                }
                other => panic!("{other:?}"),
            });
            references.collect::<Vec<_>>()
        })
    };
    let reference = |uri: &str, text: &str| ("docs".to_owned(), uri.to_owned(), text.to_owned());
    let text = "resource('docs', 'a)' ~ f(')')).x ~ resource('docs', [inputs.a, 1])";
    // The URI is checked, too.
    assert_eq!(found(text), Err(ExpressionErrorKind::UnknownFunction));
    assert_eq!(
        found("resource('docs', 'a)' ~ (1 + 1)).x ~ resource('docs', [inputs.a, 1] )"),
        Ok(vec![
            reference("'a)' ~ (1 + 1)", "resource('docs', 'a)' ~ (1 + 1)).x"),
            reference("[inputs.a, 1]", "resource('docs', [inputs.a, 1] )"),
        ])
    );
    for text in ["resource()", "resource('docs')", "resource(docs, 'x')", "resource('docs', )", "resource('docs', 'x'"]
    {
        assert_eq!(found(text), Err(ExpressionErrorKind::InvalidSyntax), "{text}");
    }
    // Without a call, it is a name like any other.
    assert_eq!(references(&expression("resource.x")), Ok(vec![Reference::Name("resource")]));
}
