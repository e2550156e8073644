//! Tests with files that try to hang, flood, or crash the host.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// A generous limit for a debug build on a busy machine; a hang or a quadratic algorithm takes far longer.
const MAX_TEST_DURATION: Duration = Duration::from_secs(60);

fn task_yaml(id: usize, needs: Option<usize>) -> String {
    let needs = needs.map(|needs| format!(", needs: [t{needs}]")).unwrap_or_default();
    format!("  - {{ id: t{id}, agent: travel, tool: x{needs} }}\n")
}

#[test]
fn accepts_a_chain_of_100_000_tasks() {
    let text: String = (0..100_000).map(|id| task_yaml(id, id.checked_sub(1))).collect();
    let plan =
        load_plan("x", &format!("tasks:\n{text}"), &agents(), None).unwrap_or_else(|errors| panic!("{errors}")).plan;
    assert_eq!(plan.tasks.len(), 100_000);
}

#[test]
fn reports_a_cycle_of_1_000_tasks_in_one_line() {
    let text: String = (0..1_000).map(|id| task_yaml(id, Some((id + 1) % 1_000))).collect();
    let errors = load_plan("x", &format!("tasks:\n{text}"), &agents(), None).expect_err("a cycle");
    assert_eq!(
        errors.list().iter().map(|diagnostic| diagnostic.message.as_str()).collect::<Vec<_>>(),
        ["tasks depend on each other: `t0` needs `t1`, `t1` needs `t2`, `t2` needs `t3`, `t3` needs `t4`, \
          `t4` needs `t5`, … 994 more …, `t999` needs `t0`"]
    );
}

#[test]
fn large_files_are_read_in_bounded_time() {
    let million = 1_000_000;
    let one = "tasks:\n  - id: a\n    agent: travel\n    tool: x\n    with:\n      a: ";
    for text in [
        format!("name: \"{}\"\ntasks: []", "x".repeat(10 * million)),
        format!("tasks: [{}]", "a, ".repeat(million / 4)),
        format!("tasks:\n{}", "  - { idd: a, agnet: travel }\n".repeat(million / 20)),
        "- ".repeat(5 * million),
        "[".repeat(10 * million),
        "{a: ".repeat(2 * million),
        format!("{one}|\n{}", "        ${{ x }}\n".repeat(million / 20)),
        format!("{one}|\n{}", "        ${{ tasks.a.output }}\n".repeat(million / 20)),
        format!("{one}\"{}\"", "${{".repeat(million)),
        format!("{one}\"{}\"", "${{ '}}".repeat(million / 4)),
        format!("{one}\"${{{{ {} }}}}\"", "1+".repeat(million)),
    ] {
        let start = Instant::now();
        if let Err(errors) = load_plan("x", &text, &agents(), None) {
            let shown = rendered(&errors).len() + errors.to_string().len();
            assert!(shown < million, "{shown} for {}", &text[..60.min(text.len())]);
        }
        assert!(start.elapsed() < MAX_TEST_DURATION, "{:?} for {}", start.elapsed(), &text[..60.min(text.len())]);
    }
}

#[test]
fn limits_alias_expansion() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let errors = load_test_plan(&text).expect_err("it repeats too much");
    assert!(errors.list().iter().any(|diagnostic| diagnostic.code == "plan::alias"), "{errors}");
}

#[test]
fn limits_the_nesting_of_arguments() {
    let nested = |depth: usize| {
        format!(
            "tasks: [{{ id: a, agent: travel, tool: x, with: {{ a: {}1{} }} }}]",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(load_test_plan(&nested(55)).is_ok());
    assert_eq!(diagnostic_codes(&nested(100)), [("plan::too_deep".to_owned(), 1)]);
}

proptest! {
    #[test]
    fn never_panics_on_arbitrary_text(text in "\\PC{0,200}") {
        let _ = load_test_plan(&text).map_err(|errors| rendered(&errors));
        let _ = parse_agents("x", &text, &TestEnvironment::of(&[])).map_err(|errors| rendered(&errors));
    }

    #[test]
    fn never_panics_on_an_edited_plan(
        at in 0_usize..1_300,
        length in 0_usize..40,
        put in "[\\[\\]{}:,#&*!|>'\"%@`$ \n\ta-c0-9äé-]{0,12}",
    ) {
        let plan = include_str!("broken.yaml");
        let start = (0..=at.min(plan.len())).rev().find(|&at| plan.is_char_boundary(at)).unwrap_or(0);
        let end = (start + length).min(plan.len());
        let changed = format!("{}{put}{}", &plan[..start], &plan[end..]);
        if let Err(errors) = load_test_plan(&changed) {
            rendered(&errors);
            for diagnostic in errors.list() {
                if let Some(position) = diagnostic.position {
                    prop_assert!(changed.get(position.offset..position.offset + position.length).is_some());
                }
            }
        }
    }

    #[test]
    fn never_panics_on_an_edited_agents_file(at in 0_usize..500, length in 0_usize..40, put in "[\\[\\]{}=.,#'\"$ \
                                                                                                \na-c0-9ä-]{0,12}") {
        let file = include_str!("broken.toml");
        let start = at.min(file.len());
        let end = (start + length).min(file.len());
        let changed = format!("{}{put}{}", &file[..start], &file[end..]);
        let _ = parse_agents("x", &changed, &TestEnvironment::of(&[("TIME", "1s")])).map_err(|errors| rendered(&errors));
    }
}
