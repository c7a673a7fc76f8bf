// A client for one user: a session that reconnects by itself, smiles that are retried until settled, and histories.

import { DialQueue } from "./dial-queue.js";
import { Beat, Outbox } from "./outbox.js";
import { historyFrame, pingFrame, smileFrame, socketUrl } from "./protocol.js";
import { Session, SessionState } from "./session.js";
import { PageTimers } from "./timers.js";

/** The maximum number of smiles in flight; further smiles are queued. */
export const UNDER_WAY = 8;

const ID_RADIX = 36;
const VALID_ID = /^[\w.-]{1,64}$/;

/**
 * The permanent refusal of a smile or a history request: a retry would be refused again. `code` is the protocol's error
 * code. If the session has failed, it is the name of the close code instead, and the smile may have been stored.
 */
export class Refusal extends Error {
  constructor({ code, message }) {
    super(message || code);
    this.code = code;
  }
}

export class Client {
  #timers;
  #onSmile;
  #onState;
  #onGap;
  #outbox;
  #word;
  #lastId = 0;
  #waiting = [];
  #promises = new Map();
  #histories = [];
  #isAsking = false;
  #cancelRetry = () => {};
  #isFinishing = false;

  /**
   * `page` is the address of the page, and `user` is the user's name. `onSmile(frame)` receives every smile to the user
   * since the first welcome, except those in a gap. It also receives the user's own smiles that another session sent,
   * such as an earlier session of this client that broke before the ack. `onState(session)` reports each change of
   * `session.state`; the session also has `replica`, `closeReason`, `reconnects`, and `retryAt` by the clock of
   * `timers`. `onGap()` reports that smiles may be missing; `history()` returns them if the log still has them.
   */
  constructor({
    page,
    user,
    onSmile = () => {},
    onState = () => {},
    onGap = () => {},
    timers = new PageTimers(),
    random = Math.random,
    dialQueue = new DialQueue(),
    openSocket = (url) => new WebSocket(url),
  }) {
    this.user = user;
    this.#timers = timers;
    this.#onSmile = onSmile;
    this.#onState = onState;
    this.#onGap = onGap;
    this.#word = Array.from({ length: 3 }, () => Math.floor(random() * 2 ** 32).toString(ID_RADIX)).join("");
    const send = (smile) => this.session.send(smileFrame(smile));
    this.#outbox = new Outbox({ timers, random, send, limit: UNDER_WAY });
    const urlFor = (resume) => socketUrl(page, user, resume);
    this.session = new Session({ urlFor, openSocket, timers, random, dialQueue, listener: this });
  }

  start() {
    this.session.start();
  }

  /** Closes the session. Drops the unsettled smiles and unanswered history requests; their promises stay pending. */
  stop() {
    this.session.stop();
    this.#forget();
  }

  /** Closes the session once all smiles are settled and all histories have arrived. Send nothing afterwards. */
  finish() {
    this.#isFinishing = true;
    this.#stopWhenSettled();
  }

  /**
   * Sends a smile, and retries it through any number of crashes. Resolves to `{id, offset, duplicate}` once the smile
   * is stored, or rejects with a `Refusal` if it is permanently refused or the session has failed. Smiles are stored in
   * the order of the calls, except that a temporarily refused smile is stored later. An `id` has 1 to 64 characters
   * from `A-Z a-z 0-9 . _ -`. A user must never use an id twice; by default, the client generates the id.
   */
  smile(to, smile, id = this.#nextId()) {
    return new Promise((resolve, reject) => {
      // The server's answer to a smile with an invalid id may omit the id.
      if (typeof id !== "string" || !VALID_ID.test(id)) {
        throw new Refusal({ code: "bad_request", message: "an id has 1 to 64 characters from A-Z a-z 0-9 . _ -" });
      }
      if (this.#promises.has(id)) {
        throw new Refusal({ code: "bad_request", message: "the id belongs to a smile that is not settled yet" });
      }
      this.#promises.set(id, { resolve, reject });
      this.#waiting.push({ id, to, smile });
      this.#pump();
      this.#refuseIfFailed();
    });
  }

  /**
   * Resolves to `{smiles, more}`: smiles to and from another user, oldest first. Retries until the request is answered
   * or permanently refused, or the session has failed.
   */
  history(other, { before, limit } = {}) {
    return new Promise((resolve, reject) => {
      this.#histories.push({ with: other, before, limit, resolve, reject });
      if (!this.#isAsking) this.#askHistory();
      this.#refuseIfFailed();
    });
  }

  stateChanged() {
    this.#refuseIfFailed();
    this.#onState(this.session);
  }

  unreadable() {}

  broken() {
    this.#outbox.broken();
    this.#isAsking = false;
    this.#cancelRetry();
  }

  welcomed(frame) {
    this.#outbox.opened();
    // The server sends missed smiles before the pong, so the pong shows that the session has caught up.
    if (this.session.state === SessionState.RESUMING) this.session.send(pingFrame());
    else if (this.session.reconnects > 0) this.#onGap();
    if (!this.#isAsking) this.#askHistory();
    this.#pump();
  }

  heard(frame) {
    if (frame.type === "smile") this.#onSmile(frame);
    else if (frame.type === "ack") this.#settle(frame.id, (promise) => promise.resolve(frame));
    else if (frame.type === "history") this.#settleHistory((request) => request.resolve(frame));
    else if (frame.type === "pong") this.session.caughtUp();
    else if (frame.type === "error") this.#failed(frame);
  }

  #forget() {
    this.#waiting = [];
    this.#promises.clear();
    this.#outbox.clear();
    this.#histories = [];
    this.#isAsking = false;
    this.#isFinishing = false;
    this.#cancelRetry();
  }

  /** A failed session does not reconnect, so nothing that is pending can be answered. */
  #refuseIfFailed() {
    const { state, closeReason } = this.session;
    if (state !== SessionState.FAILED) return;
    const pending = [...this.#promises.values(), ...this.#histories];
    this.#forget();
    for (const { reject } of pending) reject(new Refusal({ code: closeReason.name, message: closeReason.text }));
  }

  #nextId() {
    this.#lastId += 1;
    return `${this.#word}-${this.#lastId.toString(ID_RADIX)}`;
  }

  /** Sends interrupted smiles, then queued ones up to the maximum in flight. */
  #pump() {
    while (this.#outbox.beat(() => this.#waiting.shift() ?? null) !== Beat.SKIPPED);
  }

  #settle(id, conclude) {
    this.#outbox.settle(id);
    const promise = this.#promises.get(id);
    if (this.#promises.delete(id)) conclude(promise);
    this.#pump();
    this.#stopWhenSettled();
  }

  #stopWhenSettled() {
    if (this.#isFinishing && this.#promises.size + this.#histories.length === 0) this.stop();
  }

  // An answer does not identify its request, so only the oldest request is in flight.
  #askHistory() {
    this.#isAsking = this.#histories.length > 0 && this.session.send(historyFrame(this.#histories[0]));
  }

  #settleHistory(conclude) {
    if (this.#isAsking) conclude(this.#histories.shift());
    this.#askHistory();
    this.#stopWhenSettled();
  }

  #failed(frame) {
    const { id, temporary, retry_after_ms: wait = 0 } = frame;
    const refuse = ({ reject }) => reject(new Refusal(frame));
    // An error without an id answers a history request, since this client's smiles always have valid ids.
    if (id === undefined && temporary) this.#cancelRetry = this.#timers.after(wait, () => this.#askHistory());
    else if (id === undefined) this.#settleHistory(refuse);
    else if (temporary) this.#outbox.retry(id, wait);
    else this.#settle(id, refuse);
  }
}
