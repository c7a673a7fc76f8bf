// Owns the smiles of the conversation that is open: what the log tells of the past and what arrives meanwhile, once
// each and in the order of their offsets. Pure: a thread and what happened give the next thread.

/** Smiles asked for at a time. */
export const PAGE = 30;
/** Smiles kept; past it the oldest go, and can be asked for again. */
export const KEPT = 400;

export const NO_THREAD = Object.freeze({ smiles: Object.freeze([]), more: true, asking: false });

/** The thread after `{kind: "asked" | "failed" | "live" | "history", smiles, more}`. */
export function threadAfter(thread, { kind, smiles = [], more }) {
  if (kind === "asked") return { ...thread, asking: true };
  if (kind === "failed") return { ...thread, asking: false };
  const known = new Set(thread.smiles.map((smile) => smile.offset));
  const fresh = smiles.filter((smile) => !known.has(smile.offset));
  const all = [...thread.smiles, ...fresh].sort((left, right) => left.offset - right.offset);
  if (kind === "history") return { smiles: all, more, asking: false };
  const kept = all.slice(-Math.max(KEPT, thread.smiles.length));
  return { ...thread, smiles: kept, more: thread.more || kept.length < all.length };
}

/** What to ask the log for next: `before` is left out at first. */
export function nextPage({ smiles }) {
  return smiles.length === 0 ? { limit: PAGE } : { before: smiles[0].offset, limit: PAGE };
}
