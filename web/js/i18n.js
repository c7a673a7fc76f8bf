// The choice of the language, and the substitution of values into words.

/** Loads the words of a language. */
const LANGUAGES = {
  en: async () => (await import("./words-en.js")).ENGLISH,
  it: async () => (await import("./words-it.js")).ITALIAN,
};
const DEFAULT_LANGUAGE = "en";

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

/** Returns a function from a key and values to text. A count of one selects the key's `.one` form, if any. */
export function translator(dictionary) {
  return (key, values = {}) => {
    const one = `${key}.one`;
    const chosen = values.n === 1 && Object.hasOwn(dictionary, one) ? one : key;
    const template = dictionary[chosen] ?? key;
    return template.replace(/\{(\w+)\}/g, (hole, name) => (name in values ? String(values[name]) : hole));
  };
}
