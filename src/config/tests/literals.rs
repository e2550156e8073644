//! Tests of text with a literal `${{`.

use super::*;

/// Returns the diagnostics of a plan with this text as an argument.
fn plan_errors(text: &str) -> String {
    let text = serde_json::Value::from(text).to_string();
    let plan = format!("name: x\ntasks:\n  - {{ id: a, agent: research, tool: fetch, with: {{ text: {text} }} }}\n");
    load_plan("plan.yaml", &plan, &agents(), None).map(|_| String::new()).unwrap_or_else(|errors| errors.to_string())
}

#[test]
fn literal_openings_get_help() {
    for text in [
        "env: { SHA: ${{ github.sha }} }",
        "${{ github.sha }}",
        "if: ${{ hashFiles('a') }}",
        "${{ secrets.TOKEN }} and ${{ input.x }}",
        "tag ${{ inputs.tag }}",
        "${{ matrix.os && runner.os }}",
        "${{ if eq(variables.x, 'y') }}:",
        "Explain ${{ unclosed",
        "empty ${{ }}",
    ] {
        let mistakes = plan_errors(text);
        assert!(mistakes.contains("a literal `${{` is written `$${{`"), "{text}: {mistakes}");
    }
}

#[test]
fn other_templates_are_text() {
    for text in ["{{ x }} {% if y %} ${x} #{x} <%= x %> $(x) %{x}", "env: $${{ github.sha }}", "$${{ a", "{{{{ }}"] {
        assert_eq!(plan_errors(text), "", "{text}");
    }
}

#[test]
fn conditions_are_never_literal() {
    let plan = "name: x\ntasks:\n  - { id: a, agent: research, tool: fetch, if: github.sha }\n";
    let errors = load_plan("plan.yaml", plan, &agents(), None).expect_err("refused").to_string();
    assert!(errors.contains("unknown name `github`") && !errors.contains("$${{"), "{errors}");
}
