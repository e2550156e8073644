//! Formats the spending of a run by task and agent, next to their budgets. The sums come from the view.

use indexmap::IndexMap;
use serde::Serialize;

use crate::model::{Budget, Plan, Task, TaskId};
use crate::ui::text_table::{TableRow, TextTable};
use crate::view::text::count_text;
use crate::view::{RunResult, SpendingBreakdown, SpendingTotals};

/// The columns after the name.
const COLUMNS: [&str; 6] = ["LLM calls", "tokens in", "tokens out", "cost", "tool calls", "budget"];

/// The budgets of a run and its tasks. Absent budgets are omitted in JSON.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Budgets {
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Budget>,
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    tasks: IndexMap<TaskId, Budget>,
}

impl Budgets {
    /// Returns the budgets of a plan.
    pub(super) fn from_plan(plan: &Plan) -> Self {
        let bounded = |budget: Budget| Some(budget).filter(|budget| *budget != Budget::default());
        // The budget of a plan that runs once is that of its task.
        let of_plan = |task: &Task| {
            let plan = task.group()?.plan.as_ref().filter(|_| task.foreach.is_none() && task.repeat.is_none());
            bounded(plan?.budget)
        };
        let budget = |task: &Task| bounded(task.budget).or_else(|| of_plan(task));
        let tasks = plan.tasks.iter().filter_map(|task| Some((task.id.clone(), budget(task)?)));
        Self { run: bounded(plan.budget), tasks: tasks.collect() }
    }

    /// Returns whether there are no budgets.
    pub(super) fn is_empty(&self) -> bool {
        self.run.is_none() && self.tasks.is_empty()
    }
}

/// A row of the table.
struct SpendingRow<'a> {
    name: String,
    spent: SpendingTotals,
    budget: Option<&'a Budget>,
}

/// Formats the spending of each task and agent, without empty columns.
///
/// Returns an empty table for a run without model calls and budgets, since its tasks show their attempts.
pub(super) fn spending_table(result: &RunResult, spending: &SpendingBreakdown, budgets: &Budgets) -> TextTable {
    let mut table = TextTable::default();
    if result.spent.llm_calls == 0 && budgets.is_empty() {
        return table;
    }
    let rows = spending_rows(result, spending, budgets);
    let cells: Vec<[String; COLUMNS.len()]> = rows.iter().map(SpendingRow::cells).collect();
    let shown: Vec<usize> =
        (0..COLUMNS.len()).filter(|column| cells.iter().any(|cells| !cells[*column].is_empty())).collect();
    table.push(TableRow::new(std::iter::once("").chain(shown.iter().map(|column| COLUMNS[*column]))));
    for (row, cells) in rows.iter().zip(&cells) {
        let name = row.name.as_str();
        let table_row = TableRow::new(std::iter::once(name).chain(shown.iter().map(|column| cells[*column].as_str())));
        table.push(match row.spent.unreported_replies {
            0 => table_row,
            unreported => table_row.with_detail(format!(
                "and the tokens of {}, which the endpoint did not report; a budget counts their maximum",
                total_text(unreported, "LLM call")
            )),
        });
    }
    table
}

/// Returns the rows for planning, for tasks with spending or a budget, for agents, and for the total.
fn spending_rows<'a>(result: &RunResult, spending: &SpendingBreakdown, budgets: &'a Budgets) -> Vec<SpendingRow<'a>> {
    let row = |name: String, spent: SpendingTotals| SpendingRow { name, spent, budget: None };
    let planning = spending.planning.map(|spent| row("planning".to_owned(), spent));
    let tasks = result.tasks.keys().filter_map(|task| {
        let (spent, budget) = (spending.tasks.get(task), budgets.tasks.get(task));
        let is_idle = spent.is_none() && budget.is_none();
        (!is_idle).then(|| SpendingRow { name: task.to_string(), spent: spent.copied().unwrap_or_default(), budget })
    });
    let agents = spending.agents.iter().map(|(agent, spent)| row(format!("{agent}, for no task"), *spent));
    let all = SpendingRow { name: "all".to_owned(), spent: result.spent, budget: budgets.run.as_ref() };
    planning.into_iter().chain(tasks).chain(agents).chain([all]).collect()
}

impl SpendingRow<'_> {
    /// Returns the cells of the row, which are empty for zero.
    fn cells(&self) -> [String; COLUMNS.len()] {
        let number = |number: u64| if number == 0 { String::new() } else { number.to_string() };
        let SpendingTotals { llm_calls, tool_calls, input_tokens, output_tokens, cost_usd, .. } = self.spent;
        [
            number(llm_calls),
            number(input_tokens),
            number(output_tokens),
            if cost_usd.is_zero() { String::new() } else { cost_usd.to_string() },
            number(tool_calls),
            self.budget.map(budget_text).unwrap_or_default(),
        ]
    }
}

/// Formats a budget, such as `500 tokens, 3 LLM calls, $0.5`.
fn budget_text(budget: &Budget) -> String {
    let Budget { tokens, cost_usd, llm_calls, tool_calls, time } = budget;
    let parts = [
        tokens.map(|limit| total_text(limit, "token")),
        llm_calls.map(|limit| total_text(limit, "LLM call")),
        tool_calls.map(|limit| total_text(limit, "tool call")),
        cost_usd.map(|limit| format!("${limit}")),
        time.map(|limit| limit.to_string()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn total_text(number: u64, thing: &str) -> String {
    count_text(usize::try_from(number).unwrap_or(usize::MAX), thing)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::journal::samples::{records_from_events, run_started_event, sample_task};
    use crate::model::Timestamp;
    use crate::ui::history::RunDetails;
    use crate::ui::history::run_details::sample_details;
    use crate::view::time::DisplayContext;

    fn context() -> DisplayContext {
        DisplayContext { now: Timestamp(1_700_000_100_000), zone: jiff::tz::TimeZone::UTC }
    }

    /// Returns a planned run with every kind of spending, for two tasks and outside of tasks.
    fn details() -> RunDetails {
        let mut tasks =
            json!([sample_task("ask", json!({})), sample_task("late", json!({})), sample_task("read", json!({}))]);
        tasks[0]["budget"] = json!({"tokens": 500, "llm_calls": 3});
        tasks[1]["budget"] = json!({"tool_calls": 1});
        let mut started = run_started_event(tasks);
        started["plan"]["budget"] = json!({"cost_usd": 0.5, "time": "10m"});
        let reply = |usage: serde_json::Value, cost: serde_json::Value| {
            let text = json!([{"type": "text", "text": "x"}]);
            json!({"Ok": {"parts": text, "model": "m", "stop_reason": "endTurn", "usage": usage, "cost_usd": cost}})
        };
        let usage = |input: u64, output: u64| json!({"input_tokens": input, "output_tokens": output});
        let asked = |task: &str, number: u32| json!({"type": "model_requested", "attempt": {"task": task, "number": number}, "messages": []});
        let sampled = |request: &str, origin: serde_json::Value| json!({"type": "sampling_started", "request": request, "origin": origin, "chat": {"messages": [], "max_tokens": 9}});
        let answered = |request: &str, result: serde_json::Value| json!({"type": "sampling_finished", "request": request, "result": result});
        let call = |task: &str, number: u32| json!({"type": "attempt_started", "attempt": {"task": task, "number": number}, "agent": "travel", "tool": "book"});
        let refused = json!({"Err": {"kind": "unsupported", "message": "the budget is spent"}});
        let failed = json!({"Err": {"kind": "endpoint", "message": "down"}});
        let exchange = |input: u64| json!({"model": "p", "stop_reason": "endTurn", "estimated_tokens": 9_000, "usage": usage(input, 50), "cost_usd": 0.001});
        let events = records_from_events(json!([
            started,
            {"type": "goal_planned", "goal": "Go to Lisbon", "exchanges": [exchange(300), exchange(400)]},
            asked("ask", 1),
            {"type": "model_replied", "attempt": {"task": "ask", "number": 1}, "result": reply(usage(20, 3), json!(0.000_05))},
            call("ask/1", 1),
            call("read[0]", 1),
            call("read[0]", 2),
            sampled("r1", json!({"agent": "travel", "attempt": {"task": "read[0]", "number": 2}})),
            answered("r1", reply(json!(null), json!(null))),
            sampled("r2", json!({"agent": "travel", "attempt": {"task": "ask/1", "number": 1}})),
            answered("r2", failed),
            sampled("r3", json!({"agent": "travel"})),
            answered("r3", reply(usage(7, 1), json!(null))),
            sampled("r4", json!({"agent": "travel"})),
            answered("r4", refused),
            sampled("the planner/5", json!({"replan": 1})),
            answered("the planner/5", reply(usage(200, 40), json!(0.002))),
        ]));
        sample_details(&events)
    }

    #[test]
    fn attributes_spending_to_tasks_and_agents() {
        let json = details().json(Vec::new()).expect("serializes");
        let spent = |llm: u64, tool: u64, tokens: [u64; 2], unreported: u64, cost: f64| {
            let mut spent = json!({
                "llm_calls": llm, "tool_calls": tool, "input_tokens": tokens[0], "output_tokens": tokens[1],
                "unreported_replies": unreported,
            });
            if cost > 0.0 {
                spent["cost_usd"] = cost.into();
            }
            spent
        };
        let expected = json!({
            "planning": spent(3, 0, [900, 140], 0, 0.002 + 0.002),
            "tasks": {
                "ask": spent(2, 1, [20, 3], 0, 0.000_05),
                "read": spent(1, 2, [0, 0], 1, 0.0),
            },
            "agents": {"travel": spent(1, 0, [7, 1], 0, 0.0)},
        });
        assert_eq!(
            (&json["spending"], &json["spent"]),
            (&expected, &spent(7, 3, [927, 144], 1, 0.002 + 0.000_05 + 0.002))
        );
        assert_eq!(
            json["budgets"],
            json!({
                "run": {"cost_usd": 0.5, "time": "10m"},
                "tasks": {"ask": {"tokens": 500, "llm_calls": 3}, "late": {"tool_calls": 1}},
            })
        );
        assert_eq!(json["planning"]["goal"], json!("Go to Lisbon"));
    }

    #[test]
    fn table_has_a_row_for_each_spender() {
        insta::assert_snapshot!(console::strip_ansi_codes(&details().text(&context())), @r"
        run      0000abcd
        full ID  01990000-0000-7000-8000-00000000abcd
        goal     Go to Lisbon
        plan     lisbon
        status   interrupted
        started  2023-11-14 22:13:20
        ended    not yet; last event 1m24s ago
            its process has exited; `kapell resume 0000abcd` resumes it

        tasks
        ask   running    1 attempt  1m38s
        late  waiting
        read  waiting

        sampling
        planning             p  endTurn  300 tokens in, 50 out
        planning             p  endTurn  400 tokens in, 50 out
        ask                  m  endTurn  20 tokens in, 3 out
        travel, for read[0]  m  endTurn
        travel, for ask/1
            failed: down
        travel               m  endTurn  7 tokens in, 1 out
        travel
            failed: the budget is spent
        replan 1             m  endTurn  200 tokens in, 40 out

        spent
                             LLM calls  tokens in  tokens out  cost       tool calls  budget
        planning             3          900        140         $0.004000
        ask                  2          20         3           $0.000050  1           500 tokens, 3 LLM calls
        late                                                                          1 tool call
        read                 1                                            2
            and the tokens of 1 LLM call, which the endpoint did not report; a budget counts their maximum
        travel, for no task  1          7          1
        all                  7          927        144         $0.004050  3           $0.5, 10m
            and the tokens of 1 LLM call, which the endpoint did not report; a budget counts their maximum
        ");
    }

    #[test]
    fn run_without_models_has_no_table() {
        let call = json!({"type": "attempt_started", "attempt": {"task": "a", "number": 1}, "agent": "b", "tool": "c"});
        let events = records_from_events(json!([run_started_event(json!([sample_task("a", json!({}))])), call]));
        let text = sample_details(&events).text(&context());
        assert!(!text.contains("spent"), "{text}");
    }
}
