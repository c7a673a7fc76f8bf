// Owns what the simulated users say: which face answers which. Knows nothing of who says it.

const OPENERS = ["🙂", "😀", "😃", "😊", "😉", "🤗", "😎", "🥳"];

// Every face leads to some others, so that a conversation wanders instead of repeating itself.
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

/** A face in answer to the last one heard, or to open with when nothing was heard. */
export function answerTo(heard, random) {
  return pick(ANSWERS.get(heard) ?? OPENERS, random);
}
