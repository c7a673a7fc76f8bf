// The controls: their values, the matching address of the page, the shortcuts and their help.

import { byId, element, setText } from "./dom.js";
import { HELP_KEY, SHORTCUTS, wishOf } from "./keyboard.js";
import { searchOf, seedOf, settingsOf } from "./settings.js";

const SHORTCUTS_KEY = "smilingchat.shortcuts";
const OFF = "off";

export class Controls {
  #translate;
  #storage;
  #actions;
  #conversations = byId("conversations");
  #rate = byId("rate");
  #seed = byId("seed");
  #mode = byId("crash-mode");
  #chaosEvery = byId("chaos-interval");
  #help = byId("help");
  #shortcuts = byId("shortcuts-on");

  /** Whether the address that was loaded requests a start. */
  starts = false;

  /**
   * `actions` has a function for each shortcut except `link`; `chaos(isOn)` takes the new state. `actions` also has
   * `changed(settings)`, and `said(text)`, which shows and announces a text.
   */
  constructor({ translate, storage, actions }) {
    this.#translate = translate;
    this.#storage = storage;
    this.#actions = actions;
    this.#apply(settingsOf(location.search));
    this.#connect();
    this.#listShortcuts();
    this.#show();
  }

  get settings() {
    const seed = this.#seed.value.trim();
    return {
      conversations: Number(this.#conversations.value),
      rate: Number(this.#rate.value),
      seed: seed === "" ? null : Number(seed),
      mode: this.#mode.value,
      chaos: Number(this.#chaosEvery.value),
    };
  }

  #apply(settings) {
    this.#conversations.value = String(settings.conversations);
    this.#rate.value = String(settings.rate);
    this.#seed.value = settings.seed === null ? "" : String(settings.seed);
    this.#mode.value = settings.mode;
    this.#chaosEvery.value = String(settings.chaos);
    this.starts = settings.starts;
  }

  #connect() {
    for (const range of [this.#conversations, this.#rate]) range.addEventListener("input", () => this.#show());
    this.#seed.addEventListener("input", () => (this.#seed.value = seedOf(this.#seed.value)));
    for (const control of [this.#conversations, this.#rate, this.#seed, this.#mode, this.#chaosEvery]) {
      control.addEventListener("change", () => this.#changed());
    }
    for (const name of ["start", "stop", "reset", "json", "picture", "code"]) {
      byId(name).addEventListener("click", () => this.#actions[name]());
    }
    byId("crash").addEventListener("click", () => this.#actions.crash());
    byId("chaos").addEventListener("change", (event) => this.#actions.chaos(event.target.checked));
    byId("link").addEventListener("click", () => this.#copyLink());
    byId("help-open").addEventListener("click", () => this.#help.showModal());
    byId("help-close").addEventListener("click", () => this.#help.close());
    this.#shortcuts.checked = this.#storage.getItem(SHORTCUTS_KEY) !== OFF;
    this.#shortcuts.addEventListener("change", () => {
      this.#storage.setItem(SHORTCUTS_KEY, this.#shortcuts.checked ? "on" : OFF);
    });
    document.addEventListener("keydown", (event) => this.#press(event));
  }

  #press(event) {
    const wish = wishOf(event, { isOff: !this.#shortcuts.checked || document.querySelector(":modal") });
    if (wish === null) return;
    event.preventDefault();
    if (wish === "help") this.#help.showModal();
    else if (wish === "link") this.#copyLink();
    else if (wish === "chaos") byId("chaos").click();
    else this.#actions[wish]();
  }

  #show() {
    const { conversations, rate } = this.settings;
    setText(byId("conversations-shown"), conversations);
    setText(byId("rate-shown"), this.#translate("controls.rate.shown", { n: rate }));
    setText(byId("start"), this.#translate("controls.start.count", { n: conversations }));
  }

  // After a change, the address matches the controls, so that it can be copied as a link.
  #changed() {
    this.#show();
    history.replaceState(null, "", this.#address(this.starts));
    this.#actions.changed(this.settings);
  }

  #address(starts) {
    return new URL(searchOf(this.settings, { starts }) || location.pathname, location.href).href;
  }

  async #copyLink() {
    const address = this.#address(true);
    const copied = await navigator.clipboard?.writeText(address).then(() => true, () => false);
    this.#actions.said(copied ? this.#translate("link.copied") : address);
  }

  #listShortcuts() {
    const rows = [...Object.entries(SHORTCUTS), [HELP_KEY, "help"]].map(([key, wish]) =>
      element("div", "", element("dt", "", element("kbd", "", key.toUpperCase())), element("dd", "", this.#translate(`controls.${wish}`))),
    );
    byId("shortcuts").append(...rows);
  }
}
