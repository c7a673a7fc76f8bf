// The unsettled smiles of a user: those that wait for an answer, those that wait for a retry, and those to send
// again because their session broke.

import { retryWait } from "./backoff.js";

/** The default limit on unsettled smiles. At the limit, beats send no new smile. */
export const UNSETTLED_LIMIT = 3;

/** The outcome of a beat: a new smile, an interrupted one sent again, or none. */
export const Beat = Object.freeze({ NEW: "new", AGAIN: "again", SKIPPED: "skipped" });

const Phase = Object.freeze({ SENT: "sent", RETRY: "retry", PARKED: "parked" });

export class Outbox {
  #timers;
  #random;
  #send;
  #limit;
  #open = false;
  #entries = new Map();

  constructor({ timers, random, send, limit = UNSETTLED_LIMIT }) {
    this.#timers = timers;
    this.#random = random;
    this.#send = send;
    this.#limit = limit;
  }

  /** Records that the session is open: from now on, beats send smiles. */
  opened() {
    this.#open = true;
  }

  /** Records that the session broke. Its unsettled smiles may or may not have been stored. */
  broken() {
    this.#open = false;
    for (const entry of this.#entries.values()) this.#park(entry);
  }

  /**
   * If the session is open, sends at most one smile: an interrupted smile if there is one; otherwise, if the outbox is
   * below its limit, a new smile from `compose()`. `compose()` returns null if it has no smile to send. Returns a
   * `Beat`. Sending only one interrupted smile per beat avoids a burst after a crash, if the caller paces its beats.
   */
  beat(compose) {
    if (!this.#open) return Beat.SKIPPED;
    for (const entry of this.#entries.values()) {
      if (entry.phase !== Phase.PARKED) continue;
      this.#dispatch(entry);
      return Beat.AGAIN;
    }
    if (this.#entries.size >= this.#limit) return Beat.SKIPPED;
    const smile = compose();
    if (smile === null) return Beat.SKIPPED;
    const entry = { smile, attempt: 0, phase: Phase.PARKED, cancel: () => {} };
    this.#entries.set(entry.smile.id, entry);
    this.#dispatch(entry);
    return Beat.NEW;
  }

  /** Settles a smile after an ack or a permanent error. Returns whether the smile was unsettled. */
  settle(id) {
    this.#entries.get(id)?.cancel();
    return this.#entries.delete(id);
  }

  /**
   * Schedules a retry after a temporary error. The wait is at least `retryAfter` milliseconds, the server's hint. Does
   * nothing if the smile is not waiting for an answer.
   */
  retry(id, retryAfter) {
    const entry = this.#entries.get(id);
    if (entry?.phase !== Phase.SENT) return;
    const wait = retryWait({ retryAfter, attempt: entry.attempt, random: this.#random });
    entry.attempt += 1;
    entry.phase = Phase.RETRY;
    entry.cancel = this.#timers.after(wait, () => this.#dispatch(entry));
  }

  clear() {
    this.broken();
    this.#entries.clear();
  }

  #dispatch(entry) {
    entry.phase = Phase.SENT;
    this.#send(entry.smile);
  }

  #park(entry) {
    entry.cancel();
    entry.phase = Phase.PARKED;
  }
}
