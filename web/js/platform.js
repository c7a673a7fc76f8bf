// Owns what the page knows of where the backend runs, and what follows from it: whether a replica that failed
// comes back by itself, and what a person does where it does not. Remembers it, since the page is there before
// any backend answers and after all of them are gone. Knows nothing of how it is shown.

/** Nobody has answered for this long: a restart that comes by itself would have shown by now. */
export const GONE_AFTER_MS = 3_000;

const STORAGE_KEY = "smilingchat.platform";
const LOST = "lost";
const EXIT = "exit";
const UNREADY = "unready";
const START_PROCESS = "cargo run --release";
const RESTART_COMPOSE = "docker compose restart backend";
// `up` also ends what runs beyond the one replica of the file, so several are started as they are.
const START_ONE = "docker compose up -d";
const START_SEVERAL = "docker compose start backend";

/** What a person types after a failure of each mode, as far as there is something to be typed. */
const PLATFORMS = {
  process: { healing: false, commands: { exit: () => START_PROCESS } },
  compose: {
    healing: false,
    commands: {
      exit: (several) => (several ? START_SEVERAL : START_ONE),
      hang: () => RESTART_COMPOSE,
      unready: () => RESTART_COMPOSE,
    },
  },
  swarm: { healing: true, commands: { unready: () => "docker service update --force smilingchat_backend" } },
  kubernetes: { healing: true, commands: { unready: () => "kubectl --namespace smilingchat rollout restart deployment backend" } },
};

export class Platform {
  #storage;
  #hasHadSeveral = false;

  /** "process", "compose", "swarm" or "kubernetes"; null while no backend has told. */
  name = null;
  /** [{name, url}] */
  links = [];

  /** `storage` keeps for this tab what was learnt. */
  constructor({ storage }) {
    this.#storage = storage;
    this.#recall();
  }

  /** An answer about the replicas. One without a platform, from an older replica, changes nothing. */
  seen({ platform, links, replicas }) {
    if (!Object.hasOwn(PLATFORMS, platform ?? "")) return;
    if (platform !== this.name) this.#hasHadSeveral = false;
    this.name = platform;
    this.links = links === undefined ? [] : links.filter(leadsToTheWeb).map(({ name, url }) => ({ name, url }));
    if (replicas.filter((replica) => replica.state !== LOST).length > 1) this.#hasHadSeveral = true;
    const kept = { name: this.name, links: this.links, hasHadSeveral: this.#hasHadSeveral };
    this.#storage.setItem(STORAGE_KEY, JSON.stringify(kept));
  }

  /** Whether what crashed is started again by itself. */
  get heals() {
    return this.name !== null && PLATFORMS[this.name].healing;
  }

  /**
   * What brings a replica back that fails in this mode: {key, command, mood}, or null where that is not known.
   * `silentFor` is the milliseconds for which no backend has answered, or null.
   */
  revival({ mode, silentFor }) {
    if (this.name === null) return null;
    const { healing, commands } = PLATFORMS[this.name];
    if (silentFor === null || silentFor < GONE_AFTER_MS) {
      return { key: `revival.${this.name}.${mode}`, command: this.#commandFor(commands, mode), mood: "calm" };
    }
    if (healing) return { key: `gone.${this.name}`, command: null, mood: "doubt" };
    // An unready backend answers, so one that is silent failed in another way since.
    const failure = mode === UNREADY ? EXIT : mode;
    return { key: `gone.${this.name}.${failure}`, command: this.#commandFor(commands, failure), mood: "bad" };
  }

  #commandFor(commands, mode) {
    return commands[mode]?.(this.#hasHadSeveral) ?? null;
  }

  #recall() {
    const kept = parsed(this.#storage.getItem(STORAGE_KEY));
    if (!Object.hasOwn(PLATFORMS, kept?.name ?? "") || !Array.isArray(kept.links)) return;
    this.name = kept.name;
    this.links = kept.links.filter(leadsToTheWeb);
    this.#hasHadSeveral = kept.hasHadSeveral === true;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Links come from whoever answers, and a link may also be a script: the server checks, and so do we. */
function leadsToTheWeb(link) {
  return typeof link?.name === "string" && /^https?:\/\//.test(link.url);
}
