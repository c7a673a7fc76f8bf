// Keeps a user connected: connect, welcome, resume, detect a silent server, wait, reconnect. The listener handles the
// smiles.

import { Backoff, ceiling } from "./backoff.js";
import { CloseAction, NORMAL_CLOSURE, ResumePoint, closeAction, closeName, parseFrame, pingFrame } from "./protocol.js";

/** The time limit for the welcome. The second and third consecutive failures double it: a busy server needs longer. */
export const CONNECT_LIMIT_MS = 2_000;
/** Silence after which the session sends a ping. The check runs every `WATCH_MS`. */
export const SILENCE_ASK_MS = 1_000;
/** The session is shown as silent once a ping has been unanswered for this long. */
const SILENCE_SHOW_MS = 1_000;
/** The session reconnects once a ping has been unanswered for this long. */
export const SILENCE_LIMIT_MS = 2_000;
/** The end of a connection resets the back-off if the welcome was at least this long ago. */
export const STABLE_MS = 5_000;
/** The spread of reconnects when the backend or the network is back. */
const HURRY_SPREAD_MS = 500;
/** The spread of reconnects after a refusal with a hint, so that 60 sessions reconnect at about 12 per second. */
export const POSTPONE_SPREAD_MS = 5_000;

const WATCH_MS = 500;

export const SessionState = Object.freeze({
  CONNECTING: "connecting",
  LIVE: "live",
  RESUMING: "resuming",
  SILENT: "silent",
  WAITING: "waiting",
  STOPPED: "stopped",
  FAILED: "failed",
});

export class Session {
  #urlFor;
  #openSocket;
  #timers;
  #random;
  #dialQueue;
  #listener;
  #backoff;
  #resumePoint = new ResumePoint();
  #socket = null;
  #leaveDialQueue = () => {};
  #cancelTimer = () => {};
  #cancelWatch = () => {};
  #heardAt = 0;
  #askedAt = null;
  #welcomedAt = null;
  #returnAt = null;
  #stateBeforeSilence = SessionState.LIVE;

  state = SessionState.STOPPED;
  replica = null;
  /**
   * Why the last connection ended: `{code, name, text, isRefusal}`; null until a connection has ended, and after
   * a welcome. `code` is null if this session gave up on the connection. A connection that the other side closes before
   * its welcome is a refusal.
   */
  closeReason = null;
  /** When a waiting session reconnects, by the clock of `timers`; valid only in the state `WAITING`. */
  retryAt = null;
  /** The number of welcomes after the first one. */
  reconnects = 0;
  /** The number of times that a state was entered. */
  changes = 0;

  /**
   * `urlFor(resume)` returns the address, `openSocket(url)` a WebSocket. The listener has `stateChanged()`,
   * `welcomed(frame)`, `heard(frame)` for all frames but `welcome` and `drain`, `unreadable()` for text that is not a
   * valid frame, and `broken()` for the end of a connection or of an attempt to connect.
   */
  constructor({ urlFor, openSocket, timers, random, dialQueue, listener }) {
    this.#urlFor = urlFor;
    this.#openSocket = openSocket;
    this.#timers = timers;
    this.#random = random;
    this.#dialQueue = dialQueue;
    this.#listener = listener;
    this.#backoff = new Backoff({ random });
  }

  get attempt() {
    return this.#backoff.attempt;
  }

  start() {
    this.#dial();
  }

  /** Closes the session, which stays closed until `start`. */
  stop() {
    this.#release();
    this.#enter(SessionState.STOPPED);
  }

  /** Ends the resumption: the session has caught up and is live. */
  caughtUp() {
    if (this.state === SessionState.RESUMING) this.#enter(SessionState.LIVE);
  }

  /**
   * Shortens a back-off, because the backend or the network is back. Does not shorten the wait after a `drain`, after a
   * hint or after a policy violation.
   */
  hurry() {
    if (this.state !== SessionState.WAITING || this.#returnAt !== null) return;
    const wait = this.#random() * HURRY_SPREAD_MS;
    if (this.#timers.now() + wait < this.retryAt) this.#waitFor(wait);
  }

  /**
   * Honours the hint of a refusal: a shorter wait becomes `wait` milliseconds plus a random spread. A `wait` of 0 means
   * that there is no hint.
   */
  postpone(wait) {
    if (this.state !== SessionState.WAITING || wait === 0) return;
    if (this.#timers.now() + wait > this.retryAt) this.#waitFor(wait + this.#random() * POSTPONE_SPREAD_MS);
    this.#returnAt = this.retryAt;
  }

  /** Sends a frame. Without a welcomed connection, drops the frame and returns false. */
  send(text) {
    const isOpen = this.#socket !== null && this.#welcomedAt !== null;
    if (isOpen) this.#socket.send(text);
    return isOpen;
  }

  #dial() {
    this.retryAt = null;
    this.#returnAt = null;
    this.#enter(SessionState.CONNECTING);
    this.#leaveDialQueue = this.#dialQueue.enter(() => this.#open());
  }

  #open() {
    const socket = this.#openSocket(this.#urlFor(this.#resumePoint.query));
    this.#socket = socket;
    this.#welcomedAt = null;
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#closed(event.code, event.reason);
    // If a connection does not open, Node.js 22 fires no `close`, and leaves `readyState` at 0.
    socket.onerror = () => {
      if (socket.readyState === 0) this.#closed(1006, "");
    };
    // On the first attempt after a stable connection, `attempt` is 1, or 0 if the server said when to reconnect.
    const limit = ceiling(Math.max(0, this.attempt - 1), CONNECT_LIMIT_MS, 4 * CONNECT_LIMIT_MS);
    this.#cancelTimer = this.#timers.after(limit, () => this.#giveUp("no_welcome"));
  }

  #receive(text) {
    this.#heardAt = this.#timers.now();
    this.#askedAt = null;
    if (this.state === SessionState.SILENT) this.#enter(this.#stateBeforeSilence);
    const frame = parseFrame(text);
    if (frame === null) {
      this.#listener.unreadable();
      return;
    }
    this.#resumePoint.observe(frame);
    if (frame.type === "welcome") this.#welcome(frame);
    else if (frame.type === "drain") this.#returnAt = this.#heardAt + frame.reconnect_after_ms;
    else this.#listener.heard(frame);
  }

  #welcome(frame) {
    this.#cancelTimer();
    this.#leaveDialQueue();
    if (this.replica !== null) this.reconnects += 1;
    this.#welcomedAt = this.#heardAt;
    this.replica = frame.replica;
    this.closeReason = null;
    this.#watch();
    this.#enter(frame.recovered ? SessionState.RESUMING : SessionState.LIVE);
    this.#listener.welcomed(frame);
  }

  // The browser answers the server's pings, and the page does not see them. Silence is therefore the time since the
  // last frame, and the session sends a ping of its own before it gives up.
  #watch() {
    this.#cancelWatch = this.#timers.after(WATCH_MS, () => {
      const now = this.#timers.now();
      if (this.#askedAt === null) {
        if (now - this.#heardAt >= SILENCE_ASK_MS) this.#ask(now);
      } else if (now - this.#askedAt >= SILENCE_LIMIT_MS) {
        this.#giveUp("silent");
        return;
      } else if (now - this.#askedAt >= SILENCE_SHOW_MS && this.state !== SessionState.SILENT) {
        this.#stateBeforeSilence = this.state;
        this.#enter(SessionState.SILENT);
      }
      this.#watch();
    });
  }

  #ask(now) {
    this.#askedAt = now;
    this.send(pingFrame());
  }

  // A hanging server never completes the closing handshake, so the socket is dropped immediately.
  #giveUp(name) {
    this.#release();
    this.#retry({ code: null, name, text: "", isRefusal: false });
  }

  #closed(code, text) {
    const reason = { code, name: closeName(code), text, isRefusal: this.#welcomedAt === null };
    this.#release();
    if (closeAction(code) === CloseAction.GIVE_UP) {
      this.closeReason = reason;
      this.#enter(SessionState.FAILED);
    } else {
      this.#retry(reason);
    }
  }

  #retry(reason) {
    this.closeReason = reason;
    const now = this.#timers.now();
    if (this.#welcomedAt !== null && now - this.#welcomedAt >= STABLE_MS) this.#backoff.reset();
    this.#welcomedAt = null;
    if (closeAction(reason.code) === CloseAction.RETRY_LATE) this.#returnAt = now + this.#backoff.nextAfterPolicy();
    this.#waitFor(this.#returnAt === null ? this.#backoff.next() : Math.max(0, this.#returnAt - now));
  }

  #waitFor(wait) {
    this.#cancelTimer();
    this.retryAt = this.#timers.now() + wait;
    this.#cancelTimer = this.#timers.after(wait, () => this.#dial());
    if (this.state !== SessionState.WAITING) this.#enter(SessionState.WAITING);
  }

  #release() {
    this.#cancelTimer();
    this.#cancelWatch();
    this.#leaveDialQueue();
    this.#askedAt = null;
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.onerror = null;
    // `close` does nothing if the other side has already closed the socket.
    socket.close(NORMAL_CLOSURE);
    this.#listener.broken();
  }

  #enter(state) {
    this.state = state;
    this.changes += 1;
    this.#listener.stateChanged();
  }
}
