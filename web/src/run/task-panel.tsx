import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { type ApiError, get, post, report, runPath } from "../data/api";
import type { CallDetail, Exchange, TaskDetail, TaskRow, TraceStep } from "../data/contract";
import { parsed } from "../data/form";
import { cost, count, duration, effectText, plural, shown, short } from "../data/format";
import { notify, notifyError } from "../data/live";
import { withQuery } from "../data/route";
import type { RunStore } from "../data/run-store";
import { nodeMembers } from "../data/graph";
import { byUrgency, countStates, memberName } from "../data/tree";
import { Form } from "../parts/form";
import { Json } from "../parts/json";
import { CountsBar, countWords, State, StateIcon } from "../parts/state";
import { Elapsed, Long, Section, Text, Time } from "../parts/text";
import { OutputView } from "./output";
import { QuestionForm } from "./question-panel";

const MEMBERS_AT_A_TIME = 200;

/** A task that changes often is asked for at most this often. */
const DETAIL_INTERVAL_MS = 300;

/** Returns the details of a task, which change with its row. The panel of another task is another component. */
function useDetail(store: RunStore, id: string, row: TaskRow | undefined): { detail: TaskDetail | null; error: ApiError | null } {
  const [detail, setDetail] = useState<TaskDetail | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const asked = useRef(Number.NEGATIVE_INFINITY);
  const abort = useMemo(() => new AbortController(), []);
  useEffect(() => () => abort.abort(), []);
  useEffect(() => {
    if (!row) return;
    const wait = Math.max(0, asked.current + DETAIL_INTERVAL_MS - performance.now());
    const timer = setTimeout(() => {
      asked.current = performance.now();
      get<TaskDetail>(`${runPath(store.run)}/tasks/${encodeURIComponent(id)}`, abort.signal)
        .then((found) => {
          setDetail(found);
          setError(null);
        })
        .catch((problem: ApiError) => {
          if (!abort.signal.aborted) setError(problem);
        });
    }, wait);
    return () => clearTimeout(timer);
  }, [id, row]);
  return { detail, error };
}

function Facts({ row, detail }: { row: TaskRow; detail: TaskDetail | null }) {
  const effect = detail?.effect ?? row.effect;
  const call = row.agent && row.tool ? `${row.agent}.${row.tool}` : (row.tool ?? row.agent);
  return (
    <dl class="facts">
      {call && (
        <>
          <dt>Call</dt>
          <dd>
            <code>
              <Text>{call}</Text>
            </code>
          </dd>
        </>
      )}
      {row.started != null && (
        <>
          <dt>Started</dt>
          <dd>
            <Time at={row.started} />
          </dd>
          <dt>Duration</dt>
          <dd>
            <Elapsed from={row.started} to={row.ended} />
          </dd>
        </>
      )}
      {row.attempts > 0 && (
        <>
          <dt>Attempts</dt>
          <dd>{row.attempts}</dd>
        </>
      )}
      {(row.cost_usd != null || row.tokens != null) && (
        <>
          <dt>Spent</dt>
          <dd>{[row.cost_usd != null && cost(row.cost_usd), row.tokens != null && `${short(row.tokens)} tokens`].filter(Boolean).join(", ")}</dd>
        </>
      )}
      {effect && (
        <>
          <dt>Effect</dt>
          <dd>
            <Text>{effectText(effect)}</Text>
          </dd>
        </>
      )}
      {detail?.retry_effect && (
        <>
          <dt>On retry</dt>
          <dd>
            <Text>{detail.retry_effect.replace(/^A retry /, "")}</Text>
          </dd>
        </>
      )}
      {row.reused && (
        <>
          <dt>Result</dt>
          <dd>kept from an earlier run</dd>
        </>
      )}
      {(row.needs?.length ?? 0) > 0 && (
        <>
          <dt>Needs</dt>
          <dd class="needs">
            {row.needs?.slice(0, 30).map((need) => (
              <a key={need} href={withQuery({ task: need })}>
                <Text>{need}</Text>
              </a>
            ))}
            {(row.needs?.length ?? 0) > 30 && <span class="muted">and {(row.needs?.length ?? 0) - 30} more</span>}
          </dd>
        </>
      )}
    </dl>
  );
}

function Members({ store, ids }: { store: RunStore; ids: string[] }) {
  const [limit, setLimit] = useState(MEMBERS_AT_A_TIME);
  const rows = byUrgency(ids.flatMap((id) => store.rows.get(id) ?? []));
  return (
    <>
      <ul class="members">
        {rows.slice(0, limit).map((row) => (
          <li key={row.id}>
            <a href={withQuery({ task: row.id })}>
              <StateIcon state={row.state} />
              <span class="member-name">
                <Text>{memberName(row, store.rows)}</Text>
              </span>
              <span class="muted number">{row.started != null ? <Elapsed from={row.started} to={row.ended} /> : ""}</span>
            </a>
          </li>
        ))}
      </ul>
      {rows.length > limit && (
        <button type="button" class="button small" onClick={() => setLimit(limit + MEMBERS_AT_A_TIME)}>
          Show {Math.min(MEMBERS_AT_A_TIME, rows.length - limit)} of {count(rows.length - limit)} more
        </button>
      )}
    </>
  );
}

function Call({ call, latest }: { call: CallDetail; latest: boolean }) {
  const lines = [
    ...(call.log ?? []).map((line) => ({ at: line.at, level: line.level, text: typeof line.data === "string" ? line.data : JSON.stringify(line.data) })),
    ...(call.stderr ?? []).map((line) => ({ at: line.at, level: "stderr", text: line.text })),
  ].sort((a, b) => a.at - b.at);
  return (
    <li class="attempt">
      <div class="attempt-head">
        <StateIcon state={call.error ? "failed" : call.ended == null ? "running" : "succeeded"} />
        <strong>Attempt {call.number}</strong>
        {call.agent && (
          <span>
            on <Text>{call.agent}</Text>
          </span>
        )}
        <span class="muted number">
          {call.started != null && <Elapsed from={call.started} to={call.ended} />}
        </span>
      </div>
      {call.error && (
        <p class="error-text">
          <Text>{call.error}</Text>
        </p>
      )}
      {call.next && (
        <p class="attempt-next">
          <span aria-hidden="true">↳ </span>
          <Text>{call.next.reason}</Text>
          {call.next.agent && (
            <>
              {" "}
              Next on <Text>{call.next.agent}</Text>
            </>
          )}
          {call.next.at != null && call.ended != null && <> after {duration(call.next.at - call.ended)}</>}
        </p>
      )}
      {lines.length > 0 && (
        <details class="attempt-log" open={latest && lines.length <= 20}>
          <summary>{plural(lines.length, "log line")}</summary>
          <ol class="log" tabIndex={0} aria-label={`Log of attempt ${call.number}`}>
            {lines.slice(-500).map((line, index) => (
              <li key={index} class={`level-${line.level}`}>
                <Time at={line.at} exact />
                <span class="level">{line.level}</span>
                <span class="log-text">
                  <Text>{line.text}</Text>
                </span>
              </li>
            ))}
          </ol>
        </details>
      )}
    </li>
  );
}

function ExchangeView({ exchange }: { exchange: Exchange }) {
  return (
    <li class="exchange">
      <div class="attempt-head">
        <StateIcon state={exchange.error ? "failed" : exchange.ended == null ? "model" : "succeeded"} />
        <strong>Exchange {exchange.number}</strong>
        {exchange.model && (
          <code>
            <Text>{exchange.model}</Text>
          </code>
        )}
        <span class="muted number">
          {[
            exchange.tokens_in != null && `${short(exchange.tokens_in)} in`,
            exchange.tokens_out != null && `${short(exchange.tokens_out)} out`,
            exchange.cost_usd != null && cost(exchange.cost_usd),
          ]
            .filter(Boolean)
            .join(" · ")}
        </span>
      </div>
      {exchange.error && (
        <p class="error-text">
          <Text>{exchange.error}</Text>
        </p>
      )}
      {exchange.messages.map((message, index) => (
        <div key={index} class={`message role-${message.role}`}>
          <span class="role">{shown(message.role)}</span>
          <Long text={message.text} max={1500} />
        </div>
      ))}
      {(exchange.tools?.length ?? 0) > 0 && (
        <p class="muted">
          Tools offered: <Text>{exchange.tools?.join(", ") ?? ""}</Text>
        </p>
      )}
    </li>
  );
}

const PARTIES: Record<string, string> = { host: "kapell", agent: "agent", model: "model", person: "person" };

function Trace({ steps }: { steps: TraceStep[] }) {
  const [limit, setLimit] = useState(200);
  return (
    <>
      <ol class="trace">
        {steps.slice(0, limit).map((step, index) => (
          <li key={index}>
            <Time at={step.at} exact />
            <span class="trace-way">
              <span class={`party p-${step.from}`}>{PARTIES[step.from] ?? shown(step.from)}</span>
              <span aria-label="to">→</span>
              <span class={`party p-${step.to}`}>{PARTIES[step.to] ?? shown(step.to)}</span>
            </span>
            <span class="trace-what">
              <Text>{step.what}</Text>
            </span>
            {step.detail != null && step.detail !== "" && (
              <details class="trace-detail">
                <summary>Detail</summary>
                {typeof step.detail === "string" ? (
                  <Long text={step.detail} max={1500} />
                ) : (
                  <div class="block">
                    <Json value={step.detail} />
                  </div>
                )}
              </details>
            )}
          </li>
        ))}
      </ol>
      {steps.length > limit && (
        <button type="button" class="button small" onClick={() => setLimit(limit + 500)}>
          Show more
        </button>
      )}
    </>
  );
}

function Progress({ row }: { row: TaskRow }) {
  const progress = row.progress;
  if (!progress) return null;
  return (
    <div class="progress">
      {progress.total ? (
        <progress max={progress.total} value={progress.value} aria-label="Progress" />
      ) : (
        <progress aria-label="Progress" />
      )}
      <span class="number">{progress.total ? `${count(progress.value)} of ${count(progress.total)}` : count(progress.value)}</span>
      {progress.message && (
        <span class="progress-message">
          <Text>{progress.message}</Text>
        </span>
      )}
    </div>
  );
}

/** Sends the signal that a task waits for. */
function SignalForm({ store, row }: { store: RunStore; row: TaskRow }) {
  const known = /signal[^`“"]*[`“"]([^`”"]+)/.exec(row.reason ?? "")?.[1] ?? "";
  return (
    <Section title="Send its signal">
      <Form
        idPrefix="signal"
        label="Send"
        fields={[
          { name: "signal", title: "Signal", type: "string", required: true, default: known },
          { name: "data", title: "Data", description: "JSON, which the task has as its output.", type: "string", format: "json" },
        ]}
        submit={async ({ signal, data }) => {
          try {
            const sent = await post<{ message: string }>(
              `${runPath(store.run)}/signals/${encodeURIComponent(String(signal))}`,
              data ? { data: parsed(String(data)) } : {},
            );
            notify({ kind: "done", text: sent.message });
          } catch (error) {
            notifyError(error);
          }
        }}
      />
    </Section>
  );
}

const ENDED = new Set(["succeeded", "failed", "skipped", "cancelled"]);

export function TaskPanel({ store, id, retry }: { store: RunStore; id: string; retry: (task: string) => void }) {
  store.version.value;
  const node = store.graph.value.nodes.find((node) => node.id === id);
  const row = store.rows.get(id);
  const { detail, error } = useDetail(store, id, row);
  const stands = !row && node ? nodeMembers(node, store.tree.value) : [];
  if (!row && node && (node.members || stands.length > 0)) {
    const counts = countStates(stands.flatMap((member) => store.rows.get(member) ?? []));
    return (
      <div class="task">
        <h2 class="panel-title">
          <Text>{node.name ?? id}</Text>
        </h2>
        <CountsBar counts={counts} height={8} />
        <p class="muted">{countWords(counts)}</p>
        <Members store={store} ids={stands} />
      </div>
    );
  }
  if (!row) return <p class="muted">This run has no task “{shown(id)}”.</p>;
  const members = store.tree.value.members(id);
  const question = store.questions.value.find((item) => item.id === row.question && item.status === "open");
  const ancestors = store.tree.value.ancestors(id);
  const failedCall = detail?.calls?.some((call) => call.error === row.error);
  return (
    <div class="task">
      {ancestors.length > 0 && (
        <nav class="crumbs" aria-label="Groups">
          {ancestors.map((group) => (
            <a key={group} href={withQuery({ task: group })}>
              <Text>{group}</Text>
            </a>
          ))}
        </nav>
      )}
      <h2 class="panel-title">
        <Text>{row.name}</Text>
      </h2>
      <div class="panel-state">
        <State state={row.state} />
        <span class="tag">{row.kind}</span>
        {row.critical && <span class="tag">critical path</span>}
        {row.name !== row.id && (
          <code class="muted">
            <Text>{row.id}</Text>
          </code>
        )}
      </div>
      {row.error && !(failedCall && detail?.calls?.length === 1) && (
        <div class="callout error">
          <Text>{row.error}</Text>
        </div>
      )}
      {detail?.help && (
        <p class="muted">
          <Text>{detail.help}</Text>
        </p>
      )}
      {row.reason && (
        <p class="muted">
          <Text>{row.reason}</Text>
        </p>
      )}
      {row.state === "retrying" && row.retry_at != null && (
        <p class="muted">
          Next attempt at <Time at={row.retry_at} exact />
        </p>
      )}
      {!ENDED.has(row.state) && <Progress row={row} />}
      {question && (
        <section class="callout question-callout" aria-label="Question">
          <QuestionForm key={question.id} store={store} question={question} />
        </section>
      )}
      <Facts row={row} detail={detail} />
      {!report && row.kind === "wait" && row.state === "running" && <SignalForm store={store} row={row} />}
      {!report && ENDED.has(row.state) && store.header.value?.can?.retry && (
        <p>
          <button type="button" class="button small" onClick={() => retry(id)}>
            Retry from here…
          </button>
        </p>
      )}
      {members.length > 0 && (
        <Section title="Members" count={count(members.length)} open>
          <CountsBar counts={row.children ?? countStates(members.flatMap((member) => store.rows.get(member) ?? []))} height={8} />
          <Members store={store} ids={members} />
        </Section>
      )}
      {error && (
        <p class="error-text">
          {error.message} {error.help}
        </p>
      )}
      {!detail && !error && <p class="muted">Loading…</p>}
      {detail?.output && (
        <Section title="Output" open>
          <OutputView output={detail.output} />
        </Section>
      )}
      {detail?.arguments != null && (
        <Section title="Arguments" open>
          <div class="block">
            <Json value={detail.arguments} />
          </div>
        </Section>
      )}
      {(detail?.calls?.length ?? 0) > 0 && (
        <Section title="Attempts" count={detail?.calls?.length} open>
          <ol class="attempts">
            {detail?.calls?.map((call, index, all) => (
              <Call key={`${call.task}/${call.number}`} call={call} latest={index === all.length - 1} />
            ))}
          </ol>
        </Section>
      )}
      {(detail?.exchanges?.length ?? 0) > 0 && (
        <Section title="Model exchanges" count={detail?.exchanges?.length}>
          <ol class="attempts">
            {detail?.exchanges?.map((exchange) => (
              <ExchangeView key={exchange.number} exchange={exchange} />
            ))}
          </ol>
        </Section>
      )}
      {(detail?.trace?.length ?? 0) > 0 && (
        <Section title="Who asked what" count={detail?.trace?.length}>
          <Trace steps={detail?.trace ?? []} />
        </Section>
      )}
      <p class="panel-foot">
        <button
          type="button"
          class="link-button"
          onClick={() => navigator.clipboard.writeText(location.href).catch(notifyError)}
        >
          Copy the link of this task
        </button>
      </p>
    </div>
  );
}
