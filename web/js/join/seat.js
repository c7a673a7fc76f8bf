// Owns which user a phone is: one that nobody else is today. Knows no page.
//
// The server gives users to nobody, but it stores one smile for each id of a user, whoever sends it first. So who joins
// smiles as the user with an id that all phones use that day, says three faces of its own, and looks which faces are stored.

/** The first users are simulated; the rest are for people. */
export const SIMULATED = 60;

const WORD_LENGTH = 3;

// Each is stored as it is sent, without a variation selector.
const WORDS = [..."😀😃😄😁😆😅🤣😂🙂🙃😉😊😇🥰😍🤩😘😋😛😜🤪😝🤗🤭🤫🤔😏😌🤠🥳😎🤓🧐😺😸😹😻😼🙈🙉🙊"];

/** The id that takes a user for a day. */
export function seatId(day) {
  return `seat-${day.toISOString().slice(0, 10)}`;
}

/**
 * Takes a user. `remembered` is what an earlier call gave: that user is kept, and taken again on another day. `open(user)`
 * gives a started client. Gives `{user, host, word, id, client}`, or null when no user is free.
 */
export async function takeSeat({ users, remembered, day, random, open }) {
  const id = seatId(day);
  const simulated = users.slice(0, SIMULATED);
  const free = shuffled(users.slice(SIMULATED), random).map(({ name }) => ({ user: name }));
  const known = users.some(({ name }) => name === remembered?.user);
  for (const seat of known ? [remembered, ...free] : free) {
    const sameDay = seat.id === id;
    const host = sameDay ? seat.host : pick(simulated, random).name;
    const word = sameDay ? seat.word : Array.from({ length: WORD_LENGTH }, () => pick(WORDS, random)).join("");
    const client = open(seat.user);
    if (await isTaken({ client, id, host, word })) return { user: seat.user, host, word, id, client };
    client.stop();
  }
  return null;
}

async function isTaken({ client, id, host, word }) {
  const { offset } = await client.smile(host, word, id);
  const { smiles } = await client.history(host, { before: offset + 1, limit: 1 });
  return smiles.some((stored) => stored.id === id && stored.smile === word);
}

function pick(choices, random) {
  return choices[Math.floor(random() * choices.length)];
}

function shuffled(choices, random) {
  const rest = [...choices];
  return Array.from(choices, () => rest.splice(Math.floor(random() * rest.length), 1)[0]);
}
