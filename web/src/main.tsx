import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get, openSession, report, signedIn } from "./data/api";
import type { Info } from "./data/contract";
import { announcement, dismiss, messages, startClock } from "./data/live";
import { go, link, listenToRoute, route } from "./data/route";
import { connection } from "./data/stream";
import { ComparePage } from "./pages/compare-page";
import { Help } from "./pages/help";
import { RunsPage } from "./pages/runs-page";
import { PlanPage, StartPage } from "./pages/start-page";
import { listenToKeys, pushKeys } from "./parts/keys";
import { Empty } from "./parts/text";
import { RunPage } from "./run/run-page";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/run.css";
import "./styles/pages.css";

const THEMES = ["system", "light", "dark"];
const THEME_KEY = "kapell-theme";

function storedTheme(): string {
  try {
    return localStorage.getItem(THEME_KEY) ?? "system";
  } catch {
    return "system";
  }
}

function applyTheme(theme: string): void {
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(THEME_KEY, theme);
  } catch {
    // Without storage, the choice holds until the page is closed.
  }
}

function App() {
  const [help, setHelp] = useState(false);
  const [theme, setTheme] = useState(storedTheme);
  const [info, setInfo] = useState<Info | null>(null);
  const { path } = route.value;
  const known = signedIn.value;
  useEffect(() => applyTheme(theme), [theme]);
  useEffect(() => {
    if (known && !report) get<Info>("/api/info").then(setInfo, () => undefined);
  }, [known]);
  useEffect(
    () =>
      pushKeys((event) => {
        if (event.key !== "?") return false;
        setHelp(true);
        return true;
      }),
    [],
  );
  const section = path[0] ?? "runs";
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); focusMain(); }}>
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href={report ? link(["runs", report.run]) : link(["runs"])}>
          <svg width="22" height="22" viewBox="0 0 32 32" aria-hidden="true">
            <rect class="brand-back" width="32" height="32" rx="8" />
            <path class="brand-line" d="M9.5 8v16M9.5 16H15c4.5 0 2.5-6 7-6M15 16c4.5 0 2.5 6 7 6" />
            <circle class="brand-dot" cx="23" cy="10" r="2.6" />
            <circle class="brand-dot" cx="23" cy="22" r="2.6" />
          </svg>
          kapell
        </a>
        {!report && (
          <nav aria-label="Pages">
            <a href={link(["runs"])} aria-current={section === "runs" ? "page" : undefined}>
              Runs
            </a>
            <a href={link(["start"])} aria-current={section === "start" ? "page" : undefined}>
              Start
            </a>
          </nav>
        )}
        <div class="top-end">
          {!report && <Connection />}
          <button
            type="button"
            class="button quiet"
            title="Colors"
            aria-label={`Colors: ${theme}`}
            onClick={() => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "system")}
          >
            <svg width="16" height="16" viewBox="0 0 16 16" aria-hidden="true">
              <circle class="theme-ring" cx="8" cy="8" r="6" />
              <path class="theme-half" d="M8 2a6 6 0 0 1 0 12z" />
            </svg>
            {theme !== "system" && <span>{theme}</span>}
          </button>
          <button type="button" class="button quiet" aria-keyshortcuts="?" aria-label="Keys and signs" onClick={() => setHelp(true)}>
            ?
          </button>
        </div>
      </header>
      {known && connection.value === "lost" && !report && (
        <div class="banner lost" role="alert">
          <p>
            <strong>The connection is lost.</strong> The page shows the latest state that it has, and reconnects by itself.
          </p>
        </div>
      )}
      {known ? <Page path={path} info={info} /> : <SignIn />}
      <div class="messages" role="status">
        {messages.value.map((message) => (
          <div key={message.id} class={`message-card ${message.kind}`}>
            <p>
              {message.text}
              {message.help && <span class="message-help">{message.help}</span>}
              {message.link && (
                <>
                  {" "}
                  <a href={message.link.href}>{message.link.text}</a>
                </>
              )}
            </p>
            <button type="button" class="button quiet" aria-label="Dismiss" onClick={() => dismiss(message.id)}>
              ×
            </button>
          </div>
        ))}
      </div>
      <div class="visually-hidden" aria-live="polite">
        {announcement.value}
      </div>
      {help && <Help close={() => setHelp(false)} version={info?.version ?? null} />}
    </>
  );
}

function focusMain(): void {
  const main = document.getElementById("main");
  main?.setAttribute("tabindex", "-1");
  main?.focus();
}

function Connection() {
  const state = connection.value;
  if (!signedIn.value || state === "connecting") return null;
  return (
    <span class={`connection ${state}`}>
      <span class="dot" aria-hidden="true" />
      {state === "live" ? "live" : "reconnecting"}
    </span>
  );
}

function Page({ path, info }: { path: string[]; info: Info | null }) {
  const [section = "runs", first, second] = path;
  if (report) return <RunPage run={report.run} />;
  if (section === "runs") return first ? <RunPage key={first} run={first} /> : <RunsPage />;
  if (section === "start") return first ? <PlanPage key={first} file={path.slice(1).join("/")} /> : <StartPage info={info} />;
  if (section === "compare" && first && second) return <ComparePage a={first} b={second} />;
  return (
    <main id="main" class="page">
      <Empty title="There is no such page">
        <a href={link(["runs"])}>All runs</a>
      </Empty>
    </main>
  );
}

function SignIn() {
  return (
    <main id="main" class="page">
      <Empty title="This browser is not signed in">
        <p>
          Open the address that <code>kapell serve</code> printed. It contains a token, which the server exchanges for a cookie.
        </p>
      </Empty>
    </main>
  );
}

document.documentElement.dataset.theme = storedTheme();
listenToRoute();
listenToKeys();
startClock();
if (report && route.value.path[0] !== "runs") go(link(["runs", report.run]), true);
const root = document.getElementById("app");
if (root) void openSession().then(() => render(<App />, root));
addEventListener("hashchange", () => void openSession());
