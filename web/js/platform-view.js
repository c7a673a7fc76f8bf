// Owns where the backend runs as the page shows it: the platform, the links, and what brings a replica back that
// failed. Decides none of it.

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

  /** `revival` is {key, command, mood}, or null. */
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

  // Rebuilt only when they are others, so that nobody loses the link that has the focus.
  #paintLinks(links) {
    const shown = JSON.stringify(links);
    if (shown === this.#shownLinks) return;
    this.#shownLinks = shown;
    this.#links.hidden = links.length === 0;
    this.#links.replaceChildren(...links.map((link) => element("li", "", anchor(link))));
  }
}

/** Opens beside the page, which must go on counting, and gives the other one no handle on it. */
function anchor({ name, url }) {
  const node = element("a", "", name);
  node.href = url;
  node.target = "_blank";
  node.rel = "noopener";
  return node;
}
