// Diagnoses why sessions cannot connect. Browsers do not tell a page why a socket failed, so after a session's second
// failure in a row the page looks for the cause with one or two HTTP requests. For `DIAGNOSIS_GAP_MS`, or for the
// server's hint if it is longer, each refusal is counted under this cause. A later refusal waits for the next
// diagnosis. A rate limit lets occasional requests pass, so refusals are counted under the last cause until two
// diagnoses in a row find no cause, or until a diagnosis gets no answer. If the page has had no welcome yet, and two
// diagnoses in a row find no cause of a refused socket, a proxy does not let WebSockets through.

import { BackendError } from "./backend.js";

export const SUSPICIOUS_ATTEMPTS = 2;
/** The minimum time between the end of a diagnosis and the start of the next one. */
export const DIAGNOSIS_GAP_MS = 5_000;
/** How long a refusal waits for a diagnosis. */
const UNEXPLAINED_MS = 2 * DIAGNOSIS_GAP_MS;
const NO_UPGRADE = new BackendError({ status: 426, code: "no_upgrade", message: "" });

export class Diagnosis {
  #backend;
  #timers;
  #onFound;
  #onRefused;
  #unexplained = [];
  #isAsking = false;
  #notBefore = 0;
  #found = null;
  #hasPassed = false;
  #wasWelcomed = false;

  /** The cause as a BackendError, or null. */
  cause = null;

  /**
   * `onFound(cause)` reports each diagnosed cause. `onRefused(cause)` reports each refused socket once its cause is
   * known, and each refused request of a diagnosis.
   */
  constructor({ backend, timers, onFound, onRefused }) {
    this.#backend = backend;
    this.#timers = timers;
    this.#onFound = onFound;
    this.#onRefused = onRefused;
  }

  /** `attempt` counts the failures since the back-off of the session was reset. */
  async failed({ attempt, url, isRefusal }) {
    const now = this.#timers.now();
    if (isRefusal && this.#found !== null && now < this.#notBefore) this.#onRefused(this.#found);
    else if (isRefusal) this.#unexplained.push(now);
    if (attempt < SUSPICIOUS_ATTEMPTS || this.#isAsking || now < this.#notBefore) return;
    this.#unexplained = this.#unexplained.filter((at) => now - at <= UNEXPLAINED_MS);
    this.#isAsking = true;
    let found = await this.#backend.refusal(url);
    this.#isAsking = false;
    const hasNoCause = found === null;
    const isBlocked = isRefusal && !this.#wasWelcomed && (this.#found ?? NO_UPGRADE) === NO_UPGRADE;
    if (hasNoCause && this.#hasPassed && isBlocked) found = NO_UPGRADE;
    this.#notBefore = this.#timers.now() + Math.max(DIAGNOSIS_GAP_MS, found?.retryAfter ?? 0);
    this.cause = found?.isSilence ? null : found;
    if (found !== null || this.#hasPassed) this.#found = this.cause;
    this.#hasPassed = hasNoCause;
    if (this.cause !== null) this.#explain(this.cause);
    if (found !== null) this.#unexplained = [];
  }

  // The HTTP request of the diagnosis was refused as the sockets were, so it counts as well.
  #explain(cause) {
    for (let refused = 0; refused <= this.#unexplained.length; refused += 1) this.#onRefused(cause);
    this.#onFound(cause);
  }

  /** Clears only `cause`: later refusals are still counted under it, since other sockets may still be refused. */
  welcomed() {
    this.#wasWelcomed = true;
    this.cause = null;
  }
}
