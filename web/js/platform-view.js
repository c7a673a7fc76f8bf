// The platform on the page: its name, the links, and how to restart a failed replica.

import { byId, element, setData, setText } from "./dom.js";

export class PlatformView {
  #translate;
  #name = byId("platform");
  #links = byId("links");
  #shownLinks = "[]";
  #revival = byId("revival");
  #revivalText = byId("revival-text");
  #revivalCommand = byId("revival-command");

  constructor({ translate }) {
    this.#translate = translate;
  }

  /** `revival` says how a failed replica comes back: {key, command, mood}, or null if there is nothing to say. */
  paint({ platform, links, revival }) {
    this.#name.hidden = platform === null;
    if (platform !== null) setText(this.#name, this.#translate(`platform.${platform}`));
    this.#paintLinks(links);
    this.#revival.hidden = revival === null;
    if (revival === null) return;
    setData(this.#revival, "mood", revival.mood);
    setText(this.#revivalText, this.#translate(revival.key));
    this.#revivalCommand.hidden = revival.command === null;
    setText(this.#revivalCommand, revival.command ?? "");
  }

  // The list is rebuilt only when the links change, so that a focused link keeps the focus.
  #paintLinks(links) {
    const shown = JSON.stringify(links);
    if (shown === this.#shownLinks) return;
    this.#shownLinks = shown;
    this.#links.hidden = links.length === 0;
    this.#links.replaceChildren(...links.map((link) => element("li", "", anchor(link))));
  }
}

/** A link that opens in a new tab, since this page must keep running. The new tab has no access to `window.opener`. */
function anchor({ name, url }) {
  const node = element("a", "", name);
  node.href = url;
  node.target = "_blank";
  node.rel = "noopener";
  return node;
}
