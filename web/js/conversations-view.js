// Owns the list of conversations on the page: one card each, with a fixed handful of nodes that are
// written over, so that it stays as light after an hour as at the start. Changes nothing it shows.

import { LineState } from "./conversation.js";
import { byId, element, setClass, setData, setText, setTitle } from "./dom.js";
import { SessionState } from "./client/session.js";

const MARKS = {
  [LineState.SENT]: "○",
  [LineState.SHED]: "↻",
  [LineState.ACKED]: "✓",
  [LineState.DELIVERED]: "✓✓",
  [LineState.REFUSED]: "✕",
};

export class ConversationsView {
  #translate;
  #format;
  #list = byId("conversation-list");
  #empty = byId("conversations-empty");
  #cards = new Map();
  #changed = new Set();

  constructor({ translate, format }) {
    this.#translate = translate;
    this.#format = format;
  }

  /** This conversation is to be painted at the next opportunity. */
  mark(conversation) {
    this.#changed.add(conversation);
  }

  /** Brings the cards in line with the conversations there are. */
  list(conversations) {
    const present = new Set(conversations);
    for (const [conversation, card] of this.#cards) {
      if (present.has(conversation)) continue;
      card.node.remove();
      this.#cards.delete(conversation);
    }
    for (const conversation of conversations) {
      if (this.#cards.has(conversation)) continue;
      const card = new Card({ conversation, translate: this.#translate, format: this.#format });
      this.#cards.set(conversation, card);
      this.#list.append(card.node);
      this.#changed.add(conversation);
    }
    this.#empty.hidden = conversations.length > 0;
  }

  paint(now) {
    for (const [conversation, card] of this.#cards) {
      if (this.#changed.has(conversation) || card.isCountingDown) card.paint(now);
    }
    this.#changed.clear();
  }
}

class Card {
  #conversation;
  #translate;
  #format;
  #seats;
  #strip = element("ol", "strip");
  #bubbles = new Map();
  #delivered = element("span", "delivered");
  #overloads = element("span", "overloads");

  constructor({ conversation, translate, format }) {
    this.#conversation = conversation;
    this.#translate = translate;
    this.#format = format;
    this.#seats = conversation.users.map((user) => new Seat({ user, translate, format }));
    const people = element("div", "people", ...this.#seats.map((seat) => seat.node));
    const counts = element("p", "counts", this.#delivered, this.#overloads);
    this.node = element("li", "card", people, this.#strip, counts);
  }

  get isCountingDown() {
    return this.#conversation.users.some((user) => user.session.state === SessionState.WAITING);
  }

  paint(now) {
    const { lines, delivered, overloads } = this.#conversation;
    for (const seat of this.#seats) seat.paint(now);
    this.#paintLines(lines);
    setText(this.#delivered, this.#translate("conversation.delivered", { n: this.#format.count(delivered) }));
    const shed = this.#translate("conversation.overloads", { n: this.#format.count(overloads) });
    setText(this.#overloads, overloads === 0 ? "" : shed);
  }

  // A line keeps its bubble while it is shown; the oldest bubble moves to the end for the newest line.
  #paintLines(lines) {
    const spare = [];
    for (const [line, bubble] of this.#bubbles) {
      if (lines.includes(line)) continue;
      this.#bubbles.delete(line);
      spare.push(bubble);
    }
    for (const line of lines) {
      if (!this.#bubbles.has(line)) {
        const bubble = spare.shift() ?? new Bubble();
        this.#bubbles.set(line, bubble);
        this.#strip.append(bubble.node);
      }
      const side = line.from === this.#conversation.users[0].name ? "left" : "right";
      this.#bubbles.get(line).paint(line, side, this.#translate(`line.${line.state}`));
    }
    for (const bubble of spare) bubble.node.remove();
  }
}

class Bubble {
  #smile = element("span", "smile");
  #mark = element("span", "mark");

  constructor() {
    this.node = element("li", "bubble", this.#smile, this.#mark);
  }

  paint(line, side, meaning) {
    setClass(this.node, `bubble ${side} ${line.state}`);
    setText(this.#smile, line.smile);
    setText(this.#mark, MARKS[line.state]);
    setTitle(this.node, meaning);
  }
}

class Seat {
  #user;
  #translate;
  #format;
  #state = element("span", "state");
  #replica = element("span", "replica");

  constructor({ user, translate, format }) {
    this.#user = user;
    this.#translate = translate;
    this.#format = format;
    const face = element("span", "face", user.face);
    face.setAttribute("aria-hidden", "true");
    const name = element("span", "name", user.name);
    this.node = element("div", "seat", face, element("div", "who", name, this.#state, this.#replica));
  }

  paint(now) {
    const { session } = this.#user;
    setData(this.node, "state", session.state);
    setText(this.#state, this.#stateText(session, now));
    setTitle(this.#state, session.closeReason === null ? "" : this.#reasonText(session.closeReason));
    setText(this.#replica, this.#placeText(session));
    setTitle(this.#replica, session.replica ?? "");
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
