// Requests crashes: the request, the token if required, and its errors as text.

import { byId, setText } from "./dom.js";

/** The outcomes of a request. */
export const Outcome = Object.freeze({ CRASHED: "crashed", NOBODY: "nobody", REFUSED: "refused", UNANSWERED: "unanswered" });

const TOKEN_KEY = "smilingchat.crash-token";
const DEFAULT_MODE = "exit";
const WORDED_STATUSES = new Set([401, 403, 404, 409, 429]);
const UNAUTHORIZED = 401;
const NOT_FOUND = 404;

export class CrashControl {
  #translate;
  #backend;
  #timers;
  #storage;
  #crashes;
  #onChange;
  #pending = null;
  #mode = byId("crash-mode");
  #tokenRow = byId("crash-token-row");
  #token = byId("crash-token");
  #error = byId("crash-error");

  /** `crashes()` records the crashes; `storage` keeps the token for this tab. `onChange()` requests a repaint. */
  constructor({ translate, backend, timers, storage, crashes, onChange }) {
    this.#translate = translate;
    this.#backend = backend;
    this.#timers = timers;
    this.#storage = storage;
    this.#crashes = crashes;
    this.#onChange = onChange;
    this.#mode.addEventListener("change", () => this.#onChange());
    this.#tokenRow.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#sendToken();
    });
  }

  /** The selected crash mode. */
  get chosenMode() {
    return this.#mode.value;
  }

  /** Crashes the named replica, or with null one that the server chooses. Returns `{outcome, incident}`. */
  async crash({ replica, by }) {
    const mode = this.#mode.value;
    const crashes = this.#crashes();
    const incident = crashes.asked({ at: this.#timers.now(), by, mode });
    this.#showError(null);
    this.#onChange();
    const outcome = await this.#ask(incident, { replica, mode, by });
    // Without an answer the crash may have happened, so it is still tracked.
    if (outcome === Outcome.NOBODY || outcome === Outcome.REFUSED) crashes.withdrawn(incident);
    this.#onChange();
    return { outcome, incident };
  }

  async #ask(incident, { replica, mode, by }) {
    try {
      const wish = { replica, mode: mode === DEFAULT_MODE ? null : mode, token: this.#storage.getItem(TOKEN_KEY) };
      const done = await this.#backend.crash(wish);
      incident.confirmed({ at: this.#timers.now(), replica: done.replica, mode: done.mode });
      this.#tokenRow.hidden = true;
      return Outcome.CRASHED;
    } catch (error) {
      this.#failed(error, { replica, by });
      if (error.isSilence) return Outcome.UNANSWERED;
      return error.status === NOT_FOUND ? Outcome.NOBODY : Outcome.REFUSED;
    }
  }

  #failed(error, wish) {
    if (error.status === UNAUTHORIZED) {
      const alreadyAsked = !this.#tokenRow.hidden;
      this.#storage.removeItem(TOKEN_KEY);
      this.#pending = wish;
      this.#tokenRow.hidden = false;
      this.#token.focus();
      this.#showError(alreadyAsked ? this.#translate("crash.error.401") : null);
    } else if (error.isSilence) {
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
    this.crash(this.#pending);
  }

  #showError(text) {
    this.#error.hidden = text === null;
    setText(this.#error, text ?? "");
  }
}
