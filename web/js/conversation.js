// A conversation: its two users, the user whose turn it is, and its most recent smiles. The caller calls `beat` at the pace of the run.

import { Beat, SimulatedUser } from "./simulated-user.js";

export const LINES_KEPT = 6;

export const LineState = Object.freeze({ SENT: "sent", SHED: "shed", ACKED: "acked", DELIVERED: "delivered", REFUSED: "refused" });

export class Conversation {
  #turn = 0;
  #counters;
  #onChange;
  #onGuest;
  #watcher = null;

  /**
   * `chanceFor(name)` returns the random number generator of a user. All conversations share `counters`.
   * `onGuest(frame)` gets each smile of a guest.
   */
  constructor({ index, people, chanceFor, environment, ledger, counters, onChange, onGuest }) {
    this.index = index;
    this.lines = [];
    this.#counters = counters;
    this.#onChange = onChange;
    this.#onGuest = onGuest;
    const [first, second] = people;
    this.users = [
      new SimulatedUser({ ...first, peer: second.name, chance: chanceFor(first.name), environment, ledger, events: this }),
      new SimulatedUser({ ...second, peer: first.name, chance: chanceFor(second.name), environment, ledger, events: this }),
    ];
  }

  /**
   * Calls `watcher(event)` for each event of the thread, in the form that `threadAfter` takes. Null removes the
   * watcher.
   */
  watch(watcher) {
    this.#watcher = watcher;
  }

  /** The answer goes to the present watcher, unless it has been removed by then. */
  askHistory(page) {
    const watcher = this.#watcher;
    const tell = (event) => {
      if (watcher === this.#watcher) watcher?.(event);
    };
    const asked = this.users.some((user) => user.isConnected && user.askHistory(page, tell));
    tell({ kind: asked ? "asked" : "failed" });
  }

  start() {
    for (const user of this.users) user.start();
  }

  stop() {
    for (const user of this.users) user.stop();
  }

  /**
   * No user speaks before both have been welcomed, because the delivery of a smile sent earlier could not be proven.
   * After that, the turn passes with each beat, even if the beat sends no smile.
   */
  beat() {
    if (!this.users.every((user) => user.welcomedOnce)) return;
    const speaker = this.users[this.#turn];
    this.#turn = 1 - this.#turn;
    const outcome = speaker.speak();
    if (outcome === Beat.AGAIN) this.#counters.resent += 1;
    if (outcome === Beat.SKIPPED) this.#counters.skipped += 1;
  }

  changed(user) {
    this.#counters.sessionChanged(user);
    this.#onChange(this);
  }

  sent(user, smile) {
    this.#add({ id: smile.id, from: user.name, smile: smile.smile, state: LineState.SENT });
  }

  acked(user, id) {
    this.#mark(user.name, id, LineState.ACKED, (state) => state !== LineState.DELIVERED);
  }

  received(user, frame, delivers) {
    const names = this.users.map((each) => each.name);
    const isOurs = names.includes(frame.from) && names.includes(frame.to);
    if (isOurs) this.#watcher?.({ kind: "live", smiles: [frame] });
    if (delivers) {
      this.#mark(frame.from, frame.id, LineState.DELIVERED);
      return;
    }
    if (!isOurs || user.name !== frame.to || this.#find(frame.from, frame.id) !== undefined) return;
    // A smile without a line came from another client of the sender, such as `docs/client.mjs`.
    this.#add({ id: frame.id, from: frame.from, smile: frame.smile, state: LineState.DELIVERED });
  }

  visited(frame) {
    this.#onGuest(frame);
    this.#onChange(this);
  }

  shed(user, frame) {
    this.#counters.overloaded(frame.code);
    this.#mark(user.name, frame.id, LineState.SHED);
  }

  refused(user, frame) {
    this.#counters.refused(frame.code);
    this.#mark(user.name, frame.id, LineState.REFUSED);
  }

  unreadable() {
    this.#counters.unreadable += 1;
  }

  unvouched() {
    this.#counters.unvouched += 1;
  }

  #add(line) {
    this.lines.push(line);
    if (this.lines.length > LINES_KEPT) this.lines.shift();
    this.#onChange(this);
  }

  #mark(from, id, state, allowed = () => true) {
    const line = this.#find(from, id);
    if (line !== undefined && allowed(line.state)) line.state = state;
    this.#onChange(this);
  }

  #find(from, id) {
    return this.lines.find((line) => line.from === from && line.id === id);
  }
}
