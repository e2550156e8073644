import { useEffect, useState } from "preact/hooks";
import { ApiError, get } from "../data/api";
import type { Diff, DiffRow, DiffSide, DiffValue, RunHeader, TaskState } from "../data/contract";
import { cost, duration, plural, shown, short } from "../data/format";
import { link, route, withQuery } from "../data/route";
import { CountsBar, State } from "../parts/state";
import { Elapsed, Empty, Text, Time } from "../parts/text";

export function ComparePage({ a, b }: { a: string; b: string }) {
  const [diff, setDiff] = useState<Diff | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const all = route.value.query.has("all");
  useEffect(() => {
    setDiff(null);
    document.title = "Compare runs · kapell";
    get<Diff>(`/api/runs/${encodeURIComponent(a)}/diff/${encodeURIComponent(b)}`).then(setDiff, (problem: unknown) =>
      setError(problem instanceof ApiError ? problem : new ApiError(0, "page", String(problem))),
    );
  }, [a, b]);
  if (error) {
    return (
      <main id="main" class="page">
        <Empty title="The runs cannot be compared">
          <p>{error.message}</p>
          <p>{error.help}</p>
        </Empty>
      </main>
    );
  }
  if (!diff) return <main id="main" class="page loading" aria-busy="true" />;
  const [inputs, outputs] = [diff.inputs.map(valueRow), diff.outputs.map(valueRow)];
  const rows = [...inputs, ...diff.tasks, ...outputs];
  const different = rows.filter((row) => !row.same).length;
  return (
    <main id="main" class="page">
      <div class="page-head">
        <h1>Compare two runs</h1>
        <div class="page-tools">
          <a class="button small" href={link(["compare", b, a], all ? { all: "1" } : {})}>
            Swap
          </a>
          <a class="button small" href={withQuery({ all: all ? null : "1" })}>
            {all ? "Show only differences" : `Show all ${rows.length} rows`}
          </a>
        </div>
      </div>
      <div class="compare-heads">
        <Head run={diff.a} label="A" />
        <Head run={diff.b} label="B" />
      </div>
      {different === 0 && <Empty title="No differences">Inputs, tasks, and outputs of both runs are the same.</Empty>}
      <Part title="Inputs" rows={inputs} all={all} diff={diff} />
      <Part title="Tasks" rows={diff.tasks} all={all} diff={diff} tasks />
      <Part title="Outputs" rows={outputs} all={all} diff={diff} />
    </main>
  );
}

function Head({ run, label }: { run: RunHeader; label: string }) {
  return (
    <div class="compare-head">
      <div class="compare-title">
        <span class="compare-letter">{label}</span>
        <a href={link(["runs", run.run])}>
          <Text>{run.plan}</Text>
        </a>
        <State state={run.status} />
      </div>
      <CountsBar counts={run.counts} />
      <p class="muted">
        <code>{run.short}</code> · <Time at={run.started} /> · <Elapsed from={run.started} to={run.ended} />
        {run.spent.cost_usd != null && run.spent.cost_usd > 0 && ` · ${cost(run.spent.cost_usd)}`}
        {run.spent.tokens_in + run.spent.tokens_out > 0 && ` · ${short(run.spent.tokens_in + run.spent.tokens_out)} tokens`}
      </p>
    </div>
  );
}

const valueRow = ({ name, a, b, same }: DiffValue): DiffRow => ({
  id: name,
  name,
  a: a === null ? null : { text: a },
  b: b === null ? null : { text: b },
  same,
});

const MAX_ROWS = 150;

function Part({ title, rows, all, diff, tasks }: { title: string; rows: DiffRow[]; all: boolean; diff: Diff; tasks?: boolean }) {
  const [limit, setLimit] = useState(MAX_ROWS);
  const chosen = all ? rows : rows.filter((row) => !row.same);
  if (chosen.length === 0) return null;
  return (
    <section class="compare-part">
      <h2>
        {title} <span class="count">{all ? rows.length : `${chosen.length} of ${rows.length} differ`}</span>
      </h2>
      <table class="compare">
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">A</th>
            <th scope="col">B</th>
          </tr>
        </thead>
        <tbody>
          {chosen.slice(0, limit).map((row) => (
            <tr key={row.id} class={row.same ? "same" : ""}>
              <th scope="row">
                <Text>{row.name ?? row.id}</Text>
                {row.reused && <span class="tag">kept</span>}
              </th>
              <Side side={row.a} other={row.b} href={tasks ? link(["runs", diff.a.run, "list"], { task: row.id }) : null} />
              <Side side={row.b} other={row.a} href={tasks ? link(["runs", diff.b.run, "list"], { task: row.id }) : null} />
            </tr>
          ))}
        </tbody>
      </table>
      {chosen.length > limit && (
        <button type="button" class="button" onClick={() => setLimit(limit + MAX_ROWS)}>
          Show more of {plural(chosen.length - limit, "row")}
        </button>
      )}
    </section>
  );
}

/** Splits two texts into the equal start, the part that differs, and the equal end. */
export function difference(text: string, other: string): [string, string, string] {
  const max = Math.min(text.length, other.length);
  let start = 0;
  while (start < max && text[start] === other[start]) start += 1;
  let end = 0;
  while (end < max - start && text[text.length - 1 - end] === other[other.length - 1 - end]) end += 1;
  return [text.slice(0, start), text.slice(start, text.length - end), text.slice(text.length - end)];
}

function Side({ side, other, href }: { side: DiffSide | null; other: DiffSide | null; href: string | null }) {
  if (!side) return <td class="absent">absent</td>;
  const parts = side.text && other?.text && side.text !== other.text ? difference(side.text, other.text) : null;
  return (
    <td>
      {(side.status || side.agent || side.ms != null) && (
        <div class="side-facts">
          {side.status && (href ? <a href={href}><State state={side.status as TaskState} /></a> : <State state={side.status as TaskState} />)}
          <span class="muted">
            {[side.agent && shown(side.agent), side.ms != null && duration(side.ms)].filter(Boolean).join(" · ")}
          </span>
        </div>
      )}
      {side.text && (
        <div class="side-text">
          {parts ? (
            <>
              <Text>{parts[0].slice(-300)}</Text>
              <mark>
                <Text>{parts[1].slice(0, 2000)}</Text>
              </mark>
              <Text>{parts[2].slice(0, 300)}</Text>
            </>
          ) : (
            <Text>{side.text.slice(0, 600)}</Text>
          )}
        </div>
      )}
    </td>
  );
}
