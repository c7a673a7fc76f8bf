// Finds out why a socket does not open: browsers hide the response to a handshake, so this sends a plain GET to the
// same address.

import { retryAfterOf, socketUrl } from "./protocol.js";

/** The status of a plain GET that passed all earlier checks. The cause is then in the handshake. */
const NO_HANDSHAKE = 426;

/** The time limit of the request: a hanging backend accepts connections and answers nothing. */
const REQUEST_LIMIT_MS = 3_000;

/**
 * Why sessions of the user are refused: `{code, message, host, retryAfter}`. The code is the server's, or one of these:
 * `host_rewritten` if a proxy changed the `Host` header, whose value is then `host`; `no_upgrade` if a proxy drops the
 * upgrade; `http_STATUS` for an answer without a code; `unreachable` without an answer. `retryAfter` is the server's
 * hint in milliseconds, or 0.
 */
export async function whyRefused({ page, user, fetch = globalThis.fetch }) {
  const url = new URL(socketUrl(page, user));
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  let response;
  try {
    response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(REQUEST_LIMIT_MS) });
  } catch (error) {
    return { code: "unreachable", message: String(error), host: null, retryAfter: 0 };
  }
  const answer = (await response.json().catch(() => null)) ?? {};
  const { code = `http_${response.status}`, message = "", host = null } = answer;
  const retryAfter = retryAfterOf(response, answer);
  if (response.status !== NO_HANDSHAKE) return { code, message, host, retryAfter };
  const rewritten = host !== null && host.toLowerCase() !== url.host;
  return { code: rewritten ? "host_rewritten" : "no_upgrade", message, host, retryAfter };
}
