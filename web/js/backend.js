// Owns the requests beside the sockets: users, replicas, crash. Turns answers into values and failures
// into one kind of error. Knows nothing of who asks or how it is shown.

export const REQUEST_LIMIT_MS = 3_000;

const TOO_OFTEN = 429;
const FORBIDDEN = 403;

/** What a plain GET gets where a socket would have been welcome. */
const UPGRADE_REQUIRED = 426;

/** What our proxy answers that finds no backend, and other proxies: the backend's refusals carry other codes. */
const GATEWAY_CODES = new Set(["no_replica", "http_502", "http_503", "http_504"]);

/** A request that failed: `code` is for the dictionary, `status` is 0 when there was no answer at all. */
export class BackendError extends Error {
  constructor({ status, code, message, retryAfter = 0 }) {
    super(message);
    this.status = status;
    this.code = code;
    /** Milliseconds for which the answer asks not to be asked again. */
    this.retryAfter = retryAfter;
  }

  /** Whether the backend is there, and has had enough of this address. */
  get isTooOften() {
    return this.status === TOO_OFTEN;
  }

  /** Whether no backend said this: there was no answer, or it is a proxy's own. */
  get isSilence() {
    return this.status === 0 || GATEWAY_CODES.has(this.code);
  }
}

export class Backend {
  #pageUrl;
  #fetch;
  #timers;

  constructor({ pageUrl, fetch, timers }) {
    this.#pageUrl = pageUrl;
    this.#fetch = fetch;
    this.#timers = timers;
  }

  /** [{name, face}] */
  async users() {
    const users = await this.#request("api/users");
    if (!Array.isArray(users)) throw unexpectedAnswer();
    return users.filter((user) => typeof user?.name === "string");
  }

  /** {replicas, self, epoch, head}, and from newer replicas {platform, links} */
  async replicas() {
    const answer = await this.#request("api/replicas");
    if (!Array.isArray(answer?.replicas)) throw unexpectedAnswer();
    return answer;
  }

  /** Crashes a replica, the server's choice unless one is named. {replica, mode} */
  async crash({ replica = null, mode = null, token = null }) {
    const wish = {};
    if (replica !== null) wish.replica = replica;
    if (mode !== null) wish.mode = mode;
    const headers = { "Content-Type": "application/json" };
    if (token !== null) headers.Authorization = `Bearer ${token}`;
    return this.#request("api/crash", { method: "POST", headers, body: JSON.stringify(wish) });
  }

  /**
   * Why a socket to this address is refused, as a BackendError, or null where nothing is found. Browsers hide that
   * from sockets. They send no Origin with a GET, so a second request asks about the origin: a crash without a body,
   * which the contract refuses whatever else is right.
   */
  async refusal(socketUrl) {
    const found = await this.#request(socketUrl.replace(/^ws/, "http")).catch((error) => error);
    if (found instanceof BackendError && found.status !== UPGRADE_REQUIRED) return found;
    const options = { method: "POST", headers: { "Content-Type": "text/plain" }, body: "" };
    const origin = await this.#request("api/crash", options).catch((error) => error);
    return origin instanceof BackendError && origin.status === FORBIDDEN ? origin : null;
  }

  async #request(path, options = {}) {
    const abort = new AbortController();
    const cancelLimit = this.#timers.after(REQUEST_LIMIT_MS, () => abort.abort());
    try {
      const url = new URL(path, this.#pageUrl);
      const response = await this.#fetch(url, { ...options, cache: "no-store", signal: abort.signal });
      const answer = await response.json().catch(() => null);
      if (response.ok) return answer;
      throw new BackendError({
        status: response.status,
        code: answer?.code ?? `http_${response.status}`,
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

function retryAfterOf(response, answer) {
  const seconds = Number(response.headers.get("Retry-After") ?? 0);
  const milliseconds = Number(answer?.retry_after_ms ?? 0);
  return Math.max(0, (Number.isFinite(seconds) ? seconds : 0) * 1_000, Number.isFinite(milliseconds) ? milliseconds : 0);
}

function unexpectedAnswer() {
  return new BackendError({ status: 200, code: "unexpected_answer", message: "" });
}
