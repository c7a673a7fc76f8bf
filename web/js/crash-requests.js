// Sends crash requests, with the token if one is stored, and keeps the reason why the last request failed.

export const Outcome = Object.freeze({ CRASHED: "crashed", NOBODY: "nobody", REFUSED: "refused", UNANSWERED: "unanswered" });

const TOKEN_KEY = "smilingchat.crash-token";
const DEFAULT_MODE = "exit";
const WORDED_STATUSES = new Set([401, 403, 404, 409, 429]);
/** The failures that no longer matter once a replica is back. */
const PASSING = new Set(["crash.error.unreachable", "crash.error.offline", "crash.error.404"]);
const UNAUTHORIZED = 401;
const NOT_FOUND = 404;

export class CrashRequests {
  #backend;
  #storage;

  /** The `wish` of the request that waits for a token, or null. */
  waiting = null;
  /** The failure to show for the last request, as a dictionary key with its values: {key, values}; or null. */
  failure = null;

  /** `storage` keeps the token for this tab. */
  constructor({ backend, storage }) {
    this.#backend = backend;
    this.#storage = storage;
  }

  set token(token) {
    this.#storage.setItem(TOKEN_KEY, token);
  }

  /**
   * Crashes `wish.replica`; null lets the server choose one. Returns `{outcome, replica, mode}`; without an answer that
   * names the replica, `replica` is null and `mode` the requested one.
   */
  async ask(wish) {
    const { replica, mode } = wish;
    const token = this.#storage.getItem(TOKEN_KEY);
    this.failure = null;
    try {
      const done = await this.#backend.crash({ replica, mode: mode === DEFAULT_MODE ? null : mode, token });
      this.waiting = null;
      return { outcome: Outcome.CRASHED, replica: done.replica, mode: done.mode };
    } catch (error) {
      this.#failed(error, wish, token);
      return { outcome: outcomeOf(error), replica: null, mode };
    }
  }

  forget() {
    this.waiting = null;
    this.failure = null;
  }

  /** Called when a replica has become ready, or the backend answers again. */
  replicaIsBack() {
    if (PASSING.has(this.failure?.key)) this.failure = null;
  }

  #failed(error, wish, token) {
    if (error.status !== UNAUTHORIZED) {
      this.failure = failureOf(error);
      // The token stays in use. If it is wrong after all, the next 401 shows the form again.
      if (token !== null) this.waiting = null;
    } else if (token === this.#storage.getItem(TOKEN_KEY)) {
      this.#storage.removeItem(TOKEN_KEY);
      // On the first 401, the page shows only the form for the token.
      this.failure = this.waiting === null ? null : failureOf(error);
      this.waiting = wish;
    }
  }
}

function outcomeOf(error) {
  if (error.isSilence) return Outcome.UNANSWERED;
  return error.status === NOT_FOUND ? Outcome.NOBODY : Outcome.REFUSED;
}

function failureOf(error) {
  if (error.isSilence) return { key: "crash.error.unreachable", values: {} };
  if (WORDED_STATUSES.has(error.status)) return { key: `crash.error.${error.status}`, values: {} };
  return { key: "crash.error.other", values: { code: error.code, message: error.message } };
}
