// The list of conversations: a card each, with a fixed number of reused nodes, so that the page stays light for
// hours.

import { LineState } from "./conversation.js";
import { byId, element, setClass, setText } from "./dom.js";
import { shareAfter } from "./render-loop.js";
import { Seat } from "./seat-view.js";
import { SessionState } from "./client/session.js";

/** The sign of each state of a smile. */
const MARKS = {
  [LineState.SENT]: "○",
  [LineState.SHED]: "↻",
  [LineState.ACKED]: "✓",
  [LineState.DELIVERED]: "✓✓",
  [LineState.REFUSED]: "✕",
};

/** The most cards painted in one frame. */
const MOST_CARDS = 6;

export class ConversationsView {
  #words;
  #onOpen;
  #list = byId("conversation-list");
  #empty = byId("conversations-empty");
  #cards = new Map();
  #changed = new Set();
  /** The conversations of this paint whose cards are not painted yet. */
  #waiting = new Set();
  #perFrame = MOST_CARDS;

  /** `onOpen(conversation)` is called when a user opens a card. `words` is what a seat needs: translate, format, hueOf. */
  constructor({ onOpen, ...words }) {
    this.#words = words;
    this.#onOpen = onOpen;
  }

  /** Marks a conversation for the next paint. */
  mark(conversation) {
    this.#changed.add(conversation);
  }

  /** Adds and removes cards to match the conversations. */
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

  /** Takes the changed cards, which `paintMore` paints. */
  collect() {
    for (const [conversation, card] of this.#cards) {
      if (this.#changed.has(conversation) || card.isCountingDown) this.#waiting.add(conversation);
    }
    this.#changed.clear();
  }

  /** Paints the next cards that wait; true if some still wait. `cost` is what the last frame has taken. */
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
  #seats;
  #strip = element("span", "strip");
  #bubbles = new Map();

  constructor({ conversation, words, onOpen }) {
    this.#conversation = conversation;
    this.#seats = conversation.users.map((user) => new Seat({ user, ...words, isBrief: true }));
    const people = element("span", "people", ...this.#seats.map((seat) => seat.node));
    // Covers the card instead of containing it: a screen reader would read all of its content, several times a second.
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
    for (const seat of this.#seats) seat.paint(now);
    this.#paintLines(this.#conversation.lines);
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
