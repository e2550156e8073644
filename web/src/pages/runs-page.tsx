import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, get } from "../data/api";
import type { RunStatus, RunSummary } from "../data/contract";
import { cost, count, firstLine, plural } from "../data/format";
import { announce, notifyError } from "../data/live";
import { go, link, route, setQuery } from "../data/route";
import { Stream } from "../data/stream";
import { pushKeys } from "../parts/keys";
import { CountsBar, done, shownStatus, State, StateIcon, WORDS } from "../parts/state";
import { Elapsed, Empty, Text, Time } from "../parts/text";

const STATUSES: RunStatus[] = ["running", "paused", "interrupted", "succeeded", "partial", "failed", "cancelled"];
const PAGE = 50;
const MAX_ROWS = 200;

/** Returns the list with the changed runs in their places; new ones that match come first. */
export function mergeRuns(runs: RunSummary[], changed: RunSummary[], accepts: (run: RunSummary) => boolean): RunSummary[] {
  const byId = new Map(changed.map((run) => [run.run, run]));
  const kept = runs.flatMap((run) => {
    const next = byId.get(run.run);
    byId.delete(run.run);
    return next ? (accepts(next) ? [next] : []) : [run];
  });
  const oldest = kept.at(-1)?.started ?? 0;
  const added = [...byId.values()].filter((run) => accepts(run) && run.started >= oldest);
  return [...added.sort((a, b) => b.started - a.started), ...kept];
}

export function RunsPage() {
  const { query } = route.value;
  const statuses = (query.get("status") ?? "").split(",").filter(Boolean);
  const plan = query.get("plan") ?? "";
  const text = query.get("text") ?? "";
  // Days; the last counts to its end.
  const [from, to] = [query.get("from") ?? "", query.get("to") ?? ""];
  const [since, until] = [startOfDay(from, 0), startOfDay(to, 1)];
  const [runs, setRuns] = useState<RunSummary[] | null>(null);
  const [more, setMore] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const [checked, setChecked] = useState<string[]>([]);
  const [current, setCurrent] = useState(0);
  const search = useRef<HTMLInputElement>(null);
  const rows = useRef<HTMLTableSectionElement>(null);
  const key = `${statuses.join(",")}|${plan}|${text}|${from}|${to}`;
  const latest = useRef(key);
  latest.current = key;

  const address = (before?: string): string => {
    const parameters = new URLSearchParams();
    if (statuses.length > 0) parameters.set("status", statuses.join(","));
    if (plan) parameters.set("plan", plan);
    if (text) parameters.set("text", text);
    if (since !== null) parameters.set("since", String(since));
    if (until !== null) parameters.set("until", String(until - 1));
    parameters.set("limit", String(PAGE));
    if (before) parameters.set("before", before);
    return `/api/runs?${parameters}`;
  };
  const accepts = (run: RunSummary): boolean =>
    (statuses.length === 0 || statuses.includes(run.status)) && (plan === "" || run.plan === plan) && text === "" && run.started >= (since ?? 0) && run.started < (until ?? Infinity);

  const load = (): void => {
    get<{ runs: RunSummary[]; more: boolean }>(address()).then(
      (page) => {
        if (latest.current !== key) return;
        setRuns(page.runs);
        setMore(page.more);
        setError(null);
      },
      (problem: unknown) => setError(problem instanceof ApiError ? problem : new ApiError(0, "page", String(problem))),
    );
  };
  useEffect(() => {
    const timer = setTimeout(load, runs === null ? 0 : 150);
    return () => clearTimeout(timer);
  }, [key]);
  const change = useRef((_changed: RunSummary[]): void => undefined);
  change.current = (changed) => {
    // Only the server knows which runs contain a text.
    if (text) load();
    else setRuns((before) => before && mergeRuns(before, changed, accepts).slice(0, Math.max(PAGE, before.length)));
    const news = changed.find((run) => run.ended != null && runs?.some((known) => known.run === run.run && known.ended == null));
    if (news) announce(`${news.plan} ${WORDS[news.status] ?? news.status}`);
  };
  useEffect(() => {
    const stream = new Stream({
      url: () => "/api/stream",
      on: { runs: (data) => change.current((data as { runs: RunSummary[] }).runs) },
    });
    return () => stream.close();
  }, []);
  useEffect(() => {
    document.title = "Runs · kapell";
  }, []);

  const focusRow = (index: number): void => {
    const next = Math.max(0, Math.min((runs?.length ?? 1) - 1, index));
    setCurrent(next);
    rows.current?.querySelectorAll<HTMLElement>("a.run-link")[next]?.focus();
  };
  useLayoutEffect(() =>
    pushKeys((event) => {
      if (event.key === "j" || event.key === "ArrowDown") focusRow(rows.current?.contains(document.activeElement) ? current + 1 : current);
      else if (event.key === "k" || event.key === "ArrowUp") focusRow(current - 1);
      else if (event.key === "/") search.current?.focus();
      else return false;
      return true;
    }),
  );

  const toggleStatus = (status: string): void =>
    setQuery({ status: (statuses.includes(status) ? statuses.filter((other) => other !== status) : [...statuses, status]).join(",") }, true);
  const filtered = statuses.length > 0 || plan !== "" || text !== "" || from !== "" || to !== "";
  const choose = (run: string): void => setChecked((all) => (all.includes(run) ? all.filter((other) => other !== run) : [...all.slice(-1), run]));

  return (
    <main id="main" class="page">
      <div class="page-head">
        <h1>Runs</h1>
        <div class="search">
          <input
            ref={search}
            type="search"
            placeholder="Search runs"
            aria-label="Search runs by plan, goal, or text"
            aria-keyshortcuts="/"
            value={text}
            onInput={(event) => setQuery({ text: event.currentTarget.value }, true)}
          />
        </div>
      </div>
      <div class="chips filters" role="group" aria-label="Filter by status and day">
        {STATUSES.map((status) => (
          <button key={status} type="button" class={`chip s-${status}`} aria-pressed={statuses.includes(status)} onClick={() => toggleStatus(status)}>
            <StateIcon state={status} size={14} />
            {WORDS[status]}
          </button>
        ))}
        {plan && (
          <button type="button" class="chip" aria-pressed="true" onClick={() => setQuery({ plan: null }, true)}>
            plan {plan} ×
          </button>
        )}
        {(["from", "to"] as const).map((name) => (
          <label key={name} class="day">
            {name === "from" ? "Started from" : "to"}
            <input type="date" value={query.get(name) ?? ""} onChange={(event) => setQuery({ [name]: event.currentTarget.value }, true)} />
          </label>
        ))}
      </div>
      {checked.length > 0 && (
        <div class="banner">
          <p>{checked.length === 1 ? "Choose a second run to compare." : "Two runs are chosen."}</p>
          <button
            type="button"
            class="button primary"
            disabled={checked.length < 2}
            onClick={() => {
              const [a, b] = [...checked].sort((one, other) => startOf(runs, one) - startOf(runs, other));
              if (a && b) go(link(["compare", a, b]));
            }}
          >
            Compare
          </button>
          <button type="button" class="button" onClick={() => setChecked([])}>
            Clear
          </button>
        </div>
      )}
      {error && (
        <p class="callout error" role="alert">
          {error.message} {error.help}
        </p>
      )}
      {runs === null && !error && <p class="muted">Loading…</p>}
      {runs?.length === 0 &&
        (filtered ? (
          <Empty title="No run matches">
            <button type="button" class="button" onClick={() => go(link(["runs"]))}>
              Show all runs
            </button>
          </Empty>
        ) : (
          <Empty title="No runs yet">
            <p>
              <a href={link(["start"])}>Start a plan or a goal</a>, or run <code>kapell run PLAN</code> in a terminal.
            </p>
          </Empty>
        ))}
      {runs !== null && runs.length > 0 && (
        <table class="runs">
          <thead>
            <tr>
              <th class="c-check">
                <span class="visually-hidden">Compare</span>
              </th>
              <th>Plan</th>
              <th>Status</th>
              <th class="c-tasks">Tasks</th>
              <th class="c-started">Started</th>
              <th class="c-number">Duration</th>
              <th class="c-number c-spent">Cost</th>
            </tr>
          </thead>
          <tbody ref={rows}>
            {runs.map((run, index) => (
              <tr key={run.run} class={checked.includes(run.run) ? "selected" : ""}>
                <td class="c-check">
                  <input type="checkbox" aria-label={`Compare ${run.short}`} checked={checked.includes(run.run)} onChange={() => choose(run.run)} />
                </td>
                <td>
                  <a class="run-link" href={link(["runs", run.run])} onFocus={() => setCurrent(index)}>
                    <Text>{run.plan}</Text>
                  </a>
                  <span class="run-sub">
                    <code>{run.short}</code>
                    {run.rerun_of && <span class="tag">retry</span>}
                    {run.goal && (
                      <span class="run-goal">
                        <Text>{firstLine(run.goal, 100)}</Text>
                      </span>
                    )}
                  </span>
                </td>
                <td>
                  <State state={shownStatus(run)} />
                </td>
                <td class="c-tasks">
                  <CountsBar counts={run.counts} />
                  <span class="muted">
                    {count(done(run.counts))} of {plural(run.counts.total, "task")}
                    {run.counts.asking > 0 && ", asks"}
                    {run.counts.failed > 0 && `, ${run.counts.failed} failed`}
                  </span>
                </td>
                <td class="c-started">
                  <Time at={run.started} />
                </td>
                <td class="c-number">{run.ended != null || shownStatus(run) === "running" ? <Elapsed from={run.started} to={run.ended} /> : ""}</td>
                <td class="c-number c-spent">{run.cost_usd != null && run.cost_usd > 0 ? cost(run.cost_usd) : ""}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      {more && runs !== null && (
        <p class="more">
          {runs.length >= MAX_ROWS ? (
            <span class="muted">Older runs: search, or filter by status.</span>
          ) : (
            <button
              type="button"
              class="button"
              onClick={() => {
                get<{ runs: RunSummary[]; more: boolean }>(address(runs.at(-1)?.run)).then((page) => {
                  setRuns((before) => [...(before ?? []), ...page.runs.filter((run) => !before?.some((other) => other.run === run.run))]);
                  setMore(page.more);
                }, notifyError);
              }}
            >
              Show more
            </button>
          )}
        </p>
      )}
    </main>
  );
}

/** Returns the start of a day, or of a day after it, in the zone of the reader; null if the text is not a day. */
function startOfDay(day: string, later: number): number | null {
  const [year, month, date] = day.split("-").map(Number);
  const at = year && month && date ? new Date(year, month - 1, date + later).getTime() : NaN;
  return Number.isNaN(at) ? null : at;
}

const startOf = (runs: RunSummary[] | null, id: string): number => runs?.find((run) => run.run === id)?.started ?? 0;
