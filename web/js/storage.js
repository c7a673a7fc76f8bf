// Owns what the page remembers for its tab. Where the browser keeps nothing, because site data is blocked or full,
// it remembers for as long as the page is open. Knows nothing of what it keeps.

export class TabStorage {
  #browsers = null;
  #values = new Map();

  /** `open()` gives the browser's storage; that alone throws where site data is blocked. */
  constructor(open) {
    try {
      this.#browsers = open();
    } catch {
      // Nothing is kept then.
    }
  }

  getItem(key) {
    if (this.#values.has(key)) return this.#values.get(key);
    return this.#try((storage) => storage.getItem(key)) ?? null;
  }

  setItem(key, value) {
    this.#values.set(key, value);
    this.#try((storage) => storage.setItem(key, value));
  }

  removeItem(key) {
    this.#values.set(key, null);
    this.#try((storage) => storage.removeItem(key));
  }

  #try(use) {
    try {
      return this.#browsers === null ? null : use(this.#browsers);
    } catch {
      return null;
    }
  }
}
