// A simulated user: a session, its unsettled smiles, the last smile from the peer, and the guests to answer. It reports
// the smiles that it sends to its peer, and every welcome, ack and received smile, to the ledger.

import { answerTo } from "./faces.js";
import { Beat, Outbox } from "./client/outbox.js";
import { historyFrame, isOverload, smileFrame } from "./client/protocol.js";
import { Session, SessionState } from "./client/session.js";

export { Beat };

const CONNECTED = new Set([SessionState.LIVE, SessionState.RESUMING, SessionState.SILENT]);

/**
 * The maximum number of guests' smiles that wait for an answer; further smiles get no answer. Guests are users other
 * than the peer.
 */
const GUESTS = 8;

/**
 * The id prefix of answers to guests. An answer gets no answer, since otherwise two simulated users would answer
 * each other forever.
 */
const ANSWER = "re-";

/** The id prefix of the smile with which a phone claims its user: nobody tapped it. */
const CLAIM = "seat-";

export class SimulatedUser {
  #ledger;
  #events;
  #chance;
  #nextId;
  #outbox;
  #heard = null;
  #peer;
  #guests = [];
  #answeredLast = false;
  #catchUpTo = null;
  /** What to tell about each unanswered history request. The server answers the requests of a session in order. */
  #asked = [];

  /**
   * `events` has `sent(user, smile)`, `acked(user, id)`, `received(user, frame, delivers)`,
   * `visited(frame)` for the smile of a guest except the claim of a phone, `shed(user, frame)`,
   * `refused(user, frame)`, `unreadable()`, `unvouched()` and `changed(user)`.
   */
  constructor({ name, face, peer, chance, environment, ledger, events }) {
    const { timers, random, dialQueue, nextId, urlFor, openSocket } = environment;
    this.name = name;
    this.face = face;
    this.welcomedOnce = false;
    this.#peer = peer;
    this.#ledger = ledger;
    this.#events = events;
    this.#chance = chance;
    this.#nextId = nextId;
    this.#outbox = new Outbox({ timers, random, send: (smile) => this.session.send(smileFrame(smile)) });
    this.session = new Session({
      urlFor: (resume) => urlFor(name, resume),
      openSocket,
      timers,
      random,
      dialQueue,
      listener: this,
    });
  }

  start() {
    this.session.start();
  }

  stop() {
    this.session.stop();
    this.#outbox.clear();
  }

  speak() {
    return this.#outbox.beat(() => this.#answer() ?? this.#compose());
  }

  /**
   * Calls `tell` once with the thread's event `history` or `failed`. Without a welcomed connection, returns false
   * instead.
   */
  askHistory({ before, limit }, tell) {
    const isSent = this.session.send(historyFrame({ with: this.#peer, before, limit }));
    if (isSent) this.#asked.push(tell);
    return isSent;
  }

  get isLive() {
    return this.session.state === SessionState.LIVE;
  }

  get isConnected() {
    return CONNECTED.has(this.session.state);
  }

  stateChanged() {
    this.#events.changed(this);
  }

  unreadable() {
    this.#events.unreadable();
  }

  broken() {
    this.#outbox.broken();
    for (const tell of this.#asked.splice(0)) tell({ kind: "failed" });
  }

  welcomed(frame) {
    this.welcomedOnce = true;
    if (!this.#ledger.welcomed(this.name, frame)) this.#events.unvouched();
    this.#catchUpTo = this.#ledger.highestOwed(this.name);
    this.#checkCaughtUp();
    this.#outbox.opened();
  }

  heard(frame) {
    if (frame.type === "ack") this.#acked(frame);
    else if (frame.type === "smile") this.#received(frame);
    else if (frame.type === "history") this.#asked.shift()?.({ ...frame, kind: "history" });
    else if (frame.type === "error") this.#failed(frame);
  }

  /**
   * Composes an answer to a guest, but never twice in a row. The ledger does not record these answers: this page cannot
   * see whether they arrive.
   */
  #answer() {
    const guest = this.#answeredLast ? undefined : this.#guests.shift();
    this.#answeredLast = guest !== undefined;
    if (guest === undefined) return null;
    return { id: `${ANSWER}${this.#nextId()}`, to: guest.from, smile: answerTo(guest.smile, this.#chance) };
  }

  #compose() {
    const smile = { id: this.#nextId(), to: this.#peer, smile: answerTo(this.#heard, this.#chance) };
    this.#ledger.sent({ sender: this.name, id: smile.id, to: smile.to });
    this.#events.sent(this, smile);
    return smile;
  }

  #acked(frame) {
    this.#outbox.settle(frame.id);
    if (this.#ledger.acked(this.name, frame)) this.#events.acked(this, frame.id);
    this.#checkCaughtUp();
  }

  #received(frame) {
    if (frame.from === this.#peer) this.#heard = frame.smile;
    else if (frame.to === this.name) this.#welcomeGuest(frame);
    const delivers = this.#ledger.received(this.name, frame);
    this.#events.received(this, frame, delivers);
    this.#checkCaughtUp();
  }

  #welcomeGuest(frame) {
    if (frame.id.startsWith(ANSWER)) return;
    if (!frame.id.startsWith(CLAIM)) this.#events.visited(frame);
    if (this.#guests.length < GUESTS) this.#guests.push(frame);
  }

  #failed(frame) {
    // An error without an id answers a history request.
    if (frame.id === undefined) return this.#asked.shift()?.({ kind: "failed" });
    if (frame.temporary) {
      if (isOverload(frame.code)) this.#events.shed(this, frame);
      this.#outbox.retry(frame.id, frame.retry_after_ms ?? 0);
      return;
    }
    this.#outbox.settle(frame.id);
    this.#ledger.refused(this.name, frame.id);
    this.#events.refused(this, frame);
  }

  #checkCaughtUp() {
    if (this.#catchUpTo !== null && this.#ledger.offsetOf(this.name) < this.#catchUpTo) return;
    this.#catchUpTo = null;
    this.session.caughtUp();
  }
}
