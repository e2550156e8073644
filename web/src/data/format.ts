/** Returns a duration in two units, such as `1 h 04 min`, `2 min 05 s`, `4.2 s`, or `380 ms`. */
export function duration(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return "0 ms";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${pad(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${pad(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

const pad = (value: number): string => String(value).padStart(2, "0");

/** Returns a duration in seconds only, so that a clock that runs does not change its width. */
export const seconds = (ms: number): string => duration(Math.max(0, Math.floor(ms / 1000) * 1000)).replace("0 ms", "0 s");

export function clock(at: number, withMillis = false): string {
  const date = new Date(at);
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return withMillis ? `${time}.${String(date.getMilliseconds()).padStart(3, "0")}` : time;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** Returns a time as people say it: `today 14:03`, `yesterday 09:10`, or `Mar 4, 14:03`. */
export function when(at: number, now: number): string {
  const date = new Date(at);
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  const day = (ms: number): number => new Date(ms).setHours(0, 0, 0, 0);
  const days = Math.round((day(now) - day(at)) / 86_400_000);
  if (days === 0) return `today ${time}`;
  if (days === 1) return `yesterday ${time}`;
  const year = date.getFullYear() === new Date(now).getFullYear() ? "" : ` ${date.getFullYear()}`;
  return `${MONTHS[date.getMonth()]} ${date.getDate()}${year}, ${time}`;
}

export const iso = (at: number): string => new Date(at).toISOString();

export function cost(usd: number): string {
  if (usd === 0) return "$0";
  if (usd < 0.01) return `$${usd.toFixed(4)}`;
  return `$${usd.toFixed(2)}`;
}

/** Returns a count with a thin space between thousands. */
export const count = (value: number): string => String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u2009");

/** Returns a large count with a unit: `12.4k`. */
export function short(value: number): string {
  if (value < 10_000) return count(value);
  if (value < 1e6) return `${(value / 1e3).toFixed(value < 1e5 ? 1 : 0)}k`;
  return `${(value / 1e6).toFixed(1)}M`;
}

export function bytes(value: number): string {
  if (value < 1024) return `${value} B`;
  if (value < 1024 ** 2) return `${(value / 1024).toFixed(1)} KiB`;
  return `${(value / 1024 ** 2).toFixed(1)} MiB`;
}

export const plural = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`;

// Control characters but tab and line feed, and what reorders or hides text.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Shows control, reordering, and invisible characters as `\u{1b}`, like the terminal. */
export function shown(text: string): string {
  return text.replace(INVISIBLE, (character) => `\\u{${character.charCodeAt(0).toString(16)}}`);
}

/** Returns an effect as people read it: `at most once` for `at_most_once`. */
export const effectText = (effect: string): string => effect.replaceAll("_", " ");

/** Returns the first line of a text, for rows of one line. */
export function firstLine(text: string, max = 300): string {
  const end = text.indexOf("\n");
  const line = end < 0 ? text : text.slice(0, end);
  return shown(line.length > max ? `${line.slice(0, max)}…` : line);
}

/** Returns an address that a link may have: of the web or mail, never of a script. */
export function safeLink(address: string): string | null {
  try {
    const url = new URL(address);
    return ["https:", "http:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** Returns the address of an image, if it is of this server or data of a format without scripts. */
export function safeImage(address: string): string | null {
  if (/^data:image\/(png|jpeg|gif|webp|avif);base64,/i.test(address)) return address;
  return /^\/(?![/\\])/.test(address) ? address : null;
}
