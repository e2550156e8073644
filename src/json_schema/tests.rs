use serde_json::{Value, json};

use super::*;

fn check(schema: Value, value: Value, limits: &SchemaLimits) -> Result<usize, SchemaCheckError> {
    CompiledSchema::compile(schema, FormatValidation::DraftDefault, limits)?
        .violations(&value, limits)
        .map(|violations| violations.len())
}

/// Checks on a thread with the stack size that the limits require.
fn check_in_background(schema: Value, value: Value) -> Result<usize, SchemaCheckError> {
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
    let work = move || check(schema, value, &SchemaLimits::BACKGROUND);
    thread.spawn(work).expect("a thread").join().expect("no panic")
}

/// Returns the kind of error for both limits.
fn error_kinds(schema: Value, value: Value) -> [&'static str; 2] {
    let name = |outcome: Result<usize, SchemaCheckError>| match outcome {
        Ok(_) => "checked",
        Err(SchemaCheckError::SchemaTooLarge(_)) => "schema",
        Err(SchemaCheckError::InvalidSchema(_)) => "invalid",
        Err(SchemaCheckError::CheckTooExpensive(_)) => "work",
    };
    [name(check(schema.clone(), value.clone(), &SchemaLimits::INLINE)), name(check_in_background(schema, value))]
}

/// Returns definitions that each refer twice to the next, under a keyword.
fn doubling_references(levels: usize, keyword: &str) -> Value {
    let reference = |level: usize| json!({"$ref": format!("#/$defs/d{level}")});
    let mut definitions = serde_json::Map::new();
    for level in 0..levels {
        definitions.insert(format!("d{level}"), json!({(keyword): [reference(level + 1), reference(level + 1)]}));
    }
    definitions.insert(format!("d{levels}"), json!({"type": "object"}));
    json!({"type": "object", "$defs": definitions, "$ref": "#/$defs/d0"})
}

fn with_key(mut schema: Value, key: &str, value: Value) -> Value {
    schema[key] = value;
    schema
}

fn nested(levels: usize, wrap: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(json!({}), |inner, _| wrap(inner))
}

#[test]
fn doubling_references_are_bounded() {
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let checked = check(doubling_references(60, keyword), json!({}), &SchemaLimits::INLINE);
        assert!(matches!(checked, Err(SchemaCheckError::CheckTooExpensive(_))), "{keyword}: {checked:?}");
        assert_eq!(error_kinds(doubling_references(5, keyword), json!({})), ["checked", "checked"], "{keyword}");
    }
    // The first keyword alone rejects a value of another type, but nothing relies on that.
    assert_eq!(error_kinds(doubling_references(60, "allOf"), json!(1)), ["work", "work"]);
}

#[test]
fn doubling_is_bounded_for_every_keyword() {
    let next = |level: usize| json!({"$ref": format!("#/definitions/{level}")});
    for definition in [
        |next: Value| json!({"if": next, "then": next, "else": next}),
        |next: Value| json!({"not": {"not": next}, "allOf": [next]}),
        |next: Value| json!({"dependentSchemas": {"a": next}, "allOf": [next]}),
        |next: Value| json!({"propertyNames": true, "properties": {"a": true}, "anyOf": [next, next]}),
    ] {
        let levels = 40;
        let definitions: serde_json::Map<_, _> = (0..levels)
            .map(|level| (level.to_string(), definition(next(level + 1))))
            .chain([(levels.to_string(), json!({}))])
            .collect();
        let schema = json!({"definitions": definitions, "$ref": "#/definitions/0"});
        let checked = check(schema.clone(), json!({"a": 1}), &SchemaLimits::INLINE);
        assert!(matches!(checked, Err(SchemaCheckError::CheckTooExpensive(_))), "{schema}: {checked:?}");
    }
}

#[test]
fn unevaluated_keywords_are_bounded_before_compilation() {
    for keyword in ["unevaluatedProperties", "unevaluatedItems"] {
        let schema = with_key(doubling_references(24, "allOf"), keyword, json!(false));
        assert_eq!(error_kinds(schema, json!({})), ["schema", "schema"], "{keyword}");
        let schema = with_key(doubling_references(3, "allOf"), keyword, json!(false));
        assert_eq!(error_kinds(schema, json!({})), ["checked", "checked"], "{keyword}");
    }
    let closed = json!({"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": false});
    assert_eq!(check(closed.clone(), json!({"a": 1}), &SchemaLimits::INLINE), Ok(0));
    assert_eq!(check(closed, json!({"b": 1}), &SchemaLimits::INLINE), Ok(1));
    // Each level repeats the checks of all levels below it.
    let deep = nested(12, |inner| json!({"allOf": [inner], "properties": {"a": {}}, "unevaluatedProperties": true}));
    let many: serde_json::Map<_, _> = (0..20).map(|index| (index.to_string(), json!(index))).collect();
    assert_eq!(error_kinds(deep, Value::Object(many)), ["work", "work"]);
}

#[test]
fn recursive_schemas_over_deep_values_are_bounded() {
    let branching = json!({"properties": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]}}});
    assert_eq!(error_kinds(branching.clone(), nested(40, |inner| json!({"a": inner}))), ["work", "work"]);
    assert_eq!(error_kinds(branching, nested(4, |inner| json!({"a": inner}))), ["checked", "checked"]);
    let list = json!({"items": {"$ref": "#"}, "uniqueItems": true});
    assert_eq!(error_kinds(list.clone(), nested(200, |inner| json!([inner]))), ["work", "checked"]);
    assert_eq!(error_kinds(list.clone(), nested(10, |inner| json!([inner]))), ["checked", "checked"]);
    assert_eq!(error_kinds(list, nested(900, |inner| json!([inner]))), ["work", "work"]);
}

#[test]
fn self_references_terminate() {
    let looping = [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"not": {"$ref": "#"}}),
        json!({"if": {"$ref": "#"}, "then": true}),
        json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        json!({"$dynamicAnchor": "m", "$dynamicRef": "#m"}),
        json!({"$anchor": "m", "allOf": [{"$ref": "#m"}]}),
        json!({"$id": "https://example.com/s", "allOf": [{"$ref": "https://example.com/s"}]}),
        json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": true, "$recursiveRef": "#"}),
    ];
    for schema in looping {
        assert_eq!(error_kinds(schema.clone(), json!({"a": 1})), ["work", "work"], "{schema}");
    }
    let tree = json!({"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}}}},
        "$ref": "#/$defs/node"});
    assert_eq!(check(tree.clone(), json!({"next": {"next": {"n": 1}}}), &SchemaLimits::INLINE), Ok(0));
    assert_eq!(check(tree, json!({"next": {"next": {"n": "x"}}}), &SchemaLimits::INLINE), Ok(1));
}

#[test]
fn dynamic_references_are_bounded() {
    let resource = |number: usize| json!({"$id": format!("r{number}"), "$dynamicAnchor": "m"});
    let schema = |count: usize| {
        let definitions: serde_json::Map<_, _> =
            (0..count).map(|number| (number.to_string(), resource(number))).collect();
        json!({"$defs": definitions, "properties": {"a": {"$dynamicRef": "#m"}}})
    };
    assert_eq!(error_kinds(schema(5), json!({})), ["schema", "schema"]);
}

#[test]
fn total_pattern_size_is_bounded() {
    let property = |pattern: &str| json!({"properties": {"s": {"pattern": pattern}}});
    for pattern in
        ["(a{1000}){1000}", "((((a{100}){100}){100}){100}){100}", "[\\p{L}]{1,4000}", "(?=x)(a{1000}b){1000}"]
    {
        assert_eq!(error_kinds(property(pattern), json!({"s": "a"})), ["schema", "schema"], "{pattern}");
    }
    let groups = format!("{}a{}", "(".repeat(50_000), ")".repeat(50_000));
    assert_eq!(error_kinds(property(&groups), json!({"s": "a"})), ["schema", "schema"]);
    let long = format!("(?=a){}", "(a|b)".repeat(300_000));
    assert_eq!(error_kinds(property(&long), json!({"s": "a"})), ["schema", "schema"]);
    let many: serde_json::Map<_, _> =
        (0..400).map(|n| (format!("s{n}"), json!({"pattern": format!("(?i)[\\w\\p{{L}}]{{1,400}}{n}")}))).collect();
    assert_eq!(error_kinds(json!({"properties": many}), json!({})), ["schema", "schema"]);
    let keys: serde_json::Map<_, _> = (0..20_000).map(|n| (format!("^(?=(a+)+b){n}"), json!({}))).collect();
    assert_eq!(error_kinds(json!({"patternProperties": keys}), json!({})), ["schema", "schema"]);
}

#[test]
fn catastrophic_patterns_are_bounded() {
    let text = json!({"s": "a".repeat(80) + "c"});
    let property = |pattern: &str| json!({"properties": {"s": {"pattern": pattern}}});
    for pattern in ["^(a|a)*$", "^(a|aa)+$", "^(a*)*$", "^([a-z]+)*\\d$"] {
        assert_eq!(check(property(pattern), text.clone(), &SchemaLimits::INLINE), Ok(1), "{pattern}");
    }
    for pattern in ["^(?=(a+)+b)(a|aa)+$(?!x)", "(.*)(.*)(.*)(.*)(.*)(.*)\\1\\2\\3\\4\\5\\6z", "^(?=(a|a)*$)b"] {
        let checked = check_in_background(property(pattern), text.clone());
        assert!(matches!(checked, Ok(1) | Err(SchemaCheckError::CheckTooExpensive(_))), "{pattern}: {checked:?}");
    }
    let password = property("^(?=.*[A-Z])(?=.*\\d).{8,}$");
    assert_eq!(check(password.clone(), json!({"s": "Passw0rdPassw0rd"}), &SchemaLimits::INLINE), Ok(0));
    assert_eq!(check(password, json!({"s": "password"}), &SchemaLimits::INLINE), Ok(1));
    // A long text with a large pattern is as much work as backtracking.
    let wide = property("^([ab]{1,2000})$");
    assert_eq!(error_kinds(wide, json!({"s": "a".repeat(10_000_000)})), ["schema", "work"]);
}

#[test]
fn large_schemas_are_rejected() {
    let refused = |schema: Value| check_in_background(schema, json!({"s": 1})).expect_err("is refused").to_string();
    let numbers = json!({"properties": {"s": {"enum": (0..1_000_000).collect::<Vec<_>>()}}});
    assert_eq!(refused(numbers), "the schema is too large to check: more than 100000 values");
    let variants: Vec<_> = (0..100_000).map(|n| json!({"properties": {"s": {"const": n}}})).collect();
    assert_eq!(refused(json!({"anyOf": variants})), "the schema is too large to check: more than 100000 values");
    let deep = nested(10_000, |inner| Value::Object(serde_json::Map::from_iter([("items".to_owned(), inner)])));
    assert_eq!(refused(deep), "the schema is too large to check: more than 256 levels of nesting");
    let long = json!({"description": "x".repeat(5_000_000)});
    assert_eq!(refused(long), "the schema is too large to check: more than 4194304 bytes");
}

#[test]
fn cost_grows_with_values() {
    let items = json!({"items": {"anyOf": vec![json!({"required": ["z"]}); 1_000]}});
    assert_eq!(error_kinds(items, json!(vec![json!({}); 10_000])), ["work", "work"]);
    let options = json!({"items": {"enum": vec![json!({"a": [1, 2, 3]}); 1_000]}});
    assert_eq!(error_kinds(options, json!(vec![json!({"a": [1, 2, 4]}); 1_000])), ["work", "work"]);
    let names = json!({"patternProperties": {"^a": {}, "^b": {}}, "additionalProperties": {"type": "string"}});
    let many: serde_json::Map<_, _> = (0..20_000).map(|index| (index.to_string(), json!(index))).collect();
    assert_eq!(error_kinds(names, Value::Object(many)), ["work", "checked"]);
}

#[test]
fn remote_references_are_not_fetched() {
    for reference in ["http://127.0.0.1:9/s.json", "file:///etc/hostname", "other.json", "#/$defs/missing", "#nowhere"]
    {
        let schema = json!({"properties": {"s": {"$ref": reference}}});
        assert_eq!(error_kinds(schema, json!({"s": 1})), ["invalid", "invalid"], "{reference}");
    }
    let schema = json!({"$schema": "http://127.0.0.1:9/meta.json", "type": "object"});
    assert_eq!(error_kinds(schema, json!({}))[1], "invalid");
}

#[test]
fn schemas_of_common_libraries_are_checked() {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/tool.json",
        "definitions": {"Room": {"enum": ["single", "double"]}, "a/b": {"type": "integer"}},
        "type": "object",
        "properties": {
            "room": {"allOf": [{"$ref": "#/definitions/Room"}], "default": "single"},
            "nights": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
            "escaped": {"$ref": "#/definitions/a~1b"}, "percent": {"$ref": "#/definitions/a%7E1b"},
        },
        "required": ["room"], "additionalProperties": false,
    });
    for limits in [SchemaLimits::INLINE, SchemaLimits::BACKGROUND] {
        let violations = |value: Value| check(schema.clone(), value, &limits);
        assert_eq!(violations(json!({"room": "double", "nights": null, "escaped": 1, "percent": 2})), Ok(0));
        assert_eq!(violations(json!({"room": "suite", "nights": 0, "escaped": "x", "percent": "y"})), Ok(4));
        assert_eq!(violations(json!({"more": 1})), Ok(2));
    }
}

#[test]
fn messages_are_truncated() {
    let schema =
        CompiledSchema::compile(json!({"type": "string"}), FormatValidation::DraftDefault, &SchemaLimits::INLINE)
            .expect("a schema");
    let value = json!((0..10_000).collect::<Vec<_>>());
    let violations = schema.violations(&value, &SchemaLimits::INLINE).expect("is small");
    assert_eq!(bounded_message(&violations[0], 12), "[0,1,2,3,4,5…");
    assert_eq!(bounded_message(&violations[0], 0), "…");
}

#[test]
fn repetitions_determine_pattern_size() {
    for (text, states) in [
        ("abc", 3),
        ("a{3}", 4),
        ("a{2,}", 3),
        ("(ab){2,5}", 18),
        ("a{x}", 4),
        ("[abc]", 5),
        ("[]a]", 4),
        ("\\d+", 17),
        ("(a|b)*", 5),
    ] {
        assert_eq!(pattern::state_count(text), states, "{text}");
    }
    assert_eq!(pattern::state_count("a{99999999999999999999}{99999999999999999999}"), u64::MAX);
    assert_eq!(pattern::state_count(&"(".repeat(101)), u64::MAX);
    for (text, backtracks) in [("a(?=b)", true), ("(a)\\1", true), ("a\\d", false), ("(?:a)", false), ("(?<!a)", true)]
    {
        assert_eq!(pattern::is_backtracking(text), backtracks, "{text}");
    }
}
