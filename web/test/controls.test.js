import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { Announcer, GAP_MS } from "../js/announcer.js";
import { newsOf } from "../js/crash-news.js";
import { chanceOf } from "../js/faces.js";
import { incidentOf, sessionLost } from "../js/incident.js";
import { SHORTCUTS, wishOf } from "../js/keyboard.js";
import {
  CHAOS_SECONDS, DEFAULTS, MODES, MOST_CONVERSATIONS, MOST_RATE, searchOf, seedOf, settingsOf,
} from "../js/settings.js";
import { FakeTimers } from "./support.js";

const page = readFileSync(new URL("../index.html", import.meta.url), "utf8");

test("settings survive a round trip through the address", () => {
  const chosen = { conversations: 30, rate: 20, seed: 0, mode: "hang", chaos: 60 };
  const search = searchOf(chosen, { starts: true });
  assert.equal(search, "?conversations=30&rate=20&seed=0&mode=hang&chaos=60&start");
  assert.deepEqual(settingsOf(search), { ...chosen, starts: true });
  assert.equal(searchOf(DEFAULTS), "");
  assert.equal(searchOf(DEFAULTS, { starts: true }), "?start");
  assert.deepEqual(settingsOf("?conversations=30&rate=5&start"), { ...DEFAULTS, conversations: 30, starts: true });
});

test("invalid values in an address are replaced by the defaults", () => {
  for (const search of [
    "", "?conversations=31&rate=0&seed=-1&mode=boom&chaos=7", "?conversations=&rate=21&seed=4294967296", "?rate=5.5&chaos=x",
    "?conversations=1e1&seed=0x10",
  ]) {
    assert.deepEqual(settingsOf(search), { ...DEFAULTS, starts: false }, `"${search}" did not give the defaults`);
  }
});

test("the field of the seed takes every seed that an address accepts, and no other", () => {
  const typed = ["", "x", "-1 2", "0", "4294967295", "42949672951", "9".repeat(400)];
  assert.deepEqual(typed.map(seedOf), ["", "", "12", "0", "4294967295", "4294967295", "4294967295"]);
  for (const seed of typed.map(seedOf).filter((text) => text !== "")) {
    assert.equal(settingsOf(`?seed=${seed}`).seed, Number(seed));
  }
});

test("the controls offer the values that the settings accept", () => {
  assert.ok(page.includes(`<input id="conversations" type="range" min="0" max="${MOST_CONVERSATIONS}"`));
  assert.ok(page.includes(`<input id="rate" type="range" min="1" max="${MOST_RATE}"`));
  for (const choice of [...CHAOS_SECONDS, ...MODES]) {
    assert.ok(page.includes(`<option value="${choice}"`), `no option has the value ${choice}`);
  }
});

const pressed = (key, more = {}) => ({ key, target: { closest: () => null }, ...more });

test("each shortcut works in either case, and only the help works while shortcuts are off", () => {
  for (const [key, wish] of Object.entries(SHORTCUTS)) {
    assert.equal(wishOf(pressed(key), { isOff: false }), wish);
    assert.equal(wishOf(pressed(key.toUpperCase()), { isOff: false }), wish);
    assert.equal(wishOf(pressed(key), { isOff: true }), null);
  }
  assert.equal(wishOf(pressed("?"), { isOff: true }), "help");
  assert.equal(wishOf(pressed("z"), { isOff: false }), null);
  assert.equal(wishOf(pressed("constructor"), { isOff: false }), null);
});

test("a key with another purpose triggers no shortcut", () => {
  for (const more of [{ ctrlKey: true }, { metaKey: true }, { altKey: true }, { repeat: true }, { target: { closest: () => ({}) } }]) {
    assert.equal(wishOf(pressed("c", more), { isOff: false }), null);
  }
});

test("the same seed gives a user the same random numbers, and another user or seed gives different ones", () => {
  const take = (seed, name) => {
    const chance = chanceOf(seed, name);
    return Array.from({ length: 50 }, () => chance());
  };
  assert.deepEqual(take(7, "anna"), take(7, "anna"));
  assert.notDeepEqual(take(7, "anna"), take(7, "bruno"));
  assert.notDeepEqual(take(7, "anna"), take(8, "anna"));
  assert.ok(take(0, "anna").every((number) => number >= 0 && number < 1));
  assert.equal(new Set(take(0, "")).size, 50);
});

test("the number of lost sessions is announced again once it has grown, at the announcer's pace", () => {
  const timers = new FakeTimers();
  const said = [];
  const announcer = new Announcer({ timers, say: (text) => said.push(text) });
  const translate = (key, { n }) => [key, n].join(" ").trim();
  const tell = (incident) => announcer.tell("crash", ...newsOf(translate, incident));
  tell(null);
  let incident = incidentOf({ id: 1, at: 0, by: "person", mode: "exit" });
  for (const user of ["anna", "bruno", "carla"]) {
    incident = sessionLost(incident, { at: timers.now(), user, replica: "be1.1" });
    for (let paint = 0; paint < 2; paint += 1) tell(incident);
    timers.advance(10);
  }
  timers.advance(10 * GAP_MS);
  assert.deepEqual(said, ["incident.sessions_lost 1", "incident.sessions_lost 3"]);
});

test("each new event is announced once, with pauses between announcements, and outdated events are skipped", () => {
  const timers = new FakeTimers();
  const said = [];
  const announcer = new Announcer({ timers, say: (text) => said.push(text) });
  announcer.tell("status", "away", "away for 1 s");
  announcer.tell("status", "away", "away for 2 s");
  announcer.tell("crash", "1", "asked");
  announcer.tell("crash", "2", "be.1 goes down");
  announcer.tell("status", "live", "all live");
  announcer.tell("revival", "calm", "");
  assert.deepEqual(said, ["away for 1 s"]);
  timers.advance(GAP_MS);
  timers.advance(GAP_MS);
  assert.deepEqual(said, ["away for 1 s", "be.1 goes down", "all live"]);
  timers.advance(10 * GAP_MS);
  announcer.tell("status", "live", "all live");
  assert.deepEqual([said.length, timers.pending], [3, 0]);
});
