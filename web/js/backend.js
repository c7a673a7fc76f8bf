// Owns the requests beside the sockets: users, replicas, crash. Turns answers into values and failures
// into one kind of error. Knows nothing of who asks or how it is shown.

export const REQUEST_LIMIT_MS = 3_000;

/** What our proxy answers that finds no backend, and other proxies: the backend's refusals carry other codes. */
const GATEWAY_CODES = new Set(["no_replica", "http_502", "http_503", "http_504"]);

/** A request that failed: `code` is for the dictionary, `status` is 0 when there was no answer at all. */
export class BackendError extends Error {
  constructor({ status, code, message }) {
    super(message);
    this.status = status;
    this.code = code;
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
      });
    } catch (error) {
      if (error instanceof BackendError) throw error;
      throw new BackendError({ status: 0, code: "unreachable", message: String(error) });
    } finally {
      cancelLimit();
    }
  }
}

function unexpectedAnswer() {
  return new BackendError({ status: 200, code: "unexpected_answer", message: "" });
}
