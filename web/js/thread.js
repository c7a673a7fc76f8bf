// The smiles of the open conversation, both live smiles and those from the history. Each smile is kept once, and the
// smiles are in the order of their offsets. The functions are pure.

/** Smiles per request for history. */
export const PAGE = 30;
/**
 * Once a thread has this many smiles, each live smile displaces the oldest one, which can be requested again. While a
 * request is unanswered, no smile is displaced: the answer ends just before the smile that was the oldest when the
 * request was sent.
 */
export const KEPT = 400;

export const NO_THREAD = Object.freeze({ smiles: Object.freeze([]), more: true, asking: false });

/** The thread after an event, `{kind: "asked" | "failed" | "live" | "history", smiles, more}`. */
export function threadAfter(thread, { kind, smiles = [], more }) {
  if (kind === "asked") return { ...thread, asking: true };
  if (kind === "failed") return { ...thread, asking: false };
  const known = new Set(thread.smiles.map((smile) => smile.offset));
  const fresh = smiles.filter((smile) => !known.has(smile.offset));
  const all = [...thread.smiles, ...fresh].sort((left, right) => left.offset - right.offset);
  if (kind === "history") return { smiles: all, more, asking: false };
  const kept = thread.asking ? all : all.slice(-Math.max(KEPT, thread.smiles.length));
  return { ...thread, smiles: kept, more: thread.more || kept.length < all.length };
}

/** The next request for history; the first one has no `before`. */
export function nextPage({ smiles }) {
  return smiles.length === 0 ? { limit: PAGE } : { before: smiles[0].offset, limit: PAGE };
}
