// A conversation: two users who answer each other, whose turn it is, and the last smiles. The caller drives
// the beats.

import { Beat, SimulatedUser } from "./simulated-user.js";

export const LINES_KEPT = 6;

export const LineState = Object.freeze({ SENT: "sent", SHED: "shed", ACKED: "acked", DELIVERED: "delivered", REFUSED: "refused" });

export class Conversation {
  #turn = 0;
  #counters;
  #onChange;
  #watcher = () => {};

  /**
   * `chanceFor(name)` returns the random numbers of a user. `counters` counts for all conversations;
   * `onChange(conversation)` requests a repaint.
   */
  constructor({ index, people, chanceFor, environment, ledger, counters, onChange }) {
    this.index = index;
    this.lines = [];
    this.#counters = counters;
    this.#onChange = onChange;
    const [first, second] = people;
    this.users = [
      new SimulatedUser({ ...first, peer: second.name, chance: chanceFor(first.name), environment, ledger, events: this }),
      new SimulatedUser({ ...second, peer: first.name, chance: chanceFor(second.name), environment, ledger, events: this }),
    ];
  }

  /** Calls `watcher(happening)` with the events of a thread from now on; null removes it. */
  watch(watcher) {
    this.#watcher = watcher ?? (() => {});
  }

  /** Requests older smiles through either connected user. */
  askHistory(page) {
    const asked = this.users.some((user) => user.isConnected && user.askHistory(page));
    this.#watcher({ kind: asked ? "asked" : "failed" });
  }

  start() {
    for (const user of this.users) user.start();
  }

  stop() {
    for (const user of this.users) user.stop();
  }

  /**
   * Takes the next turn. No user speaks before both are welcomed, so that every smile can be proven. Then
   * turns alternate with the clock, whether the last smile was delivered or shed.
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
    if (isOurs) this.#watcher({ kind: "live", smiles: [frame] });
    if (delivers) {
      this.#mark(frame.from, frame.id, LineState.DELIVERED);
      return;
    }
    // A smile from another client of one of the two users, such as a terminal.
    if (!isOurs || user.name !== frame.to || this.#find(frame.from, frame.id) !== undefined) return;
    this.#add({ id: frame.id, from: frame.from, smile: frame.smile, state: LineState.DELIVERED });
  }

  shed(user, frame) {
    this.#counters.overloaded(frame.code);
    this.#mark(user.name, frame.id, LineState.SHED);
  }

  refused(user, frame) {
    this.#counters.refused(frame.code);
    this.#mark(user.name, frame.id, LineState.REFUSED);
  }

  history({ smiles, more }) {
    this.#watcher({ kind: "history", smiles, more });
  }

  unanswered() {
    this.#watcher({ kind: "failed" });
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
