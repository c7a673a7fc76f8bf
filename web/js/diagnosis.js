// Owns why sessions get no further: asks once several attempts failed, since browsers tell a socket nothing. Knows
// nothing of how it is shown.

/** Attempts in a row after which a session's failure is looked into. */
export const SUSPICIOUS_ATTEMPTS = 2;
/** From one question to the next, at least. */
export const DIAGNOSIS_GAP_MS = 5_000;

export class Diagnosis {
  #backend;
  #timers;
  #onFound;
  #isAsking = false;
  #notBefore = 0;

  /** The BackendError that stands for the cause, or null. */
  cause = null;

  /** `onFound(cause)` comes with every cause that was found. */
  constructor({ backend, timers, onFound }) {
    this.#backend = backend;
    this.#timers = timers;
    this.#onFound = onFound;
  }

  /** A session waits after this many attempts in a row; `url` is where it was refused. */
  async failed({ attempt, url }) {
    if (attempt < SUSPICIOUS_ATTEMPTS || this.#isAsking || this.#timers.now() < this.#notBefore) return;
    this.#isAsking = true;
    const found = await this.#backend.refusal(url);
    this.#isAsking = false;
    this.cause = found === null || found.isSilence ? null : found;
    this.#notBefore = this.#timers.now() + Math.max(DIAGNOSIS_GAP_MS, found?.retryAfter ?? 0);
    if (this.cause !== null) this.#onFound(this.cause);
  }

  /** A session was welcomed: nothing is wrong any more. */
  welcomed() {
    this.cause = null;
  }
}
