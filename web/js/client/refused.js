// Owns the question why no socket opens: browsers hide the answer to a handshake, so the same address is asked without one.
// Knows no socket and no page.

import { socketUrl } from "./protocol.js";

/** Nothing refuses a session: the handshake itself does not get through. */
const NO_HANDSHAKE = 426;

/**
 * Why sessions of the user are refused: `{code, message, host}`. The code is the server's, or `host_rewritten` when a proxy
 * changed the host that the page has (then `host` is what arrived), `no_upgrade` when it drops the upgrade, `http_STATUS`
 * for an answer without a code, `unreachable` for none.
 */
export async function whyRefused({ page, user, fetch = globalThis.fetch }) {
  const url = new URL(socketUrl(page, user));
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  let response;
  try {
    response = await fetch(url, { cache: "no-store" });
  } catch (error) {
    return { code: "unreachable", message: String(error), host: null };
  }
  const { code = `http_${response.status}`, message = "", host = null } = (await response.json().catch(() => null)) ?? {};
  if (response.status !== NO_HANDSHAKE) return { code, message, host };
  const rewritten = host !== null && host.toLowerCase() !== url.host;
  return { code: rewritten ? "host_rewritten" : "no_upgrade", message, host };
}
