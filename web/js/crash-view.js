// The crash requests on the page: the form for the token, and why the last request failed.

import { byId, setText } from "./dom.js";

export class CrashView {
  #translate;
  #tokenRow = byId("crash-token-row");
  #token = byId("crash-token");
  #error = byId("crash-error");

  /** `onToken(token)`: the user has given the token. */
  constructor({ translate, onToken }) {
    this.#translate = translate;
    this.#tokenRow.addEventListener("submit", (event) => {
      event.preventDefault();
      const token = this.#token.value.trim();
      this.#token.value = "";
      if (token !== "") onToken(token);
    });
  }

  paint({ waiting, failure }) {
    const isNew = waiting !== null && this.#tokenRow.hidden;
    this.#tokenRow.hidden = waiting === null;
    if (isNew) this.#token.focus();
    this.#error.hidden = failure === null;
    setText(this.#error, failure === null ? "" : this.#translate(failure.key, failure.values));
  }
}
