// The platform of the backend: whether it restarts crashed replicas, and the command that restarts a replica when the
// platform does not. The tab's storage keeps the platform, since the page may load while no backend answers.

/** After this much silence, the page says that the backend is gone. A quick restart completes sooner. */
export const GONE_AFTER_MS = 3_000;

const STORAGE_KEY = "smilingchat.platform";
const LOST = "lost";
const EXIT = "exit";
const UNREADY = "unready";
const START_PROCESS = "cargo run --release";
const RESTART_COMPOSE = "docker compose restart backend";
// `up` would also reduce several replicas to one, the default of docker/compose.yaml, so `start` is used for several
// replicas.
const START_ONE = "docker compose up -d";
const START_SEVERAL = "docker compose start backend";

/**
 * Whether each platform restarts crashed replicas and, by crash mode, the command that restarts a replica. A mode has
 * no command if the platform restarts the replica, or if the page only describes what to do.
 */
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

  /** "process", "compose", "swarm" or "kubernetes"; null while unknown. */
  name = null;
  /** The links that the backend is configured to show: [{name, url}]. */
  links = [];

  constructor({ storage }) {
    this.#storage = storage;
    this.#recall();
  }

  seen({ platform, links, replicas }) {
    // Older replicas send no platform.
    if (!Object.hasOwn(PLATFORMS, platform ?? "")) return;
    if (platform !== this.name) this.#hasHadSeveral = false;
    this.name = platform;
    this.links = links === undefined ? [] : links.filter(leadsToTheWeb).map(({ name, url }) => ({ name, url }));
    if (replicas.filter((replica) => replica.state !== LOST).length > 1) this.#hasHadSeveral = true;
    const kept = JSON.stringify({ name: this.name, links: this.links, hasHadSeveral: this.#hasHadSeveral });
    if (kept !== this.#storage.getItem(STORAGE_KEY)) this.#storage.setItem(STORAGE_KEY, kept);
  }

  get heals() {
    return this.name !== null && PLATFORMS[this.name].healing;
  }

  /**
   * How to restart a replica that failed in this mode: {key, command, mood}, or null if the platform is unknown.
   * `silentFor` is the time in milliseconds for which no backend has answered, or null while a backend answers.
   */
  revival({ mode, silentFor }) {
    if (this.name === null) return null;
    const { healing, commands } = PLATFORMS[this.name];
    if (silentFor === null || silentFor < GONE_AFTER_MS) {
      return { key: `revival.${this.name}.${mode}`, command: this.#commandFor(commands, mode), mood: "calm" };
    }
    if (healing) return { key: `gone.${this.name}`, command: null, mood: "doubt" };
    // An unready backend still answers, so a silent one has since failed in another mode.
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

/** Accepts only http and https links, since the URL of a link could be a script. The server also checks the links. */
function leadsToTheWeb(link) {
  return typeof link?.name === "string" && /^https?:\/\//.test(link.url);
}
