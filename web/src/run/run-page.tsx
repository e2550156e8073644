import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, post, report, runPath } from "../data/api";
import type { PlanSummary, RunHeader } from "../data/contract";
import { cost, count, duration, plural, shown, short } from "../data/format";
import { filterStates, outputMatches, outputTexts, toggleState } from "../data/filter";
import { announce, notify, notifyError } from "../data/live";
import { go, link, route, setQuery, withQuery } from "../data/route";
import { RunStore } from "../data/run-store";
import { pushKeys } from "../parts/keys";
import { barParts, CountsBar, done, shownStatus, State, StateIcon, WORDS } from "../parts/state";
import { Elapsed, Empty, Text, Time } from "../parts/text";
import { CancelDialog, CompareDialog, RetryDialog } from "./actions";
import { EventsView } from "./events-view";
import { ListView } from "./list-view";
import { QuestionsPanel } from "./question-panel";
import { RunGraph } from "./run-graph";
import { SummaryView } from "./summary-view";
import { TaskPanel } from "./task-panel";
import { TimelineView } from "./timeline-view";

const TABS = [
  ["graph", "Graph", "g"],
  ["timeline", "Timeline", "t"],
  ["list", "List", "l"],
  ["events", "Events", "e"],
  ["summary", "Summary", "s"],
] as const;

type DialogState = { kind: "cancel" } | { kind: "retry"; task: string | null } | { kind: "compare" } | null;

export function RunPage({ run }: { run: string }) {
  const store = useMemo(() => new RunStore(run), [run]);
  useEffect(() => () => store.close(), [store]);
  const error = store.error.value;
  const header = store.header.value;
  if (error && !header) {
    return (
      <main id="main" class="page">
        <Empty title={error.status === 404 ? "There is no such run" : "The run cannot be shown"}>
          <p>{error.message}</p>
          {error.help && <p>{error.help}</p>}
          <p>
            <a href={link(["runs"])}>All runs</a>
          </p>
        </Empty>
      </main>
    );
  }
  if (!header) return <main id="main" class="page loading" aria-busy="true" />;
  return <Loaded key={run} store={store} header={header} />;
}

function Loaded({ store, header }: { store: RunStore; header: RunHeader }) {
  const { path, query } = route.value;
  const tab = TABS.find(([id]) => id === path[2])?.[0] ?? "graph";
  const selected = query.get("task");
  const showsQuestions = query.has("questions") || query.has("question");
  const filter = query.get("q") ?? "";
  const cursor = useSignal<string | null>(selected);
  const [dialog, setDialog] = useState<DialogState>(null);
  const search = useRef<HTMLInputElement>(null);
  const panel = useRef<HTMLElement>(null);
  const openQuestions = store.openQuestions.value;
  const hasPanel = selected !== null || showsQuestions;

  useEffect(() => {
    document.title = `${header.plan} ${header.status} · kapell`;
  }, [header.plan, header.status]);

  // The server searches outputs: once a person pauses, and again when more tasks have ended.
  const searched = report || tab === "events" ? "" : outputTexts(filter).join("\n");
  const ended = done(header.counts);
  useEffect(() => {
    if (searched === "") return;
    const find = async (): Promise<void> => {
      const found = new Map<string, Set<string>>();
      for (const text of searched.split("\n")) {
        const { tasks } = await get<{ tasks: string[] }>(`${runPath(store.run)}/tasks?output=${encodeURIComponent(text)}`);
        found.set(text, new Set(tasks));
      }
      outputMatches.value = found;
    };
    const timer = setTimeout(() => void find().catch(notifyError), 300);
    return () => clearTimeout(timer);
  }, [searched, ended]);

  // Events are searched by other words than tasks.
  const tabLink = (id: string): string =>
    link(["runs", store.run, id], { ...Object.fromEntries(query), ...((id === "events") !== (tab === "events") ? { q: null } : {}) });
  const open = (id: string): void => {
    cursor.value = id;
    setQuery({ task: id, question: null, questions: null });
  };
  const move = (id: string): void => {
    cursor.value = id;
    if (selected !== null) setQuery({ task: id }, true);
  };
  const close = (): void => {
    setQuery({ task: null, question: null, questions: null });
    focusView();
  };
  const showQuestions = (): void => {
    setQuery({ task: null, questions: "open", question: openQuestions[0]?.id ?? null });
    // The panel may be there already, with the focus elsewhere.
    requestAnimationFrame(focusQuestion);
  };
  const focusQuestion = (): void =>
    panel.current
      ?.querySelector<HTMLElement>(".question-card.open :is(input, select, textarea, .form-actions .button)")
      ?.focus();
  useEffect(() => {
    if (showsQuestions) focusQuestion();
    else if (hasPanel) panel.current?.focus({ preventScroll: true });
  }, [hasPanel, showsQuestions]);

  const nextFailure = (): void => {
    const order = store.tree.value.order;
    const at = cursor.value === null ? -1 : order.indexOf(cursor.value);
    const failed = (id: string): boolean => store.rows.get(id)?.state === "failed";
    // Within a group, the members say more than the group itself.
    const isLeaf = (id: string): boolean => !store.tree.value.members(id).some(failed);
    const candidates = order.map((id, index) => ({ id, index })).filter(({ id }) => failed(id) && isLeaf(id));
    const next = candidates.find(({ index }) => index > at) ?? candidates[0];
    if (next) open(next.id);
    else announce("No task has failed.");
  };

  useLayoutEffect(() =>
    pushKeys((event) => {
      const target = TABS.find(([, , key]) => key === event.key)?.[0];
      if (target) {
        go(tabLink(target));
        requestAnimationFrame(() => requestAnimationFrame(focusView));
      } else if (event.key === "f") nextFailure();
      else if (event.key === "a") showQuestions();
      else if (event.key === "/") search.current?.focus();
      else if (event.key === "Escape" && hasPanel) close();
      else return false;
      return true;
    }),
  );

  const act = async (what: string): Promise<void> => {
    try {
      const { message } = await post<{ message: string }>(`${runPath(store.run)}/${what}`);
      notify({ kind: "done", text: message });
    } catch (error) {
      notifyError(error);
    }
  };
  const views = { store, cursor, selected, filter, open, move };

  return (
    <main id="main" class="run-page">
      <header class="run-header">
        <div class="run-title">
          <div class="run-name">
            <h1>
              <Text>{header.plan}</Text>
            </h1>
            <State state={shownStatus(header)} />
            <code class="run-id" title={header.run}>
              {header.short}
            </code>
          </div>
          {!report && (
            <div class="run-actions">
              {header.can?.resume && (
                <button type="button" class="button primary" onClick={() => void act("resume")}>
                  Resume
                </button>
              )}
              {header.can?.retry && header.counts.failed + header.counts.cancelled > 0 && (
                <button type="button" class="button" onClick={() => setDialog({ kind: "retry", task: null })}>
                  Retry what failed…
                </button>
              )}
              <button type="button" class="button" title="A new run of this plan, with these inputs to change" onClick={() => void startAgain(header)}>
                Start again…
              </button>
              <button type="button" class="button" onClick={() => setDialog({ kind: "compare" })}>
                Compare…
              </button>
              {header.can?.cancel && (
                <button type="button" class="button danger" onClick={() => setDialog({ kind: "cancel" })}>
                  Cancel…
                </button>
              )}
            </div>
          )}
        </div>
        <div class="run-line">
          <div class="run-progress">
            <CountsBar counts={header.counts} height={8} />
          </div>
          <p class="run-facts">
            <span>
              <strong class="number">
                {count(done(header.counts))}
              </strong>{" "}
              of {plural(header.counts.total, "task")} done
            </span>
            <span>
              <Elapsed from={header.started} to={header.ended} />
            </span>
            <span>
              started <Time at={header.started} />
            </span>
            {header.spent.cost_usd != null && header.spent.cost_usd > 0 && <span class="number">{cost(header.spent.cost_usd)}</span>}
            {header.spent.tokens_in + header.spent.tokens_out > 0 && (
              <span class="number">{short(header.spent.tokens_in + header.spent.tokens_out)} tokens</span>
            )}
            {header.remaining_ms != null && !header.ended && <span>{duration(header.remaining_ms)} remain</span>}
            {header.rerun_of && (
              <span>
                a retry of <a href={link(["runs", header.rerun_of])}>an earlier run</a>
                {!report && (
                  <>
                    {" "}
                    (<a href={link(["compare", header.rerun_of, header.run])}>compare</a>)
                  </>
                )}
              </span>
            )}
            {!report && (
              <span>
                <a href={link(["runs"], { plan: header.plan })}>all runs of this plan</a>
              </span>
            )}
            {(header.reruns?.length ?? 0) > 0 && (
              <span>
                retried: <a href={link(["runs", header.reruns?.at(-1) ?? ""])}>the latest retry</a>
              </span>
            )}
          </p>
        </div>
        {shownStatus(header) === "interrupted" && header.can?.resume && !header.cause && !report && (
          <p class="callout">No process drives this run. “Resume” continues it where it was.</p>
        )}
        {header.cause && (
          <p class="callout">
            <Text>{header.cause}</Text>
          </p>
        )}
      </header>

      {openQuestions.length > 0 && !showsQuestions && (
        <div class="banner asking" role="status">
          <StateIcon state="asking" size={20} />
          <p>
            <strong>{openQuestions.length === 1 ? "A question waits for you." : `${openQuestions.length} questions wait for you.`}</strong>{" "}
            <span class="banner-text">
              <Text>{openQuestions[0]?.message.slice(0, 140) ?? ""}</Text>
            </span>
          </p>
          <button type="button" class="button primary" aria-keyshortcuts="a" onClick={showQuestions}>
            Answer
          </button>
        </div>
      )}

      <div class="run-bar">
        <nav class="tabs" aria-label="Views">
          {TABS.map(([id, name, key]) => (
            <a key={id} href={tabLink(id)} aria-current={tab === id ? "page" : undefined} aria-keyshortcuts={key}>
              {name}
            </a>
          ))}
          <a
            class={showsQuestions ? "questions-link active" : "questions-link"}
            href={withQuery({ task: null, question: null, questions: showsQuestions ? null : "all" })}
          >
            Questions{openQuestions.length > 0 && <span class="badge">{openQuestions.length}</span>}
          </a>
        </nav>
        {tab !== "summary" && (
          <div class="search">
            {tab !== "events" && <StateChips header={header} filter={filter} />}
            <input
              ref={search}
              type="search"
              placeholder={tab === "events" ? "Search events" : "Search, output:text"}
              aria-label={tab === "events" ? "Search events" : "Search tasks. state:failed, agent:name, and output:text search by state, agent, and output."}
              aria-keyshortcuts="/"
              value={filter}
              onInput={(event) => setQuery({ q: event.currentTarget.value }, true)}
              onKeyDown={(event) => {
                if (event.key === "Enter") {
                  event.currentTarget.blur();
                  focusView();
                }
              }}
            />
          </div>
        )}
      </div>

      <div class={`run-body ${hasPanel ? "with-panel" : ""}`}>
        <section class={`view view-${tab}`} aria-label={TABS.find(([id]) => id === tab)?.[1]}>
          {tab === "graph" && <RunGraph {...views} />}
          {tab === "timeline" && <TimelineView {...views} />}
          {tab === "list" && <ListView {...views} />}
          {tab === "events" && <EventsView store={store} filter={filter} />}
          {tab === "summary" && <SummaryView store={store} />}
        </section>
        {hasPanel && (
          <aside class="panel" ref={panel} aria-label={showsQuestions ? "Questions" : `Task ${shown(selected ?? "")}`} tabIndex={-1}>
            <button type="button" class="panel-close" aria-label="Close" onClick={close}>
              <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">
                <path d="M4 4l8 8M12 4l-8 8" />
              </svg>
            </button>
            {showsQuestions ? (
              <QuestionsPanel store={store} chosen={query.get("question")} />
            ) : (
              selected !== null && <TaskPanel key={selected} store={store} id={selected} retry={(task) => setDialog({ kind: "retry", task })} />
            )}
          </aside>
        )}
      </div>
      {dialog?.kind === "cancel" && <CancelDialog run={header} close={() => setDialog(null)} />}
      {dialog?.kind === "retry" && <RetryDialog run={header} task={dialog.task} close={() => setDialog(null)} />}
      {dialog?.kind === "compare" && <CompareDialog run={header} close={() => setDialog(null)} />}
    </main>
  );
}

/** Opens the form of the plan with the inputs of a run. */
async function startAgain(header: RunHeader): Promise<void> {
  try {
    const { plans } = await get<{ plans: PlanSummary[] }>("/api/plans");
    const plan = plans.find((item) => item.name === header.plan && !item.error);
    if (plan) go(link(["start", plan.file], { from: header.run }));
    else notify({ kind: "error", text: `The server has no plan file named “${header.plan}”.`, help: "`kapell serve --plans DIR` offers the plans of a folder." });
  } catch (error) {
    notifyError(error);
  }
}

/** Moves the focus to the view: the row of the cursor, or the graph. */
function focusView(): void {
  document.querySelector<HTMLElement>('.view [tabindex="0"]')?.focus({ preventScroll: true });
}

/** The states that the run has, each with its number; choosing one filters by it. */
function StateChips({ header, filter }: { header: RunHeader; filter: string }) {
  const chosen = filterStates(filter);
  const parts = barParts(header.counts);
  const missing = chosen.filter((state) => !parts.some((part) => part.state === state));
  return (
    <div class="chips" role="group" aria-label="Filter by state">
      {[...parts, ...missing.map((state) => ({ state: state as (typeof parts)[number]["state"], count: 0 }))].map(({ state, count: number }) => (
        <button
          key={state}
          type="button"
          class={`chip s-${state}`}
          aria-pressed={chosen.includes(state)}
          title={WORDS[state]}
          onClick={() => setQuery({ q: toggleState(filter, state) }, true)}
        >
          <StateIcon state={state} size={14} />
          <span class="number">{count(number)}</span>
          <span class="visually-hidden">{WORDS[state]}</span>
        </button>
      ))}
    </div>
  );
}
