// The words of join.html, in English and Italian.

import { SILENT_CODES } from "../backend.js";

const ENGLISH = {
  title: "Join TheSmilingChat",
  asking: "Looking for a free user…",
  you: "You are",
  to: "Smile at",
  senders: "Smiled at you",
  simulated: "Simulated: those in a running conversation answer",
  people: "People",
  tap: "Tap a face",
  came: "Smiles sent and received",
  nothing: "Nothing yet. Tap a face.",
  heard: "{from} smiles at you",
  sent: "to {to}: on its way",
  stored: "to {to}: stored at offset {offset}",
  refused: "to {to}: refused",
  full: "Every user is taken today. Reload this page to look again.",
  offline: "This phone is offline. It reconnects when the network is back.",
  connecting: "Connecting…",
  live: "Connected to {replica}",
  resuming: "Connected to {replica}, catching up…",
  silent: "{replica} has fallen silent…",
  waiting: "The connection to {replica} is lost. Your smiles are safe. Trying again…",
  nowhere: "The backend does not answer. Trying again…",
  host_rewritten: "A proxy changes the host of this page to {host}, so the backend refuses the page. The proxy must pass Host on unchanged.",
  no_upgrade: "A proxy between this page and the backend does not let WebSockets through.",
  rate_limited: "Too many requests from this network. Trying again…",
  other: "Not connected ({code}). Trying again…",
  stopped: "Disconnected",
  failed: "The backend rejected a message from this page. Reload the page.",
  reconnects: "Reconnections: {n}",
  gap: "The connection could not resume: smiles sent in the meantime are not shown here.",
};

const ITALIAN = {
  title: "Entra in TheSmilingChat",
  asking: "Cerco un utente libero…",
  you: "Tu sei",
  to: "Sorridi a",
  senders: "Ti hanno sorriso",
  simulated: "Simulati: risponde chi ha una conversazione in corso",
  people: "Persone",
  tap: "Tocca una faccina",
  came: "Sorrisi inviati e ricevuti",
  nothing: "Ancora niente. Tocca una faccina.",
  heard: "{from} ti sorride",
  sent: "a {to}: in viaggio",
  stored: "a {to}: salvato all'offset {offset}",
  refused: "a {to}: rifiutato",
  full: "Oggi tutti gli utenti sono presi. Ricarica la pagina per cercare di nuovo.",
  offline: "Questo telefono è offline. Si ricollega quando torna la rete.",
  connecting: "Mi connetto…",
  live: "Connesso a {replica}",
  resuming: "Connesso a {replica}, che invia ciò che ti sei perso",
  silent: "{replica} non risponde più…",
  waiting: "La connessione con {replica} è persa, i tuoi sorrisi no. Riprovo…",
  nowhere: "Il backend non risponde. Riprovo…",
  host_rewritten: "Un proxy cambia l'host di questa pagina in {host}, quindi il backend la rifiuta. Il proxy non deve cambiare Host.",
  no_upgrade: "Un proxy tra questa pagina e il backend non lascia passare i WebSocket.",
  rate_limited: "Da questa rete arrivano troppe richieste. Riprovo…",
  other: "Non connesso ({code}). Riprovo…",
  stopped: "Disconnesso",
  failed: "Il backend ha respinto un messaggio di questa pagina. Ricarica la pagina.",
  reconnects: "Connessioni perse e riprese: {n}",
  gap: "Non è stato possibile riprendere la connessione: i sorrisi inviati nel frattempo non compaiono qui.",
};

export const WORDS = { en: ENGLISH, it: ITALIAN };

export function keyOfRefusal(code) {
  if (SILENT_CODES.has(code)) return "nowhere";
  return Object.hasOwn(ENGLISH, code) ? code : "other";
}

export function languageOf(wanted) {
  const languages = (wanted ?? []).map((tag) => tag.toLowerCase().split("-")[0]);
  return languages.find((language) => Object.hasOwn(WORDS, language)) ?? "en";
}

export function say(language, key, values = {}) {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (placeholder, name) => values[name] ?? placeholder);
}
