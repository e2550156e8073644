import { cost, count, duration, plural, short } from "../data/format";
import type { RunStore } from "../data/run-store";
import { Copy, Json } from "../parts/json";
import { CountsBar, countWords } from "../parts/state";
import { Empty, Text, Time } from "../parts/text";
import { CleanedHtml } from "./output";

const isEmpty = (value: unknown): boolean => value == null || (typeof value === "object" && Object.keys(value).length === 0);

/** The answer of a run, what went in and out, what it cost, and its agents. */
export function SummaryView({ store }: { store: RunStore }) {
  const run = store.header.value;
  if (!run) return null;
  const agents = store.agents.value;
  return (
    <div class="summary">
      <div class="summary-main">
        {run.goal && (
          <section>
            <h2>Goal</h2>
            <p class="goal">
              <Text>{run.goal}</Text>
            </p>
          </section>
        )}
        {(run.problems?.length ?? 0) > 0 && (
          <section class="callout error">
            <h2>Problems</h2>
            <ul>
              {run.problems?.map((problem) => (
                <li key={problem}>
                  <Text>{problem}</Text>
                </li>
              ))}
            </ul>
          </section>
        )}
        {run.answer_markdown_html && (
          <section>
            <h2>Answer</h2>
            <CleanedHtml html={run.answer_markdown_html} />
          </section>
        )}
        {!isEmpty(run.outputs) && (
          <section>
            <h2>Outputs</h2>
            <div class="block">
              <Json value={run.outputs} />
            </div>
            <Copy text={() => JSON.stringify(run.outputs, null, 2)} label="Copy JSON" />
          </section>
        )}
        {!run.answer_markdown_html && isEmpty(run.outputs) && (
          <Empty title={run.ended ? "No outputs" : "No result yet"}>
            {run.ended ? "The plan of this run declares no outputs. Each task has its own." : "The outputs of the plan appear here when the run ends."}
          </Empty>
        )}
        {!isEmpty(run.inputs) && (
          <section>
            <h2>Inputs</h2>
            <div class="block">
              <Json value={run.inputs} />
            </div>
          </section>
        )}
      </div>
      <div class="summary-side">
        <section>
          <h2>Tasks</h2>
          <CountsBar counts={run.counts} height={8} />
          <p class="muted">{countWords(run.counts)}</p>
        </section>
        <section>
          <h2>Spending</h2>
          <dl class="facts">
            <dt>Calls</dt>
            <dd class="number">{count(run.spent.calls)}</dd>
            <dt>Model requests</dt>
            <dd class="number">{count(run.spent.llm_calls)}</dd>
            <dt>Tokens</dt>
            <dd class="number">
              {short(run.spent.tokens_in)} in, {short(run.spent.tokens_out)} out
            </dd>
            {run.spent.cost_usd != null && (
              <>
                <dt>Cost</dt>
                <dd class="number">{cost(run.spent.cost_usd)}</dd>
              </>
            )}
          </dl>
          {!isEmpty(run.budgets) && (
            <>
              <h3>Budgets</h3>
              <div class="block">
                <Json value={run.budgets} />
              </div>
            </>
          )}
        </section>
        <section>
          <h2>Time</h2>
          <dl class="facts">
            <dt>Started</dt>
            <dd>
              <Time at={run.started} />
            </dd>
            {run.ended != null && (
              <>
                <dt>Ended</dt>
                <dd>
                  <Time at={run.ended} />
                </dd>
              </>
            )}
            {(run.downtime_ms ?? 0) > 0 && (
              <>
                <dt>Without a process</dt>
                <dd>{duration(run.downtime_ms ?? 0)}</dd>
              </>
            )}
            {run.remaining_ms != null && (
              <>
                <dt>Time that remains</dt>
                <dd>{duration(run.remaining_ms)}</dd>
              </>
            )}
          </dl>
        </section>
        {agents.length > 0 && (
          <section>
            <h2>Agents</h2>
            <ul class="agents">
              {agents.map((agent) => (
                <li key={agent.id}>
                  <div>
                    <strong>
                      <Text>{agent.id}</Text>
                    </strong>
                    <span class={`agent-status a-${agent.status}`}>{agent.status}</span>
                  </div>
                  <p class="muted">
                    <Text>
                      {[
                        agent.server,
                        agent.protocol,
                        typeof agent.tools === "number" ? plural(agent.tools, "tool") : Array.isArray(agent.tools) ? plural(agent.tools.length, "tool") : null,
                      ]
                        .filter(Boolean)
                        .join(" · ")}
                    </Text>
                  </p>
                  {agent.error && (
                    <p class="error-text">
                      <Text>{agent.error}</Text>
                    </p>
                  )}
                </li>
              ))}
            </ul>
          </section>
        )}
      </div>
    </div>
  );
}
