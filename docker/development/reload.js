// Development only: reloads a page when the page itself, or a JS, CSS or SVG file that it has loaded, has changed.

const INTERVAL_MS = 1000;

const tags = new Map();

const ownFiles = () => {
  const loaded = performance.getEntriesByType('resource').map((entry) => new URL(entry.name));
  const files = loaded.filter((url) => url.origin === location.origin && /\.(js|css|svg)$/.test(url.pathname));
  return new Set([location.pathname, ...files.map((url) => url.pathname)]);
};

const hasChanged = async (path) => {
  const answer = await fetch(path, { method: 'HEAD', cache: 'no-store' });
  const tag = answer.ok ? answer.headers.get('ETag') ?? answer.headers.get('Last-Modified') : undefined;
  const before = tags.get(path);
  if (tag !== undefined) tags.set(path, tag);
  return tag !== undefined && before !== undefined && before !== tag;
};

const look = async () => {
  try {
    const changes = await Promise.all([...ownFiles()].map(hasChanged));
    if (changes.includes(true)) location.reload();
  } catch {
    // The proxy does not answer: it may be restarting.
  }
  setTimeout(look, INTERVAL_MS);
};

look();
