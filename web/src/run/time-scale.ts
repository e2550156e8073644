import type { Segment, TaskRow } from "../data/contract";

/** A stretch of time, in milliseconds since the epoch. */
export type Span = readonly [from: number, to: number];

const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000,
  1_800_000, 3_600_000, 7_200_000, 14_400_000, 28_800_000, 43_200_000, 86_400_000, 172_800_000, 604_800_000,
];

/** Returns the marks of an axis: at most `max`, at round distances from the start of the run. */
export function ticks(span: Span, origin: number, max: number): { at: number; text: string }[] {
  const length = Math.max(1, span[1] - span[0]);
  const step = STEPS.find((candidate) => length / candidate <= max) ?? 604_800_000;
  const first = Math.ceil((span[0] - origin) / step) * step;
  const marks = [];
  for (let offset = first; origin + offset <= span[1]; offset += step) marks.push({ at: origin + offset, text: offsetText(offset, step) });
  return marks;
}

/** Returns a time since the start of the run, as exact as the distance of the marks. */
export function offsetText(offset: number, step: number): string {
  if (step < 1000) return offset < 1000 ? `${offset} ms` : `${(offset / 1000).toFixed(step < 10 ? 3 : step < 100 ? 2 : 1)} s`;
  const seconds = Math.round(offset / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  const pad = (value: number): string => String(value).padStart(2, "0");
  if (minutes < 60) return `${minutes}:${pad(seconds % 60)}`;
  return `${Math.floor(minutes / 60)}:${pad(minutes % 60)}:${pad(seconds % 60)}`;
}

/** Returns the position of a time in percent, limited to a little beyond both ends. */
export function percent(at: number, span: Span): number {
  const value = ((at - span[0]) / Math.max(1, span[1] - span[0])) * 100;
  return Math.max(-5, Math.min(105, value));
}

/** Zooms by a factor around a time, within the whole; null is the whole. */
export function zoomed(span: Span, whole: Span, factor: number, around = (span[0] + span[1]) / 2): Span | null {
  const length = Math.max(20, (span[1] - span[0]) * factor);
  if (length >= whole[1] - whole[0]) return null;
  const share = (around - span[0]) / Math.max(1, span[1] - span[0]);
  return within([around - length * share, around + length * (1 - share)], whole);
}

/** Moves a stretch so that it is within the whole. */
export function within(span: Span, whole: Span): Span {
  const length = span[1] - span[0];
  const from = Math.max(whole[0], Math.min(span[0], whole[1] - length));
  return [from, from + length];
}

/** Returns how many tasks are active in each of `buckets` equal parts of the whole. */
export function activity(rows: Iterable<TaskRow>, whole: Span, now: number, buckets: number): number[] {
  const changes = new Array<number>(buckets + 1).fill(0);
  const width = Math.max(1, whole[1] - whole[0]) / buckets;
  const bucket = (at: number): number => Math.max(0, Math.min(buckets - 1, Math.floor((at - whole[0]) / width)));
  for (const row of rows) {
    if (row.children) continue;
    for (const [kind, start, end] of row.segments ?? []) {
      if (kind !== "running" && kind !== "model") continue;
      const from = bucket(start);
      const to = bucket(end ?? now);
      changes[from] = (changes[from] ?? 0) + 1;
      changes[to + 1] = (changes[to + 1] ?? 0) - 1;
    }
  }
  let active = 0;
  return changes.slice(0, buckets).map((change) => {
    active += change;
    return active;
  });
}

export const SEGMENT_WORDS: Record<string, string> = {
  queued: "waits for a place",
  running: "runs",
  person: "waits for a person",
  model: "waits for the model",
  pause: "pauses before a retry",
};

/** Says the segments of a task in words, for screen readers. */
export function segmentWords(segments: Segment[], now: number, format: (ms: number) => string): string {
  return segments
    .slice(-12)
    .map(([kind, start, end, attempt, agent, outcome]) =>
      [
        `${SEGMENT_WORDS[kind] ?? kind} ${format((end ?? now) - start)}`,
        kind === "running" && attempt > 1 ? `attempt ${attempt}` : "",
        kind === "running" && agent ? `on ${agent}` : "",
        outcome ?? "",
      ]
        .filter(Boolean)
        .join(", "),
    )
    .join("; ");
}
