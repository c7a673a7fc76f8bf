// Chooses the language of the page, loads its words, and substitutes values into them.

const LANGUAGES = {
  en: async () => (await import("./words-en.js")).ENGLISH,
  it: async () => (await import("./words-it.js")).ITALIAN,
};
const DEFAULT_LANGUAGE = "en";

export function chooseLanguage(wanted) {
  for (const tag of wanted ?? []) {
    const language = tag.toLowerCase().split("-")[0];
    if (Object.hasOwn(LANGUAGES, language)) return language;
  }
  return DEFAULT_LANGUAGE;
}

export function loadDictionary(language) {
  return LANGUAGES[language]();
}

/**
 * Returns a function that turns a key and values into text: `{name}` in the text becomes `values.name`. If
 * `values.n` is 1 and the dictionary has the key's `.one` form, the function uses that form. A key without words is
 * returned unchanged.
 */
export function translator(dictionary) {
  return (key, values = {}) => {
    const one = `${key}.one`;
    const chosen = values.n === 1 && Object.hasOwn(dictionary, one) ? one : key;
    const template = dictionary[chosen] ?? key;
    return template.replace(/\{(\w+)\}/g, (placeholder, name) => (name in values ? String(values[name]) : placeholder));
  };
}
