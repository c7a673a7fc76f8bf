// The faces of the simulated users: the answers to each face, and the random numbers that choose among the answers.

const OPENERS = ["🙂", "😀", "😃", "😊", "😉", "🤗", "😎", "🥳"];

// Each of these faces has three answers, so that conversations vary. An opener answers any other face.
const ANSWERS = new Map([
  ["🙂", ["😊", "😀", "😉"]],
  ["😀", ["😃", "😄", "😁"]],
  ["😃", ["😄", "😆", "🤗"]],
  ["😄", ["😁", "😂", "😊"]],
  ["😁", ["😆", "😎", "😛"]],
  ["😆", ["😂", "🤣", "😜"]],
  ["😂", ["🤣", "😅", "😹"]],
  ["🤣", ["😂", "😅", "🤪"]],
  ["😅", ["😊", "🙃", "😇"]],
  ["😊", ["😍", "🥰", "☺️"]],
  ["☺️", ["😊", "😘", "🙂"]],
  ["😉", ["😏", "😜", "😘"]],
  ["😏", ["😎", "🙄", "😉"]],
  ["😎", ["🤩", "😏", "🤓"]],
  ["🤓", ["😎", "🧐", "😄"]],
  ["🧐", ["🤔", "🤓", "😮"]],
  ["🤔", ["🧐", "😮", "😌"]],
  ["😮", ["😱", "🤯", "😅"]],
  ["😱", ["😮", "🤯", "🙈"]],
  ["🤯", ["😵", "😅", "🤩"]],
  ["🤩", ["🥳", "😍", "😺"]],
  ["🥳", ["🤩", "😄", "❤️"]],
  ["😍", ["🥰", "😘", "❤️"]],
  ["🥰", ["😍", "😘", "🤗"]],
  ["😘", ["😚", "☺️", "🥰"]],
  ["🤗", ["😊", "❤️", "😸"]],
  ["❤️", ["💛", "😍", "🥰"]],
  ["💛", ["❤️", "😊", "😇"]],
  ["😇", ["😌", "🙂", "🤗"]],
  ["😜", ["😝", "🤪", "😛"]],
  ["🤪", ["😜", "🙃", "😵"]],
  ["🙃", ["🙂", "🤪", "😅"]],
  ["😺", ["😸", "😻", "😹"]],
  ["😸", ["😹", "😺", "😻"]],
]);

function pick(choices, random) {
  return choices[Math.floor(random() * choices.length)];
}

/** A face that answers `heard`, the last face received; an opener if `heard` is null or has no answers. */
export function answerTo(heard, random) {
  return pick(ANSWERS.get(heard) ?? OPENERS, random);
}

/**
 * A reproducible random number generator for a seed and a name (mulberry32 over an FNV-1a hash). Its numbers are at
 * least 0 and below 1. It must not determine waits, which must differ between pages.
 */
export function chanceOf(seed, name) {
  let state = 0x811c9dc5 ^ seed;
  for (const letter of name) state = Math.imul(state ^ letter.codePointAt(0), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
