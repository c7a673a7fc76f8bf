// Assigns a phone a seat: a user that no other phone has on the same day (UTC).
//
// The server does not assign users, but it stores only the first of a user's smiles with the same id. So a phone sends
// a smile as the user that it wants, with the id that all phones use on that day and three random faces, and checks
// whose faces were stored.

/** The number of simulated users, which come first in the list. The remaining users are for people. */
export const SIMULATED = 60;

const WORD_LENGTH = 3;

// These faces have no variation selector, so they are stored as sent.
const WORDS = [..."😀😃😄😁😆😅🤣😂🙂🙃😉😊😇🥰😍🤩😘😋😛😜🤪😝🤗🤭🤫🤔😏😌🤠🥳😎🤓🧐😺😸😹😻😼🙈🙉🙊"];

/** The id that claims a user for a day. */
export function seatId(day) {
  return `seat-${day.toISOString().slice(0, 10)}`;
}

/**
 * Claims a user. `remembered` is the result of an earlier call, or null. Its user is tried first; on another day, with
 * a new claim. `open(user)` returns a started client. Returns `{user, host, word, id, client}`, or null if no user is
 * free; `host` is the simulated user that receives the claim, and `word` consists of the faces of the claim.
 */
export async function takeSeat({ users, remembered, day, random, open }) {
  const id = seatId(day);
  const simulated = users.slice(0, SIMULATED);
  const free = shuffled(users.slice(SIMULATED), random).map(({ name }) => ({ user: name }));
  const known = free.some(({ user }) => user === remembered?.user);
  const others = free.filter(({ user }) => user !== remembered?.user);
  for (const seat of known ? [remembered, ...others] : others) {
    const { user } = seat;
    const isClaimed = seat.id === id && simulated.some(({ name }) => name === seat.host) && isWord(seat.word);
    const { host, word } = isClaimed ? seat : { host: pick(simulated, random).name, word: randomWord(random) };
    const client = open(user);
    if (await isTaken({ client, id, host, word })) return { user, host, word, id, client };
    client.stop();
  }
  return null;
}

/**
 * The receiver until the person chooses one. A simulated user answers only in a running conversation. The first user is
 * in every run. The host is in the run if it has answered the claim. Hosts are picked at random, so the phones spread
 * over the users.
 */
export function presetReceiver({ users, host, senders }) {
  return senders.includes(host) ? host : users[0].name;
}

async function isTaken({ client, id, host, word }) {
  const { offset } = await client.smile(host, word, id);
  const { smiles } = await client.history(host, { before: offset + 1, limit: 1 });
  return smiles.some((stored) => stored.id === id && stored.smile === word);
}

// The browser's storage may hold anything.
function isWord(word) {
  const faces = typeof word === "string" ? [...word] : [];
  return faces.length === WORD_LENGTH && faces.every((face) => WORDS.includes(face));
}

function randomWord(random) {
  return Array.from({ length: WORD_LENGTH }, () => pick(WORDS, random)).join("");
}

function pick(choices, random) {
  return choices[Math.floor(random() * choices.length)];
}

function shuffled(choices, random) {
  const rest = [...choices];
  return Array.from(choices, () => rest.splice(Math.floor(random() * rest.length), 1)[0]);
}
