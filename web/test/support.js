// Fakes for tests: a manual clock, seeded random numbers, a socket without a network, and a small backend with the main
// parts of the protocol.

export class FakeTimers {
  #now = 0;
  #timers = new Set();

  now() {
    return this.#now;
  }

  after(ms, run) {
    const timer = { at: this.#now + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  get pending() {
    return this.#timers.size;
  }

  advance(ms) {
    const end = this.#now + ms;
    for (let timer = this.#nextBefore(end); timer !== null; timer = this.#nextBefore(end)) {
      this.#timers.delete(timer);
      this.#now = Math.max(this.#now, timer.at);
      timer.run();
    }
    this.#now = end;
  }

  advanceUntil(condition, limit = 60_000, step = 10) {
    for (let waited = 0; waited <= limit; waited += step) {
      if (condition()) return;
      this.advance(step);
    }
    throw new Error(`the condition did not hold within ${limit} ms: ${condition}`);
  }

  #nextBefore(end) {
    let next = null;
    for (const timer of this.#timers) {
      if (timer.at <= end && (next === null || timer.at < next.at)) next = timer;
    }
    return next;
  }
}

/** Returns a mulberry32 generator. Its numbers are at least 0 and below 1. */
export function seededRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** `sent` has the parsed frames, and `closedWith` the code of a close by the client. */
export class FakeSocket {
  readyState = 0;
  onmessage = null;
  onclose = null;
  onerror = null;
  sent = [];
  closedWith = null;
  onSend = () => {};
  onClosing = () => {};

  constructor(url) {
    this.url = new URL(url);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
    this.onSend(JSON.parse(text));
  }

  close(code) {
    this.readyState = 3;
    this.closedWith = code;
    this.onClosing();
  }

  /** Opens the socket if necessary, and delivers a frame from the server. */
  tell(frame) {
    this.readyState = 1;
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
  }

  /** Fires `error` without `close`, as Node.js 22 does if a connection does not open. */
  fail() {
    this.onerror?.({});
  }

  /** Closes the connection from the server's side. */
  end(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
}

export function welcome({ offset = 0, recovered = false, replica = "be1.1", epoch = "e1", user = "anna" } = {}) {
  return { type: "welcome", v: 1, user, session: "s", replica, epoch, offset, recovered };
}

const LATENCY_MS = 8;
const RETRY_AFTER_MS = 40;

/**
 * Replicas that share one log in memory. They send smiles and acks in offset order, except acks with `duplicate: true`.
 * `capacity` is in smiles per second for each replica. A ping gets no answer. A test can set `loses`, which selects
 * smiles that are acked, but not pushed to live sessions; a resume or a history still returns them.
 */
export class FakeBackend {
  #timers;
  #random;
  #capacity;
  #replicas = [];
  #sessions = new Set();
  #log = [];
  #stored = new Map();
  #generation = 0;

  loses = () => false;
  epoch = "e1";

  constructor({ timers, random, replicas = 1, capacity = 100 }) {
    this.#timers = timers;
    this.#random = random;
    this.#capacity = capacity;
    for (let index = 0; index < replicas; index += 1) this.#addReplica();
  }

  get openSockets() {
    return this.#sessions.size;
  }

  get stored() {
    return this.#log.length;
  }

  get smiles() {
    return this.#log;
  }

  openSocket(url) {
    const socket = new FakeSocket(url);
    this.#timers.after(LATENCY_MS, () => this.#accept(socket));
    return socket;
  }

  /** Crashes the oldest replica. A replacement starts `restartAfter` milliseconds later. */
  crash(restartAfter = 1_500) {
    const victim = this.#replicas.shift();
    for (const session of [...this.#sessions]) {
      if (session.replica !== victim) continue;
      this.#sessions.delete(session);
      session.socket.end(1006);
    }
    this.#timers.after(restartAfter, () => this.#addReplica());
  }

  replaceLog() {
    this.epoch = `${this.epoch}+`;
    this.#log = [];
    this.#stored.clear();
    for (const session of [...this.#sessions]) {
      this.#sessions.delete(session);
      session.socket.end(1012);
    }
  }

  #addReplica() {
    this.#generation += 1;
    const replica = { id: `be.${this.#generation}`, tokens: this.#capacity / 4, countedAt: this.#timers.now() };
    this.#replicas.push(replica);
  }

  #accept(socket) {
    if (socket.readyState === 3) return;
    if (this.#replicas.length === 0) {
      socket.end(1006);
      return;
    }
    const replica = this.#replicas[Math.floor(this.#random() * this.#replicas.length)];
    const user = socket.url.searchParams.get("user");
    const after = socket.url.searchParams.get("after");
    const recovered = after !== null && socket.url.searchParams.get("epoch") === this.epoch;
    const offset = recovered ? Number(after) : this.#log.length;
    const session = { socket, user, replica };
    this.#sessions.add(session);
    socket.onSend = (frame) => this.#timers.after(LATENCY_MS, () => this.#heard(session, frame));
    socket.onClosing = () => this.#sessions.delete(session);
    socket.tell(welcome({ user, offset, recovered, replica: replica.id, epoch: this.epoch }));
    for (const smile of this.#log.slice(offset)) {
      if (smile.from === user || smile.to === user) socket.tell({ type: "smile", ...smile });
    }
  }

  #heard(session, frame) {
    if (!this.#sessions.has(session)) return;
    if (frame.type === "history") this.#tellHistory(session, frame);
    if (frame.type !== "smile") return;
    const key = `${session.user}/${frame.id}`;
    const stored = this.#stored.get(key);
    if (stored !== undefined) {
      session.socket.tell({ type: "ack", id: frame.id, offset: stored, duplicate: true });
    } else if (this.#admits(session.replica)) {
      this.#append(session, key, frame);
    } else {
      const retry = { retry_after_ms: RETRY_AFTER_MS, temporary: true };
      session.socket.tell({ type: "error", code: "overloaded", message: "", id: frame.id, ...retry });
    }
  }

  #tellHistory({ socket, user }, { with: other, before = Infinity, limit = 50 }) {
    const between = ({ from, to }) => [from, to].includes(user) && [from, to].includes(other);
    const older = this.#log.filter((smile) => smile.offset < before && between(smile));
    socket.tell({ type: "history", with: other, smiles: older.slice(-limit), more: older.length > limit });
  }

  #append(session, key, { id, to, smile }) {
    const stored = { offset: this.#log.length + 1, id, from: session.user, to, smile };
    this.#log.push(stored);
    this.#stored.set(key, stored.offset);
    const lost = this.loses(stored);
    for (const other of [...this.#sessions]) {
      if (other === session) other.socket.tell({ type: "ack", id, offset: stored.offset, duplicate: false });
      else if (!lost && [stored.from, stored.to].includes(other.user)) other.socket.tell({ type: "smile", ...stored });
    }
  }

  #admits(replica) {
    const now = this.#timers.now();
    const earned = ((now - replica.countedAt) * this.#capacity) / 1_000;
    replica.tokens = Math.min(this.#capacity / 4, replica.tokens + earned);
    replica.countedAt = now;
    if (replica.tokens < 1) return false;
    replica.tokens -= 1;
    return true;
  }
}
