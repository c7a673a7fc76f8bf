// Finds out why a socket does not open. Browsers hide the response to a handshake, so this module sends a plain GET to
// the same address.

import { parseJson, retryAfterOf, socketUrl } from "./protocol.js";

/** The status of the answer to a GET that passes all checks before the handshake, so the cause is in the handshake. */
const NO_HANDSHAKE = 426;

/** The time limit of the request: a hanging backend accepts connections but never answers. */
const REQUEST_LIMIT_MS = 3_000;

/**
 * Why sessions of the user are refused: `{code, message, host, retryAfter}`. The code is the server's, or one of these:
 * `host_rewritten` if a proxy changed the `Host` header, whose new value is `host`; `no_upgrade` if a proxy drops the
 * upgrade; `http_STATUS` for an answer without a code; `unreachable` if no complete answer arrived. `retryAfter` is
 * the server's hint in milliseconds, or 0.
 */
export async function whyRefused({ page, user, fetch = globalThis.fetch }) {
  const url = new URL(socketUrl(page, user).replace(/^ws/, "http"));
  try {
    const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(REQUEST_LIMIT_MS) });
    const answer = parseJson(await response.text()) ?? {};
    const { message = "", host = null } = answer;
    let { code = `http_${response.status}` } = answer;
    if (response.status === NO_HANDSHAKE) {
      code = host !== null && host.toLowerCase() !== url.host ? "host_rewritten" : "no_upgrade";
    }
    return { code, message, host, retryAfter: retryAfterOf(response, answer) };
  } catch (error) {
    return { code: "unreachable", message: String(error), host: null, retryAfter: 0 };
  }
}
