// Owns how many sessions connect at the same time. Browsers slow down a page that opens dozens of
// WebSockets at once, by seconds; a few at a time come up much sooner. Knows nothing of what is opened.

export const DIAL_LIMIT = 6;

export class DialQueue {
  #limit;
  #running = 0;
  #waiting = [];

  constructor({ limit = DIAL_LIMIT } = {}) {
    this.#limit = limit;
  }

  /**
   * Calls `begin` now or when a place is free. The function it returns gives the place back, or
   * withdraws from the queue; calling it again does nothing.
   */
  enter(begin) {
    const ticket = { begin, state: "waiting" };
    this.#waiting.push(ticket);
    this.#admit();
    return () => this.#leave(ticket);
  }

  #leave(ticket) {
    if (ticket.state === "running") this.#running -= 1;
    if (ticket.state === "waiting") this.#waiting = this.#waiting.filter((other) => other !== ticket);
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
