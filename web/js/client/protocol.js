// The wire protocol: outgoing frames, validation of incoming frames, the client's reaction to each close code, and
// which error codes count as overload.

export const NORMAL_CLOSURE = 1000;

export const CloseAction = Object.freeze({
  RETRY: "retry",
  RETRY_LATE: "retry_late",
  GIVE_UP: "give_up",
});

const CLOSE_NAMES = new Map([
  [1000, "normal"],
  [1001, "going_away"],
  [1002, "protocol_error"],
  [1003, "not_text"],
  [1006, "connection_lost"],
  [1007, "not_utf8"],
  [1008, "policy"],
  [1009, "too_large"],
  [1011, "internal_error"],
  [1012, "service_restart"],
  [1013, "try_again_later"],
  [4000, "slow"],
  [4001, "no_pong"],
  [4002, "rebalance"],
]);

// These codes mean that this client sent an invalid frame; a reconnect would not help.
const FINAL_CLOSES = new Set([1002, 1003, 1007, 1009]);
const POLICY_CLOSE = 1008;

/** The codes of announced closes: the replica drains or hands sessions over. */
export const ORDERLY_CLOSES = new Set([1012, 4002]);

const OVERLOAD_CAUSES = new Set(["overloaded", "rate_limited", "store_unavailable"]);

/** The name of a close code, as in the dictionary's `close.` keys. An unlisted code counts as a lost connection. */
export function closeName(code) {
  return CLOSE_NAMES.get(code) ?? "connection_lost";
}

/** Whether and how to reconnect after a close code. */
export function closeAction(code) {
  if (FINAL_CLOSES.has(code)) return CloseAction.GIVE_UP;
  if (code === POLICY_CLOSE) return CloseAction.RETRY_LATE;
  return CloseAction.RETRY;
}

export function isOverload(code) {
  return OVERLOAD_CAUSES.has(code);
}

export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The retry hint of a refusal in milliseconds, the longer of `Retry-After` and the body's hint; 0 without either. */
export function retryAfterOf(response, answer) {
  const hints = [1_000 * Number(response.headers.get("Retry-After") ?? 0), Number(answer?.retry_after_ms ?? 0)];
  return Math.max(0, ...hints.filter(Number.isFinite));
}

/** The absolute URL of a session, resolved against the page's URL; `wss` for an https page. */
export function socketUrl(pageUrl, user, resume = null) {
  const url = new URL("ws", pageUrl);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = "";
  url.hash = "";
  url.searchParams.set("user", user);
  if (resume !== null) {
    url.searchParams.set("after", String(resume.after));
    url.searchParams.set("epoch", resume.epoch);
  }
  return url.href;
}

export function smileFrame({ id, to, smile }) {
  return JSON.stringify({ type: "smile", id, to, smile });
}

export function historyFrame({ with: other, before, limit }) {
  return JSON.stringify({ type: "history", with: other, before, limit });
}

export function pingFrame() {
  return JSON.stringify({ type: "ping" });
}

const isText = (value) => typeof value === "string";
const isOffset = (value) => Number.isSafeInteger(value) && value >= 0;
const isFlag = (value) => typeof value === "boolean";

const FRAME_CHECKS = {
  welcome: (frame) =>
    isText(frame.replica) && isText(frame.epoch) && isOffset(frame.offset) && isFlag(frame.recovered),
  ack: (frame) => isText(frame.id) && isOffset(frame.offset) && isFlag(frame.duplicate),
  smile: (frame) =>
    isOffset(frame.offset) && [frame.id, frame.from, frame.to, frame.smile].every(isText),
  history: (frame) => isText(frame.with) && Array.isArray(frame.smiles) && isFlag(frame.more),
  error: (frame) => isText(frame.code) && isFlag(frame.temporary),
  drain: (frame) => Number.isFinite(frame.reconnect_after_ms) && frame.reconnect_after_ms >= 0,
};

/**
 * Parses a frame. Returns null if `type` is not a string, or if a required field of a known type is missing or
 * invalid. Unknown types pass, since newer servers may add types.
 */
export function parseFrame(text) {
  const frame = parseJson(text);
  if (!isText(frame?.type)) return null;
  const isValid = !Object.hasOwn(FRAME_CHECKS, frame.type) || FRAME_CHECKS[frame.type](frame);
  return isValid ? frame : null;
}

/**
 * Where to resume from: the highest offset of a welcome, a smile, or an ack with `duplicate: false`. The ack of a
 * duplicate has an old offset. A welcome with `recovered: false` or a new epoch sets the point to the welcome's offset.
 */
export class ResumePoint {
  #epoch = null;
  #after = null;

  observe(frame) {
    if (frame.type === "welcome") {
      const goesOn = frame.recovered && frame.epoch === this.#epoch;
      this.#after = goesOn ? Math.max(this.#after, frame.offset) : frame.offset;
      this.#epoch = frame.epoch;
    } else if (frame.type === "smile" || (frame.type === "ack" && !frame.duplicate)) {
      this.#after = Math.max(this.#after, frame.offset);
    }
  }

  /** The query fields of a resume, or null before the first welcome. */
  get query() {
    return this.#epoch === null ? null : { after: this.#after, epoch: this.#epoch };
  }
}
