// Limits the number of sessions that connect at the same time. A browser dials only one WebSocket of a host at a time.
// With a higher limit, a session's time limit would also count the time for which its socket waits for the others.

const DIAL_LIMIT = 1;

export class DialQueue {
  #limit;
  #running = 0;
  #waiting = [];

  /** Sockets of Node.js do not wait for each other, so there a higher `limit` connects many sessions sooner. */
  constructor({ limit = DIAL_LIMIT } = {}) {
    this.#limit = limit;
  }

  /**
   * Calls `begin` now or when a slot is free. Returns a function that releases the slot or leaves the queue;
   * calling it again does nothing.
   */
  enter(begin) {
    const ticket = { begin, state: "waiting" };
    this.#waiting.push(ticket);
    this.#admit();
    return () => this.#leave(ticket);
  }

  #leave(ticket) {
    if (ticket.state === "running") this.#running -= 1;
    this.#waiting = this.#waiting.filter((other) => other !== ticket);
    ticket.state = "left";
    this.#admit();
  }

  #admit() {
    while (this.#running < this.#limit && this.#waiting.length > 0) {
      const ticket = this.#waiting.shift();
      ticket.state = "running";
      this.#running += 1;
      ticket.begin();
    }
  }
}
