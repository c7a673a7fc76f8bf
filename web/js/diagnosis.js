// Diagnoses why sessions cannot connect: browsers hide the cause from sockets, so it is requested after several
// failures.

/** Consecutive failed attempts before a diagnosis. */
export const SUSPICIOUS_ATTEMPTS = 2;
/** The minimum interval between two diagnoses. */
export const DIAGNOSIS_GAP_MS = 5_000;

export class Diagnosis {
  #backend;
  #timers;
  #onFound;
  #isAsking = false;
  #notBefore = 0;

  /** The cause as a BackendError, or null. */
  cause = null;

  /** `onFound(cause)` is called for each cause. */
  constructor({ backend, timers, onFound }) {
    this.#backend = backend;
    this.#timers = timers;
    this.#onFound = onFound;
  }

  /** Records a waiting session after `attempts` failures; `url` is the address that refused it. */
  async failed({ attempt, url }) {
    if (attempt < SUSPICIOUS_ATTEMPTS || this.#isAsking || this.#timers.now() < this.#notBefore) return;
    this.#isAsking = true;
    const found = await this.#backend.refusal(url);
    this.#isAsking = false;
    this.cause = found === null || found.isSilence ? null : found;
    this.#notBefore = this.#timers.now() + Math.max(DIAGNOSIS_GAP_MS, found?.retryAfter ?? 0);
    if (this.cause !== null) this.#onFound(this.cause);
  }

  /** Clears the cause after a welcome. */
  welcomed() {
    this.cause = null;
  }
}
