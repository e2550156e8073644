import { useEffect, useState } from "preact/hooks";
import { ApiError, get, post, runPath } from "../data/api";
import type { Field, RetryPreview, RunHeader, RunSummary } from "../data/contract";
import { asJson, type Values } from "../data/form";
import { plural, when } from "../data/format";
import { notify, notifyError, now } from "../data/live";
import { go, link } from "../data/route";
import { Dialog } from "../parts/dialog";
import { Form } from "../parts/form";
import { State } from "../parts/state";
import { Text } from "../parts/text";

export function CancelDialog({ run, close }: { run: RunHeader; close: () => void }) {
  const [busy, setBusy] = useState(false);
  return (
    <Dialog
      title="Cancel this run?"
      close={close}
      actions={
        <button
          type="button"
          class="button danger solid"
          disabled={busy}
          onClick={async () => {
            setBusy(true);
            try {
              const { message } = await post<{ message: string }>(`${runPath(run.run)}/cancel`);
              notify({ kind: "done", text: message });
            } catch (error) {
              notifyError(error);
            }
            close();
          }}
        >
          Cancel the run
        </button>
      }
    >
      <p>Calls in progress are stopped, and nothing new starts. Results so far are kept, and a retry can use them.</p>
    </Dialog>
  );
}

function Tasks({ ids }: { ids: string[] }) {
  return (
    <ul class="task-chips" tabIndex={0} aria-label={plural(ids.length, "task")}>
      {ids.slice(0, 300).map((id) => (
        <li key={id}>
          <Text>{id}</Text>
        </li>
      ))}
      {ids.length > 300 && <li class="muted">and {ids.length - 300} more</li>}
    </ul>
  );
}

/** Shows which tasks a retry runs again before it starts a new run. `task` is null for what failed. */
export function RetryDialog({ run, task, close }: { run: RunHeader; task: string | null; close: () => void }) {
  const [preview, setPreview] = useState<RetryPreview | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [busy, setBusy] = useState(false);
  const [inputs, setInputs] = useState<Record<string, unknown> | null>(null);
  const part = task === null ? { failed: true } : { task };
  useEffect(() => {
    const query = task === null ? "failed=true" : `task=${encodeURIComponent(task)}`;
    get<RetryPreview>(`${runPath(run.run)}/retry?${query}`).then(setPreview, (problem: unknown) =>
      setError(problem instanceof ApiError ? problem : new ApiError(0, "page", String(problem))),
    );
  }, [task]);
  const refused = preview?.refused ?? error?.message;
  const change = async (fields: Field[], values: Values): Promise<void> => {
    try {
      const changed = asJson(fields, values);
      const next = await post<RetryPreview>(`${runPath(run.run)}/retry`, { ...part, inputs: changed, dry_run: true });
      setPreview({ ...next, fields });
      setInputs(changed);
    } catch (problem) {
      notifyError(problem);
    }
  };
  const start = async (): Promise<void> => {
    setBusy(true);
    try {
      const started = await post<{ run: string }>(`${runPath(run.run)}/retry`, inputs ? { ...part, inputs } : part);
      close();
      go(link(["runs", started.run]));
      notify({ kind: "done", text: "A new run has started.", link: { href: link(["compare", run.run, started.run]), text: "Compare it with the earlier run" } });
    } catch (problem) {
      notifyError(problem);
      setBusy(false);
    }
  };
  return (
    <Dialog
      wide
      title={task === null ? "Retry what failed?" : "Retry from here?"}
      close={close}
      actions={
        <button type="button" class="button primary" disabled={busy || preview === null || refused != null || preview.again.length === 0} onClick={() => void start()}>
          {preview && !refused ? `Run ${plural(preview.again.length, "task")} again` : "Retry"}
        </button>
      }
    >
      {refused != null ? (
        <p class="callout error">
          <Text>{refused}</Text> {error?.help}
        </p>
      ) : preview === null ? (
        <p class="muted">Finding out what would run again…</p>
      ) : (
        <>
          <p>This starts a new run. The present run stays as it is.</p>
          <h3>
            {plural(preview.again.length, "task runs", "tasks run")} again
          </h3>
          {preview.again.length > 0 ? <Tasks ids={preview.again} /> : <p class="muted">Nothing would run again.</p>}
          {preview.kept.length > 0 && (
            <>
              <h3>
                {plural(preview.kept.length, "result is", "results are")} kept
              </h3>
              <Tasks ids={preview.kept} />
            </>
          )}
          {(preview.removed?.length ?? 0) > 0 && (
            <>
              <h3>{plural(preview.removed?.length ?? 0, "task is", "tasks are")} no longer in the plan</h3>
              <Tasks ids={preview.removed ?? []} />
            </>
          )}
        </>
      )}
      {preview?.fields && (
        <details class="retry-inputs">
          <summary>{inputs ? "The inputs are changed" : "Change the inputs"}</summary>
          <Form idPrefix="retry" label="Show what would run again" fields={preview.fields} given={{ ...run.inputs, ...inputs }} submit={(values) => change(preview.fields ?? [], values)} />
        </details>
      )}
    </Dialog>
  );
}

/** Chooses the run that a run is compared with. */
export function CompareDialog({ run, close }: { run: RunHeader; close: () => void }) {
  const [runs, setRuns] = useState<RunSummary[] | null>(null);
  useEffect(() => {
    get<{ runs: RunSummary[] }>(`/api/runs?plan=${encodeURIComponent(run.plan)}&limit=50`).then(
      (page) => setRuns(page.runs.filter((other) => other.run !== run.run)),
      (error) => {
        notifyError(error);
        close();
      },
    );
  }, []);
  return (
    <Dialog title="Compare with" close={close}>
      {runs === null ? (
        <p class="muted">Loading…</p>
      ) : runs.length === 0 ? (
        <p class="muted">There are no other runs of this plan.</p>
      ) : (
        <ul class="choices">
          {runs.map((other) => (
            <li key={other.run}>
              <a href={other.started < run.started ? link(["compare", other.run, run.run]) : link(["compare", run.run, other.run])} onClick={close}>
                <State state={other.status} />
                <code>{other.short}</code>
                <span class="muted">
                  {when(other.started, now.value)}
                  {(other.rerun_of === run.run || run.rerun_of === other.run) && " · a retry"}
                </span>
              </a>
            </li>
          ))}
        </ul>
      )}
    </Dialog>
  );
}
