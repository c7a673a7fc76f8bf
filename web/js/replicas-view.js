// The replicas on the page: one card each, with state, load and age, from the last answer of the API.

import { byId, element, setData, setText, setTitle, setVariable } from "./dom.js";

const STATES = new Set(["ready", "draining", "lost"]);
const WAYS_OF_FOLLOWING = new Set(["binlog", "polling"]);
const HIGH_SHARE = 0.85;
const FULL_SHARE = 0.98;
const MINUTE_MS = 60_000;

function fillOf(share) {
  if (share >= FULL_SHARE) return "full";
  return share >= HIGH_SHARE ? "high" : "fine";
}

export class ReplicasView {
  #translate;
  #format;
  #hueOf;
  #onCrash;
  #list = byId("replicas");
  #stale = byId("replicas-stale");
  #empty = byId("replicas-empty");
  #cards = new Map();
  #freshAge = 0;

  constructor({ translate, format, hueOf, onCrash }) {
    this.#translate = translate;
    this.#format = format;
    this.#hueOf = hueOf;
    this.#onCrash = onCrash;
  }

  /** Takes what `Model.fleet` returns. */
  paint({ replicas, isStale, sessionsOn, age }) {
    if (!isStale) this.#freshAge = age;
    const present = new Set(replicas.map((replica) => replica.id));
    for (const [id, card] of this.#cards) {
      if (present.has(id)) continue;
      card.node.remove();
      this.#cards.delete(id);
    }
    for (const replica of replicas) {
      const card = this.#cardOf(replica.id);
      setData(card.node, "hue", String(this.#hueOf(replica.id)));
      const here = sessionsOn.get(replica.id) ?? 0;
      card.paint({ replica, here, age, isStale, freshAge: this.#freshAge });
    }
    setVariable(this.#list, "--count", replicas.length);
    setData(this.#list, "stale", isStale ? "yes" : "no");
    this.#stale.hidden = !isStale || replicas.length === 0;
    setText(this.#stale, this.#translate("replicas.stale", { age: this.#format.duration(age) }));
    this.#empty.hidden = replicas.length > 0;
  }

  #cardOf(id) {
    if (!this.#cards.has(id)) {
      const card = new ReplicaCard({ translate: this.#translate, format: this.#format, onCrash: () => this.#onCrash(id) });
      this.#cards.set(id, card);
      this.#list.append(card.node);
    }
    return this.#cards.get(id);
  }
}

class ReplicaCard {
  #translate;
  #format;
  #name = element("strong", "name");
  #state = element("span", "pill");
  #meter = element("div", "meter", element("div", "fill"));
  #node = element("span");
  #load = element("p", "load");
  #age = element("span");
  #version = element("span", "version");
  #crash;

  constructor({ translate, format, onCrash }) {
    this.#translate = translate;
    this.#format = format;
    this.#crash = element("button", "quiet", translate("crash.this"));
    this.#crash.type = "button";
    this.#crash.addEventListener("click", onCrash);
    this.#meter.setAttribute("role", "meter");
    this.#meter.setAttribute("aria-valuemin", "0");
    const head = element("div", "head", this.#name, this.#state);
    const facts = [this.#meter, this.#load, element("p", "small facts", this.#age, this.#node, this.#version)];
    this.node = element("li", "replica-card", head, this.#crash, ...facts);
  }

  paint({ replica, here, age, isStale, freshAge }) {
    const state = STATES.has(replica.state) ? replica.state : "lost";
    setData(this.node, "state", state);
    setText(this.#name, replica.id);
    setTitle(this.#name, [replica.name, replica.host].filter(Boolean).join(" @ "));
    setText(this.#state, this.#translate(`replica.${state}`));
    const hasNode = replica.node && state !== "lost";
    setText(this.#node, hasNode ? this.#translate("replica.node", { node: replica.node }) : "");
    this.#paintLoad(replica, state, here);
    this.#crash.setAttribute("aria-label", this.#translate("crash.this.label", { replica: replica.id }));
    setText(this.#age, this.#ageText(replica, { age, isStale, freshAge }));
    setText(this.#version, this.#versionText(replica));
    this.#crash.hidden = state === "lost";
  }

  #paintLoad({ id, sessions: listed = 0, smiles_per_second: perSecond = 0, capacity = 0 }, state, here) {
    // The list is older than what this page knows about its own sessions.
    const sessions = Math.max(listed, here);
    this.#load.hidden = state === "lost";
    const rate = state === "lost" ? 0 : perSecond;
    const limited = capacity > 0;
    const key = limited ? "replica.load" : "replica.load.unlimited";
    const load = this.#translate(key, { rate: this.#format.count(rate), capacity: this.#format.count(capacity) });
    const held = this.#translate("replica.sessions", { n: sessions });
    setText(this.#load, here === sessions ? `${load} · ${held}` : `${load} · ${held} · ${this.#translate("replica.mine", { n: here })}`);
    this.#meter.hidden = !limited;
    if (!limited) return;
    const share = rate / capacity;
    setVariable(this.#meter, "--share", Math.min(1, share).toFixed(3));
    setData(this.#meter, "fill", fillOf(share));
    this.#meter.setAttribute("aria-label", this.#translate("replica.load.label", { replica: id }));
    this.#meter.setAttribute("aria-valuenow", String(Math.round(rate)));
    this.#meter.setAttribute("aria-valuemax", String(Math.max(capacity, Math.round(rate))));
  }

  // The ages come from the server, since the browser's clock may be wrong by hours. A replica on an outdated list may
  // be down, so its uptime stands still and the age of its heartbeat grows. `freshAge` is the age of the list when it
  // was last painted as current.
  #ageText(replica, { age, isStale, freshAge }) {
    const parts = [];
    if (Number.isFinite(replica.uptime_ms) && replica.state !== "lost") {
      const uptime = replica.uptime_ms + freshAge;
      parts.push(this.#translate("replica.uptime", { age: this.#format.duration(uptime) }));
    }
    if (Number.isFinite(replica.heartbeat_age_ms)) {
      const silence = replica.heartbeat_age_ms + (isStale ? age : 0);
      const text = silence < MINUTE_MS ? this.#format.span(silence) : this.#format.duration(silence);
      parts.push(this.#translate("replica.heartbeat", { age: text }));
    }
    return parts.join(" · ");
  }

  #versionText(replica) {
    const parts = [];
    if (replica.version) parts.push(this.#translate("replica.version", { version: replica.version }));
    if (WAYS_OF_FOLLOWING.has(replica.following) && replica.state !== "lost") {
      parts.push(this.#translate(`replica.following.${replica.following}`));
    }
    return parts.join(" · ");
  }
}
