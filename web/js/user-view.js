// A user of a conversation on the page: face, name, state and replica of the session.

import { element, setData, setText, setTitle } from "./dom.js";
import { SessionState } from "./client/session.js";

/** `hueOf(replica)` is the number of the replica's colour. */
export class UserView {
  #user;
  #translate;
  #format;
  #hueOf;
  #isBrief;
  #state = element("span", "state");
  #replica = element("span", "replica");
  #drawn = null;

  /** The brief form shows the replica while the session is live, and the state otherwise. */
  constructor({ user, translate, format, hueOf, isBrief }) {
    this.#user = user;
    this.#translate = translate;
    this.#format = format;
    this.#hueOf = hueOf;
    this.#isBrief = isBrief;
    const face = element("span", "face", user.face);
    face.setAttribute("aria-hidden", "true");
    const name = element("span", "name", user.name);
    const who = element("span", "who", name, this.#state);
    if (!isBrief) who.append(this.#replica);
    this.node = element("span", "user", face, who);
  }

  paint(now) {
    const { session } = this.#user;
    // Most repaints are for smiles, which are not shown here. Only a countdown changes without a new state.
    if (session.changes === this.#drawn && session.state !== SessionState.WAITING) return;
    this.#drawn = session.changes;
    setData(this.node, "state", session.state);
    setData(this.node, "hue", String(this.#user.isConnected ? this.#hueOf(session.replica) : ""));
    const isSettled = this.#isBrief && session.state === SessionState.LIVE;
    setText(this.#state, isSettled ? session.replica : this.#stateText(session, now));
    setTitle(this.node, session.closeReason === null ? "" : this.#reasonText(session.closeReason));
    if (!this.#isBrief) setText(this.#replica, this.#placeText(session));
  }

  #placeText({ replica }) {
    if (replica === null) return this.#translate("conversation.nowhere");
    return this.#user.isConnected ? replica : this.#translate("conversation.was_on", { replica });
  }

  #stateText(session, now) {
    const left = session.retryAt === null ? 0 : Math.max(0, session.retryAt - now);
    const state = this.#translate(`session.${session.state}`, { age: this.#format.span(left) });
    if (session.state === SessionState.FAILED) return `${state}: ${this.#reasonText(session.closeReason)}`;
    const trying = session.state === SessionState.WAITING || session.state === SessionState.CONNECTING;
    if (!trying || session.attempt < 2) return state;
    return `${state} · ${this.#translate("conversation.attempt", { n: session.attempt })}`;
  }

  #reasonText({ code, name, text }) {
    const meaning = this.#translate(`close.${name}`);
    return [code === null ? meaning : `${meaning} (${code})`, text].filter((part) => part !== "").join(" ");
  }
}
