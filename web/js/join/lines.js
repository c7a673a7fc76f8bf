// The last smiles that a phone's user sent and received, newest first, and all users that have smiled at this user.

export const LINES_KEPT = 30;

export class Lines {
  #user;
  #lines = [];
  #senders = [];

  constructor(user) {
    this.#user = user;
  }

  /**
   * Each line is `{from, to, smile, state, offset}`; the state is "sent", "stored", "refused", or "heard" for received
   * smiles.
   */
  get all() {
    return this.#lines;
  }

  /** The users that have smiled at this user, most recent first. */
  get senders() {
    return this.#senders;
  }

  say(to, smile) {
    return this.#add({ from: this.#user, to, smile, state: "sent", offset: null });
  }

  stored(line, offset) {
    line.state = "stored";
    line.offset = offset;
    // A resumed session may have delivered the smile before its ack.
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
