// The dialog of a conversation: both users, its smiles with offsets and times, and older smiles on demand.

import { byId, element, setText } from "./dom.js";
import { NO_THREAD, nextPage, threadAfter } from "./thread.js";
import { UserView } from "./user-view.js";

/** The time of day to the millisecond, with hours from 00 to 23. */
export const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23" };

export class ThreadView {
  #words;
  #onChange;
  #dialog = byId("thread");
  #title = byId("thread-title");
  #people = byId("thread-people");
  #earlier = byId("thread-earlier");
  #list = byId("thread-smiles");
  #conversation = null;
  #thread = NO_THREAD;
  #shown = null;
  #views = [];
  #rows = new Map();
  #clock = new Intl.DateTimeFormat(document.documentElement.lang, CLOCK);

  /** `words` has what a `UserView` needs: translate, format, hueOf. */
  constructor({ onChange, ...words }) {
    this.#words = words;
    this.#onChange = onChange;
    byId("thread-close").addEventListener("click", () => this.#dialog.close());
    this.#earlier.addEventListener("click", () => this.#conversation.askHistory(nextPage(this.#thread)));
    this.#dialog.addEventListener("close", () => this.#leave());
  }

  open(conversation) {
    this.#leave();
    this.#conversation = conversation;
    this.#views = conversation.users.map((user) => new UserView({ user, ...this.#words, isBrief: false }));
    this.#people.replaceChildren(...this.#views.map((view) => view.node));
    const [first, second] = conversation.users.map((user) => user.name);
    setText(this.#title, this.#words.translate("thread.title", { first, second }));
    conversation.watch((event) => {
      this.#thread = threadAfter(this.#thread, event);
      this.#onChange();
    });
    conversation.askHistory(nextPage(this.#thread));
    this.#dialog.showModal();
    this.#onChange();
  }

  paint(now) {
    if (this.#conversation === null) return;
    for (const view of this.#views) view.paint(now);
    const { more, asking, smiles } = this.#thread;
    this.#earlier.disabled = asking || !more;
    setText(this.#earlier, this.#words.translate(more ? "thread.earlier" : "thread.all"));
    if (smiles !== this.#shown) this.#paintSmiles(smiles);
    this.#shown = smiles;
  }

  // Follows the end of the list if it was less than 40 pixels away. Otherwise keeps the rows in view where they are.
  #paintSmiles(smiles) {
    const list = this.#list;
    const { scrollHeight, scrollTop, lastElementChild: last } = list;
    const follows = scrollHeight - scrollTop - list.clientHeight < 40;
    const place = last?.offsetTop;
    // A thread drops only its oldest smiles.
    for (const [offset, row] of this.#rows) {
      if (offset >= smiles[0].offset) continue;
      row.remove();
      this.#rows.delete(offset);
    }
    let next = null;
    for (const smile of smiles.toReversed()) {
      next = this.#rows.get(smile.offset) ?? list.insertBefore(this.#row(smile), next);
      this.#rows.set(smile.offset, next);
    }
    list.scrollTop = follows ? list.scrollHeight : scrollTop + last.offsetTop - place;
  }

  #row({ offset, from, smile, at }) {
    const side = from === this.#conversation.users[0].name ? "left" : "right";
    return element(
      "li",
      side,
      element("span", "name", from),
      element("span", "smile", smile),
      element("time", "small", this.#timeOf(at)),
      element("span", "offset small", this.#words.translate("thread.offset", { offset })),
    );
  }

  #timeOf(timestamp) {
    const time = new Date(timestamp);
    return Number.isNaN(time.getTime()) ? "" : this.#clock.format(time);
  }

  #leave() {
    this.#conversation?.watch(null);
    this.#conversation = null;
    this.#thread = NO_THREAD;
    this.#shown = null;
    this.#rows.clear();
    this.#list.replaceChildren();
  }
}
