// Reproducible random numbers from a seed and a name (mulberry32 over an FNV-1a hash), for the faces that users send.
// Not for waits, which must differ between pages.

/** Returns a generator of numbers from 0 to below 1. */
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
