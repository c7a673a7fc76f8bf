// Exponential back-off with full jitter, so that clients that lost the same replica do not all reconnect together.

const RECONNECT_FIRST_MS = 100;
const RECONNECT_CAP_MS = 5_000;
export const POLICY_WAIT_MS = 15_000;
const RETRY_FIRST_MS = 400;
export const RETRY_CAP_MS = 5_000;

/** `first` milliseconds, doubled `attempt` times, but at most `cap`. Attempts count from 0. */
export function ceiling(attempt, first, cap) {
  return Math.min(cap, first * 2 ** attempt);
}

/** The waits between attempts to connect, in milliseconds. `random()` is at least 0 and below 1. */
export class Backoff {
  #random;

  attempt = 0;

  constructor({ random }) {
    this.#random = random;
  }

  next() {
    const wait = this.#random() * ceiling(this.attempt, RECONNECT_FIRST_MS, RECONNECT_CAP_MS);
    this.attempt += 1;
    return wait;
  }

  /** The wait after a close for a policy violation: one to two times `POLICY_WAIT_MS`. */
  nextAfterPolicy() {
    this.attempt += 1;
    return POLICY_WAIT_MS * (1 + this.#random());
  }

  reset() {
    this.attempt = 0;
  }
}

/**
 * The wait in milliseconds before a smile is sent again: the server's hint plus jitter, so that clients whose smiles
 * were shed do not all retry together. The range of the jitter doubles with each attempt, up to `RETRY_CAP_MS`.
 */
export function retryWait({ retryAfter, attempt, random }) {
  return retryAfter + random() * ceiling(attempt, RETRY_FIRST_MS, RETRY_CAP_MS);
}
