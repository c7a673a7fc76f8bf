// The list of conversations, with a card for each. A card keeps and reuses a bounded number of nodes, so the page stays
// fast in a run that lasts hours.

import { LineState } from "./conversation.js";
import { byId, element, setClass, setText } from "./dom.js";
import { shareAfter } from "./render-loop.js";
import { SessionState } from "./client/session.js";
import { UserView } from "./user-view.js";

const MARKS = {
  [LineState.SENT]: "○",
  [LineState.SHED]: "↻",
  [LineState.ACKED]: "✓",
  [LineState.DELIVERED]: "✓✓",
  [LineState.REFUSED]: "✕",
};

/** The maximum number of cards painted in one frame. */
const MOST_CARDS = 6;

export class ConversationsView {
  #words;
  #onOpen;
  #list = byId("conversation-list");
  #empty = byId("conversations-empty");
  #cards = new Map();
  #changed = new Set();
  /** The conversations whose cards are still to be painted. */
  #waiting = new Set();
  #perFrame = MOST_CARDS;

  /** `words` has what a `UserView` needs: translate, format, hueOf. */
  constructor({ onOpen, ...words }) {
    this.#words = words;
    this.#onOpen = onOpen;
  }

  mark(conversation) {
    this.#changed.add(conversation);
  }

  list(conversations) {
    const present = new Set(conversations);
    for (const [conversation, card] of this.#cards) {
      if (present.has(conversation)) continue;
      card.node.remove();
      for (const held of [this.#cards, this.#changed, this.#waiting]) held.delete(conversation);
    }
    for (const conversation of conversations) {
      if (this.#cards.has(conversation)) continue;
      const card = new Card({ conversation, words: this.#words, onOpen: () => this.#onOpen(conversation) });
      this.#cards.set(conversation, card);
      this.#list.append(card.node);
      this.#changed.add(conversation);
    }
    this.#empty.hidden = conversations.length > 0;
  }

  collect() {
    for (const [conversation, card] of this.#cards) {
      if (this.#changed.has(conversation) || card.isCountingDown) this.#waiting.add(conversation);
    }
    this.#changed.clear();
  }

  /** Returns whether any cards are still to be painted. The last frame took `cost` milliseconds. */
  paintMore(now, cost) {
    this.#perFrame = shareAfter(this.#perFrame, cost, MOST_CARDS);
    for (const conversation of [...this.#waiting].slice(0, this.#perFrame)) {
      this.#waiting.delete(conversation);
      this.#cards.get(conversation)?.paint(now);
    }
    return this.#waiting.size > 0;
  }
}

class Card {
  #conversation;
  #views;
  #strip = element("span", "strip");
  #bubbles = new Map();

  constructor({ conversation, words, onOpen }) {
    this.#conversation = conversation;
    this.#views = conversation.users.map((user) => new UserView({ user, ...words, isBrief: true }));
    const people = element("span", "people", ...this.#views.map((view) => view.node));
    // The button covers the content. If it contained the content, a screen reader would read all of it several times a
    // second.
    const button = element("button", "cover");
    button.type = "button";
    const [first, second] = conversation.users.map((user) => user.name);
    button.setAttribute("aria-label", words.translate("conversation.open", { first, second }));
    button.addEventListener("click", onOpen);
    this.node = element("li", "card", people, this.#strip, button);
  }

  get isCountingDown() {
    return this.#conversation.users.some((user) => user.session.state === SessionState.WAITING);
  }

  paint(now) {
    for (const view of this.#views) view.paint(now);
    this.#paintLines(this.#conversation.lines);
  }

  // A line keeps its bubble while it is shown. A new line takes over the bubble of a line that is no longer shown.
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
      this.#bubbles.get(line).paint(line, side);
    }
    for (const bubble of spare) bubble.node.remove();
  }
}

class Bubble {
  #smile = element("span", "smile");
  #mark = element("span", "mark");
  #line = null;
  #state = null;

  constructor() {
    this.node = element("span", "bubble", this.#smile, this.#mark);
  }

  paint(line, side) {
    if (line === this.#line && line.state === this.#state) return;
    if (line !== this.#line) setText(this.#smile, line.smile);
    [this.#line, this.#state] = [line, line.state];
    setClass(this.node, `bubble ${side} ${line.state}`);
    setText(this.#mark, MARKS[line.state]);
  }
}
