// Owns the crash button: the request, the token where one is asked for, the errors in plain words, and the
// measured story of the last crash. Knows nothing of the sockets; it is told when sessions come and go.

import { byId, element, setText } from "./dom.js";
import { Incident, Step } from "./incident.js";

const TOKEN_KEY = "smilingchat.crash-token";
const DEFAULT_MODE = "exit";
const WORDED_STATUSES = new Set([401, 403, 404, 409]);
const UNAUTHORIZED = 401;

export class CrashControl {
  #translate;
  #format;
  #backend;
  #timers;
  #storage;
  #replicasNow;
  #onChange;
  #incident = null;
  #shownSteps = "";
  #pendingReplica = null;
  #mode = byId("crash-mode");
  #tokenRow = byId("crash-token-row");
  #token = byId("crash-token");
  #error = byId("crash-error");
  #panel = byId("incident-panel");
  #timeline = byId("incident");

  /** `replicasNow()` is the last list of replicas; `storage` keeps the token for this tab. */
  constructor({ translate, format, backend, timers, storage, replicasNow, onChange }) {
    this.#translate = translate;
    this.#format = format;
    this.#backend = backend;
    this.#timers = timers;
    this.#storage = storage;
    this.#replicasNow = replicasNow;
    this.#onChange = onChange;
    byId("crash").addEventListener("click", () => this.crash(null));
    this.#mode.addEventListener("change", () => this.#onChange());
    byId("crash-token-send").addEventListener("click", () => this.#sendToken());
    this.#token.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.#sendToken();
    });
  }

  /** How a replica would be made to fail now. */
  get chosenMode() {
    return this.#mode.value;
  }

  /** How a replica was made to fail whose place nobody has taken yet; null where there is none. */
  get openMode() {
    return this.#incident === null || this.#incident.isOver ? null : this.#incident.mode;
  }

  /** Crashes the named replica, or with null the one the server picks. */
  async crash(replica) {
    const mode = this.#mode.value;
    const incident = new Incident({ at: this.#timers.now(), mode, replicas: this.#replicasNow() });
    const before = this.#incident;
    this.#incident = incident;
    this.#showError(null);
    this.#onChange();
    try {
      const wish = { replica, mode: mode === DEFAULT_MODE ? null : mode, token: this.#storage.getItem(TOKEN_KEY) };
      const done = await this.#backend.crash(wish);
      incident.confirmed({ at: this.#timers.now(), replica: done.replica, mode: done.mode });
      this.#tokenRow.hidden = true;
    } catch (error) {
      // Without an answer the crash may well have happened, so its story goes on being told.
      if (error.status !== 0) this.#incident = before;
      this.#failed(error, replica);
    }
    this.#onChange();
  }

  sessionChanged({ user, state, replica }) {
    const at = this.#timers.now();
    if (state === "waiting" || state === "failed") this.#incident?.sessionLost({ at, user, replica });
    if (state === "live") this.#incident?.sessionLive({ at, user });
    if (state === "stopped") this.#incident?.sessionStopped(user);
  }

  replicasSeen(replicas) {
    this.#incident?.replicasSeen({ at: this.#timers.now(), replicas });
  }

  paint() {
    this.#panel.hidden = this.#incident === null;
    if (this.#incident === null) return;
    const rows = this.#incident.steps.map((step) => [`+${this.#format.span(step.after)}`, this.#stepText(step)]);
    const { sessionsLost: n, sessionsResumed: done } = this.#incident;
    if (done < n) rows.push(["…", this.#translate("incident.progress", { done, n })]);
    // Rebuilt only when it reads differently, so that a screen reader is not told the same again.
    const shown = JSON.stringify(rows);
    if (shown === this.#shownSteps) return;
    this.#shownSteps = shown;
    this.#timeline.replaceChildren(
      ...rows.map(([time, text]) => element("li", "", element("span", "time", time), element("span", "", text))),
    );
  }

  #stepText({ kind, mode, replica, count }) {
    const words = { replica, n: count, mode: kind === Step.ASKED ? mode : "" };
    return this.#translate(`incident.${kind}`, words);
  }

  #failed(error, replica) {
    if (error.status === UNAUTHORIZED) {
      const alreadyAsked = !this.#tokenRow.hidden;
      this.#storage.removeItem(TOKEN_KEY);
      this.#pendingReplica = replica;
      this.#tokenRow.hidden = false;
      this.#token.focus();
      this.#showError(alreadyAsked ? this.#translate("crash.error.401") : null);
    } else if (error.status === 0) {
      this.#showError(this.#translate("crash.error.unreachable"));
    } else if (WORDED_STATUSES.has(error.status)) {
      this.#showError(this.#translate(`crash.error.${error.status}`));
    } else {
      this.#showError(this.#translate("crash.error.other", { code: error.code, message: error.message }));
    }
  }

  #sendToken() {
    const token = this.#token.value.trim();
    if (token === "") return;
    this.#storage.setItem(TOKEN_KEY, token);
    this.#token.value = "";
    this.crash(this.#pendingReplica);
  }

  #showError(text) {
    this.#error.hidden = text === null;
    setText(this.#error, text ?? "");
  }
}
