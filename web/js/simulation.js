// A run: the conversations, their beats, and the shared ledger and counters.

import { Conversation } from "./conversation.js";
import { Counters } from "./counters.js";
import { chanceOf } from "./faces.js";
import { Ledger } from "./ledger.js";
import { Pacer } from "./pacer.js";
import { DEFAULTS } from "./settings.js";

const USERS_PER_CONVERSATION = 2;

const ROOM_KEPT = 12;

const SECOND_MS = 1_000;

export class Simulation {
  #environment;
  #people = [];
  #conversations = new Map();
  #pacer = new Pacer();
  #missed = 0;
  #rate = DEFAULTS.rate;
  #seed = null;
  #cancelBeat = () => {};
  #onChange;
  #onList;
  #onSession;

  ledger = new Ledger();
  counters = new Counters();
  /** The last smiles of people to simulated users of this run, newest first. */
  room = [];

  /**
   * `onChange(conversation)` reports a changed conversation, `onList()` added or removed conversations, and
   * `onSession(user)` a changed state of the user's session.
   */
  constructor({ environment, onChange, onList, onSession }) {
    this.#environment = environment;
    this.#onChange = onChange;
    this.#onList = onList;
    this.#onSession = onSession;
  }

  /** Sets the users: the first two are for the first conversation, the next two for the second, and so on. */
  set people(people) {
    this.#people = people;
  }

  get limit() {
    return Math.floor(this.#people.length / USERS_PER_CONVERSATION);
  }

  get conversations() {
    return [...this.#conversations.values()];
  }

  get users() {
    return this.conversations.flatMap((conversation) => conversation.users);
  }

  get isRunning() {
    return this.#conversations.size > 0;
  }

  get missedBeats() {
    return this.#missed + this.#pacer.missed;
  }

  /**
   * Starts a run, or changes the number of conversations and the pace of the current run; a `count` of 0 stops it. Each
   * conversation has `rate` beats a second, and each beat sends at most one smile. The seed applies to new
   * conversations.
   */
  run(count, { rate = DEFAULTS.rate, seed = null } = {}) {
    if (!this.isRunning && count > 0) this.#reset();
    this.#seed = seed;
    this.#pace(rate);
    const wanted = Math.min(count, this.limit);
    for (let index = this.#conversations.size - 1; index >= wanted; index -= 1) this.#end(index);
    for (let index = this.#conversations.size; index < wanted; index += 1) this.#begin(index);
    this.#onList();
    this.#scheduleBeat();
  }

  /** Stops the run and keeps its numbers. */
  stop() {
    this.run(0, { rate: this.#rate, seed: this.#seed });
  }

  hurry() {
    for (const user of this.users) user.session.hurry();
  }

  postpone(wait) {
    for (const user of this.users) user.session.postpone(wait);
  }

  #reset() {
    this.ledger = new Ledger();
    this.counters = new Counters({ onSession: this.#onSession });
    this.room = [];
    this.#pacer = new Pacer({ beat: SECOND_MS / this.#rate });
    this.#missed = 0;
  }

  reset() {
    this.stop();
    this.#reset();
  }

  #pace(rate) {
    if (rate === this.#rate) return;
    this.#rate = rate;
    this.#missed += this.#pacer.missed;
    this.#pacer = new Pacer({ beat: SECOND_MS / rate });
    const now = this.#environment.timers.now();
    for (const index of this.#conversations.keys()) this.#pacer.add(index, now);
  }

  #begin(index) {
    const first = index * USERS_PER_CONVERSATION;
    const { random } = this.#environment;
    const conversation = new Conversation({
      index,
      people: this.#people.slice(first, first + USERS_PER_CONVERSATION),
      chanceFor: (name) => (this.#seed === null ? random : chanceOf(this.#seed, name)),
      environment: this.#environment,
      ledger: this.ledger,
      counters: this.counters,
      onChange: this.#onChange,
      onGuest: (frame) => (this.room = [frame, ...this.room].slice(0, ROOM_KEPT)),
    });
    this.#conversations.set(index, conversation);
    this.#pacer.add(index, this.#environment.timers.now());
    conversation.start();
  }

  #end(index) {
    const conversation = this.#conversations.get(index);
    this.#pacer.remove(index);
    conversation.stop();
    this.ledger.forget(conversation.users.map((user) => user.name));
    this.#conversations.delete(index);
  }

  #scheduleBeat() {
    this.#cancelBeat();
    const { timers } = this.#environment;
    const next = this.#pacer.next();
    if (next === null) return;
    this.#cancelBeat = timers.after(Math.max(0, next - timers.now()), () => this.#giveBeats());
  }

  #giveBeats() {
    for (const index of this.#pacer.take(this.#environment.timers.now())) this.#conversations.get(index).beat();
    this.#scheduleBeat();
  }
}
