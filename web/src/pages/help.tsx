import { report } from "../data/api";
import { Dialog } from "../parts/dialog";
import { KEYS } from "../parts/keys";
import { MEANINGS, StateIcon, TASK_STATES, WORDS } from "../parts/state";

export function Help({ close, version }: { close: () => void; version: string | null }) {
  return (
    <Dialog title="Keys and signs" close={close} wide>
      <div class="help">
        <section>
          <h3>Keys</h3>
          <dl class="keys">
            {KEYS.map(([keys, what]) => (
              <div key={what}>
                <dt>
                  {keys.split(" ").map((key) => (
                    <kbd key={key}>{key}</kbd>
                  ))}
                </dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
        </section>
        <section>
          <h3>States of a task</h3>
          <dl class="signs">
            {TASK_STATES.map((state) => (
              <div key={state}>
                <dt class={`state s-${state}`}>
                  <StateIcon state={state} /> {WORDS[state]}
                </dt>
                <dd>{MEANINGS[state]}</dd>
              </div>
            ))}
          </dl>
          <h3>Search</h3>
          <p>
            <code>state:failed</code> <code>agent:research</code> <code>tool:fetch</code> <code>output:Lisbon</code> <code>-kind:hook</code> <code>"two words"</code>
          </p>
          <p class="muted">
            {version && `kapell ${version} · `}
            {!report && (
              <a href="/assets/licenses.txt" target="_blank" rel="noopener">
                Licenses
              </a>
            )}
          </p>
        </section>
      </div>
    </Dialog>
  );
}
