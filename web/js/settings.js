// The settings of a run, and their encoding in the page's address.

export const MOST_CONVERSATIONS = 30;
export const MOST_RATE = 20;
export const CHAOS_SECONDS = Object.freeze([10, 20, 60]);
export const MODES = Object.freeze(["exit", "hang", "unready"]);

/** `rate` is in smiles per second per conversation, `chaos` in seconds; without a `seed`, faces are random. */
export const DEFAULTS = Object.freeze({ conversations: 10, rate: 5, seed: null, mode: "exit", chaos: 20 });

const MOST_SEED = 2 ** 32 - 1;

/** Defaults replace missing and invalid values. */
export function settingsOf(search) {
  const query = new URLSearchParams(search);
  const whole = (name, least, most) => {
    const text = query.get(name) ?? "";
    const value = Number(text);
    return /^\d+$/.test(text) && value >= least && value <= most ? value : DEFAULTS[name];
  };
  const mode = query.get("mode");
  const chaos = whole("chaos", 1, Infinity);
  return {
    conversations: whole("conversations", 0, MOST_CONVERSATIONS),
    rate: whole("rate", 1, MOST_RATE),
    seed: whole("seed", 0, MOST_SEED),
    mode: MODES.includes(mode) ? mode : DEFAULTS.mode,
    chaos: CHAOS_SECONDS.includes(chaos) ? chaos : DEFAULTS.chaos,
    starts: query.has("start"),
  };
}

/** The digits of a text, as a seed that an address accepts; empty without digits. */
export function seedOf(text) {
  const digits = text.replace(/\D/g, "");
  return digits === "" ? "" : String(Math.min(MOST_SEED, Number(digits)));
}

export function searchOf(settings, { starts = false } = {}) {
  const query = new URLSearchParams();
  for (const [name, usual] of Object.entries(DEFAULTS)) {
    if (settings[name] !== usual) query.set(name, String(settings[name]));
  }
  const parts = [query.toString(), starts ? "start" : ""].filter((part) => part !== "");
  return parts.length === 0 ? "" : `?${parts.join("&")}`;
}
