// The address of join.html, as a link and as a QR code.

import { byId, setText } from "./dom.js";

const RETRY_MS = 5_000;
// Host names that, on a phone, refer to the phone itself.
const LOCAL = /^(localhost|127\.|\[::1\]$)/;

export class JoinView {
  #code = byId("join-code");
  #url;

  constructor({ pageUrl, timers }) {
    this.#url = new URL("join.html", pageUrl);
    setText(byId("join-address"), this.#url.href);
    byId("join-local").hidden = !LOCAL.test(this.#url.hostname);
    this.#code.addEventListener("load", () => (this.#code.hidden = false));
    this.#code.addEventListener("error", () => {
      this.#code.hidden = true;
      timers.after(RETRY_MS, () => this.#ask(pageUrl));
    });
    this.#ask(pageUrl);
  }

  #ask(pageUrl) {
    const url = new URL("api/join.svg", pageUrl);
    url.searchParams.set("url", this.#url.href);
    this.#code.src = url.href;
  }
}
