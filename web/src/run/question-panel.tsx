import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { post, report, runPath } from "../data/api";
import type { Question } from "../data/contract";
import { duration, effectText, safeLink, shown } from "../data/format";
import { asTexts, parsed } from "../data/form";
import { notify, notifyError, now } from "../data/live";
import { withQuery } from "../data/route";
import type { RunStore } from "../data/run-store";
import { Form } from "../parts/form";
import { Json } from "../parts/json";
import { Empty, Text, Time } from "../parts/text";

const KINDS: Record<Question["kind"], string> = { form: "Question", approval: "Approval", url: "Visit a page" };

interface Answer {
  action: "accept" | "decline" | "cancel";
  fields?: Record<string, string>;
  all?: boolean;
  arguments?: unknown;
}

/** Sends an answer and says what became of it. The stream brings the new state of the question. */
async function answer(store: RunStore, question: Question, body: Answer): Promise<void> {
  try {
    const result = await post<{ status: string; message: string }>(
      `${runPath(store.run)}/answers/${encodeURIComponent(question.id)}`,
      body,
    );
    notify({ kind: result.status === "refused" ? "error" : "done", text: result.message });
  } catch (error) {
    notifyError(error);
  }
}

/** What happens when nothing was answered in time. */
const DEFAULTS: Record<string, string> = {
  accept: "the answer is yes, with the defaults of the form",
  decline: "the answer is no",
  cancel: "the question is dismissed",
};

function Deadline({ question }: { question: Question }) {
  if (question.deadline == null) return null;
  const remaining = question.deadline - now.value;
  const fallback = question.default == null ? null : (DEFAULTS[String(question.default)] ?? String(question.default));
  return (
    <p class="question-deadline">
      {remaining > 0 ? `${duration(Math.floor(remaining / 1000) * 1000)} remain.` : "The time is over."}
      {fallback && <> Then {shown(fallback)}.</>}
    </p>
  );
}

export function QuestionForm({ store, question }: { store: RunStore; question: Question }) {
  const [busy, setBusy] = useState(false);
  const send = async (body: Answer): Promise<void> => {
    setBusy(true);
    await answer(store, question, body);
    setBusy(false);
  };
  const button = (label: string, body: Answer, className = "") => (
    <button type="button" class={`button ${className}`} disabled={busy} onClick={() => void send(body)}>
      {label}
    </button>
  );
  const address = question.kind === "url" && question.url ? safeLink(question.url) : null;
  return (
    <div class="question">
      <p class="question-message">
        <Text>{question.message}</Text>
      </p>
      <p class="muted">
        <Text>{question.asker}</Text>
      </p>
      <dl class="facts">
        {question.task && (
          <>
            <dt>Task</dt>
            <dd>
              <a href={withQuery({ task: question.task, question: null, questions: null })}>
                <Text>{question.task}</Text>
              </a>
            </dd>
          </>
        )}
        {question.tool && (
          <>
            <dt>Call</dt>
            <dd>
              <code>
                <Text>{question.agent ? `${question.agent}.${question.tool}` : question.tool}</Text>
              </code>
            </dd>
          </>
        )}
        {question.effect && (
          <>
            <dt>Effect</dt>
            <dd>
              <Text>{effectText(question.effect)}</Text>
            </dd>
          </>
        )}
        <dt>Asked</dt>
        <dd>
          <Time at={question.asked} />
        </dd>
      </dl>
      {question.arguments != null && (
        <>
          <h3 class="minor">Arguments</h3>
          <div class="block">
            <Json value={question.arguments} />
          </div>
        </>
      )}
      {question.status !== "open" ? (
        <p class="question-answer">
          {question.status === "answered" ? "Answered" : "Cancelled"}
          {question.answered_by && <> by {shown(question.answered_by)}</>}
          {question.answer != null && (
            <>
              : <AnswerText answer={question.answer} />
            </>
          )}
        </p>
      ) : report ? (
        <p class="question-answer">Open when the report was made.</p>
      ) : (
        <>
          <Deadline question={question} />
          {question.left_open_because && (
            <p class="muted">
              <Text>{question.left_open_because}</Text>
            </p>
          )}
          {question.kind === "form" && (
            <Form
              fields={question.fields ?? []}
              idPrefix={`answer-${question.id}`}
              label="Answer"
              submit={(values) => send({ action: "accept", fields: asTexts(question.fields ?? [], values) })}
            >
              {button("Decline", { action: "decline" })}
            </Form>
          )}
          {question.kind === "approval" && (
            <Approval question={question} send={send}>
              {button("Approve", { action: "accept" }, "primary")}
              {question.tool && button(`Approve all calls of ${shown(question.tool)}`, { action: "accept", all: true })}
              {button("Decline", { action: "decline" }, "danger")}
            </Approval>
          )}
          {question.kind === "url" && (
            <>
              <p>
                The page is at{" "}
                <strong>
                  <Text>{question.host ?? "an unknown host"}</Text>
                </strong>
                . Open it only if you trust this host.
              </p>
              <p class="block address">
                <Text>{question.url ?? ""}</Text>
              </p>
              <div class="form-actions">
                {address && (
                  <a class="button primary" href={address} target="_blank" rel="noopener noreferrer">
                    Open the page
                  </a>
                )}
                {button("I have finished there", { action: "accept" })}
                {button("Decline", { action: "decline" }, "danger")}
              </div>
            </>
          )}
        </>
      )}
    </div>
  );
}

/** The buttons of an approval, and the arguments of the call to change before it. */
function Approval({ question, send, children }: { question: Question; send: (body: Answer) => Promise<void>; children: ComponentChildren }) {
  const [changed, setChanged] = useState<string | null>(null);
  const wrong = changed !== null && (typeof parsed(changed) !== "object" || parsed(changed) === null);
  if (changed === null) {
    return (
      <div class="form-actions">
        {children}
        {question.arguments != null && (
          <button type="button" class="button" onClick={() => setChanged(JSON.stringify(question.arguments, null, 2))}>
            Change the arguments…
          </button>
        )}
      </div>
    );
  }
  const id = `arguments-${question.id}`;
  return (
    <div class="field">
      <label for={id}>Arguments of this call, as JSON</label>
      <textarea
        id={id}
        class="json-input"
        rows={10}
        spellcheck={false}
        value={changed}
        aria-invalid={wrong}
        onInput={(event) => setChanged(event.currentTarget.value)}
      />
      <p class="field-error" role="alert">
        {wrong && "Expected a JSON object."}
      </p>
      <div class="form-actions">
        <button type="button" class="button primary" disabled={wrong} onClick={() => void send({ action: "accept", arguments: parsed(changed) })}>
          Approve with these arguments
        </button>
        <button type="button" class="button" onClick={() => setChanged(null)}>
          Back
        </button>
      </div>
    </div>
  );
}

const ACTIONS: Record<string, string> = { accept: "yes", decline: "no", cancel: "dismissed" };

function AnswerText({ answer }: { answer: unknown }) {
  if (typeof answer === "string") return <Text>{answer}</Text>;
  const { action, content } = answer as { action?: string; content?: unknown };
  if (action !== undefined && content == null) return <>{ACTIONS[action] ?? shown(action)}</>;
  if (action === "accept") {
    return (
      <div class="block">
        <Json value={content} />
      </div>
    );
  }
  return (
    <div class="block">
      <Json value={answer} />
    </div>
  );
}

/** All questions of a run: those that are open first, with their forms. */
export function QuestionsPanel({ store, chosen }: { store: RunStore; chosen: string | null }) {
  const all = store.questions.value;
  const rank = (question: Question): number => (question.id === chosen ? 0 : question.status === "open" ? 1 : 2);
  const sorted = [...all].sort((a, b) => rank(a) - rank(b) || (rank(a) < 2 ? a.asked - b.asked : b.asked - a.asked));
  if (all.length === 0) return <Empty title="No questions">Nothing has asked a person in this run.</Empty>;
  return (
    <div class="questions">
      {sorted.map((question) => (
        <article key={question.id} class={`question-card ${question.status}`} aria-label={`${KINDS[question.kind]} ${question.id}`}>
          <header>
            <h2>{KINDS[question.kind]}</h2>
            <code>{question.id}</code>
            {question.status !== "open" && <span class="tag">{question.status}</span>}
          </header>
          <QuestionForm store={store} question={question} />
        </article>
      ))}
    </div>
  );
}
