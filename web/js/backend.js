// Sends HTTP requests to the backend: for the users, the replicas, a crash, and the cause of a refused socket. A
// request that fails throws a `BackendError`.

import { isOverload, parseJson, retryAfterOf } from "./client/protocol.js";

export const REQUEST_LIMIT_MS = 3_000;

const TOO_OFTEN = 429;
const FORBIDDEN = 403;

/** The status with which a working WebSocket address answers a plain GET. */
const UPGRADE_REQUIRED = 426;

/**
 * The codes of requests that no backend answered, although a proxy may have answered them. The backend's own refusals
 * have other codes.
 */
export const SILENT_CODES = new Set(["unreachable", "no_replica", "http_502", "http_503", "http_504"]);

/**
 * A failed request. `status` is the HTTP status, or 0 if no complete answer arrived. `code` is `unreachable` if
 * `status` is 0; otherwise the answer's error code, `http_STATUS` for a refusal without one, or `unexpected_answer` for
 * a success without the expected body.
 */
export class BackendError extends Error {
  constructor({ status, code, message, retryAfter = 0 }) {
    super(message);
    this.status = status;
    this.code = code;
    /** The retry hint of the answer in milliseconds, or 0. */
    this.retryAfter = retryAfter;
  }

  /** Whether the backend rate-limits this address. */
  get isTooOften() {
    return this.status === TOO_OFTEN;
  }

  /** The kind of overload error that this failure counts as: a dictionary key without its prefix `cause.`, or null. */
  get overloadCause() {
    if (this.isTooOften) return "address";
    if (this.isSilence) return "no_replica";
    return isOverload(this.code) ? this.code : null;
  }

  get isSilence() {
    return SILENT_CODES.has(this.code);
  }
}

export class Backend {
  #pageUrl;
  #fetch;
  #timers;

  /** The `Date` header of the last answer, or null. */
  date = null;

  constructor({ pageUrl, fetch, timers }) {
    this.#pageUrl = pageUrl;
    this.#fetch = fetch;
    this.#timers = timers;
  }

  /** Returns [{name, face}]. */
  async users() {
    const users = await this.#request("api/users", {}, Array.isArray);
    return users.filter((user) => typeof user?.name === "string");
  }

  /** Retries without a limit, after `pause` milliseconds or the server's hint, whichever is longer. */
  async learnUsers({ pause, onFailure = () => {} }) {
    for (;;) {
      try {
        return await this.users();
      } catch (error) {
        onFailure(error);
        await new Promise((resolve) => this.#timers.after(Math.max(pause, error.retryAfter), resolve));
      }
    }
  }

  /** Returns {replicas, self, epoch, head}; newer replicas add {platform, links}. */
  async replicas() {
    return this.#request("api/replicas", {}, (answer) => Array.isArray(answer?.replicas));
  }

  /** Crashes the named replica, or one that the server chooses. Returns {replica, mode}. */
  async crash({ replica = null, mode = null, token = null }) {
    const wish = {};
    if (replica !== null) wish.replica = replica;
    if (mode !== null) wish.mode = mode;
    const headers = { "Content-Type": "application/json" };
    // A header is a string of bytes, and the server compares the token's UTF-8 bytes.
    if (token !== null) headers.Authorization = `Bearer ${String.fromCharCode(...new TextEncoder().encode(token))}`;
    const options = { method: "POST", headers, body: JSON.stringify(wish) };
    return this.#request("api/crash", options, (answer) => typeof answer?.replica === "string");
  }

  /**
   * Finds out why a socket to this address is refused. Returns a `BackendError`, or null if no cause is found. Browsers
   * hide the answer to a handshake, so this method sends a plain GET. Browsers send no `Origin` with a GET to the
   * page's own origin, so a second request tests the origin: a crash request without a body. The server always
   * refuses such a request.
   */
  async refusal(socketUrl) {
    const found = await this.#request(socketUrl.replace(/^ws/, "http")).catch((error) => error);
    if (found instanceof BackendError && found.status !== UPGRADE_REQUIRED) return found;
    const options = { method: "POST", headers: { "Content-Type": "text/plain" }, body: "" };
    const origin = await this.#request("api/crash", options).catch((error) => error);
    return origin instanceof BackendError && origin.status === FORBIDDEN ? origin : null;
  }

  async #request(path, options, isExpected = () => true) {
    const abort = new AbortController();
    const cancelLimit = this.#timers.after(REQUEST_LIMIT_MS, () => abort.abort());
    try {
      const url = new URL(path, this.#pageUrl);
      const response = await this.#fetch(url, { ...options, cache: "no-store", signal: abort.signal });
      const answer = parseJson(await response.text());
      this.date = response.headers.get("Date");
      if (response.ok && isExpected(answer)) return answer;
      throw new BackendError({
        status: response.status,
        code: response.ok ? "unexpected_answer" : (answer?.code ?? `http_${response.status}`),
        message: answer?.message ?? "",
        retryAfter: retryAfterOf(response, answer),
      });
    } catch (error) {
      if (error instanceof BackendError) throw error;
      throw new BackendError({ status: 0, code: "unreachable", message: String(error) });
    } finally {
      cancelLimit();
    }
  }
}
