// The script of join.html: a user for the phone, faces to tap, the user's smiles, and the state of the connection.

import { Backend } from "../backend.js";
import { Client } from "../client/client.js";
import { DialQueue } from "../client/dial-queue.js";
import { whyRefused } from "../client/refused.js";
import { SessionState } from "../client/session.js";
import { PageTimers } from "../client/timers.js";
import { byId, element, setData, setText } from "../dom.js";
import { TabStorage } from "../storage.js";
import { Lines } from "./lines.js";
import { SIMULATED, presetReceiver, takeSeat } from "./seat.js";
import { Unsent } from "./unsent.js";
import { keyOfRefusal, languageOf, say } from "./words.js";

const FACES = ["😀", "😂", "😍", "😎", "🥳", "🤔", "😴", "😱", "🤗", "🥰", "🙈", "❤️"];
const REMEMBERED = "smilingchat.seat";
const RETRY_MS = 2_000;
const ID_RADIX = 36;
/** The number of failed attempts before a diagnosis: a quick restart of the backend needs none. */
const CAUSE_AFTER = 3;
const MOODS = { [SessionState.LIVE]: "good", [SessionState.STOPPED]: "bad", [SessionState.FAILED]: "bad" };

const language = languageOf(navigator.languages);
const words = (key, values) => say(language, key, values);
const timers = new PageTimers();
const dialQueue = new DialQueue();
const page = document.baseURI;
const backend = new Backend({ pageUrl: page, timers, fetch: (url, options) => fetch(url, options) });

let lines = null;
let seat = null;
let unsent = null;
let users = [];
let hasChosen = false;
let faceOf = new Map();
const items = new Map();

async function join() {
  users = await backend.learnUsers({ pause: RETRY_MS, onFailure: showRefusal });
  faceOf = new Map(users.map(({ name, face }) => [name, face]));
  // The server's date, since the phone's date may be wrong.
  const day = new Date(backend.date ?? Date.now());
  const taken = await takeSeat({ users, day, remembered: recall(), random: Math.random, open });
  if (taken === null) {
    showState("full", "bad");
    return;
  }
  const { client, ...rest } = taken;
  seat = taken;
  remember(rest);
  setText(byId("you"), `${faceOf.get(client.user)} ${client.user}`);
  showReceivers();
  byId("chat").hidden = false;
  showSession(client);
  paint();
  unsent = new Unsent({ storage: new TabStorage(() => sessionStorage), user: client.user });
  for (const smile of unsent.all) send(smile);
}

function showRefusal(refusal) {
  showState(navigator.onLine === false ? "offline" : keyOfRefusal(refusal.code), "bad", refusal);
}

/** Starts a client for a user that another phone may have. The smiles are shown only once this phone has the user. */
function open(user) {
  lines = new Lines(user);
  const heard = lines;
  const client = new Client({
    page,
    user,
    timers,
    dialQueue,
    onSmile: (frame) => {
      heard.hear(frame);
      paint();
    },
    onState: () => showSession(client),
    onGap: () => setText(byId("note"), words("gap")),
  });
  client.start();
  return client;
}

function recall() {
  try {
    return JSON.parse(localStorage.getItem(REMEMBERED));
  } catch {
    return null;
  }
}

function remember(taken) {
  try {
    localStorage.setItem(REMEMBERED, JSON.stringify(taken));
  } catch {
    // Site data is blocked, or the storage is full: the next visit may get another user.
  }
}

function showSession(client) {
  const { state, replica, reconnects } = client.session;
  // `takeSeat` stops the client of a user that another phone has; that is not a connection problem.
  if (seat === null && state === SessionState.STOPPED) return;
  if (navigator.onLine === false) showState("offline", "bad");
  else if (state === SessionState.WAITING || state === SessionState.CONNECTING) showAttempt(client);
  else showState(state, MOODS[state] ?? "doubt", { replica });
  if (reconnects > 0) setText(byId("reconnects"), words("reconnects", { n: reconnects }));
}

// One sentence for all attempts after a loss, so that a screen reader announces it once.
function showAttempt(client) {
  const { state, replica, attempt } = client.session;
  if (replica !== null) showState("waiting", "bad", { replica });
  else if (state === SessionState.WAITING && attempt === CAUSE_AFTER) showCause(client);
  else if (byId("state").dataset.mood !== "bad") showState("connecting", "calm");
}

async function showCause({ session, user }) {
  const refusal = await whyRefused({ page, user });
  session.postpone(refusal.retryAfter);
  // The session may have been welcomed in the meantime.
  if (session.replica === null) showRefusal(refusal);
}

function showState(key, mood, values) {
  setText(byId("state"), words(key, values));
  setData(byId("state"), "mood", mood);
}

function showReceivers() {
  const group = (key, names) => {
    const node = element("optgroup", "", ...names.map((name) => new Option(`${faceOf.get(name)} ${name}`, name)));
    node.label = words(key);
    return node;
  };
  const names = users.map(({ name }) => name).filter((name) => name !== seat.client.user);
  const senders = group("senders", []);
  senders.id = "senders";
  senders.hidden = true;
  byId("to").replaceChildren(
    senders,
    group("simulated", names.slice(0, SIMULATED)),
    group("people", names.slice(SIMULATED)),
  );
}

function paint() {
  if (seat === null) return;
  const shown = new Set(lines.all);
  for (const [line, item] of items) {
    if (shown.has(line)) continue;
    item.remove();
    items.delete(line);
  }
  for (const line of lines.all.toReversed()) showLine(line);
  byId("nothing").hidden = items.size > 0;
  const senders = byId("senders");
  const known = [...senders.children].map(({ value }) => value);
  for (const name of lines.senders.filter((sender) => !known.includes(sender))) {
    senders.append(new Option(`${faceOf.get(name)} ${name}`, name));
  }
  senders.hidden = senders.children.length === 0;
  if (!hasChosen) byId("to").value = presetReceiver({ users, host: seat.host, senders: lines.senders });
}

/** Keeps the elements of lines that are already shown, so that a screen reader announces only new lines. */
function showLine(line) {
  if (!items.has(line)) {
    const item = element("li", "line", element("span", "smile", line.smile), " ", element("span"));
    items.set(line, item);
    byId("came").prepend(item);
  }
  const item = items.get(line);
  setData(item, "state", line.state);
  setText(item.lastChild, words(line.state, line));
}

function smileAt(to, smile) {
  hasChosen = true;
  const id = Array.from(crypto.getRandomValues(new Uint32Array(3)), (word) => word.toString(ID_RADIX)).join("");
  unsent.keep({ id, to, smile });
  send({ id, to, smile });
}

async function send({ id, to, smile }) {
  const line = lines.say(to, smile);
  paint();
  try {
    const { offset } = await seat.client.smile(to, smile, id);
    lines.stored(line, offset);
  } catch {
    lines.refused(line);
  }
  unsent.settle(id);
  paint();
}

function showFaces() {
  for (const face of FACES) {
    const button = element("button", "face", face);
    button.type = "button";
    button.addEventListener("click", () => smileAt(byId("to").value, face));
    byId("faces").append(button);
  }
}

document.documentElement.lang = language;
document.title = words("title");
for (const node of document.querySelectorAll("[data-words]")) setText(node, words(node.dataset.words));
for (const event of ["online", "offline"]) {
  addEventListener(event, () => {
    if (seat === null) {
      if (event === "offline") showState("offline", "bad");
      return;
    }
    showSession(seat.client);
    seat.client.session.hurry();
  });
}
byId("to").addEventListener("change", () => (hasChosen = true));
showFaces();
join();
