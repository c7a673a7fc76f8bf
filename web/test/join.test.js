import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { Client } from "../js/client/client.js";
import { Lines, LINES_KEPT } from "../js/join/lines.js";
import { SIMULATED, presetReceiver, seatId, takeSeat } from "../js/join/seat.js";
import { Unsent } from "../js/join/unsent.js";
import { WORDS, keyOfRefusal, languageOf, say } from "../js/join/words.js";
import { FakeBackend, FakeTimers, seededRandom } from "./support.js";

const DAY = new Date("2026-11-25T12:00:00Z");
const FREE = 8;
const USERS = Array.from({ length: SIMULATED + FREE }, (_, index) => ({ name: `user${index}`, face: "🙂" }));

function hall() {
  const timers = new FakeTimers();
  const random = seededRandom(3);
  const backend = new FakeBackend({ timers, random });
  const opened = [];
  const open = (user) => {
    opened.push(user);
    const client = new Client({ page: "http://h/", user, timers, random, openSocket: (url) => backend.openSocket(url) });
    client.start();
    return client;
  };
  const sit = (remembered = null, day = DAY) => takeSeat({ users: USERS, remembered, day, random, open });
  const within = async (promise) => {
    let result;
    promise.then((value) => (result = { value }));
    for (let round = 0; result === undefined && round < 10_000; round += 1) {
      timers.advance(10);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return result.value;
  };
  return { backend, opened, sit, within };
}

test("phones that join at the same moment get different users, none of them simulated", async () => {
  const { sit, within, backend } = hall();
  const seats = await within(Promise.all(Array.from({ length: FREE }, () => sit())));
  assert.equal(new Set(seats.map(({ user }) => user)).size, FREE);
  for (const { user, client } of seats) {
    assert.ok(USERS.findIndex(({ name }) => name === user) >= SIMULATED, `a phone got ${user}, a simulated user`);
    assert.equal(client.user, user);
  }
  assert.equal(await within(sit()), null, "a phone got a user although every user was taken");
  assert.equal(backend.openSockets, FREE, "the sessions of failed claims stayed open");
});

test("a phone that returns keeps its user, even the next day", async () => {
  const { sit, within } = hall();
  const seat = await within(sit());
  const again = await within(sit(seat));
  assert.deepEqual([again.user, again.word], [seat.user, seat.word]);
  const next = new Date("2026-11-26T08:00:00Z");
  const nextDay = await within(sit(again, next));
  assert.deepEqual([nextDay.user, nextDay.id], [seat.user, seatId(next)]);
});

test("a phone whose stored seat is damaged still gets a user", async () => {
  const [user, host, word, id] = [USERS[SIMULATED].name, USERS[0].name, "🙈🙉🙊", seatId(DAY)];
  const damaged = [
    { user, id }, { user, id, host }, { user, id, word }, { user, id, host: user, word },
    { user, id, host: "nobody", word }, { user: host, id, host, word },
    { user, id, host, word: "x" }, { user, id, host, word: 7 }, { user, id, host, word: "🙈" }, { user: 5 }, 5, [],
  ];
  const hosts = USERS.slice(0, SIMULATED).map(({ name }) => name);
  for (const seat of damaged) {
    const { sit, within } = hall();
    const claim = await within(sit(seat));
    const isSound = !hosts.includes(claim.user) && hosts.includes(claim.host) && /^\p{Emoji}{3}$/u.test(claim.word);
    assert.ok(isSound, `${JSON.stringify(seat)} led to the claim ${claim.host} ${claim.word}`);
  }
});

test("the faces show which of two phones has claimed a user", async () => {
  const { sit, within } = hall();
  const mine = await within(sit());
  const other = await within(sit({ ...mine, word: "🙈🙈🙈" }));
  assert.notEqual(other.user, mine.user);
});

test("a remembered user that another phone has claimed that day is tried once and not used", async () => {
  const { opened, sit, within } = hall();
  const mine = await within(sit());
  const next = new Date("2026-11-26T08:00:00Z");
  const others = await within(Promise.all(Array.from({ length: FREE }, () => sit(null, next))));
  assert.ok(others.some(({ user }) => user === mine.user));
  opened.length = 0;
  assert.equal(await within(sit(mine, next)), null);
  assert.deepEqual([opened[0], opened.length], [mine.user, new Set(opened).size]);
  assert.notEqual(
    await within(sit({ user: "nobody" }, new Date("2026-11-27"))),
    null,
    "a phone with an unknown remembered user got no user",
  );
});

test("the preset receiver is the first user until the host has answered the claim", () => {
  const preset = (senders) => presetReceiver({ users: USERS, host: "user5", senders });
  assert.equal(preset([]), "user0");
  assert.equal(preset(["user7"]), "user0");
  assert.equal(preset(["user7", "user5"]), "user5");
});

test("each sent smile has one line, whether its ack or the smile itself comes first", () => {
  const lines = new Lines("me");
  const early = lines.say("bruno", "😴");
  const line = lines.say("anna", "😀");
  lines.hear({ from: "me", to: "anna", smile: "😀", offset: 7 });
  lines.stored(line, 7);
  assert.deepEqual(lines.all.map((each) => [line, early].indexOf(each)), [0, 1]);
  lines.hear({ from: "me", to: "anna", smile: "😀", offset: 7 });
  lines.hear({ from: "anna", to: "me", smile: "😁", offset: 8 });
  assert.deepEqual(lines.all.map(({ state, offset }) => [state, offset]), [["heard", 8], ["stored", 7], ["sent", null]]);
  const other = lines.say("bruno", "😀");
  lines.refused(other);
  assert.equal(lines.all[0].state, "refused");
  lines.hear({ from: "bruno", to: "me", smile: "😁", offset: 9 });
  lines.hear({ from: "anna", to: "me", smile: "😁", offset: 10 });
  assert.deepEqual(lines.senders, ["anna", "bruno"]);
  for (let offset = 11; offset < 100; offset += 1) lines.hear({ from: "anna", to: "me", smile: "😁", offset });
  assert.equal(lines.all.length, LINES_KEPT);
});

test("the smiles without an ack survive a reload, for the user that sent them", () => {
  const values = new Map();
  const storage = { getItem: (key) => values.get(key) ?? null, setItem: (key, value) => values.set(key, value) };
  const keptFor = (user) => new Unsent({ storage, user }).all.map(({ id, to, smile }) => [id, to, smile]);
  assert.deepEqual(keptFor("me"), []);
  const unsent = new Unsent({ storage, user: "me" });
  for (const id of ["a", "b", "c"]) unsent.keep({ id, to: "anna", smile: "😀" });
  unsent.settle("b");
  assert.deepEqual(keptFor("me"), [["a", "anna", "😀"], ["c", "anna", "😀"]]);
  assert.deepEqual(keptFor("another"), []);
  assert.deepEqual(keptFor("me"), [], "the smiles outlasted the phone's change of user");
  const halves = [null, { id: "a" }, { id: "a", to: "anna" }, { id: "a", smile: "😀" }, { to: "anna", smile: "😀" }];
  for (const damaged of ["{", "5", "null", '{"user":"me"}', JSON.stringify({ user: "me", smiles: halves })]) {
    for (const key of values.keys()) values.set(key, damaged);
    assert.deepEqual(keptFor("me"), [], `${damaged} was taken for smiles`);
  }
});

test("both languages have the same keys and placeholders, and join.html has the English words", () => {
  assert.deepEqual(Object.keys(WORDS.it), Object.keys(WORDS.en));
  const holes = (text) => text.match(/\{\w+\}/g);
  for (const key of Object.keys(WORDS.en)) {
    assert.deepEqual(holes(WORDS.it[key]), holes(WORDS.en[key]), `the placeholders of ${key} differ`);
  }
  const page = readFileSync(new URL("../join.html", import.meta.url), "utf8");
  const texts = [...page.matchAll(/data-words="([^"]+)"[^>]*>([^<]*)</g)];
  assert.ok(texts.length > 5);
  for (const [, key, text] of texts) assert.equal(text, WORDS.en[key], `join.html and the words of ${key} differ`);
  assert.equal(say("it", "heard", { from: "anna" }), "anna ti sorride");
  assert.deepEqual([languageOf(["it-IT"]), languageOf(["fr", "it"]), languageOf(undefined)], ["it", "it", "en"]);
});

test("a phone reports a silent backend only if no backend answered", () => {
  const keys = new Map([
    ["unreachable", "nowhere"], ["no_replica", "nowhere"], ["http_502", "nowhere"], ["http_503", "nowhere"], ["http_504", "nowhere"],
    ["rate_limited", "rate_limited"], ["host_rewritten", "host_rewritten"], ["no_upgrade", "no_upgrade"],
  ]);
  const others = ["overloaded", "draining", "store_unavailable", "http_500", "unknown_user", "unexpected_answer", "constructor"];
  for (const code of others) keys.set(code, "other");
  for (const [code, key] of keys) assert.equal(keyOfRefusal(code), key, `the sentence for ${code} was wrong`);
  assert.equal(say("en", "other", { code: "draining" }), "Not connected (draining). Trying again…");
});
