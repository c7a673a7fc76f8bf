// Owns the smiles of one user that are not settled yet: which wait for an answer, which wait for their
// retry, and which must be sent again because their session broke. Knows no socket and no page.

import { retryWait } from "./backoff.js";

/** A user with this many unsettled smiles says nothing new: the load stays offered, and bounded. */
export const UNSETTLED_LIMIT = 3;

/** What a beat came to. */
export const Beat = Object.freeze({ NEW: "new", AGAIN: "again", SKIPPED: "skipped" });

const Phase = Object.freeze({ SENT: "sent", RETRY: "retry", PARKED: "parked" });

export class Outbox {
  #timers;
  #random;
  #send;
  #limit;
  #open = false;
  #entries = new Map();

  /** `send(smile)` puts a smile on the session's socket. */
  constructor({ timers, random, send, limit = UNSETTLED_LIMIT }) {
    this.#timers = timers;
    this.#random = random;
    this.#send = send;
    this.#limit = limit;
  }

  get size() {
    return this.#entries.size;
  }

  /** The session can carry smiles; those cut off before go out again, one at each beat. */
  opened() {
    this.#open = true;
  }

  /** The session broke: what it carried may or may not have been stored. */
  broken() {
    this.#open = false;
    for (const entry of this.#entries.values()) this.#park(entry);
  }

  /**
   * One beat is one offer: first a smile that was cut off, else a new one from `compose`, which may have none (null).
   * Sending the cut-off ones at the beats keeps a crash from turning into a burst.
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
    const entry = { smile, attempt: 0, phase: Phase.PARKED, cancel: null };
    this.#entries.set(entry.smile.id, entry);
    this.#dispatch(entry);
    return Beat.NEW;
  }

  /** An ack, or an error that is final: the smile needs nothing more. True the first time. */
  settle(id) {
    const entry = this.#entries.get(id);
    if (entry === undefined) return false;
    this.#park(entry);
    return this.#entries.delete(id);
  }

  /** A temporary error: the same smile goes again, no sooner than the server asked for. */
  retry(id, retryAfter) {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.phase !== Phase.SENT) return;
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
    entry.cancel = null;
    this.#send(entry.smile);
  }

  #park(entry) {
    entry.cancel?.();
    entry.cancel = null;
    entry.phase = Phase.PARKED;
  }
}
