// Owns what a phone has said and heard, newest first, and who smiled at it. Knows no page.

export const LINES_KEPT = 30;

export class Lines {
  #user;
  #lines = [];
  #senders = [];

  constructor(user) {
    this.#user = user;
  }

  /** `{from, to, smile, state, offset}`; the state is "sent", "stored" or "refused", and "heard" for those of others. */
  get all() {
    return this.#lines;
  }

  /** Who smiled at this user, the last one first. */
  get senders() {
    return this.#senders;
  }

  /** This phone says something: the line, to be settled later. */
  say(to, smile) {
    return this.#add({ from: this.#user, to, smile, state: "sent", offset: null });
  }

  stored(line, offset) {
    line.state = "stored";
    line.offset = offset;
    // A session that resumed may have shown the smile before its ack came.
    this.#lines = this.#lines.filter((other) => other === line || other.offset !== offset);
  }

  refused(line) {
    line.state = "refused";
  }

  hear({ from, to, smile, offset }) {
    if (this.#lines.some((line) => line.offset === offset)) return;
    if (from !== this.#user) this.#senders = [from, ...this.#senders.filter((sender) => sender !== from)];
    this.#add({ from, to, smile, state: from === this.#user ? "stored" : "heard", offset });
  }

  #add(line) {
    this.#lines.unshift(line);
    if (this.#lines.length > LINES_KEPT) this.#lines.pop();
    return line;
  }
}
