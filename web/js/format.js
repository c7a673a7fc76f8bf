// Formats numbers and times in the page's language.

const SECOND_MS = 1_000;
const MINUTE_S = 60;
const HOUR_S = 60 * MINUTE_S;
const DAY_S = 24 * HOUR_S;

export class Format {
  #whole;
  #tenth;

  constructor(language) {
    this.#whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
    this.#tenth = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  }

  count(value) {
    return this.#whole.format(value);
  }

  rate(perSecond) {
    return this.#tenth.format(perSecond);
  }

  /** A short span, as in "1.3 s"; below a second in milliseconds. */
  span(milliseconds) {
    if (Math.round(milliseconds) < SECOND_MS) return `${this.#whole.format(Math.max(0, milliseconds))} ms`;
    return `${this.#tenth.format(milliseconds / SECOND_MS)} s`;
  }

  /** A long span in its two largest units, as in "3 d 4 h" and "2 min 5 s"; below a minute in seconds. */
  duration(milliseconds) {
    const seconds = Math.max(0, Math.floor(milliseconds / SECOND_MS));
    if (seconds < MINUTE_S) return `${seconds} s`;
    if (seconds < HOUR_S) return `${Math.floor(seconds / MINUTE_S)} min ${seconds % MINUTE_S} s`;
    if (seconds < DAY_S) return `${Math.floor(seconds / HOUR_S)} h ${Math.floor((seconds % HOUR_S) / MINUTE_S)} min`;
    return `${Math.floor(seconds / DAY_S)} d ${Math.floor((seconds % DAY_S) / HOUR_S)} h`;
  }
}
