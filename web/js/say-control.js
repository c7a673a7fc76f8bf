// The form in which the presenter sends smiles as any user. The presenter types a receiver and a smile, such as
// `@bruno 😀`.

import { Client } from "./client/client.js";
import { SessionState } from "./client/session.js";
import { byId, setText } from "./dom.js";

const TYPED = /^\s*@(\S+)\s+(.+?)\s*$/u;
/** The refusals that have words on the page. Here, only a smile to oneself is a bad request. */
const WORDED = new Set(["unknown_user", "not_a_smile", "bad_request"]);

export class SayControl {
  #translate;
  #environment;
  #client = null;

  constructor({ translate, ...environment }) {
    this.#translate = translate;
    this.#environment = environment;
    byId("say").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say(byId("say-text").value);
    });
    byId("say-send").disabled = false;
  }

  async #say(text) {
    const [, typed, smile] = TYPED.exec(text) ?? [];
    // A phone's keyboard begins a name with a capital, and the names have none.
    const to = typed?.toLowerCase();
    if (to === undefined) {
      this.#tell("say.how");
      return;
    }
    const user = byId("say-as").value;
    this.#tell("say.sent", { user, to });
    try {
      const { offset } = await this.#clientOf(user).smile(to, smile);
      this.#tell("say.stored", { user, to, offset });
      if (byId("say-text").value === text) byId("say-text").value = "";
    } catch ({ code, message }) {
      this.#tell(WORDED.has(code) ? `say.refused.${code}` : "say.refused", { to, message });
    }
  }

  // Keeps one session, for the last user. The sessions of earlier users end once their smiles are settled.
  #clientOf(user) {
    if (this.#client?.user === user && this.#client.session.state !== SessionState.FAILED) return this.#client;
    this.#client?.finish();
    this.#client = new Client({ user, ...this.#environment });
    this.#client.start();
    return this.#client;
  }

  #tell(key, values) {
    setText(byId("say-result"), this.#translate(key, values));
  }
}
