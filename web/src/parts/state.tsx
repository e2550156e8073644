import type { ComponentChildren } from "preact";
import type { Counts, RunStatus, TaskState } from "../data/contract";
import { count } from "../data/format";

/** The word for each state of a task and of a run. */
export const WORDS: Record<string, string> = {
  waiting: "waiting",
  queued: "queued",
  running: "running",
  asking: "asking",
  model: "at the model",
  retrying: "retrying",
  succeeded: "succeeded",
  failed: "failed",
  skipped: "skipped",
  cancelled: "cancelled",
  paused: "paused",
  interrupted: "interrupted",
  partial: "partial",
};

/** What each state means, for the help and as a tooltip. */
export const MEANINGS: Record<TaskState, string> = {
  waiting: "waits for other tasks",
  queued: "waits for a place at its agent",
  running: "runs at its agent",
  asking: "waits for a person",
  model: "waits for a language model",
  retrying: "pauses before the next attempt",
  succeeded: "has a result",
  failed: "ended with an error",
  skipped: "was not needed",
  cancelled: "was stopped",
};

export const TASK_STATES = Object.keys(MEANINGS) as TaskState[];

const check = "M4.8 8.300l2.2 2.2 4.3-4.7";
const cross = "M5.7 5.700l4.6 4.600M10.3 5.700l-4.6 4.6";

/** The drawing of a state in a square of 16: each has an outline of its own, so that color is not needed. */
export function StateShape({ state }: { state: TaskState | RunStatus }) {
  switch (state) {
    case "succeeded":
      return (
        <g>
          <circle class="fill" cx="8" cy="8" r="7" />
          <path class="ink" d={check} />
        </g>
      );
    case "failed":
      return (
        <g>
          <path class="fill" d="M5 1h6l4 4v6l-4 4H5l-4-4V5z" />
          <path class="ink" d={cross} />
        </g>
      );
    case "partial":
      return (
        <g>
          <path class="fill" d="M8 1l7.3 13H.700z" />
          <path class="ink" d="M8 6v4M8 12v.1" />
        </g>
      );
    case "running":
      return (
        <g>
          <circle class="track" cx="8" cy="8" r="6" />
          <path class="line spin" d="M8 2a6 6 0 0 1 6 6" />
          <circle class="fill" cx="8" cy="8" r="2" />
        </g>
      );
    case "asking":
      return (
        <g>
          <path class="fill" d="M2 2.500h12v9H9.500L6.5 15v-3.500H2z" />
          <path class="ink" d="M6.3 5.700c0-2 3.4-2 3.4 0 0 1.2-1.7 1.2-1.7 2.300M8 9.800v.1" />
        </g>
      );
    case "model":
      return <path class="fill" d="M8 .700L9.8 6.2 15.3 8 9.8 9.8 8 15.3 6.2 9.8.700 8 6.2 6.200z" />;
    case "retrying":
      return (
        <g>
          <path class="line" d="M13.5 8a5.5 5.5 0 1 1-1.7-4" />
          <path class="fill" d="M13.8 1v4.500H9.300z" />
        </g>
      );
    case "queued":
      return (
        <g>
          <circle class="line" cx="8" cy="8" r="6" />
          <path class="line" d="M8 4.800V8l2.3 1.5" />
        </g>
      );
    case "skipped":
      return (
        <g>
          <circle class="line dashed" cx="8" cy="8" r="6" />
          <path class="line" d="M5.3 8h5.4" />
        </g>
      );
    case "cancelled":
      return (
        <g>
          <rect class="line" x="2" y="2" width="12" height="12" rx="2" />
          <path class="line" d="M4.8 11.200l6.4-6.4" />
        </g>
      );
    case "paused":
      return (
        <g>
          <circle class="fill" cx="8" cy="8" r="7" />
          <path class="ink" d="M6.2 5.300v5.400M9.8 5.300v5.4" />
        </g>
      );
    case "interrupted":
      return (
        <g>
          <path class="line" d="M8 2a6 6 0 0 1 5.7 7.800M10.2 13.600A6 6 0 1 1 5 2.8" />
          <path class="line" d="M9 4.500L6.8 8h2.600L7.2 11.5" />
        </g>
      );
    default:
      return <circle class="line" cx="8" cy="8" r="5.5" />;
  }
}

/** Returns the status to show: a run that nothing drives does not run, although its journal says nothing else. */
export function shownStatus(run: { status: RunStatus; process?: unknown; can?: { resume?: boolean } }): RunStatus {
  const isDriven = run.can?.resume === undefined ? run.process != null : !run.can.resume;
  return run.status === "running" && !isDriven ? "interrupted" : run.status;
}

export function StateIcon({ state, size = 16 }: { state: TaskState | RunStatus; size?: number }) {
  return (
    <svg class={`state-icon s-${state}`} width={size} height={size} viewBox="0 0 16 16" aria-hidden="true">
      <StateShape state={state} />
    </svg>
  );
}

/** A state in color, shape, and word. */
export function State({ state, children }: { state: TaskState | RunStatus; children?: ComponentChildren }) {
  return (
    <span class={`state s-${state}`} title={MEANINGS[state as TaskState]}>
      <StateIcon state={state} />
      <span>{children ?? WORDS[state] ?? state}</span>
    </span>
  );
}

const URGENT = new Set<keyof Counts>(["failed", "asking", "retrying"]);
const BAR: (keyof Counts)[] = ["succeeded", "failed", "cancelled", "skipped", "retrying", "asking", "running", "waiting"];

/** Returns the parts of a bar, each with its start and length from 0 to 1. */
export function barParts(counts: Counts): { state: TaskState; count: number; start: number; size: number }[] {
  // One failure of a thousand tasks is still seen.
  const weights = BAR.map((state) => {
    const value = counts[state] ?? 0;
    return value === 0 ? 0 : URGENT.has(state) ? Math.max(value, counts.total * 0.01) : value;
  });
  const total = Math.max(1, weights.reduce((sum, weight) => sum + weight, 0));
  let start = 0;
  return BAR.flatMap((state, index) => {
    const size = (weights[index] ?? 0) / total;
    if (size === 0) return [];
    start += size;
    return { state: state as TaskState, count: counts[state] ?? 0, start: start - size, size };
  });
}

export const done = (counts: Counts): number => counts.succeeded + counts.failed + counts.skipped + counts.cancelled;

/** Says counts in words, such as `3 running, 1 failed, 8 succeeded`. */
export function countWords(counts: Counts): string {
  return barParts(counts)
    .map((part) => `${count(part.count)} ${WORDS[part.state]}`)
    .join(", ");
}

/** A stacked bar of the states of several tasks. */
export function CountsBar({ counts, height = 6 }: { counts: Counts; height?: number }) {
  return (
    <svg class="counts-bar" width="100%" height={height} role="img" aria-label={countWords(counts) || "no tasks"}>
      <rect class="empty" width="100%" height={height} />
      {barParts(counts).map((part) => (
        <rect
          key={part.state}
          class={`s-${part.state} bar`}
          x={`${part.start * 100}%`}
          width={`${part.size * 100}%`}
          height={height}
        />
      ))}
    </svg>
  );
}
