use serde_json::{Value, json};

use super::field::FormField;
use super::form_schema::FormSchema;
use crate::model::JsonObject;

fn fields(schema: Value) -> FormSchema {
    let Value::Object(schema) = schema else { panic!("an object") };
    FormSchema::parse_schema(&schema)
}

fn field(property: Value) -> FormField {
    let form = json!({"properties": {"f": property}, "required": ["f"]});
    fields(form).fields.remove(0)
}

/// Asserts the result of each line: a value, or the expected input.
fn parses(property: Value, lines: &[(&str, Result<Value, &str>)]) {
    let field = field(property);
    for (line, expected) in lines {
        let got = field.parse(line);
        match expected {
            Ok(value) => assert_eq!(got.as_ref(), Ok(value), "{line}"),
            Err(expected) => {
                let problem = got.expect_err(line);
                assert_eq!(problem.split_once(": expected ").map(|(_, rest)| rest), Some(*expected), "{problem}");
            }
        }
    }
}

#[test]
fn reads_numbers_and_their_ranges() {
    let range = "a whole number, 1 to 5";
    parses(
        json!({"type": "integer", "minimum": 1, "maximum": 5}),
        &[(" 3 ", Ok(json!(3))), ("+4", Ok(json!(4))), ("6", Err(range)), ("2.5", Err(range)), ("two", Err(range))],
    );
    parses(
        json!({"type": "number", "minimum": 0.5}),
        &[
            ("2", Ok(json!(2))),
            ("1e3", Ok(json!(1000.0))),
            ("0.4", Err("a number, at least 0.5")),
            ("NaN", Err("a number, at least 0.5")),
            ("inf", Err("a number, at least 0.5")),
        ],
    );
    parses(json!({"type": "integer"}), &[("18446744073709551615", Ok(json!(u64::MAX)))]);
}

#[test]
fn digits_with_a_leading_zero_are_not_numbers() {
    let whole = "a whole number; digits with a leading zero are text, and a number is written without it";
    let number = whole.replace("whole number", "number");
    let wrong = |text| Err::<Value, _>(text);
    parses(
        json!({"type": "integer"}),
        &[
            ("007", wrong(whole)),
            ("-01", wrong(whole)),
            ("+00", wrong(whole)),
            ("0", Ok(json!(0))),
            ("70", Ok(json!(70))),
        ],
    );
    parses(
        json!({"anyOf": [{"type": "number"}, {"type": "null"}]}),
        &[("01.5", wrong(&number)), ("00", wrong(&number)), ("0.5", Ok(json!(0.5))), ("-0.5", Ok(json!(-0.5)))],
    );
    parses(json!({"type": "string"}), &[("007", Ok(json!("007")))]);
    parses(json!({"type": ["integer", "string"]}), &[("007", Ok(json!("007"))), ("7", Ok(json!(7)))]);
    let form = fields(json!({"properties": {"n": {"type": "integer"}}}));
    let given = json!({"n": "007"}).as_object().cloned().expect("an object");
    assert_eq!(form.complete_answer(given), Err(format!("`n`: \"007\" does not fit: expected {whole}")));
}

#[test]
fn answer_that_violates_a_form_constraint_names_the_path() {
    let form = fields(json!({
        "properties": {"a/b": {"type": "string"}, "n": {"type": "integer"}},
        "if": {"properties": {"n": {"const": 1}}}, "then": {"properties": {"a/b": {"minLength": 3}}},
    }));
    let complete = |given: Value| form.complete_answer(given.as_object().cloned().expect("an object"));
    assert_eq!(complete(json!({"a/b": "x", "n": 2})), Ok(json!({"a/b": "x", "n": 2})));
    assert_eq!(complete(json!({"a/b": 5, "n": 2})), Err("`a/b`: 5 does not fit: expected text".to_owned()));
    let problem = complete(json!({"a/b": "x", "n": 1})).expect_err("is too short");
    assert!(problem.starts_with("at `/a~1b`: "), "{problem}");
}

#[test]
fn parses_yes_and_no() {
    let wrong = || Err("yes or no");
    parses(
        json!({"type": ["null", "boolean"]}),
        &[("y", Ok(json!(true))), ("No", Ok(json!(false))), ("TRUE", Ok(json!(true))), ("1", wrong()), ("ja", wrong())],
    );
}

#[test]
fn checks_the_length_the_form_and_the_format_of_text() {
    parses(
        json!({"type": "string", "minLength": 2, "maxLength": 3}),
        &[("éé", Ok(json!("éé"))), ("a", Err("text, 2 to 3 characters")), ("abcd", Err("text, 2 to 3 characters"))],
    );
    parses(
        json!({"type": "string", "pattern": "^[A-Z]+$"}),
        &[("LIS", Ok(json!("LIS"))), ("lis", Err("text, of the form `^[A-Z]+$`"))],
    );
    for (format, good, bad, expected) in [
        ("email", "a@example.com", "a at example", "an e-mail address"),
        ("uri", "https://example.com/a", "example dot com", "an address such as `https://example.com`"),
        ("date", "2026-02-28", "2026-02-30", "a date such as `2026-11-30`"),
        ("date-time", "2026-02-28T10:00:00Z", "2026-02-28", "a date and time such as `2026-11-30T18:00:00Z`"),
    ] {
        parses(json!({"type": "string", "format": format}), &[(good, Ok(json!(good))), (bad, Err(expected))]);
    }
}

#[test]
fn picks_choices_by_value_title_or_number() {
    let expected = || Err("one of the choices");
    let titled = json!({"type": "string", "oneOf": [
        {"const": "lis", "title": "Lisbon"}, {"const": "opo", "title": "Porto"},
    ]});
    parses(
        titled,
        &[
            ("lis", Ok(json!("lis"))),
            ("porto", Ok(json!("opo"))),
            ("2", Ok(json!("opo"))),
            ("3", expected()),
            ("0", expected()),
            ("Faro", expected()),
        ],
    );
    let named = json!({"type": "string", "enum": ["a", "A"], "enumNames": ["First", "Second"]});
    parses(named, &[("a", Ok(json!("a"))), ("A", Ok(json!("A"))), ("first", Ok(json!("a")))]);
    // A value that is a number means itself, never a position in the list.
    parses(json!({"enum": ["2", "1"]}), &[("1", Ok(json!("1"))), ("2", Ok(json!("2")))]);
    parses(json!({"type": "integer", "enum": [10, 20]}), &[("20", Ok(json!(20))), ("1", expected())]);
}

#[test]
fn picks_any_number_of_choices_once_each() {
    let expected = || Err("choices with commas between, 1 to 2 choices");
    parses(
        json!({"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string", "enum": ["red", "blue", "green"]}}),
        &[
            ("red, 2,red", Ok(json!(["red", "blue"]))),
            (",", expected()),
            ("1,2,3", expected()),
            ("red,pink", expected()),
        ],
    );
    parses(
        json!({"type": "array", "items": {"anyOf": [{"const": 1, "title": "One"}]}}),
        &[("one", Ok(json!([1]))), ("", Ok(json!([])))],
    );
}

#[test]
fn unknown_types_accept_json() {
    parses(
        json!({"type": "object", "required": ["a"]}),
        &[(r#"{"a": 1}"#, Ok(json!({"a": 1}))), ("{}", Err("JSON")), ("a", Err("JSON"))],
    );
    parses(json!({"type": "nonsense"}), &[("5", Ok(json!(5)))]);
    parses(json!(true), &[("5", Ok(json!(5)))]);
    parses(json!({"type": "string", "pattern": "("}), &[("x", Ok(json!("x")))]);
}

#[test]
fn completes_answers_with_defaults_and_describes_problems() {
    let form = fields(json!({
        "type": "object",
        "properties": {
            "confirm": {"type": "boolean"},
            "seats": {"type": "integer", "minimum": 1, "default": 2},
            "notes": {"type": "string"},
        },
        "required": ["confirm", "seats"],
    }));
    let complete = |given: Value| match given {
        Value::Object(given) => form.complete_answer(given),
        _ => panic!("an object"),
    };
    assert_eq!(complete(json!({"confirm": true})), Ok(json!({"confirm": true, "seats": 2})));
    for (given, problem) in [
        (json!({}), "`confirm` is required"),
        (json!({"confirm": "yes"}), "`confirm`: \"yes\" does not fit: expected yes or no"),
        (json!({"confirm": true, "seats": 0}), "`seats`: 0 does not fit: expected a whole number, at least 1"),
        (json!({"confrim": true}), "`confrim` is not a field of the form; it has `confirm`, `seats`, `notes`"),
    ] {
        assert_eq!(complete(given), Err(problem.to_owned()));
    }
    assert_eq!(fields(json!({})).complete_answer(JsonObject::new()), Ok(json!({})));
}

#[test]
fn shows_choices_and_values_as_they_are_typed() {
    let shown = |property: Value, value: Value| field(property).format_value(&value);
    assert_eq!(shown(json!({"type": "boolean"}), json!(false)), "no");
    assert_eq!(shown(json!({"oneOf": [{"const": "a", "title": "First"}]}), json!("a")), "First");
    assert_eq!(shown(json!({"type": "array", "items": {"enum": ["a", "b"]}}), json!(["a", "b"])), "a, b");
    let picks = |property: Value| field(property).choices().map(|(pick, _)| pick).collect::<Vec<_>>();
    assert_eq!(picks(json!({"enum": ["a", "b"]})), ["1", "2"]);
    assert_eq!(picks(json!({"enum": [10, 20]})), ["10", "20"]);
}
