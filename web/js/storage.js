// The storage of the tab. A value that the browser cannot store, because site data is blocked or the storage is full,
// lasts only until the page is reloaded.

export class TabStorage {
  #open;
  #values = new Map();

  /** `open()` returns the browser's storage; it throws if site data is blocked. */
  constructor(open) {
    this.#open = open;
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
      return use(this.#open());
    } catch {
      return null;
    }
  }
}
