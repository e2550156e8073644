import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError, get, post, runPath } from "../data/api";
import type { Info, PlanForm, PlanSummary, RunPage } from "../data/contract";
import { effectText, plural } from "../data/format";
import { asJson } from "../data/form";
import { notifyError } from "../data/live";
import { go, link, route } from "../data/route";
import { normalizeGraph } from "../data/graph";
import { Form } from "../parts/form";
import { Empty, Text } from "../parts/text";
import { GraphView } from "../run/graph-view";

export function StartPage({ info }: { info: Info | null }) {
  const [plans, setPlans] = useState<PlanSummary[] | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  useEffect(() => {
    document.title = "Start · kapell";
    get<{ plans: PlanSummary[] }>("/api/plans").then(
      (page) => setPlans(page.plans),
      (problem: unknown) => setError(problem instanceof ApiError ? problem : new ApiError(0, "page", String(problem))),
    );
  }, []);
  return (
    <main id="main" class="page">
      <div class="page-head">
        <h1>Start a run</h1>
      </div>
      {info && !info.can_start && <p class="callout">This server shows runs only: it was started without permission to start them.</p>}
      <div class="start">
        <section aria-labelledby="plans-title">
          <h2 id="plans-title">Plans</h2>
          {info?.plans_dir && (
            <p class="muted">
              From <code>{info.plans_dir}</code>
            </p>
          )}
          {error && (
            <p class="callout error" role="alert">
              {error.message} {error.help}
            </p>
          )}
          {plans?.length === 0 && (
            <Empty title="No plans">
              Start the server with <code>kapell serve --plans DIR</code>, where DIR has plan files.
            </Empty>
          )}
          <ul class="plan-list">
            {plans?.map((plan) => (
              <li key={plan.file}>
                {plan.error ? (
                  <div class="plan-card broken">
                    <span class="plan-name">
                      <Text>{plan.file}</Text>
                    </span>
                    <span class="error-text">
                      <Text>{plan.error}</Text>
                    </span>
                  </div>
                ) : (
                  <a class="plan-card" href={link(["start", plan.file])}>
                    <span class="plan-name">
                      <Text>{plan.name}</Text>
                    </span>
                    {plan.description && (
                      <span class="plan-about">
                        <Text>{plan.description}</Text>
                      </span>
                    )}
                    <span class="plan-file">
                      <code>
                        <Text>{plan.file}</Text>
                      </code>
                      {plan.schedule && (
                        <span class="tag">
                          <Text>{plan.schedule}</Text>
                        </span>
                      )}
                    </span>
                  </a>
                )}
              </li>
            ))}
          </ul>
        </section>
        <section aria-labelledby="goal-title" class="goal-box">
          <h2 id="goal-title">A goal</h2>
          <p class="muted">The model writes a plan for it. You see the plan as a graph, and nothing runs until you start it.</p>
          <Form
            idPrefix="goal"
            label="Plan it"
            busyLabel="The model plans…"
            fields={[{ name: "goal", title: "What should be done", type: "string", required: true, max: 20_000 }]}
            submit={async (values) => {
              try {
                const { plan } = await post<{ plan: string }>("/api/runs", { goal: values.goal });
                go(link(["start", plan]));
              } catch (problem) {
                notifyError(problem);
              }
            }}
          />
        </section>
      </div>
    </main>
  );
}

export function PlanPage({ file }: { file: string }) {
  const [plan, setPlan] = useState<PlanForm | null>(null);
  const [given, setGiven] = useState<Record<string, unknown> | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const cursor = useSignal<string | null>(null);
  const memory = useMemo(() => ({}), [file]);
  const from = route.value.query.get("from");
  useEffect(() => {
    const earlier = from ? get<RunPage>(runPath(from)).then((page) => page.run.inputs ?? {}) : Promise.resolve({});
    Promise.all([get<PlanForm>(`/api/plans/${encodeURIComponent(file)}`), earlier]).then(
      ([found, inputs]) => {
        setPlan({ ...found, graph: normalizeGraph(found.graph) });
        setGiven(inputs);
        document.title = `Start ${found.name} · kapell`;
      },
      (problem: unknown) => setError(problem instanceof ApiError ? problem : new ApiError(0, "page", String(problem))),
    );
  }, [file, from]);
  if (error) {
    return (
      <main id="main" class="page">
        <Empty title="The plan cannot be shown">
          <p>{error.message}</p>
          <p>{error.help}</p>
          <p>
            <a href={link(["start"])}>All plans</a>
          </p>
        </Empty>
      </main>
    );
  }
  if (!plan || !given) return <main id="main" class="page loading" aria-busy="true" />;
  const tasks = new Map(plan.tasks.map((task) => [task.id, task]));
  const selected = cursor.value ? tasks.get(cursor.value) : undefined;
  return (
    <main id="main" class="plan-page">
      <section class="plan-form">
        <nav class="crumbs" aria-label="Path">
          <a href={link(["start"])}>Start a run</a>
        </nav>
        <h1>
          <Text>{plan.name}</Text>
        </h1>
        {plan.description && (
          <p class="lead">
            <Text>{plan.description}</Text>
          </p>
        )}
        <Form
          idPrefix="input"
          label="Start"
          fields={plan.fields}
          given={given}
          submit={async (values) => {
            try {
              const { run } = await post<{ run: string }>("/api/runs", { plan: plan.file, inputs: asJson(plan.fields, values) });
              go(link(["runs", run]));
            } catch (problem) {
              notifyError(problem);
            }
          }}
        />
        {plan.missing && (
          <p class="callout">
            <Text>{plan.missing}</Text>
          </p>
        )}
        {plan.fields.length === 0 && <p class="muted">This plan has no inputs.</p>}
        <h2>{plural(plan.tasks.length, "task")}</h2>
        <ul class="plan-tasks">
          {plan.tasks.slice(0, 200).map((task) => (
            <li key={task.id}>
              <button
                type="button"
                class="plan-task"
                aria-pressed={selected?.id === task.id}
                onClick={() => {
                  cursor.value = task.id;
                }}
              >
                <span class="name">
                  <Text>{task.name || task.id}</Text>
                </span>
                <span class="muted">
                  <Text>{[[task.agent, task.tool].filter(Boolean).join("."), task.effect && effectText(task.effect)].filter(Boolean).join(" · ") || task.kind}</Text>
                </span>
              </button>
            </li>
          ))}
          {plan.tasks.length > 200 && <li class="muted">and {plan.tasks.length - 200} more</li>}
        </ul>
      </section>
      <section class="plan-graph" aria-label="Graph of the plan">
        <GraphView
          graph={plan.graph}
          cursor={cursor.value}
          selected={null}
          critical={false}
          memory={memory}
          label="Graph of the plan. The arrow keys move along its edges."
          move={(id) => {
            cursor.value = id;
          }}
          open={(id) => {
            cursor.value = id;
          }}
          content={(node) => {
            const task = tasks.get(node.id);
            const name = task?.name || node.name || node.id;
            const detail = task
              ? [task.agent, task.tool].filter(Boolean).join(".") || task.kind
              : (node.detail ?? (node.members ? plural(node.members.length, "task") : ""));
            return { frame: node.is_group, name, kind: task?.kind ?? "group", state: null, detail, label: [name, detail, task?.effect].filter(Boolean).join(", "), key: task ?? node };
          }}
        />
      </section>
    </main>
  );
}
