//! Expressions with values far larger than their text are rejected, and ordinary expressions are not affected.

use super::*;
use crate::model::SavedFile;

fn value_of(text: &str, inputs: &Value) -> Result<Value, ExpressionError> {
    evaluate(&expression(text), &Scope::new(inputs, &NoTasks))
}

/// Returns the error of an expression.
fn error_message(text: &str, inputs: &Value) -> String {
    match value_of(text, inputs) {
        Ok(_) => panic!("{text} has a value"),
        Err(error) => error.message,
    }
}

const VALUES: &str = "the expression creates more than 1000000 values";

#[test]
fn repetition_is_bounded_in_every_context() {
    let repeated = "([[1] * 1000] * 1000 * 1000)";
    let long = "([1] * 40000000)";
    for text in [
        "[1] * 2000000",
        "2000000 * [1]",
        "[[1] * 100000] * 20",
        "([1] * 90000000)[1:]",
        "[] + [1] * 90000000",
        "{'a': [1] * 90000000}",
        "1 if [1] * 90000000 else 2",
        "([1] * 90000000) and 1",
        "([1] * 90000000) is defined",
        "inputs.none | default([1] * 90000000)",
        "(1, 2) * 40000000 == 1",
        "[1] * 1000 * 1000 * 50",
        "[1] * inputs.many",
        "(range(2) | zip(range(2)))[0] * 40000000",
        "({'a': 1} | items)[0] * 40000000",
        "range(100000) * 1000",
        "'a' * 90000000",
        "('a' or 'b') * 90000000",
        "('a,' * 3000000) | split(',')",
        "('a' * 60000000) | list",
        "('a' * 60000000) | sort",
        "('a' * 60000000) | map('upper')",
        "('[' * 5000000) | fromjson",
        "('[1,' * 1000000) | fromjson",
    ] {
        assert_eq!(error_message(text, &json!({"many": 90_000_000})), VALUES, "{text}");
    }
    for operand in [repeated, long] {
        for text in [
            format!("{operand} == {operand}"),
            format!("{operand} != {operand}"),
            format!("{operand} < {operand}"),
            format!("1 < {operand} < {operand}"),
            format!("2 in {operand}"),
            format!("{operand} in [{operand}]"),
            format!("{operand} not in {operand}"),
            format!("{operand} ~ ''"),
            format!("{operand} + {operand}"),
            format!("{operand} * 2"),
            format!("{operand}[::-1]"),
            format!("{operand}[:1]"),
            format!("{operand}[0]"),
            format!("{operand} is eq({operand})"),
            format!("2 is in({operand})"),
            format!("not {operand}"),
            format!("[{operand}]"),
        ]
        .into_iter()
        .chain(jinja::names(scan::InvocationKind::Filter).map(|filter| format!("{operand} | {filter}")))
        {
            assert_eq!(error_message(&text, &json!({})), VALUES, "{text}");
        }
    }
}

#[test]
fn steps_are_counted_across_an_evaluation() {
    let twenty = format!("range(100000){}", "| list".repeat(60));
    let slices = format!("(range(100000) | list){}", "[::-1]".repeat(60));
    let sums = format!("[0]{}", " + range(100000) | list".repeat(30));
    let texts = format!("'a' * 60000000{}", " ~ 'b'".repeat(400));
    let copies = format!("[{}]", ["'a' * 60000000"; 6].join(","));
    let paths = format!("[{}] | length", ["inputs.list"; 50].join(","));
    for text in [
        &twenty,
        &sums,
        &texts,
        &copies,
        "range(100000) | select('in', range(100000) | list) | list",
        "range(100000) | map('string') | map('replace', '', 'x' * 60000) | list",
        "range(50000) | map('replace', '', 'x' * 100000)",
        "('a' * 1000000) | trim('b' * 1000000 ~ 'a')",
    ] {
        let shown: String = text.chars().take(60).collect();
        let error = value_of(text, &json!({})).expect_err(&shown);
        assert_eq!(error.kind, ExpressionErrorKind::LimitExceeded, "{shown}: {error}");
    }
    assert_eq!(error_message(&slices, &json!({})), "the expression has more than 16 slices");
    let list: Vec<_> = (0..100_000).collect();
    assert_eq!(error_message(&paths, &json!({"list": list})), "the expression reads more than 4000000 values");
    let deep = (0..300).fold(json!(1), |inner, _| json!([inner]));
    let inputs = json!({"deep": deep});
    assert_eq!(
        error_message("inputs.deep == inputs.deep", &inputs),
        "lists and objects are nested more than 256 levels deep"
    );
}

#[test]
fn texts_have_size_limits() {
    for (text, message) in [
        ("'aaaa' | replace('', 'b' * 60000000)", "the text would be larger than 67108864 bytes"),
        ("range(99999) | map('string') | join('x' * 100000)", "the joined text is larger than 67108864 bytes"),
        ("['x' * 60000000, 'x' * 60000000] | sum(start='')", VALUES),
        ("'a' * 10000000000", "repeated string is too large"),
        ("range(10000000000)", "range has too many elements"),
    ] {
        assert_eq!(error_message(text, &json!({})), message, "{text}");
    }
}

#[test]
fn rendered_text_is_bounded() {
    let inputs = json!({"page": "x".repeat(1_000_000)});
    let scope = Scope::new(&inputs, &NoTasks);
    let text = |copies: usize| Template(json!(["${{ inputs.page }}\n".repeat(copies)]));
    let error = render(&text(100), &scope).expect_err("is too large");
    assert_eq!(error.message, "the text with its values is larger than 67108864 bytes");
    assert_eq!(render(&text(2), &scope).unwrap()[0].as_str().map(str::len), Some(2_000_002));
}

#[test]
fn sum_copies_each_list_or_text_once() {
    // With a copy for each list, these would take hours.
    let inputs = json!({"lists": vec![json!([1, 2]); 100_000], "maps": [{"rows": [1]}, {}, {"rows": [2, 3]}]});
    assert_eq!(value_of("inputs.lists | sum(start=[]) | length", &inputs), Ok(json!(200_000)));
    for (text, value) in [
        ("inputs.maps | sum(start=[], attribute='rows')", json!([1, 2, 3])),
        ("inputs.maps | sum('rows', [0])", json!([0, 1, 2, 3])),
        ("['a', 'b'] | sum(start='')", json!("ab")),
        ("[1, 2.5] | sum", json!(3.5)),
        ("[{'n': 1}, {'n': 2}] | sum(attribute='n')", json!(3)),
        ("[1] | sum(start=2)", json!(3)),
        ("[] | sum", json!(0)),
    ] {
        assert_eq!(value_of(text, &inputs), Ok(value), "{text}");
    }
    for (text, message) in [
        ("[[1], 2] | sum(start=[])", "`sum` with a list as `start` adds lists only, not number"),
        ("[[1]] | sum", "can only sum numbers, got sequence"),
    ] {
        assert_eq!(error_message(text, &inputs), message);
    }
}

#[test]
fn values_within_the_limits_are_computed() {
    let inputs = json!({"list": [1, 2, 3], "text": "añb", "n": 2, "map": {"a": 1}, "other": {"a": 2, "b": 3}});
    for (text, value) in [
        ("([[1, 2] * 2] * 2) | list", json!([[1, 2, 1, 2], [1, 2, 1, 2]])),
        ("range(100000) | list | length", json!(100_000)),
        ("(['ab'] * 3) | join('-')", json!("ab-ab-ab")),
        ("[3, 1] | sort(reverse=true) | first", json!(3)),
        ("inputs.list[1:]", json!([2, 3])),
        ("inputs.list[::-1]", json!([3, 2, 1])),
        ("inputs.list[1:][0] + inputs.n", json!(4)),
        ("inputs.text[1:2] ~ 'x' * 2", json!("ñxx")),
        ("inputs.list + [4]", json!([1, 2, 3, 4])),
        ("(inputs.list + [4])[-1]", json!(4)),
        ("inputs.list * inputs.n == inputs.list + inputs.list", json!(true)),
        ("inputs.list == [1] + [2, 3]", json!(true)),
        ("-inputs.n * 3 + 1", json!(-5)),
        ("(1 + 2) * (3 + 4)", json!(21)),
        ("2 ** 3 * 2 // 3 % 4", json!(1)),
        ("'a' + 'b' ~ 1", json!("ab1")),
        ("{'a' ~ 'b': [1 + 1]}", json!({"ab": [2]})),
        ("(1, 2) * 2", json!([1, 2, 1, 2])),
        ("(1,) + () == [1]", json!(true)),
        ("inputs.n in (1, 2)", json!(true)),
        ("1 < 1 + 1 < 3", json!(true)),
        ("inputs.list | map('default', 1 + 1) | list", json!([1, 2, 3])),
        ("inputs.list | select('>=', 1 + 1)", json!([2, 3])),
        ("[{'a': 1}, {'a': 2}] | selectattr('a', '==', 2) | list", json!([{"a": 2}])),
        ("inputs.list | reverse", json!([3, 2, 1])),
        ("inputs.list | zip(inputs.list[1:])", json!([[1, 2], [2, 3]])),
        ("inputs.list | chain([4], range(2))", json!([1, 2, 3, 4, 0, 1])),
        ("inputs.map | chain(inputs.other) | dictsort", json!([["a", 2], ["b", 3]])),
        ("(inputs.map | chain(inputs.other)).b", json!(3)),
        ("inputs.text | trim('a') ~ ('  x ' | trim)", json!("ñbx")),
        ("('[1, \"a,b\", {\"c\": [2]}]' | fromjson)[2].c * 2", json!([2, 2])),
        ("[1, 2] | sum + 1", json!(4)),
        ("dict(a=1 + 1)", json!({"a": 2})),
        ("range(1, 3) | map('string') | join('+')", json!("1+2")),
    ] {
        assert_eq!(value_of(text, &inputs), Ok(value), "{text}");
    }
}

#[test]
fn large_texts_are_passed_on_and_not_read() {
    let file = SavedFile { name: "t-1.txt".to_owned(), bytes: 9, sha256: "0".repeat(64), is_text: true };
    let inputs =
        json!({"big": file.reference(), "output": {"stdout": file.reference(), "code": 0}, "yes": true, "small": "x"});
    for (text, value) in [
        ("inputs.big", &inputs["big"]),
        ("inputs.big | default('')", &inputs["big"]),
        ("inputs.output.stdout if inputs.yes else inputs.small", &inputs["big"]),
        ("inputs.small if inputs.yes else inputs.big", &inputs["small"]),
        ("inputs.output | default({})", &inputs["output"]),
        ("inputs.output.code + 0", &json!(0)),
    ] {
        assert_eq!(value_of(text, &inputs), Ok(value.clone()), "{text}");
    }
    for text in
        ["inputs.big | length", "'x' in inputs.big", "inputs.big ~ '!'", "inputs.output | tojson", "not inputs.big"]
    {
        let error = value_of(text, &inputs).expect_err(text);
        assert_eq!(error.kind, ExpressionErrorKind::LimitExceeded, "{text}: {error}");
        assert!(error.message.contains("is only in a file, which has 9 bytes"), "{text}: {error}");
    }
}

#[test]
fn errors_are_located_in_the_original_expression() {
    let inputs = json!({"n": 1, "text": "x", "list": []});
    for (text, part) in [
        ("1 + (inputs.text * inputs.text) + 2", "inputs.text * inputs.text"),
        ("[1 + 1, inputs.n + inputs.list]", "inputs.n + inputs.list"),
        ("1 + inputs.nope", "inputs.nope"),
        ("(1 + 1) * (2 +) ", "(1 + 1) * (2 +) "),
        ("1 + 1 | nope", "nope"),
        ("2 * (1 / 0)", "1 / 0"),
    ] {
        let error = value_of(text, &inputs).expect_err(text);
        let range = error.range.expect("a range");
        assert!(range.end <= text.len() && text.get(range.clone()).is_some(), "{text}: {range:?}");
        if text != "(1 + 1) * (2 +) " {
            assert_eq!(&text[range], part, "{text}: {}", error.message);
        }
    }
}
