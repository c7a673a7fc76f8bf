// Owns which language a browser gets, and how words take their values. The words of each are in a file of their own.

/** Loads the words of a language; a visitor needs one of them. */
const LANGUAGES = {
  en: async () => (await import("./words-en.js")).ENGLISH,
  it: async () => (await import("./words-it.js")).ITALIAN,
};
export const DEFAULT_LANGUAGE = "en";

/** The first of the browser's languages that the page speaks. */
export function chooseLanguage(wanted) {
  for (const tag of wanted ?? []) {
    const language = tag.toLowerCase().split("-")[0];
    if (Object.hasOwn(LANGUAGES, language)) return language;
  }
  return DEFAULT_LANGUAGE;
}

/** The words of a chosen language. */
export function loadDictionary(language) {
  return LANGUAGES[language]();
}

/** A function from a key and its values to text; a count of one takes the key's `.one` form if there is one. */
export function translator(dictionary) {
  return (key, values = {}) => {
    const one = `${key}.one`;
    const chosen = values.n === 1 && Object.hasOwn(dictionary, one) ? one : key;
    const template = dictionary[chosen] ?? key;
    return template.replace(/\{(\w+)\}/g, (hole, name) => (name in values ? String(values[name]) : hole));
  };
}
