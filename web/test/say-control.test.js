import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { smileFrame } from "../js/client/protocol.js";
import { SayControl } from "../js/say-control.js";
import { ENGLISH } from "../js/words-en.js";
import { FakeBackend, FakeTimers, seededRandom } from "./support.js";

const page = readFileSync(new URL("../index.html", import.meta.url), "utf8");

function staged() {
  const [text, result] = [{ value: "" }, { textContent: "" }];
  const nodes = { "say-as": {}, "say-text": text, "say-result": result, "say-send": {} };
  const form = new EventTarget();
  globalThis.document = { getElementById: (id) => (id === "say" ? form : nodes[id]) };
  const timers = new FakeTimers();
  const backend = new FakeBackend({ timers, random: seededRandom(3) });
  const translate = (key, { user, offset } = {}) => [key, user, offset].join(" ").trim();
  const sockets = [];
  const openSocket = (url) => sockets[sockets.push(backend.openSocket(url)) - 1];
  new SayControl({ translate, page: "http://h/", timers, openSocket });
  const passes = async (ms) => {
    for (let passed = 0; passed <= ms; passed += 10) {
      timers.advance(10);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  const say = async (user, text) => {
    nodes["say-as"].value = user;
    nodes["say-text"].value = text;
    form.dispatchEvent(new Event("submit"));
    await passes(0);
  };
  return { backend, sockets, say, passes, nodes };
}

test("the form can be sent once its code is loaded, and not before", () => {
  assert.match(page, /id="say-send" type="submit" disabled/);
  const { nodes } = staged();
  assert.equal(nodes["say-send"].disabled, false);
});

test("a typed smile is stored, and the input is cleared", async () => {
  const { backend, say, passes, nodes } = staged();
  await say("anna", "bruno 😀");
  assert.equal(nodes["say-result"].textContent, "say.how");
  await say("anna", " @bruno 😀 ");
  assert.equal(nodes["say-result"].textContent, "say.sent anna");
  await passes(100);
  assert.equal(nodes["say-result"].textContent, "say.stored anna 1");
  assert.deepEqual([nodes["say-text"].value, backend.smiles[0].to], ["", "bruno"]);
});

test("a name may be typed with capitals", async () => {
  const { backend, say, passes } = staged();
  await say("anna", "@Bruno 😀");
  await passes(100);
  assert.equal(backend.smiles[0].to, "bruno");
});

test("a refusal that a person can correct is shown in the page's words", async () => {
  const { sockets, say, passes, nodes } = staged();
  await say("anna", "@bruno 😀");
  await passes(100);
  const [socket] = sockets;
  for (const code of ["unknown_user", "not_a_smile", "bad_request", "other"]) {
    socket.onSend = ({ id }) => socket.tell({ type: "error", code, message: "no", id, temporary: false });
    await say("anna", "@nobody 😀");
    const { textContent: key } = nodes["say-result"];
    assert.equal(key, code === "other" ? "say.refused" : `say.refused.${code}`);
    assert.ok(key in ENGLISH, `${key} has no words`);
  }
});

test("text typed while a smile is unanswered is kept", async () => {
  const { say, passes, nodes } = staged();
  await say("anna", "@bruno 😀");
  nodes["say-text"].value = "@carla";
  await passes(100);
  assert.deepEqual([nodes["say-result"].textContent, nodes["say-text"].value], ["say.stored anna 1", "@carla"]);
});

test("a smile of one user is stored even if a smile of another user follows immediately", async () => {
  const { backend, say, passes } = staged();
  await say("anna", "@bruno 😀");
  await say("carla", "@bruno 😃");
  await passes(500);
  assert.deepEqual(backend.smiles.map(({ from }) => from).sort(), ["anna", "carla"]);
  assert.equal(backend.openSockets, 1);
});

test("after a final close of a user's session, the next smile of that user opens another session", async () => {
  const { backend, sockets, say, passes, nodes } = staged();
  await say("anna", "@bruno 😀");
  sockets[0].end(1009);
  await passes(0);
  assert.equal(nodes["say-result"].textContent, "say.refused");
  await say("anna", "@bruno 😃");
  await passes(100);
  assert.equal(nodes["say-result"].textContent, "say.stored anna 1");
  assert.deepEqual(backend.smiles.map(({ smile }) => smile), ["😃"]);
});

test("the longest text that fits into the input fits into a frame, however it is escaped", () => {
  const [, most] = page.match(/id="say-text"[^>]* maxlength="(\d+)"/);
  const smile = "\ud800".repeat(Number(most));
  assert.ok(Buffer.byteLength(smileFrame({ id: "x".repeat(64), to: "bruno", smile })) <= 4_096);
});
